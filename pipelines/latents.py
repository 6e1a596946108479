"""Latent spaces: pixels to latents and back, and a cheap look at latents while they form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

# A VAE of this many parameters decodes a preview in about the time of a frame; larger ones are approximated.
SMALL_VAE = 5_000_000


class LatentFormat:
    """The latent space of an AutoencoderKL.

    Attributes:
        channels: of the latents.
        factor: pixels per latent, along one side.
        small: an AutoencoderTiny of the same latent space, for previews, or None.
        ask_decoder: asks the VAE's decoder: ``latents`` in the VAE's own scale to pixels (n, 3, height, width).
    """

    def __init__(self, vae: Any, small: Any = None) -> None:
        self.vae = vae
        self.ask_decoder: Callable[..., torch.Tensor] = partial(_decoded, vae)
        self.small = small
        self.channels: int = vae.config.latent_channels
        self.factor: int = 2 ** (self._stages() - 1)
        self.scale: float = vae.config.scaling_factor
        self.shift: float = getattr(vae.config, "shift_factor", None) or 0.0
        self._cheap = sum(p.numel() for p in vae.parameters()) <= SMALL_VAE

    def _stages(self) -> int:
        return len(self.vae.config.block_out_channels)

    def shape(self, n: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Shape of the latents of n pictures of width x height pixels."""
        return n, self.channels, height // self.factor, width // self.factor

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Pixels (n, 3, height, width) in [-1, 1] to scaled latents (n, c, h, w), float32.

        The posterior's mode, or a sample of it when a generator is given.
        """
        posterior = self.vae.encode(self._to_vae(pixels)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return self._scaled(latents)

    @torch.inference_mode()
    def moments(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mean and standard deviation of the scaled latents of pixels (n, 3, height, width), (n, c, h, w) float32 each.

        The deviation is None for an autoencoder that finds a single answer.
        """
        posterior = self.vae.encode(self._to_vae(pixels)).latent_dist
        return self._scaled(posterior.mean), posterior.std.float() * self.scale

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Scaled latents (n, c, h, w) to n pictures, one at a time to bound the memory that large ones take."""
        return [picture for one in latents.split(1) for picture in to_pictures(self._pixels(one))]

    @torch.inference_mode()
    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        """A cheap picture of latents (n, c, h, w): decoded by a small VAE, else one pixel per latent."""
        if self.small is not None:
            return to_pictures(_decoded(self.small, latents / self.small.config.scaling_factor))
        if self._cheap:
            # Channels last is the faster layout for small convolutions on a CPU; rounding may differ from ``decode``.
            return to_pictures(self._pixels(latents.contiguous(memory_format=torch.channels_last)))
        return self.project(latents)

    @torch.inference_mode()
    def project(self, latents: torch.Tensor) -> list[Image.Image]:
        """Latents (n, c, h, w) to n pictures of w x h pixels by one linear map from latent to RGB."""
        weight, bias = self._to_rgb
        rgb = torch.einsum("nchw,cd->ndhw", latents.float(), weight.to(latents.device))
        return to_pictures(rgb + bias.to(latents.device)[:, None, None])

    def to_rgb(self) -> np.ndarray:
        """The map of ``project`` as float32 (c + 1, 3), the bias in the last row; RGB in [-1, 1]."""
        weight, bias = self._to_rgb
        return torch.cat([weight, bias[None]]).numpy()

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        return self.ask_decoder(latents=latents / self.scale + self.shift)

    def _scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """What the autoencoder finds, as the diffusion model wants it: (latents - shift) * scale, float32."""
        return (latents.float() - self.shift) * self.scale

    def _to_vae(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.vae.device, self.vae.dtype)

    @cached_property
    def _to_rgb(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (c, 3) and bias (3): least squares over soft colour fields that the VAE itself encodes.

        So any VAE gets a preview, without a table of factors for each.
        """
        noise = torch.randn(24, 3, 3, 3, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        fields = torch.nn.functional.interpolate(noise, scale_factor=8 / 3, mode="bilinear", align_corners=True)
        pixels = torch.nn.functional.interpolate(fields, scale_factor=self.factor, mode="bilinear")
        latents = self.encode(pixels).cpu().permute(0, 2, 3, 1).reshape(-1, self.channels)
        colours = fields.permute(0, 2, 3, 1).reshape(-1, 3)
        known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
        # A little ridge: some VAEs leave channels unused on soft fields.
        gram = known.T @ known + 1e-3 * len(known) * torch.eye(known.shape[1])
        solution = torch.linalg.solve(gram, known.T @ colours)
        return solution[:-1], solution[-1]


class TinyLatentFormat(LatentFormat):
    """The latent space of an AutoencoderTiny: deterministic, and cheap enough to decode every step."""

    def _stages(self) -> int:
        return len(self.vae.config.decoder_block_out_channels)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return self._scaled(self.vae.encode(self._to_vae(pixels)).latents)

    def moments(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.encode(pixels), None


def latent_format(vae: Any, small: Any = None) -> LatentFormat:
    """The format of a VAE, by its class; ``small`` is a tiny one of the same latent space, for previews."""
    return (TinyLatentFormat if type(vae).__name__ == "AutoencoderTiny" else LatentFormat)(vae, small)


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in a VAE's own scale to pixels (n, 3, height, width)."""
    return vae.decode(latents.to(vae.device, vae.dtype), return_dict=False)[0]


def to_pictures(pixels: torch.Tensor) -> list[Image.Image]:
    """Pixels (n, 3, height, width) in [-1, 1] to n pictures."""
    unit = (pixels * 0.5 + 0.5).clamp(0, 1)
    array = (unit.cpu().permute(0, 2, 3, 1).float().numpy() * 255).round().astype("uint8")
    return [Image.fromarray(one) for one in array]
