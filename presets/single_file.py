"""A model in a single file: what it is, by the names and shapes in its safetensors header; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.models.adapters.lora_format import is_lora
from pipelines.models.families.card_fields import DEFAULT_QUALITIES
from pipelines.system import safetensors_header
from presets import configs
from presets.diffusers_folder import BOTH_TASKS, ONLY_IMAGE_TO_IMAGE
from presets.json_files import CatalogueError

SAFETENSORS = ".safetensors"
# Pickle formats of PyTorch, which can run code when they are opened.
PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")

_UNET = "model.diffusion_model."
_CONV_IN = _UNET + "input_blocks.0.0.weight"
_CROSS_ATTENTION = _UNET + "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_CONV_OUT = _UNET + "out.2.weight"
_VAE = ("first_stage_model.decoder.conv_in.weight", "vae.decoder.conv_in.weight")
_CLIP_L = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
# As older converters wrote it.
_OLD_CLIP_L = "cond_stage_model.transformer.embeddings.position_embedding.weight"
# Averaged weights: names of the first makers without their dots.
_EMA = "model_ema.diffusion_model"
_CLIP_H = "cond_stage_model.model.token_embedding.weight"
_XL_L = "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"
_XL_G = "conditioner.embedders.1.model.positional_embedding"
_REFINER_G = "conditioner.embedders.0.model.text_projection"
# The tenth block of the middle is in SDXL, and not in smaller models that were distilled from it.
_XL_LAST_BLOCK = _UNET + "middle_block.1.transformer_blocks.9.attn2.to_k.weight"
_SD_MIDDLE_BLOCK = _UNET + "middle_block.1.proj_in.weight"
_V_IN_NAME = re.compile(r"v[-_ ]?pred", re.IGNORECASE)


@dataclass(frozen=True)
class CheckpointHeader:
    """The checked header of a model in a safetensors file.

    Attributes:
        shapes: of every tensor, by name.
        metadata: such as ``modelspec.prediction_type``.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def has(self, *prefixes: str) -> bool:
        """Whether a tensor's name has one of these prefixes."""
        return any(name.startswith(prefixes) for name in self.shapes)


class NotAWholeModel(CatalogueError):
    """A sound file that is not a whole model: a LoRA, a VAE, a transformer on its own.

    Attributes:
        kind: what it is, in words that follow "is" or "are".
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_checkpoint_header(path: Path) -> CheckpointHeader:
    """Read and check the header of a safetensors file.

    Raises:
        CatalogueError: if the file cannot be read, is not of this format, or is cut short.
    """
    broken = CatalogueError(f"The file {path} is not a sound safetensors file; copy or download it again.")
    try:
        header = safetensors_header.read_header(path)
        size = path.stat().st_size
    except OSError as error:
        raise CatalogueError(f"The file {path} cannot be read ({error.strerror}); check its name.") from None
    except ValueError:
        raise broken from None
    end = 0
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in header.tensors.items():
        shape, last = _shape_and_end(entry)
        if shape is None:
            raise broken
        shapes[name], end = shape, max(end, last)
    if not shapes:
        raise broken
    if end > size - header.data_start:
        raise CatalogueError(f"The file {path} is cut short; copy or download it again.")
    return CheckpointHeader(shapes, {k: v for k, v in header.metadata.items() if isinstance(v, str)})


def _shape_and_end(entry: Any) -> tuple[tuple[int, ...] | None, int]:
    """Shape and last byte of a tensor; (None, 0) if the header's entry is broken."""
    if not isinstance(entry, dict):
        return None, 0
    shape, offsets = _whole_numbers(entry.get("shape")), _whole_numbers(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        return None, 0
    return shape, offsets[1]


def _whole_numbers(value: Any) -> tuple[int, ...] | None:
    """A list of at most 16 whole numbers from the header; None if it is anything else."""
    if not isinstance(value, list) or len(value) > 16:
        return None
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in value):
        return None
    return tuple(value)


