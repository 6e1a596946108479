"""What of a repository is needed to run a model, by names alone, and whether a folder holds all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
INDEX = "model_index.json"

# What is read as data.  A chat template is text that transformers renders in a sandbox; code is never fetched.
_TEXTS = (".json", ".txt", ".model", "chat_template.jinja")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
_WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "FeatureExtractor")
_HUB_ID = re.compile(r"(?!.*(?:\.\.|--))\w(?:[\w.-]{0,94}\w)?(?:/\w(?:[\w.-]{0,94}\w)?)?", re.ASCII)
# Names that diffusers and transformers give to weights; "model.fp16-00001-of-00002" and, formerly, the other way round.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-(?P<count>\d{5}))?(?:\.(?P<old>\w+))?"
    r"\.safetensors"
)
_SHARDS = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")


class CannotFetch(RuntimeError):
    """A model that cannot be fetched; the message is one plain sentence for the person who asked."""


@dataclass(frozen=True)
class PlannedFile:
    """A file of a model.

    Attributes:
        source: the hub id it belongs to.
        commit: version of that repository.
        name: path in the repository.
        bytes: its size.
        digest: its SHA-256 (64 digits), or the SHA-1 that Git gives it (40 digits); its name in the cache.
    """

    source: str
    commit: str
    name: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """What a model needs.

    Attributes:
        files: everything, in the order in which it is fetched; empty for a model that lies in a folder.
        total: bytes of all of them.
        there: bytes that have arrived already, unfinished files included.
        free: bytes free on the disk with the cache.
    """

    files: tuple[PlannedFile, ...]
    total: int
    there: int
    free: int

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        return self.total - self.there


def is_hub_id(source: str) -> bool:
    """Whether a card's source is the name of a repository, and no folder or file here."""
    if source.endswith(".safetensors") or not _HUB_ID.fullmatch(source):
        return False
    return not (PROJECT / source).exists()


def choose(source: str, names: Collection[str], index: Any, variant: str) -> list[str]:
    """The files of a diffusers model that are needed to run it.

    Args:
        source: hub id, for messages.
        names: every file of the repository.
        index: its model_index.json.
        variant: preferred kind of weights, such as fp16, or "" for the plain ones.

    Raises:
        CannotFetch: if a part has no safetensors weights, needs code of its own, or is missing.
    """
    parts = _parts(index)
    if not parts:
        raise CannotFetch(f"{source} names no parts in its {INDEX}, so it cannot be used; choose another.")
    if isinstance(index["_class_name"], list) or any(
        f"{name}/{library}.py" in names or f"{library}.py" in names for name, (library, _) in parts.items()
    ):
        raise CannotFetch(f"{source} needs code of its own, and code from the hub is never run; choose another.")
    chosen = [INDEX]
    for name, (_, cls) in parts.items():
        chosen += choose_part(source, name, cls, names, variant)
    return chosen


def choose_part(source: str, part: str, cls: str, names: Collection[str], variant: str) -> list[str]:
    """The files of one part (folder) of a model, or, with part "", of a repository that is a part by itself.

    Raises:
        CannotFetch: if it has no safetensors weights, or is missing.
    """
    folder = f"{part}/" if part else ""
    inside = [name[len(folder) :] for name in names if name.startswith(folder)]
    inside = sorted(name for name in inside if "/" not in name)
    texts = [name for name in inside if name.endswith(_TEXTS) and _is_own_text(name)]
    label = f"The {part} of {source}" if part else source
    weights = [] if cls.endswith(_WEIGHTLESS) else _choose_weights(inside, variant)
    if weights is None:
        if any(name.endswith(_PICKLES) for name in inside):
            raise CannotFetch(pickled(label))
        if any(name.endswith(".safetensors") for name in inside) or "config.json" in texts:
            raise CannotFetch(f"{label} has no complete weights as safetensors files; choose another model.")
    if not texts:
        raise CannotFetch(f"{label} is not in its repository; choose another model.")
    if not part:  # beside it lie descriptions and other models
        texts = [name for name in texts if name == "config.json"]
    return [folder + name for name in (*texts, *(weights or ()))]


def _parts(index: Any) -> dict[str, tuple[str, str]]:
    """Parts that model_index.json names: library and class of each."""
    if not isinstance(index, dict) or not index.get("_class_name"):
        return {}
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, list) and len(value) == 2
        if all(isinstance(item, str) for item in value)
    }


def _choose_weights(names: Sequence[str], variant: str) -> list[str] | None:
    """Weights of one kind, all of them, with their list if they are in pieces: the preferred kind, plain, or fp16."""
    for kind in dict.fromkeys((variant, "", "fp16")):
        there = {name: found for name in names if (found := _WEIGHTS.fullmatch(name))}
        mine = {name: found for name, found in there.items() if (found["variant"] or found["old"] or "") == kind}
        whole = [name for name, found in mine.items() if not found["count"]]
        if whole:
            return whole
        shards = [name for name, found in mine.items() if found["count"]]
        lists = [name for name in names if (found := _SHARDS.fullmatch(name)) and (found["variant"] or "") == kind]
        if shards and lists and all(int(found["count"]) == len(shards) for found in mine.values()):
            return [*lists, *shards]
    return None


def _is_own_text(name: str) -> bool:
    # A list of pieces belongs to weights: with one that was not chosen, libraries would look for those pieces.
    return ".index." not in name and not name.startswith(("flax_", "openvino_", "onnx_", "tf_"))


def is_plain(name: str) -> bool:
    """Whether a name stays below its folder on every system."""
    return "\\" not in name and ":" not in name and all(piece not in ("", ".", "..") for piece in name.split("/"))


def is_complete(snapshot: Path, variant: str) -> bool:
    """Whether a model can be loaded from a folder: every part that it names, or, without such a list, one part."""
    if not has_file(snapshot, INDEX):
        return has_file(snapshot, "config.json") and _has_weights(snapshot, variant)
    try:
        parts = _parts(json.loads((snapshot / INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    for name, (_, cls) in parts.items():
        folder = snapshot / name
        files = [path.name for path in folder.iterdir() if size_of(path)] if folder.is_dir() else []
        # A tokenizer needs more than a configuration, which is all that ``peek`` fetches.
        if not any(file.endswith(_TEXTS) and not ("Tokenizer" in cls and file == "config.json") for file in files):
            return False
        # A class that is not known to do without weights may still have none, and then it has no config.json either.
        if not cls.endswith(_WEIGHTLESS) and "config.json" in files and not _has_weights(folder, variant):
            return False
    return bool(parts)


def _has_weights(folder: Path, variant: str) -> bool:
    names = _choose_weights([path.name for path in folder.iterdir()], variant)
    return names is not None and all(_is_whole(folder / name) for name in names)


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; other files need only be there."""
    if path.suffix != ".safetensors":
        return bool(size_of(path))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length < 10**8 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and size_of(path) == 8 + length + max(ends)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return False


def has_file(folder: Path, name: str) -> bool:
    """Whether there is such a file."""
    return (folder / name).is_file()  # false for a link to nothing


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def blobs(files: Sequence[PlannedFile]) -> list[tuple[PlannedFile, int]]:
    """Each different content once, with its size."""
    return [(file, file.bytes) for file in {(file.source, file.digest): file for file in files}.values()]


def pickled(what: str) -> str:
    """Weights that are refused because of their format."""
    return (
        f"{what} has its weights only as pickle files, which can run code and are refused: load them where you trust "
        "them and save them with save_pretrained(..., safe_serialization=True), or choose another model."
    )
