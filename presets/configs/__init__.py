"""Configurations of the families whose models come as single files, so that these load without a network.

Each folder below this one is a family: the configuration of its published models in the diffusers format, without
weights.  The tokenizer's two files are made from ``merges.txt.gz``; see README.md.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pipelines.system.atomic_files import atomic_write
from presets.json_files import CatalogueError

HERE = Path(__file__).resolve().parent
MERGES = HERE / "merges.txt.gz"

# File -> what changes in it.
Changes = Mapping[str, Mapping[str, Any]]

_V_PREDICTION: Changes = {"scheduler/scheduler_config.json": {"prediction_type": "v_prediction"}}
_V_ZERO_SNR: Changes = {
    "scheduler/scheduler_config.json": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
}
_EPSILON_512: Changes = {
    "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
    "unet/config.json": {"sample_size": 64},
    "vae/config.json": {"sample_size": 512},
}


def _inpaint(pipeline: str, changes: Changes) -> Changes:
    """An inpainting model takes nine channels: the latents, a mask, and the latents of the masked image."""
    unet = {**changes.get("unet/config.json", {}), "in_channels": 9}
    return {**changes, "unet/config.json": unet, "model_index.json": {"_class_name": pipeline}}


# Variant -> the folder it is made from, and what changes in its files.
VARIANTS: Mapping[str, tuple[str, Changes]] = {
    "sd15": ("sd15", {}),
    "sd15-v": ("sd15", _V_PREDICTION),
    "sd15-inpaint": ("sd15", _inpaint("StableDiffusionInpaintPipeline", {})),
    "sd21": ("sd21", {}),
    "sd21-base": ("sd21", _EPSILON_512),
    "sd21-inpaint": ("sd21", _inpaint("StableDiffusionInpaintPipeline", _EPSILON_512)),
    "sdxl": ("sdxl", {}),
    "sdxl-v": ("sdxl", _V_PREDICTION),
    "sdxl-v-zsnr": ("sdxl", _V_ZERO_SNR),
    "sdxl-inpaint": ("sdxl", _inpaint("StableDiffusionXLInpaintPipeline", {})),
    "sdxl-refiner": ("sdxl-refiner", {}),
}


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ``write_folder`` writes: the user's cache folder of this platform."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "diffusion-playground" / "configs"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "diffusion-playground" / "configs"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "diffusion-playground" / "configs"


def write_folder(variant: str, cache_dir: Path | None = None) -> Path:
    """Write the complete configuration of a variant, tokenizer included, as ``from_single_file(config=...)`` takes it.

    Existing files stay and missing ones are written, each whole or not at all: the next call repairs what a killed
    process left, or a cache that was cleaned in part.

    Args:
        variant: key of ``VARIANTS``.
        cache_dir: where to put it; None for ``default_cache``.

    Raises:
        KeyError: if there is no such variant.
        CatalogueError: if the folder cannot be written.
    """
    files = _files(variant)
    target = (cache_dir or default_cache_dir()) / f"{variant}-{_digest(variant)}"
    try:
        for name, content in files.items():
            _write(target / name, partial(_as_json, content))
        for name in {name.split("/")[0] for name in files if name.startswith("tokenizer")}:
            _write(target / name / "vocab.json", lambda: json.dumps(vocabulary(), ensure_ascii=False).encode())
            _write(target / name / "merges.txt", lambda: gzip.decompress(MERGES.read_bytes()))
    except OSError as error:
        raise CatalogueError(
            f"The folder {target} cannot be written ({error.strerror}), where a single file's configuration is put "
            "together; free some space or set XDG_CACHE_HOME to a folder that can be written."
        ) from None
    return target.resolve()


def read(variant: str, name: str) -> dict[str, Any]:
    """One configuration file of a variant, such as ``unet/config.json``."""
    return _files(variant)[name]


@lru_cache(maxsize=1)
def vocabulary() -> Mapping[str, int]:
    """CLIP's 49,408 tokens and their numbers: bytes, bytes that end a word, merges, start and end.

    Byte-pair encoding as OpenAI published it with CLIP (Radford et al. 2021, arXiv:2103.00020).
    """
    merges = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()[1:]
    letters = list(_byte_letters().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    return {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def _byte_letters() -> dict[int, str]:
    """A visible character for each byte: its own if it is visible, else the next one from code point 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@lru_cache(maxsize=32)
def _digest(variant: str) -> str:
    """A digest of the content, so that a newer program does not use an older one's files."""
    return hashlib.sha256(json.dumps(_files(variant), sort_keys=True).encode() + MERGES.read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=32)
def _files(variant: str) -> dict[str, dict[str, Any]]:
    base, changes = VARIANTS[variant]
    found = {
        path.relative_to(HERE / base).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((HERE / base).rglob("*.json"))
    }
    return {name: {**content, **changes.get(name, {})} for name, content in found.items()}


def _as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _write(path: Path, content: Callable[[], bytes]) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, sync=False) as file:
        file.write(content())
