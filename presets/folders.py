"""A diffusers folder: which family it is and what its card says, from its own JSON files; nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard, Quality
from pipelines.schedulers import FLOW, OWN
from presets.reading import CatalogueError, read_json, read_json_or_nothing

# Pipelines that our own loop runs.
FAMILY_OF: Mapping[str, str] = {
    "StableDiffusionPipeline": "stable_diffusion",
    "StableDiffusionImg2ImgPipeline": "stable_diffusion",
    "StableDiffusionInpaintPipeline": "stable_diffusion",
    "LatentConsistencyModelPipeline": "stable_diffusion",
    "LatentConsistencyModelImg2ImgPipeline": "stable_diffusion",
    "StableDiffusionXLPipeline": "stable_diffusion_xl",
    "StableDiffusionXLImg2ImgPipeline": "stable_diffusion_xl",
    "StableDiffusionXLInpaintPipeline": "stable_diffusion_xl",
    "StableDiffusion3Pipeline": "stable_diffusion_3",
    "StableDiffusion3Img2ImgPipeline": "stable_diffusion_3",
    "FluxPipeline": "flux",
    "FluxImg2ImgPipeline": "flux",
}
# Pipelines of diffusers 0.42 that need nothing but a prompt and give a picture: these run their own loop.
TEXT_TO_IMAGE = frozenset(
    f"{name}Pipeline"
    for name in (
        *("AuraFlow", "Bria", "BriaFibo", "BriaFibo2", "Chroma", "CogView3Plus", "CogView4", "Cosmos2TextToImage"),
        *("DreamLite", "DreamLiteMobile", "ErnieImage", "Flux2", "Flux2Klein", "Flux2KleinKV", "FluxKontext"),
        *("GlmImage", "HiDreamImage", "HunyuanDiT", "HunyuanDiTPAG", "HunyuanImage", "IF", "Ideogram4", "Kandinsky3"),
        *("Kandinsky5T2I", "KandinskyCombined", "KandinskyV22Combined", "Kolors", "KolorsPAG", "Krea2"),
        *("LDMTextToImage", "LongCatImage", "Lumina", "Lumina2", "NucleusMoEImage", "OmniGen", "OvisImage", "PRX"),
        *("PRXPixel", "PixArtAlpha", "PixArtSigma", "PixArtSigmaPAG", "QwenImage", "QwenImage21", "Sana", "SanaPAG"),
        *("SanaSprint", "StableCascadeCombined", "StableDiffusion3PAG", "StableDiffusionPAG", "StableDiffusionXLPAG"),
        *("WuerstchenCombined", "ZImage", "ZImageOmni"),
    )
)
REFINES = ("image-to-image",)
BOTH = ("text-to-image", "image-to-image")
_LICENCE = re.compile(r"^license(?:_name)?:\s*['\"]?([\w.+ -]{2,60}?)['\"]?\s*$", re.MULTILINE)


def qualities(scheduler: str, draft: int, balanced: int, fine: int) -> dict[str, Quality]:
    """The three choices of a model, with one sampler."""
    steps = {"draft": draft, "balanced": balanced, "fine": fine}
    return {name: Quality(scheduler=scheduler, num_inference_steps=n) for name, n in steps.items()}


GENERIC = qualities("dpmpp_2m", 12, 25, 50)


def index(folder: Path) -> Mapping[str, Any]:
    """model_index.json of a diffusers folder of a kind that can be run.

    Raises:
        CatalogueError: if there is none, or it names another kind of pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise CatalogueError(
            f"The folder {folder} holds no model_index.json; name a folder in the diffusers format, or another model."
        )
    found = read_json(folder / "model_index.json")
    kind = found.get("_class_name")
    if not isinstance(kind, str) or (kind not in FAMILY_OF and kind not in TEXT_TO_IMAGE):
        raise CatalogueError(
            f"The model in {folder} is a {str(kind)[:64]}, which does not make a picture from a text alone and cannot "
            "be run here; choose a text-to-image model."
        )
    return found


def card(folder: Path, id: str, **changes: Any) -> ModelCard:
    """The card of a diffusers folder.

    Args:
        folder: absolute; also a snapshot in the hub's cache, of which the configuration files suffice.
        id: the card's id, and its name unless ``changes`` says otherwise.
        changes: fields that are known better than the folder knows them, such as ``source``.

    Raises:
        CatalogueError: if it is not a model that can be run, or its configuration is missing or broken.
    """
    kind = index(folder)["_class_name"]
    family = FAMILY_OF.get(kind, "any")
    fields = {
        "id": id,
        "name": id,
        "source": str(folder),
        "family": family,
        "licence": licence(folder),
        "about": f"The model in the folder {folder.name}, a {kind}.",
        **_FIELDS[family](folder, kind),
        **changes,
    }
    return ModelCard(**fields)


