"""ControlNets beside a UNet: they see a map and add to what the UNet computes (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.conditioning import Conditioning, Controlled, Hint
from pipelines.families.loading import first_line, use_attention
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.device import Placement

# What a ControlNet and its UNet have in common.
_SHARED = ("in_channels", "cross_attention_dim", "block_out_channels", "addition_embed_type")


class Controller:
    """The ControlNets of a model's last run, shared by all its cards."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._nets: dict[Path, Any] = {}
        self.hints: tuple[Hint, ...] = ()

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The networks, by names that no part of a model has."""
        return {f"controlnet_{k}": net for k, net in enumerate(self._nets.values())}

    def control(self, wishes: Sequence[Controlled], placement: Placement, model_name: str) -> None:
        """Have exactly these in the next run; what the last one does not need is dropped.

        Raises:
            InvalidRequest: if one is not for this model; then there are none.
        """
        self.hints = ()
        self._nets = {path: net for path, net in self._nets.items() if path in {wish.path for wish in wishes}}
        for wish in wishes:
            if wish.path not in self._nets:
                self._nets[wish.path] = self._load(wish.path, placement, model_name)
        self.hints = tuple(
            Hint(self._nets[wish.path], self._seen(wish.image), wish.weight, wish.start, wish.end) for wish in wishes
        )

    def _seen(self, image: Image.Image) -> torch.Tensor:
        """A map as (1, 3, h, w), 0 to 1."""
        import numpy as np

        pixels = np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)[None] / 255
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._unet.device, self._unet.dtype)

    def _load(self, path: Path, placement: Placement, model_name: str) -> Any:
        try:
            net = _read(path, self._unet)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                raise
            raise InvalidRequest(
                f"The ControlNet {path.stem} cannot be used with {model_name} ({first_line(error)}); it is probably "
                "made for another kind of model, so choose another one."
            ) from error
        ours = self._unet.config
        differs = next((name for name in _SHARED if not _same(net.config[name], ours[name], name)), "")
        if differs or net.config.global_pool_conditions:
            raise InvalidRequest(
                f"The ControlNet {path.stem} is made for another kind of model than {model_name}; choose another one."
            )
        net = net.to(self._unet.device, self._unet.dtype).eval().requires_grad_(False)
        use_attention(net, placement)
        return net


def controlled(
    x: torch.Tensor, t: torch.Tensor, told: Conditioning, added: dict[str, Any] | None
) -> dict[str, Any]:
    """What the ControlNets add, as arguments of the UNet: the sums over all that have a say now; {} without any.

    Args:
        x: the UNet's input without a mask, (n, c, h, w).
        t: timestep.
        told: the prompt, and the hints.
        added: what the UNet is told besides the text.
    """
    down: Any = None
    middle: Any = None
    for hint in told.hints:
        more, mid = hint.net(
            x,
            t,
            encoder_hidden_states=told.tokens,
            controlnet_cond=hint.image.expand(len(x), -1, -1, -1),
            conditioning_scale=hint.weight,
            added_cond_kwargs=added,
            return_dict=False,
        )
        down = more if down is None else [a + b for a, b in zip(down, more, strict=True)]
        middle = mid if middle is None else middle + mid
    if down is None:
        return {}
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def _read(path: Path, unet: Any) -> Any:
    """A ControlNet from its folder, or from a single file with the configuration that its UNet implies."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
    from safetensors.torch import load_file

    if path.is_dir():
        plain = (path / "diffusion_pytorch_model.safetensors").is_file()
        plain = plain or any(path.glob("diffusion_pytorch_model.safetensors.index.json"))
        return ControlNetModel.from_pretrained(
            path, local_files_only=True, use_safetensors=True, variant=None if plain else "fp16"
        )
    net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    net.load_state_dict(convert_controlnet_checkpoint(load_file(path), dict(net.config)))
    return net


def _same(theirs: Any, ours: Any, name: str) -> bool:
    # An inpainting UNet sees more channels; its ControlNets see the latents alone.
    if name == "in_channels":
        return ours in (theirs, 2 * theirs + 1)
    return (tuple(theirs) if isinstance(theirs, list) else theirs) == (tuple(ours) if isinstance(ours, list) else ours)
