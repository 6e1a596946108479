"""A whole model in one safetensors file: its networks are read one after the other, by diffusers' own conversion.

Each network goes where it stays, in the wanted number format, before a weight of the next one is read: what passes
through RAM is the largest network, not the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models.placement import settle
from pipelines.system.building import BUILDING
from pipelines.system.scaled_weights import is_note, scale_of, unscaled

if TYPE_CHECKING:
    import torch

    from pipelines.cards import ModelCard
    from pipelines.model import Placement, Report

# Beginnings of tensor names, by the network that they are of.  Both text encoders of XL share one: diffusers tells what
# the first one is by a name of the second.  "model_ema." begins a second copy (EMA), which is not loaded.
PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner."),
    "text_encoder_2": ("cond_stage_model.", "conditioner."),
}
# Where single files of Stable Diffusion 1.x keep the text encoder, and what older converters left out of its names.
_CLIP, _TEXT_MODEL = "cond_stage_model.transformer.", "text_model."
# Windows counts the whole file as the program's memory for each network that is mapped from it.
_BACKEND = "pread" if sys.platform == "win32" else "mmap"


def load_parts(card: ModelCard, placement: Placement, index: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Every network and tokenizer of a model in a single file, by its name in the diffusers format.

    Args:
        card: its source is the file, its ``config`` a folder with the configuration.
        placement: device and number format.
        index: its model_index.json.
        report: called before each part.

    Raises:
        Exception: of diffusers, transformers and safetensors; ValueError for weights that the file lacks.
    """
    wanted = {name: kind for name, kind in index.items() if isinstance(kind, list) and kind[0] and name != "scheduler"}
    parts: dict[str, Any] = {}
    for done, (name, kind) in enumerate(wanted.items()):
        report(name, done, len(wanted))
        parts[name] = _load_part(name, kind, card, placement)
    return parts


def _load_part(name: str, kind: Sequence[str], card: ModelCard, placement: Placement) -> Any:
    """One part, where it stays: only then are its weights as the file has them let go of."""
    import torch
    from diffusers import pipelines
    from diffusers.loaders.single_file import load_single_file_sub_model

    dtype = getattr(torch, placement.dtype)
    library, class_name = kind
    checkpoint = read_weights(Path(card.source), name, dtype)
    with BUILDING:
        part = load_single_file_sub_model(
            library_name=library, class_name=class_name, name=name, checkpoint=checkpoint, pipelines=pipelines,
            is_pipeline_module=hasattr(pipelines, library), cached_model_config_path=card.config,
            local_files_only=True, torch_dtype=dtype,
        )  # fmt: skip
    del checkpoint
    if not isinstance(part, torch.nn.Module):
        return part
    absent = next((key for key, weight in part.named_parameters() if weight.is_meta), None)
    if absent:
        raise ValueError(f"the {name} lacks {absent}")
    return settle(name, part, placement)


def read_weights(path: Path, part: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of one network as diffusers' conversion expects them, each rounded as it is read.

    Weights of 8 bits are multiplied by their scales, and a text encoder's older names become those of today.

    Args:
        path: of the file.
        part: name of the network in the diffusers format; of others there are none.
        dtype: of the result's floating-point numbers.

    Raises:
        ValueError: if a scale has no weight, or a weight that was scaled is not finite.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt", backend=_BACKEND) as file:
        names = [name for name in file.keys() if name.startswith(PREFIXES.get(part, ()))]  # noqa: SIM118
        older = not any(name.startswith(_CLIP + _TEXT_MODEL) for name in names)
        return {_of_today(name) if older else name: weight for name, weight in _weights(file, names, dtype)}


def _weights(file: Any, names: Sequence[str], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and weight of each of these tensors, without the scales and notes among them."""
    import torch

    known = set(names)
    scales = {scale_of(name): name for name in names if scale_of(name)}
    if lost := next((scale for target, scale in scales.items() if target not in known), None):
        raise ValueError(f"the scale {lost} has no weight")
    for name in names:
        if scale_of(name) or is_note(name):
            continue
        weight = file.get_tensor(name)
        if name in scales:
            weight = unscaled(weight, file.get_tensor(scales[name])).to(dtype)
            if not torch.isfinite(weight).all():
                raise ValueError(f"{name} is not finite")
        yield name, weight.to(dtype) if weight.is_floating_point() else weight


def _of_today(name: str) -> str:
    return _CLIP + _TEXT_MODEL + name.removeprefix(_CLIP) if name.startswith(_CLIP) else name
