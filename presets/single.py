"""A model in one file: what it is, told from the names and shapes in a safetensors header; no weight is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from presets import configs
from presets.folders import BOTH, GENERIC, REFINES
from presets.reading import CatalogueError

SAFETENSORS = ".safetensors"
# Formats of PyTorch that can run code when they are opened.
PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
MAX_HEADER = 100 * 10**6

_UNET = "model.diffusion_model."
_FIRST = _UNET + "input_blocks.0.0.weight"
_CROSS = _UNET + "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_LAST = _UNET + "out.2.weight"
_VAE = ("first_stage_model.decoder.conv_in.weight", "vae.decoder.conv_in.weight")
_CLIP_L = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
_CLIP_H = "cond_stage_model.model.token_embedding.weight"
_XL_L = "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"
_XL_G = "conditioner.embedders.1.model.positional_embedding"
_REFINER_G = "conditioner.embedders.0.model.text_projection"
# The tenth block of the middle is there in SDXL and not in what was cut down from it.
_XL_WHOLE = _UNET + "middle_block.1.transformer_blocks.9.attn2.to_k.weight"
_SD_WHOLE = _UNET + "middle_block.1.proj_in.weight"
_LORA = re.compile(r"lora[._](down|up|A|B|linear_layer)\b|[.](hada_w1_a|lokr_w1|dora_scale)\b")


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself.

    Attributes:
        shapes: of every tensor, by name.
        notes: its metadata, such as ``modelspec.prediction_type``.
    """

    shapes: Mapping[str, tuple[int, ...]]
    notes: Mapping[str, str] = field(default_factory=dict)

    def has(self, *beginnings: str) -> bool:
        """Whether a tensor's name begins like one of these."""
        return any(name.startswith(beginnings) for name in self.shapes)


