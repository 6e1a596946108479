"""Where a run enters the noise schedule, and with which latents; what inpainting leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from pipelines import geometry, schedulers
from pipelines.blends import noise_for

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.request import GenerationRequest
    from pipelines.scene import Scene

# Mean and standard deviation of the latents that an autoencoder finds for a picture, (1, c, h, w) each; the
# deviation is None where it finds a single answer.
Moments = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Start:
    """A scene as latents; float32 on the model's device.

    Attributes:
        clean: of the picture.
        mask: 1 where a cell is repainted, (1, 1, h, w), or None.
        hidden: of the picture with its mask greyed out, for models that look at it (9 input channels), or None.
    """

    clean: Moments
    mask: torch.Tensor | None = None
    hidden: Moments | None = None

    @staticmethod
    def draw(moments: Moments, generators: list[torch.Generator]) -> torch.Tensor:
        """One sample of the latents for each generator, mean + std * eps, (n, c, h, w)."""
        mean, std = moments
        if std is None:
            return mean.repeat(len(generators), 1, 1, 1)
        draws = [randn_tensor(mean.shape, generator=each, device=mean.device) for each in generators]
        return torch.cat([mean + std * eps for eps in draws])


def encode(model: Any, found: Scene) -> Start:
    """A scene as latents; the one use of the autoencoder before the loop."""
    pixels = to_pixels(found.picture)
    if found.seen_mask is None:
        return Start(model.latents.moments(pixels))
    cells = torch.from_numpy(geometry.latent_mask(found.seen_mask, model.latents.factor))[None, None]
    hidden = None
    if model.inpaints:
        keep = (to_pixels(found.seen_mask.convert("RGB")) < 0).float()
        hidden = model.latents.moments(pixels * keep)
    return Start(model.latents.moments(pixels), cells.to(model.placement.device), hidden)


def to_pixels(picture: Image.Image) -> torch.Tensor:
    """An RGB picture as float32 (1, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)


class Canvas:
    """The part of a picture that inpainting leaves alone; text-to-image leaves nothing alone.

    Args:
        scheduler: of this run.
        clean, noise: the picture's latents and the run's noise, (n, c, h, w).
        mask: 1 where a cell is repainted, (1, 1, h, w), or None for everywhere.
        hidden: latents of the picture without the masked part, for UNets that look at it, or None.
    """

    def __init__(self, scheduler: Any, clean: Any = None, noise: Any = None, mask: Any = None, hidden: Any = None):
        self.scheduler, self.clean, self.noise, self.mask, self.hidden = scheduler, clean, noise, mask, hidden

    def beside(self, x_in: torch.Tensor) -> torch.Tensor:
        """The model's input, (n, c, h, w), with mask and hidden picture as more channels where the UNet takes them."""
        if self.hidden is None:
            return x_in
        return torch.cat([x_in, self.mask.expand(len(x_in), -1, -1, -1), self.hidden], dim=1)

    def kept(self, x_next: torch.Tensor, t_next: torch.Tensor) -> torch.Tensor:
        """Outside the mask, the picture itself at the next noise level (RePaint, Lugmayr et al. 2022, equation 8).

        x_next = mask * x_next + (1 - mask) * add_noise(clean); after the last step (no ``t_next``) without noise.
        """
        if self.mask is None or self.hidden is not None:
            return x_next
        known = schedulers.noised(self.scheduler, self.clean, self.noise, t_next) if len(t_next) else self.clean
        return self.mask * x_next + (1 - self.mask) * known


def begin(
    model: Any, request: GenerationRequest, scheduler: Any, generators: list[torch.Generator], start: Start | None
) -> tuple[int, torch.Tensor, Canvas]:
    """Where the run enters the schedule, with which latents, and what it leaves alone.

    From noise alone: step 0 and x_T = init_noise_sigma * eps.  From a picture: its latents noised to the first of
    the steps that strength leaves, x_t = alpha_t * x0 + sigma_t * eps (SDEdit, Meng et al. 2022, arXiv:2108.01073).
    The order of the draws, and pure noise at strength 1 under a mask, are those of diffusers' pipelines.

    Returns:
        Position in the scheduler's timesteps, x_t in the scheduler's own scale (n, c, h, w), and the canvas.
    """
    # Noise is drawn on the CPU in float32: a seed gives the same on every device.
    device = torch.device(model.placement.device)
    shape = model.latents.shape(request.num_images, request.width, request.height)
    if start is None or request.init is None:
        x_t = noise_for(request, shape, generators).to(device) * schedulers.first_scale(scheduler)
        return 0, x_t, Canvas(scheduler)
    pure = request.init.noise_only or (start.mask is not None and request.init.strength == 1)
    clean = None if pure and start.hidden is not None else start.draw(start.clean, generators)
    noise = noise_for(request, shape, generators).to(device)
    hidden = None if start.hidden is None else start.draw(start.hidden, generators)
    first = first_step(scheduler, request)
    if pure:
        x_t = noise * schedulers.first_scale(scheduler)
    else:
        x_t = schedulers.noised(scheduler, clean, noise, scheduler.timesteps[first : first + 1])
    return first, x_t, Canvas(scheduler, clean, noise, start.mask, hidden)


def first_step(scheduler: Any, request: GenerationRequest) -> int:
    """Set the scheduler to the first step that is run, and return its position in the scheduler's timesteps."""
    # Schedulers of second order list each step but the first twice.
    first = (request.sampling.num_inference_steps - request.steps_run) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return first