def detect_variant(path: Path, header: CheckpointHeader) -> str:
    """Detect which of ``configs.VARIANTS`` a model is.

    Raises:
        NotAWholeModel: if it is an adapter or a component of a model.
        CatalogueError: if it is a model of another architecture.
    """
    if other := _other_kind(header):
        kind, advice = other
        raise NotAWholeModel(f"The file {path} is {kind}, not a whole model; {advice}.", kind)
    shapes = header.shapes
    if _CONV_IN not in shapes:
        raise CatalogueError(
            f"The file {path} is of a kind that is not known here; single files can be Stable Diffusion 1.x, 2.x or "
            "XL, and other models are added as a diffusers folder or a hub id."
        )
    family = _family(path, header)
    channels = shapes[_CONV_IN][1] if len(shapes[_CONV_IN]) == 4 else 0
    if channels == 9 and family != "sdxl-refiner":
        return f"{family}-inpaint"
    if channels != 4:
        raise CatalogueError(
            f"The model in {path} takes {channels} channels, so that it edits, scales or wants depth; choose a "
            "text-to-image or an inpainting model."
        )
    return _with_prediction(path, header, family)


def _other_kind(header: CheckpointHeader) -> tuple[str, str] | None:
    """What a file is that is not a whole model, and how to use it; None if it may be a whole model."""
    names = header.shapes
    if is_lora(names) or header.has("lora_unet_", "lora_te", "lora_transformer_"):
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
    if whole and not any(name in names for name in (_CLIP_L, _OLD_CLIP_L, _CLIP_H, _XL_G, _REFINER_G)):
        return "a UNet without its text encoder", "find the whole model, or a folder in the diffusers format"
    if whole:
        return None
    if header.has(_EMA):
        return (
            "a model with averaged weights alone (EMA)",
            "its UNet is stored under names for training only, so find the file without 'ema-only', or convert it to "
            "the diffusers format with --extract_ema",
        )
    return _single_network_kind(header)


def _single_network_kind(header: CheckpointHeader) -> tuple[str, str] | None:
    """Which single network a file holds, by its layers' names in the original layout or that of diffusers."""
    folder = "add the whole model as a diffusers folder or by its hub id, such as"
    part = "name the whole folder that has it in a subfolder"
    names = {name.removeprefix(_UNET) for name in header.shapes}

    def has(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in names)

    if has("single_stream_modulation."):
        return "the transformer of FLUX.2", f"{folder} black-forest-labs/FLUX.2-klein-4B"
    if has("double_blocks.0.img_attn."):
        return "the transformer of FLUX.1", f"{folder} black-forest-labs/FLUX.1-schnell"
    if has("joint_blocks.0."):
        return "the transformer of Stable Diffusion 3", f"{folder} stabilityai/stable-diffusion-3.5-medium"
    if has("cap_embedder.") and has("layers.0.adaLN_modulation"):
        return "the transformer of Z-Image", f"{folder} Tongyi-MAI/Z-Image-Turbo"
    if has("down_blocks.0.resnets.", "transformer_blocks.0.", "single_transformer_blocks.0."):
        return "a UNet or transformer on its own", part
    if has("decoder.conv_in.", "first_stage_model.decoder.", "decoder.layers.", "vae.decoder."):
        return "a VAE", "choose a model first: models bring their own VAE"
    if has("text_model.", "encoder.block.0.", "model.embed_tokens.", "text_encoders."):
        return "a text encoder", part
    return None


def _family(path: Path, header: CheckpointHeader) -> str:
    """sd15, sd21, sdxl or sdxl-refiner; distilled models, which lack some of the layers, are refused."""
    shapes = header.shapes
    if "edm_mean" in shapes:
        raise CatalogueError(
            f"The model in {path} is Playground 2.5, whose noise is scaled in its own way; add it by its hub id "
            "playgroundai/playground-v2.5-1024px-aesthetic."
        )
    width = shapes[_CONV_IN][0] if shapes[_CONV_IN] else 0
    if _XL_G in shapes and _XL_L in shapes:
        family, sound = "sdxl", width == 320 and _XL_LAST_BLOCK in shapes
    elif _REFINER_G in shapes:
        family, sound = "sdxl-refiner", width == 384
    else:
        cross = shapes.get(_CROSS_ATTENTION) or (0,)
        family = {768: "sd15", 1024: "sd21"}.get(cross[-1], "")
        encoders = {_CLIP_L, _OLD_CLIP_L} if family == "sd15" else {_CLIP_H}
        sound = bool(family) and width == 320 and _SD_MIDDLE_BLOCK in shapes and bool(encoders & shapes.keys())
    if not sound or _CONV_OUT not in shapes:
        raise CatalogueError(
            f"The model in {path} is like Stable Diffusion with other layers (perhaps a smaller, distilled one); add "
            "it as a diffusers folder or by its hub id."
        )
    return family


