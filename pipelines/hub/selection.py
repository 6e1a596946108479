"""Which files of a repository a model needs, by their names alone, and whether a folder holds all of them."""

from __future__ import annotations

import builtins
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.hub.errors import DownloadError, pickled
from pipelines.system.bounded_json import read_json_file
from pipelines.system.paths import PROJECT
from pipelines.system.safetensors_header import read_header

INDEX = "model_index.json"

# Read as data.  A chat template is text that transformers renders in a sandbox; code is never downloaded.
_TEXTS = (".json", ".txt", ".model", "chat_template.jinja")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
_WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "FeatureExtractor")
# The rules of huggingface_hub's validate_repo_id.
_REPO_ID = re.compile(r"(?!.*(?:\.\.|--))\w(?:[\w.-]{0,94}\w)?(?:/\w(?:[\w.-]{0,94}\w)?)?", re.ASCII)
# Names of weights in diffusers and transformers; shards are "model.fp16-00001-of-00002", formerly with fp16 at the end.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-(?P<count>\d{5}))?(?:\.(?P<old>\w+))?"
    r"\.safetensors"
)
_SHARD_INDEX = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")


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

    def new_hash(self) -> Any:
        """An object of hashlib that gives ``digest`` once it is updated with the file's content."""
        return hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(b"blob %d\0" % self.bytes)

    def matches(self, data: builtins.bytes) -> bool:
        """Whether this is the file's content."""
        found = self.new_hash()
        found.update(data)
        return found.hexdigest() == self.digest


@dataclass(frozen=True)
class DownloadPlan:
    """The files that a model needs.

    Attributes:
        files: all of them, in the order in which they are downloaded; empty for a model in a folder.
        total: bytes of all of them.
        arrived: bytes that have arrived already, unfinished files included.
        free: bytes free on the disk with the cache.
    """

    files: tuple[PlannedFile, ...]
    total: int
    arrived: int
    free: int

    @property
    def missing(self) -> int:
        """Bytes still to download."""
        return self.total - self.arrived


def is_repo_id(text: str) -> bool:
    """Whether the hub can have a repository of this name: "owner/name", or "name" for some old ones."""
    return not text.endswith(".safetensors") and _REPO_ID.fullmatch(text) is not None


def is_hub_id(source: str) -> bool:
    """Whether a card's source is a repository of the hub rather than a folder or file on this machine."""
    return is_repo_id(source) and not (PROJECT / source).exists()


def choose_files(source: str, names: Collection[str], index: Any, variant: str) -> list[str]:
    """Choose the files of a diffusers model that are needed to run it.

    Args:
        source: hub id, for messages.
        names: every file of the repository.
        index: its model_index.json.
        variant: preferred variant of the weights, such as fp16, or "" for the default one.

    Raises:
        DownloadError: if a part has no safetensors weights, needs code of its own, or is missing.
    """
    parts = _parts(index)
    if not parts:
        raise DownloadError(f"{source} names no parts in its {INDEX}, so it cannot be used; choose another.")
    if isinstance(index["_class_name"], list) or any(
        f"{name}/{library}.py" in names or f"{library}.py" in names for name, (library, _) in parts.items()
    ):
        raise DownloadError(f"{source} needs code of its own, and code from the hub is never run; choose another.")
    chosen = [INDEX]
    for name, (_, cls) in parts.items():
        chosen += choose_part_files(source, name, cls, names, variant)
    return chosen


def choose_part_files(source: str, part: str, cls: str, names: Collection[str], variant: str) -> list[str]:
    """Choose the files of one component (folder) of a model, or, with part "", of a repository with one alone.

    Raises:
        DownloadError: if it has no safetensors weights, or is missing.
    """
    folder = f"{part}/" if part else ""
    inside = [name[len(folder) :] for name in names if name.startswith(folder)]
    inside = sorted(name for name in inside if "/" not in name)
    texts = [name for name in inside if name.endswith(_TEXTS) and _is_own_text(name)]
    label = f"The {part} of {source}" if part else source
    weights = [] if cls.endswith(_WEIGHTLESS) else _choose_weights(inside, variant)
    if weights is None:
        if any(name.endswith(_PICKLES) for name in inside):
            raise DownloadError(pickled(label))
        if any(name.endswith(".safetensors") for name in inside) or "config.json" in texts:
            raise DownloadError(f"{label} has no complete weights as safetensors files; choose another model.")
    if not texts:
        raise DownloadError(f"{label} is not in its repository; choose another model.")
    if not part:  # such repositories hold descriptions and other models too
        texts = [name for name in texts if name == "config.json"]
    return [folder + name for name in (*texts, *(weights or ()))]


