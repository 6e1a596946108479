"""A UNet that follows a picture beside the prompt: IP-Adapter (Ye et al. 2023, arXiv:2308.06721)."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.conditioning import Followed
from pipelines.families.loading import first_line
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.device import Placement

# Pictures whose features are kept.
REMEMBERED = 8


class Follower:
    """Puts one IP-Adapter onto a UNet and takes it off again, bit for bit; shared by all cards of a model."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._path: Path | None = None
        self._before: tuple[Any, ...] = ()
        self._seen: OrderedDict[tuple[Path, str, bool], tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._now: tuple[torch.Tensor, torch.Tensor] | None = None

    def follow(self, wish: Followed | None, placement: Placement, model_name: str) -> bool:
        """Follow this picture, or none; whether anything changed.

        Raises:
            InvalidRequest: if the file or its image encoder is not for this model; it then follows none.
        """
        if wish is None:
            return self.let_go()
        try:
            if wish.path != self._path:
                self.let_go()
                self._put_on(wish.path)
            self._weigh(wish.weight)
            self._now = self._features(wish, placement)
        except Exception as error:
            self.let_go()
            if isinstance(error, InvalidRequest | torch.OutOfMemoryError | MemoryError):
                raise
            raise InvalidRequest(
                f"The IP-Adapter {wish.path.stem} cannot be used with {model_name} ({first_line(error)}); it is "
                "probably made for another kind of model, so choose another one."
            ) from error
        return True

    def features(self, negative: bool) -> torch.Tensor | None:
        """What the UNet is told of the picture, (1, pictures, ...); zeros' features for what guidance pushes away."""
        return None if self._now is None else self._now[1 if negative else 0]

    def let_go(self) -> bool:
        """Take the adapter off: the UNet is then what it was."""
        if self._path is None and not self._before:
            return False
        processors, projection, kind = self._before
        self._unet.encoder_hid_proj = projection
        self._unet.config.encoder_hid_dim_type = kind
        self._unet.set_attn_processor(dict(processors))
        self._path, self._before, self._now = None, (), None
        return True

    def _put_on(self, path: Path) -> None:
        from safetensors.torch import load_file

        unet = self._unet
        state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in load_file(path).items():
            part, _, rest = name.partition(".")
            if part in state:
                state[part][rest] = tensor
        self._before = (dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type)
        if any(type(one).__name__ == "SlicedAttnProcessor" for one in unet.attn_processors.values()):
            # The loader makes new ones of the classes that it finds, and cannot make this one.
            unet.set_default_attn_processor()
        unet._load_ip_adapter_weights([state], low_cpu_mem_usage=True)
        self._path = path

    def _weigh(self, weight: float) -> None:
        for processor in self._unet.attn_processors.values():
            if isinstance(getattr(processor, "scale", None), list):
                processor.scale = [weight]

    def _features(self, wish: Followed, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        """The picture's features and those of no picture: one vector, or for finer adapters one each patch."""
        from diffusers.models import ImageProjection

        fine = not isinstance(self._unet.encoder_hid_proj.image_projection_layers[0], ImageProjection)
        key = (wish.encoder, wish.key, fine)
        if key not in self._seen:
            self._seen[key] = _seen(wish, placement, fine)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        device, dtype = self._unet.device, self._unet.dtype
        found, none = (rows.to(device, dtype)[None] for rows in self._seen[key])
        return found, none


@torch.inference_mode()
def _seen(wish: Followed, placement: Placement, fine: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ask the image encoder once; it is not kept, since it is as large as a small model."""
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    encoder = CLIPVisionModelWithProjection.from_pretrained(
        wish.encoder, local_files_only=True, use_safetensors=True, dtype=getattr(torch, placement.dtype)
    ).to(placement.device)
    side = encoder.config.image_size
    pixels = CLIPImageProcessor(size=side, crop_size=side)(wish.image.convert("RGB"), return_tensors="pt").pixel_values
    pixels = pixels.to(encoder.device, encoder.dtype)
    if not fine:
        found = encoder(pixels).image_embeds
        return found.cpu(), torch.zeros_like(found).cpu()
    found, none = (
        encoder(rows, output_hidden_states=True).hidden_states[-2] for rows in (pixels, torch.zeros_like(pixels))
    )
    return found.cpu(), none.cpu()
