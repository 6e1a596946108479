"""What a model's folder names outside of itself: links, paths in its indexes, other models that libraries would open.

The libraries that load models follow such names without asking: to other files of this disk, or to the hub with the
user's token.  A folder that somebody else has made is looked through before any of them opens it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pipelines.system.bounded_json import read_json_file
from pipelines.system.paths import hub_cache
from pipelines.system.text import printable, shorten

# Parts of models lie one folder deep, their shards no deeper.
MAX_DEPTH = 3
MAX_ENTRIES = 5000
MAX_README = 1 << 18
MAX_INDEX = 32 << 20
# Another model in the head of a README, which these classes load along; and what the hub calls a model.
_PRIOR, _COMBINED = "prior", "CombinedPipeline"
_INDEX = "model_index.json"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# Entries of a tokenizer's configuration by which its files are found.
_TOKENIZER_FILES = ("vocab_file", "merges_file", "tokenizer_file", "spm_file", "fast_tokenizer_files")


class OutsideReference(ValueError):
    """A folder that names something outside of itself; the message says which file, without the folder's own path.

    It follows the model's name: "its README.md names ...; remove it".
    """


def refuse_outside_references(folder: Path) -> None:
    """Refuse a model's folder from which something outside of it would be opened; no weight is read.

    Folders of the hub's cache may link to the files that the cache keeps of the same model.

    Raises:
        OutsideReference: that names the file.
    """
    root = _root(folder)
    for path in _entries(folder):
        # ``Path.resolve`` raises an error at a link to itself.
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            raise _refusal(folder, path, "is a link to a place outside of it; copy the file itself")
        # As the file systems of macOS and Windows find them.
        name = path.name.casefold()
        if name == "adapter_config.json":
            raise _refusal(folder, path, "names another model, which would be loaded too; remove it")
        if name == "readme.md" and path.parent == folder:
            _check_readme(folder, path)
        if name in ("tokenizer_config.json", _INDEX) or name.endswith(".index.json"):
            _check_json(folder, path)


def _root(folder: Path) -> Path:
    """What a folder may link to: itself, or all that the hub's cache keeps of the same model."""
    folder = folder.resolve()
    cached = folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--")
    return folder.parents[1] if cached else folder


def _entries(folder: Path) -> Iterator[Path]:
    """Files and links below a folder; links to folders are not followed."""
    count, start = 0, len(folder.parts)
    for place, folders, files in os.walk(folder):
        here = Path(place)
        # No library looks into hidden folders, such as Git's.
        deep = len(here.parts) - start >= MAX_DEPTH
        folders[:] = [name for name in folders if not deep and not name.startswith(".")]
        yield from (here / name for name in folders if (here / name).is_symlink())
        for name in files:
            count += 1
            if count > MAX_ENTRIES:
                raise OutsideReference(f"it holds more than {MAX_ENTRIES} files; take out what is no part of it")
            yield here / name


def _check_readme(folder: Path, path: Path) -> None:
    """Refuse a README from which another model would be loaded; in the hub's own cache it may name one of the hub."""
    indexes = [each for each in _entries(folder) if each.parent == folder and each.name.casefold() == _INDEX]
    if not any(str(_read(folder, each).get("_class_name")).endswith(_COMBINED) for each in indexes):
        return
    found = _prior(folder, path)
    cached = Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(hub_cache()))
    if found and not (cached and isinstance(found, list) and all(_HUB_ID.fullmatch(str(name)) for name in found)):
        raise _refusal(
            folder, path, "names another model as its prior, which would be loaded too; add it by its hub id"
        )


def _prior(folder: Path, path: Path) -> Any:
    """What a README names as the prior, read as huggingface_hub reads it; only few models come here."""
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read(MAX_README + 1)
        if len(text) > MAX_README:
            raise _refusal(folder, path, "is too long; shorten it")
        block = REGEX_YAML_BLOCK.search(text)
        values = yaml.safe_load(block[2]) if block else {}
    except OutsideReference:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise _refusal(folder, path, "cannot be read; copy the model again") from None
    return values.get(_PRIOR) if isinstance(values, dict) else None


def _check_json(folder: Path, path: Path) -> None:
    values, kind = _read(folder, path), path.name.casefold()
    if kind.endswith(".index.json") and isinstance(values.get("weight_map"), dict):
        for name in values["weight_map"].values():
            _check_name(folder, path, name, plain=True)
    if kind == "tokenizer_config.json":
        for key in _TOKENIZER_FILES:
            found = values.get(key)
            for name in found if isinstance(found, list) else [found]:
                _check_name(folder, path, name)
    if kind == _INDEX:
        for name, entry in values.items():
            if isinstance(entry, list):
                _check_name(folder, path, name, plain=True)


def _check_name(folder: Path, path: Path, name: Any, plain: bool = False) -> None:
    """Refuse a file's name that leads out of the folder; where only plain names belong, any path."""
    if not isinstance(name, str):
        return
    if plain:
        outside = name != PurePosixPath(name).name or name != PureWindowsPath(name).name or name == ".."
    else:
        # Tokenizers often keep the path at which their makers had them: it harms only where there is such a file.
        target = Path(os.path.abspath(path.parent / name)) if "\0" not in name else folder
        outside = not target.is_relative_to(os.path.abspath(folder)) and os.path.exists(target)
    if outside:
        raise _refusal(
            folder, path, f"names {shorten(printable(name), 60)!r}, which is outside of it; repair that file"
        )


def _read(folder: Path, path: Path) -> dict[str, Any]:
    """A file of names; one that cannot be read here is refused, because a library might still read it."""
    try:
        found = read_json_file(path, MAX_INDEX)
    except (OSError, ValueError):
        raise _refusal(folder, path, "cannot be read; copy the model again") from None
    return found if isinstance(found, dict) else {}


def _refusal(folder: Path, path: Path, why: str) -> OutsideReference:
    inside = printable(path.relative_to(folder))
    return OutsideReference(f"its {inside} {why}")