def _with_prediction(path: Path, header: CheckpointHeader, family: str) -> str:
    """The variant of a family with the model's prediction type; a header seldom says it (see ``assumption``)."""
    stated = header.metadata.get("modelspec.prediction_type", "").lower()
    if family == "sdxl-refiner":
        return family
    if family == "sd21":
        small = bool(re.search(r"base|512|turbo", path.stem, re.IGNORECASE))
        return "sd21-base" if stated.startswith("eps") or (small and not stated.startswith("v")) else "sd21"
    # Trainers of v-prediction models mark them by empty tensors of these names, or in the file's name alone.
    named = not stated and _V_IN_NAME.search(path.stem) is not None
    if "v_pred" in header.shapes or stated.startswith("v") or named:
        return "sdxl-v-zsnr" if family == "sdxl" and "ztsnr" in header.shapes else f"{family}-v"
    return family


def assumption(header: CheckpointHeader, found: str) -> str:
    """A sentence about what was assumed of a model, or ""."""
    if "modelspec.prediction_type" in header.metadata or "v_pred" in header.shapes:
        return ""
    if found in ("sd15-v", "sdxl-v"):
        return " By its name it is taken for a model that predicts v; if its pictures are noise, choose below."
    if found not in ("sd21", "sd21-base"):
        return ""
    if found == "sd21":
        return (
            " Its file does not say what it predicts: it is taken for a 768-pixel model that predicts v; if its "
            "pictures are noise, choose below what it predicts."
        )
    return " By its name it is taken for a 512-pixel model that predicts epsilon."


_FAMILY_NAMES = {"sd15": "Stable Diffusion 1.x", "sd21": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def read_card(path: Path, id: str, cache_dir: Path | None = None, **changes: Any) -> ModelCard:
    """Read the card of a model in a single file, and write its configuration folder.

    Args:
        path: absolute.
        id: the card's id.
        cache_dir: where the configuration goes; see ``configs.folder``.
        changes: fields that replace what the file says.

    Raises:
        NotAWholeModel, CatalogueError: as ``detect_variant``, ``refuse_pickle`` and ``configs.write_folder``.
    """
    refuse_pickle(path)
    header = read_checkpoint_header(path)
    found = detect_variant(path, header)
    unet, scheduler = configs.read(found, "unet/config.json"), configs.read(found, "scheduler/scheduler_config.json")
    side = unet["sample_size"] * 8
    xl, refiner = found.startswith("sdxl"), found == "sdxl-refiner"
    kind = f"{_FAMILY_NAMES[found[:4]]}{' refiner' if refiner else ' for inpainting' if 'inpaint' in found else ''}"
    fields = {
        "id": id,
        "name": header.metadata.get("modelspec.title", "").strip()[:80] or path.stem,
        "source": str(path),
        "family": "stable_diffusion_xl" if xl else "stable_diffusion",
        "licence": header.metadata.get("modelspec.license", "").strip()[:80] or "not said in the file",
        "about": f"The model in the file {path.name}, {kind}.{assumption(header, found)}",
        "width": side,
        "height": side,
        "guidance_scale": 5.0 if xl else 7.5,
        "prediction_type": scheduler["prediction_type"],
        "terminal_snr_zero": bool(scheduler.get("rescale_betas_zero_snr")),
        "qualities": DEFAULT_QUALITIES,
        "tasks": ONLY_IMAGE_TO_IMAGE if refiner else BOTH_TASKS,
        "config": str(configs.write_folder(found, cache_dir)),
        **changes,
    }
    return ModelCard.model_validate(fields)


def refuse_pickle(path: Path) -> None:
    """Refuse files that are not safetensors, and say how to convert a checkpoint.

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