class NotAModel(CatalogueError):
    """A sound file that is no whole model: a LoRA, a VAE, a transformer on its own.

    Attributes:
        kind: what it is, in words that follow "is" or "are".
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_header(path: Path) -> Header:
    """The header of a safetensors file: a length (8 bytes), then JSON; nothing in it is trusted.

    Raises:
        CatalogueError: if the file cannot be read, is not of this format, or is cut short.
    """
    broken = CatalogueError(f"The file {path} is not a sound safetensors file; copy or download it again.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(MAX_HEADER, size - 8):
                raise broken
            text = file.read(length)
    except OSError as error:
        raise CatalogueError(f"The file {path} cannot be read ({error.strerror}); check its name.") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(found, dict):
        raise broken
    notes = found.pop("__metadata__", None)
    end = 0
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in found.items():
        shape, last = _entry(entry)
        if shape is None:
            raise broken
        shapes[name], end = shape, max(end, last)
    if not shapes:
        raise broken
    if end > size - 8 - length:
        raise CatalogueError(f"The file {path} is cut short; copy or download it again.")
    return Header(shapes, {k: v for k, v in notes.items() if isinstance(v, str)} if isinstance(notes, dict) else {})


def _entry(entry: Any) -> tuple[tuple[int, ...] | None, int]:
    """Shape and last byte of a tensor, or None if the header does not say them soundly."""
    if not isinstance(entry, dict):
        return None, 0
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > 16:
            return None, 0
        if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in numbers):
            return None, 0
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        return None, 0
    return tuple(shape), offsets[1]


def variant(path: Path, header: Header) -> str:
    """Which of ``configs.VARIANTS`` a whole model is.

    Raises:
        NotAModel: if it is something else that belongs beside or inside a model.
        CatalogueError: if it is a model of another kind, or nothing that is known.
    """
    if other := _no_model(header):
        kind, advice = other
        raise NotAModel(f"The file {path} is {kind}, not a whole model; {advice}.", kind)
    shapes = header.shapes
    if _FIRST not in shapes:
        raise CatalogueError(
            f"The file {path} is of a kind that is not known here; single files can be Stable Diffusion 1.x, 2.x or "
            "XL, and other models are added as a diffusers folder or a hub id."
        )
    family = _family(path, header)
    channels = shapes[_FIRST][1] if len(shapes[_FIRST]) == 4 else 0
    if channels == 9 and family != "sdxl-refiner":
        return f"{family}-inpaint"
    if channels != 4:
        raise CatalogueError(
            f"The model in {path} takes {channels} channels, so that it edits, scales or wants depth; choose a "
            "text-to-image or an inpainting model."
        )
    return _prediction(path, header, family)


def _no_model(header: Header) -> tuple[str, str] | None:
    """What a file is that is not a whole model, and where it belongs; None if it may be one."""
    names = header.shapes
    if any(_LORA.search(name) for name in names) or header.has("lora_unet_", "lora_te", "lora_transformer_"):
        return "a LoRA", "choose a model first, then add it as a LoRA"
    if header.has("control_model.", "controlnet_", "control_"):
        return "a ControlNet", "choose a model first, then add it as a ControlNet"
    if header.has("ip_adapter.", "image_proj."):
        return "an IP-Adapter", "choose a model first, then add it as an IP-Adapter"
    if header.has("emb_params", "string_to_param", "clip_l", "clip_g") and len(names) <= 4:
        return "a textual inversion", "choose a model first, then add it as a textual inversion"
    whole = header.has(_UNET + "input_blocks.")
    if whole and not any(name in names for name in _VAE):
        return "a UNet without its VAE", "find the whole model, or a folder in the diffusers format"
    if whole and not any(name in names for name in (_CLIP_L, _CLIP_H, _XL_G, _REFINER_G)):
        return "a UNet without its text encoder", "find the whole model, or a folder in the diffusers format"
    if whole:
        return None
    return _one_network(header)


def _one_network(header: Header) -> tuple[str, str] | None:
    """Which single network a file holds, by the names that its layers have in its original or in diffusers' layout."""
    folder = "add the whole model as a diffusers folder or by its hub id, such as"
    part = "name the whole folder that has it in a subfolder"
    bare = {name.removeprefix(_UNET) for name in header.shapes}

    def begins(*beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in bare)

    if begins("single_stream_modulation."):
        return "the transformer of FLUX.2", f"{folder} black-forest-labs/FLUX.2-klein-4B"
    if begins("double_blocks.0.img_attn."):
        return "the transformer of FLUX.1", f"{folder} black-forest-labs/FLUX.1-schnell"
    if begins("joint_blocks.0."):
        return "the transformer of Stable Diffusion 3", f"{folder} stabilityai/stable-diffusion-3.5-medium"
    if begins("cap_embedder.") and begins("layers.0.adaLN_modulation"):
        return "the transformer of Z-Image", f"{folder} Tongyi-MAI/Z-Image-Turbo"
    if begins("down_blocks.0.resnets.", "transformer_blocks.0.", "single_transformer_blocks.0."):
        return "a UNet or transformer on its own", part
    if begins("decoder.conv_in.", "first_stage_model.decoder.", "decoder.layers.", "vae.decoder."):
        return "a VAE", "choose a model first: models bring their own VAE"
    if begins("text_model.", "encoder.block.0.", "model.embed_tokens.", "text_encoders."):
        return "a text encoder", part
    return None


def _family(path: Path, header: Header) -> str:
    """sd15, sd21, sdxl or sdxl-refiner; cut-down models, whose layers are not all there, are refused."""
    shapes = header.shapes
    if "edm_mean" in shapes:
        raise CatalogueError(
            f"The model in {path} is Playground 2.5, whose noise is scaled in its own way; add it by its hub id "
            "playgroundai/playground-v2.5-1024px-aesthetic."
        )
    width = shapes[_FIRST][0] if shapes[_FIRST] else 0
    if _XL_G in shapes and _XL_L in shapes:
        family, sound = "sdxl", width == 320 and _XL_WHOLE in shapes
    elif _REFINER_G in shapes:
        family, sound = "sdxl-refiner", width == 384
    else:
        cross = shapes.get(_CROSS) or (0,)
        family = {768: "sd15", 1024: "sd21"}.get(cross[-1], "")
        encoder = _CLIP_L if family == "sd15" else _CLIP_H
        sound = bool(family) and width == 320 and _SD_WHOLE in shapes and encoder in shapes
    if not sound or _LAST not in shapes:
        raise CatalogueError(
            f"The model in {path} is like Stable Diffusion with other layers (perhaps a smaller, distilled one); add "
            "it as a diffusers folder or by its hub id."
        )
    return family


