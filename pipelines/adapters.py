"""IP-Adapter files: small networks by which a model follows a picture as it follows a prompt.

Ye et al. 2023, arXiv:2308.06721: the picture's features go through cross-attention layers of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.loras import named, read_header

# Where the image encoder lies in the repositories that these files come from, seen from the file.
_ENCODERS = ("image_encoder", "../image_encoder", "../models/image_encoder")
# Per kind of file: the tensor whose width tells which image encoder it was made with, and that encoder's word for it.
_WIDTHS = {
    "image_proj.proj.weight": "projection_dim",
    "image_proj.proj_in.weight": "hidden_size",
    "image_proj.proj.0.weight": "hidden_size",
}
_FACE = ".to_k_lora."


@dataclass(frozen=True)
class AdapterFile:
    """An IP-Adapter on this machine.

    Attributes:
        name: of the file, without its ending; what requests say.
        path: where it is.
        encoder: folder of the image encoder that it was made with.
        width: of the text that its UNet reads (768 for Stable Diffusion 1.x, 2048 for XL), 0 if it does not tell.
    """

    name: str
    path: Path
    encoder: Path
    width: int = 0


def scan(folders: Sequence[Path]) -> dict[str, AdapterFile]:
    """Every IP-Adapter below the folders whose image encoder is there too, by name."""
    return named(folders, read)


def read(path: Path) -> AdapterFile | None:
    """What a file's own header says; None for what is no IP-Adapter, or one that wants more than an image encoder."""
    header = read_header(path)
    if header is None or any(_FACE in name for name in header):
        return None
    keys = [name for name in header if name.startswith("ip_adapter.") and name.endswith(".to_k_ip.weight")]
    encoder = _encoder(path, header)
    if not keys or encoder is None:
        return None
    return AdapterFile(path.stem, path, encoder, _shape(header, keys[0])[-1])


def _encoder(path: Path, header: Mapping[str, Any]) -> Path | None:
    """The image encoder of the right width that lies near a file."""
    found = next(((_shape(header, name)[-1], word) for name, word in _WIDTHS.items() if name in header), None)
    if found is None:
        return None
    width, word = found
    for place in _ENCODERS:
        folder = (path.parent / place).resolve()
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and config.get(word) == width and any(folder.glob("*.safetensors")):
            return folder
    return None


def _shape(header: Mapping[str, Any], name: str) -> Sequence[int]:
    shape = header[name].get("shape") if isinstance(header[name], dict) else None
    return shape if isinstance(shape, list) and shape else [0]
