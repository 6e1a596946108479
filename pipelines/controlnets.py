"""ControlNet files: networks that tell a UNet where things are (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.loras import MAX_FILES, named, read_header

# Names of weights that only a ControlNet has: as its first makers had them, and as diffusers has them.
_MARKS = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
_PREFIX = "control_model."
_XL = ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
# Words in names that tell what a ControlNet wants to be given.
_KINDS = {"canny": "canny", "depth": "depth", "openpose": "pose", "pose": "pose"}


@dataclass(frozen=True)
class ControlFile:
    """A ControlNet on this machine.

    Attributes:
        name: of its folder or file, without an ending; what requests say.
        path: a diffusers folder, or a single safetensors file.
        xl: whether it is for Stable Diffusion XL.
        kind: what it was trained on as far as its name tells (canny, depth or pose), else "".
    """

    name: str
    path: Path
    xl: bool = False
    kind: str = ""


def scan(folders: Sequence[Path]) -> dict[str, ControlFile]:
    """Every ControlNet below the folders, by name; no weight is read."""
    found: dict[str, ControlFile] = {}
    for folder in filter(Path.is_dir, folders):
        for config in sorted(folder.rglob("config.json"))[:MAX_FILES]:
            file = _of_folder(config)
            if file is not None:
                found.setdefault(file.name, file)
    return {**named(folders, read), **found}


def read(path: Path) -> ControlFile | None:
    """What a single file's own header says; None for what is no ControlNet, or part of a folder."""
    header = read_header(path)
    if header is None or (path.parent / "config.json").is_file():
        return None
    names = {name.removeprefix(_PREFIX) for name in header}
    if not names & set(_MARKS):
        return None
    return ControlFile(path.stem, path, bool(names & set(_XL)), _kind(path.stem))


def _of_folder(config: Path) -> ControlFile | None:
    try:
        values: Any = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    folder = config.parent
    if not isinstance(values, Mapping) or values.get("_class_name") != "ControlNetModel":
        return None
    if not any(folder.glob("*.safetensors")):
        return None
    return ControlFile(folder.name, folder, values.get("addition_embed_type") == "text_time", _kind(folder.name))


def _kind(name: str) -> str:
    return next((kind for word, kind in _KINDS.items() if word in name.lower()), "")