def licence(folder: Path) -> str:
    """What the model's README says of its licence, at its head."""
    try:
        with (folder / "README.md").open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return "see its folder"
    front = head.split("---")[1] if head.startswith("---") else ""
    named = [match for match in _LICENCE.findall(front) if match.lower() != "other"]
    return named[-1] if named else "see its folder"


def _unet_fields(folder: Path, kind: str) -> dict[str, Any]:
    """Stable Diffusion 1.x, 2.x, XL: sizes from the UNet and VAE, the prediction type from the scheduler."""
    unet = read_json(folder / "unet" / "config.json")
    factor = _factor(read_json(folder / "vae" / "config.json"))
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    text = read_json_or_nothing(folder / "text_encoder" / "config.json")
    side = _side(unet, factor, 512)
    found = {
        "width": side,
        "height": side,
        "size_factor": factor,
        "prediction_type": _text(scheduler.get("prediction_type"), "epsilon"),
        "terminal_snr_zero": bool(scheduler.get("rescale_betas_zero_snr")),
        "max_tokens": _whole(text.get("max_position_embeddings"), 77),
        "qualities": GENERIC,
    }
    if kind.startswith("LatentConsistency"):
        found |= {"qualities": qualities("lcm", 2, 4, 8), "guidance_scale": 8.0, "guides_itself": True}
    if kind.startswith("StableDiffusionXL"):
        found["guidance_scale"] = 5.0
        # The refiner reads with the second encoder alone, and finishes pictures that the base began.
        if not (read_json(folder / "model_index.json").get("text_encoder") or [None])[0]:
            found["tasks"] = REFINES
    return found


def _sd3_fields(folder: Path, kind: str) -> dict[str, Any]:
    transformer = read_json(folder / "transformer" / "config.json")
    factor = _factor(read_json(folder / "vae" / "config.json"))
    side = _side(transformer, factor, 1024)
    return {
        **_flow(side, factor * _whole(transformer.get("patch_size"), 2)),
        "guidance_scale": 4.5,
        "max_tokens": 256,
        "qualities": qualities("flow_euler", 15, 28, 40),
    }


def _flux_fields(folder: Path, kind: str) -> dict[str, Any]:
    transformer = read_json(folder / "transformer" / "config.json")
    factor = 2 * _factor(read_json(folder / "vae" / "config.json"))
    # FLUX.1-dev takes the guidance scale as an input; -schnell has none, needs four steps and reads half as much.
    guided = bool(transformer.get("guidance_embeds"))
    return {
        **_flow(1024, factor),
        "guidance_scale": 3.5 if guided else 1.0,
        "guides_itself": True,
        "max_tokens": 512 if guided else 256,
        "qualities": qualities("flow_euler", 15, 28, 50) if guided else qualities("flow_euler", 2, 4, 8),
    }


def _flow(side: int, factor: int) -> dict[str, Any]:
    return {"width": side, "height": side, "size_factor": factor, "prediction_type": FLOW, "half": "bfloat16"}


def _any_fields(folder: Path, kind: str) -> dict[str, Any]:
    """What can be told of a pipeline that runs its own loop; its own defaults decide the rest."""
    vae = read_json_or_nothing(folder / "vae" / "config.json")
    networks = [read_json_or_nothing(folder / part / "config.json") for part in ("transformer", "unet")]
    network = next((found for found in networks if found), {})
    factor = _factor(vae) if vae else 8
    side = _side(network, factor, 1024)
    return {
        "width": side if side % 32 == 0 else 1024,
        "height": side if side % 32 == 0 else 1024,
        # Most of them see latents in patches of 2 x 2 cells; a multiple of 32 suits every one of them.
        "size_factor": 32,
        "guidance_scale": 4.5,
        "prediction_type": OWN,
        "max_tokens": 256,
        "qualities": qualities(OWN, 12, 28, 50),
        "tasks": BOTH[:1],
        "half": "bfloat16",
    }


_FIELDS = {
    "stable_diffusion": _unet_fields,
    "stable_diffusion_xl": _unet_fields,
    "stable_diffusion_3": _sd3_fields,
    "flux": _flux_fields,
    "any": _any_fields,
}


def _factor(vae: Mapping[str, Any]) -> int:
    """How many pixels one latent cell stands for, along a side."""
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 1 <= len(blocks) <= 8 else 8


def _side(network: Mapping[str, Any], factor: int, other: int) -> int:
    """The picture's side that a network was made for, in pixels."""
    cells = _whole(network.get("sample_size"), 0)
    return cells * factor if cells and cells * factor <= 4096 else other


def _whole(value: Any, other: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else other


def _text(value: Any, other: str) -> str:
    return value if isinstance(value, str) and value else other
