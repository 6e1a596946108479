"""LoRA files: small additions that teach a model a subject or a style (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

MAX_HEADER = 64 * 2**20
MAX_FILES = 2000
MAX_WORDS = 8


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=Named)


@dataclass(frozen=True)
class LoraFile:
    """A LoRA on this machine.

    Attributes:
        name: of the file, without its ending; what prompts and requests say.
        path: where it is.
        words: trigger words that its makers trained it with, as far as the file tells.
        base: the kind of model that it was trained on, in its own words, or "".
        size_bytes: of the file.
    """

    name: str
    path: Path
    words: tuple[str, ...] = ()
    base: str = ""
    size_bytes: int = 0


def scan(folders: Sequence[Path]) -> dict[str, LoraFile]:
    """Every LoRA in safetensors files below the folders, by name."""
    return named(folders, read)


def named(folders: Sequence[Path], read: Callable[[Path], F | None]) -> dict[str, F]:
    """What ``read`` finds in the safetensors files below the folders; of two with one name the first counts."""
    found: dict[str, F] = {}
    for folder in filter(Path.is_dir, folders):
        for file in filter(None, map(read, sorted(folder.rglob("*.safetensors"))[:MAX_FILES])):
            found.setdefault(file.name, file)
    return found


def read(path: Path) -> LoraFile | None:
    """What a file's own header says; None for what is no LoRA, or cannot be read."""
    header = read_header(path)
    if header is None:
        return None
    keys = [key for key in header if key != "__metadata__"]
    if not any(mark in key for key in keys for mark in (".lora_", "lora_down", "lora_A")):
        return None
    about = header.get("__metadata__")
    about = about if isinstance(about, dict) else {}
    base = str(about.get("modelspec.architecture") or about.get("ss_base_model_version") or "")[:80]
    return LoraFile(path.stem, path, _words(about), base, path.stat().st_size)


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file: name of a tensor -> dtype, shape, place; None for what is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if 2 <= length <= MAX_HEADER else None
    except (OSError, ValueError, struct.error):
        return None
    return header if isinstance(header, dict) else None


def _words(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The trigger phrase if the makers gave one, else the tags that their pictures had most often."""
    phrase = about.get("modelspec.trigger_phrase")
    if isinstance(phrase, str) and phrase.strip():
        return tuple(word.strip()[:60] for word in phrase.split(",") if word.strip())[:MAX_WORDS]
    try:
        folders = json.loads(about.get("ss_tag_frequency") or "{}")
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError):
        return ()
    return tuple(sorted(counts, key=lambda tag: (-counts[tag], tag))[:MAX_WORDS])