def _parts(index: Any) -> dict[str, tuple[str, str]]:
    """Components that model_index.json names: library and class of each."""
    if not isinstance(index, dict) or not index.get("_class_name"):
        return {}
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, list) and len(value) == 2
        if all(isinstance(item, str) for item in value)
    }


def _choose_weights(names: Sequence[str], variant: str) -> list[str] | None:
    """Choose complete weights of one variant (the preferred, the default or fp16), with the index of sharded ones."""
    matches = {name: match for name in names if (match := _WEIGHTS.fullmatch(name))}
    for wanted in dict.fromkeys((variant, "", "fp16")):
        mine = {name: match for name, match in matches.items() if (match["variant"] or match["old"] or "") == wanted}
        whole = [name for name, match in mine.items() if not match["count"]]
        if whole:
            return whole
        shards = [name for name, match in mine.items() if match["count"]]
        index = [
            name for name in names if (match := _SHARD_INDEX.fullmatch(name)) and (match["variant"] or "") == wanted
        ]
        if shards and index and all(int(match["count"]) == len(shards) for match in mine.values()):
            return [*index, *shards]
    return None


def _is_own_text(name: str) -> bool:
    # An index of shards belongs to weights: libraries look for the shards of every index that they find.
    return ".index." not in name and not name.startswith(("flax_", "openvino_", "onnx_", "tf_"))


def is_safe_path(name: str) -> bool:
    """Whether a name stays below its folder on every system."""
    return "\\" not in name and ":" not in name and all(piece not in ("", ".", "..") for piece in name.split("/"))


def is_complete(snapshot: Path, variant: str) -> bool:
    """Whether a folder holds a whole model: every component of its model_index.json, or, without one, a component."""
    if not has_file(snapshot, INDEX):
        return has_file(snapshot, "config.json") and _has_weights(snapshot, variant)
    try:
        parts = _parts(read_json_file(snapshot / INDEX))
    except (OSError, ValueError):
        return False
    for name, (_, cls) in parts.items():
        folder = snapshot / name
        files = [path.name for path in folder.iterdir() if size_of(path)] if folder.is_dir() else []
        # A tokenizer needs more than the configuration, which ``Hub.download_configs`` downloads alone.
        if not any(file.endswith(_TEXTS) and not ("Tokenizer" in cls and file == "config.json") for file in files):
            return False
        # A class without weights that is not in _WEIGHTLESS has no config.json either.
        if not cls.endswith(_WEIGHTLESS) and "config.json" in files and not _has_weights(folder, variant):
            return False
    return bool(parts)


def _has_weights(folder: Path, variant: str) -> bool:
    names = _choose_weights([path.name for path in folder.iterdir()], variant)
    return names is not None and all(_is_whole_file(folder / name) for name in names)


def _is_whole_file(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; other files need only exist."""
    if path.suffix != ".safetensors":
        return bool(size_of(path))
    try:
        header = read_header(path)
        ends = [entry["data_offsets"][1] for entry in header.tensors.values()]
        return bool(ends) and size_of(path) == header.data_start + max(ends)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return False


def has_file(folder: Path, name: str) -> bool:
    """Whether the folder has this file; a dangling link counts as none."""
    return (folder / name).is_file()


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def unique_blobs(files: Sequence[PlannedFile]) -> list[tuple[PlannedFile, int]]:
    """Each different content once, with its size."""
    return [(file, file.bytes) for file in {(file.source, file.digest): file for file in files}.values()]
