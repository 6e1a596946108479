"""What a card says of a model, from the configuration files of its diffusers folder; one function a kind of family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pipelines.cards import qualities
from pipelines.sampling.schedulers import FLOW_PREDICTION, OWN_LOOP

DEFAULT_QUALITIES = qualities("dpmpp_2m", 12, 25, 50)


class Read(Protocol):
    """Reads a JSON file of a diffusers folder by its path in the folder."""

    def __call__(self, path: str, optional: bool = False) -> Mapping[str, Any]: ...


def stable_diffusion(read: Read, pipeline: str) -> dict[str, Any]:
    """Stable Diffusion 1.x, 2.x, XL: sizes from the UNet and VAE, the prediction type from the scheduler."""
    unet = read("unet/config.json")
    factor = _scale_factor(read("vae/config.json"))
    scheduler = read("scheduler/scheduler_config.json")
    side = _image_side(unet, factor, 512)
    found = {
        "width": side,
        "height": side,
        "size_factor": factor,
        "prediction_type": _non_empty(scheduler.get("prediction_type"), "epsilon"),
        "terminal_snr_zero": bool(scheduler.get("rescale_betas_zero_snr")),
        "qualities": DEFAULT_QUALITIES,
    }
    if pipeline.startswith("LatentConsistency"):
        found |= {"qualities": qualities("lcm", 2, 4, 8), "guidance_scale": 8.0, "guidance_embedded": True}
    if pipeline.startswith("StableDiffusionXL"):
        found["guidance_scale"] = 5.0
        # The refiner reads with the second encoder alone, and finishes pictures that the base began.
        if not names_part(read("model_index.json"), "text_encoder"):
            found["tasks"] = ("image-to-image",)
    return found


def stable_diffusion_3(read: Read, pipeline: str) -> dict[str, Any]:
    """Stable Diffusion 3 and 3.5: sizes from the transformer and VAE."""
    transformer = read("transformer/config.json")
    factor = _scale_factor(read("vae/config.json"))
    side = _image_side(transformer, factor, 1024)
    return {
        **_flow(side, factor * _positive_int(transformer.get("patch_size"), 2)),
        "guidance_scale": 4.5,
        "qualities": qualities("flow_euler", 15, 28, 40),
    }


def flux(read: Read, pipeline: str) -> dict[str, Any]:
    """FLUX.1-dev and -schnell, told apart by the guidance embedding."""
    transformer = read("transformer/config.json")
    factor = 2 * _scale_factor(read("vae/config.json"))
    # FLUX.1-dev takes the guidance scale as an input; -schnell has none and needs four steps.
    guided = bool(transformer.get("guidance_embeds"))
    return {
        **_flow(1024, factor),
        "guidance_scale": 3.5 if guided else 1.0,
        "guidance_embedded": True,
        "qualities": qualities("flow_euler", 15, 28, 50) if guided else qualities("flow_euler", 2, 4, 8),
    }


def _flow(side: int, factor: int) -> dict[str, Any]:
    return {
        "width": side,
        "height": side,
        "size_factor": factor,
        "prediction_type": FLOW_PREDICTION,
        "half": "bfloat16",
    }


def generic(read: Read, pipeline: str) -> dict[str, Any]:
    """What can be told of a pipeline that runs its own loop; its own defaults decide the rest."""
    vae = read("vae/config.json", optional=True)
    networks = [read(f"{part}/config.json", optional=True) for part in ("transformer", "unet")]
    network = next((found for found in networks if found), {})
    factor = _scale_factor(vae) if vae else 8
    side = _image_side(network, factor, 1024)
    return {
        "width": side if side % 32 == 0 else 1024,
        "height": side if side % 32 == 0 else 1024,
        # Most of them see latents in patches of 2 x 2 cells; a multiple of 32 suits every one of them.
        "size_factor": 32,
        "guidance_scale": 4.5,
        "prediction_type": OWN_LOOP,
        "qualities": qualities(OWN_LOOP, 12, 28, 50),
        "tasks": ("text-to-image",),
        "half": "bfloat16",
    }


def names_part(index: Mapping[str, Any], part: str) -> bool:
    """Whether model_index.json names a class for a part; anything but a list names none."""
    entry = index.get(part)
    return isinstance(entry, list) and bool(entry) and bool(entry[0])


def _scale_factor(vae: Mapping[str, Any]) -> int:
    """How many pixels one latent cell stands for, along a side."""
    blocks = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 1 <= len(blocks) <= 8 else 8


def _image_side(network: Mapping[str, Any], factor: int, other: int) -> int:
    """The picture's side that a network was made for, in pixels."""
    cells = _positive_int(network.get("sample_size"), 0)
    return cells * factor if cells and cells * factor <= 4096 else other


def _positive_int(value: Any, other: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else other


def _non_empty(value: Any, other: str) -> str:
    return value if isinstance(value, str) and value else other