def _prediction(path: Path, header: Header, family: str) -> str:
    """The variant that predicts what the model predicts; a header seldom says it (see ``assumption``)."""
    told = header.notes.get("modelspec.prediction_type", "").lower()
    if family == "sdxl-refiner":
        return family
    if family == "sd21":
        small = bool(re.search(r"base|512|turbo", path.stem, re.IGNORECASE))
        return "sd21-base" if told.startswith("eps") or (small and not told.startswith("v")) else "sd21"
    # Trainers of v-prediction models mark them by empty tensors of these names.
    if "v_pred" in header.shapes or told.startswith("v"):
        return "sdxl-v-zsnr" if family == "sdxl" and "ztsnr" in header.shapes else f"{family}-v"
    return family


def assumption(header: Header, found: str) -> str:
    """A sentence on what was assumed about a model, or ""."""
    if found not in ("sd21", "sd21-base") or "modelspec.prediction_type" in header.notes:
        return ""
    if found == "sd21":
        return (
            " Its file does not say what it predicts: it is taken for a 768-pixel model that predicts v; if its "
            "pictures are noise, put '512' or 'base' into the file's name."
        )
    return " By its name it is taken for a 512-pixel model that predicts epsilon."


_NAMES = {"sd15": "Stable Diffusion 1.x", "sd21": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def card(path: Path, id: str, cache_dir: Path | None = None, **changes: Any) -> ModelCard:
    """The card of a model in one file, with a configuration folder put together beside the user's other caches.

    Args:
        path: absolute.
        id: the card's id.
        cache_dir: where the configuration goes; see ``configs.folder``.
        changes: fields that are known better.

    Raises:
        NotAModel, CatalogueError: as ``variant``, ``refuse_pickle`` and ``configs.folder``.
    """
    refuse_pickle(path)
    header = read_header(path)
    found = variant(path, header)
    unet, scheduler = configs.read(found, "unet/config.json"), configs.read(found, "scheduler/scheduler_config.json")
    side = unet["sample_size"] * 8
    xl, refiner = found.startswith("sdxl"), found == "sdxl-refiner"
    kind = f"{_NAMES[found[:4]]}{' refiner' if refiner else ' for inpainting' if 'inpaint' in found else ''}"
    fields = {
        "id": id,
        "name": header.notes.get("modelspec.title", "").strip()[:80] or path.stem,
        "source": str(path),
        "family": "stable_diffusion_xl" if xl else "stable_diffusion",
        "licence": header.notes.get("modelspec.license", "").strip()[:80] or "not said in the file",
        "about": f"The model in the file {path.name}, {kind}.{assumption(header, found)}",
        "width": side,
        "height": side,
        "guidance_scale": 5.0 if xl else 7.5,
        "prediction_type": scheduler["prediction_type"],
        "terminal_snr_zero": bool(scheduler.get("rescale_betas_zero_snr")),
        "qualities": GENERIC,
        "tasks": REFINES if refiner else BOTH,
        "config": str(configs.folder(found, cache_dir)),
        **changes,
    }
    return ModelCard(**fields)


def refuse_pickle(path: Path) -> None:
    """Refuse files that are not safetensors, naming what turns a checkpoint into one.

    Raises:
        CatalogueError: if the name says so.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise CatalogueError(
            f"The file {path} is a pickle, which can run code when it is opened; convert it to safetensors first, for "
            "instance with diffusers' script convert_original_stable_diffusion_to_diffusers.py and --to_safetensors."
        )
    if suffix != SAFETENSORS:
        raise CatalogueError(f"The file {path} is not a model; name a .safetensors file, a folder or a hub id.")
