"""Image-to-image and inpainting: with which latents a run begins, at which step, and which latents it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from pipelines.sampling import schedulers
from pipelines.sampling.initial_noise import draw_initial_noise
from pipelines.system.gpu.device_copies import upload

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.model import Model
    from pipelines.request import GenerationRequest

# Mean and standard deviation of an image's latents, (1, c, h, w) each; the deviation is None where the autoencoder is
# deterministic.
Moments = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class InitLatents:
    """The init image as latents; float32 on the model's device.

    Attributes:
        clean: moments of the image's latents.
        mask: 1 where a latent is repainted, (1, 1, h, w), or None for all.
        masked_image: moments of the image with its mask greyed out, for inpainting UNets (9 input channels), or None.
    """

    clean: Moments
    mask: torch.Tensor | None = None
    masked_image: Moments | None = None

    @staticmethod
    def sample(moments: Moments, generators: list[torch.Generator]) -> torch.Tensor:
        """Mean + std * eps (Kingma and Welling 2014, arXiv:1312.6114), one sample a generator, (n, c, h, w)."""
        mean, std = moments
        if std is None:
            return mean.repeat(len(generators), 1, 1, 1)
        draws = [randn_tensor(mean.shape, generator=each, device=mean.device) for each in generators]
        return torch.cat([mean + std * eps for eps in draws])


def encode_init_image(model: Model, image: Image.Image, mask: Image.Image | None = None) -> InitLatents:
    """The init image as latents; the one use of the autoencoder before the loop.

    Args:
        model: has the autoencoder.
        image: RGB, of the request's width and height.
        mask: "L" of that size, white is repainted; None repaints all.
    """
    pixels = to_pixels(image)
    if mask is None:
        return InitLatents(model.latents.moments(pixels))
    repainted = torch.from_numpy(latent_mask(mask, model.latents.factor))[None, None]
    masked_image = None
    if model.is_inpainting:
        kept = (to_pixels(mask.convert("RGB")) < 0).float()
        masked_image = model.latents.moments(pixels * kept)
    return InitLatents(model.latents.moments(pixels), repainted.to(model.placement.device), masked_image)


def to_pixels(image: Image.Image) -> torch.Tensor:
    """An RGB image as float32 (1, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)


def latent_mask(mask: Image.Image, factor: int) -> np.ndarray:
    """The latents that a mask touches: float32 (height / factor, width / factor), 1 for touched."""
    marked = np.asarray(mask) > 0
    height, width = marked.shape
    cells = marked.reshape(height // factor, factor, width // factor, factor)
    return cells.max(axis=(1, 3)).astype(np.float32)


class InpaintMask:
    """The latents that inpainting keeps; other runs keep none.

    Args:
        scheduler: of this run.
        clean, noise: the init image's latents and the run's noise, (n, c, h, w).
        mask: 1 where a latent is repainted, (1, 1, h, w), or None for everywhere.
        masked_image: latents of the image without the masked part, (n, c, h, w), for inpainting UNets, or None.
    """

    def __init__(
        self,
        scheduler: Any,
        clean: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        masked_image: torch.Tensor | None = None,
    ) -> None:
        self.scheduler, self.clean, self.noise, self.mask, self.masked_image = (
            scheduler, clean, noise, mask, masked_image,
        )  # fmt: skip

    def concat(self, x_in: torch.Tensor) -> torch.Tensor:
        """[x_in, mask, masked_image] along the channels, (n, 2 c + 1, h, w), for inpainting UNets; else x_in.

        Rombach et al. 2022, arXiv:2112.10752.
        """
        if self.masked_image is None or self.mask is None:
            return x_in
        return torch.cat([x_in, self.mask.expand(len(x_in), -1, -1, -1), self.masked_image], dim=1)

    def blend(self, x_next: torch.Tensor, t_next: torch.Tensor) -> torch.Tensor:
        """Mask * x_next + (1 - mask) * add_noise(clean, t_next): outside the mask, the image at the next noise level.

        RePaint, Lugmayr et al. 2022, arXiv:2201.09865, equation 8.

        Args:
            x_next: latents after the step, (n, c, h, w).
            t_next: the next timestep, (1,); after the last step empty, (0,), and then no noise is added.
        """
        if self.mask is None or self.masked_image is not None:
            return x_next
        assert self.clean is not None and self.noise is not None
        known = schedulers.add_noise(self.scheduler, self.clean, self.noise, t_next) if len(t_next) else self.clean
        return self.mask * x_next + (1 - self.mask) * known


def initial_latents(
    model: Model,
    request: GenerationRequest,
    scheduler: Any,
    generators: list[torch.Generator],
    init: InitLatents | None,
) -> tuple[int, torch.Tensor, InpaintMask]:
    """x_T = init_noise_sigma * eps from noise; x_t = alpha_t * x0 + sigma_t * eps from an image.

    SDEdit, Meng et al. 2022, arXiv:2108.01073: t is the first of the steps that strength leaves.  The order of the
    draws, and pure noise at strength 1 under a mask, are those of diffusers' pipelines.

    Args:
        model: has the latent space and the device.
        request: what to make.
        scheduler: of this run, its timesteps set.
        generators: one an image; drawn from for the noise and the autoencoder's samples.
        init: the init image's latents, or None.

    Returns:
        Position in the scheduler's timesteps, x_t in the scheduler's own scale (n, c, h, w), and the inpaint mask.
    """
    # Noise is drawn on the CPU in float32: a seed gives the same on every device.
    device = torch.device(model.placement.device)
    shape = model.latents.shape(request.num_images, request.width, request.height)
    if init is None or request.init is None:
        x_t = upload(draw_initial_noise(request, shape, generators), device) * schedulers.init_noise_sigma(scheduler)
        return 0, x_t, InpaintMask(scheduler)
    pure = request.init.noise_only or (init.mask is not None and request.init.strength == 1)
    clean = None if pure and init.masked_image is not None else init.sample(init.clean, generators)
    noise = upload(draw_initial_noise(request, shape, generators), device)
    masked_image = None if init.masked_image is None else init.sample(init.masked_image, generators)
    first = set_first_step(scheduler, request)
    if pure or clean is None:
        x_t = noise * schedulers.init_noise_sigma(scheduler)
    else:
        x_t = schedulers.add_noise(scheduler, clean, noise, scheduler.timesteps[first : first + 1])
    return first, x_t, InpaintMask(scheduler, clean, noise, init.mask, masked_image)


def set_first_step(scheduler: Any, request: GenerationRequest) -> int:
    """Set the scheduler to the first step that is run, and return its position in the scheduler's timesteps."""
    # Schedulers of second order list each step but the first twice.
    first: int = (request.sampling.num_inference_steps - request.steps_run) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return first
