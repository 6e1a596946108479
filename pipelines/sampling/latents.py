"""Latent spaces: pixels to latents and back, and cheap previews of latents while they form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.system.gpu.device_copies import upload

# A VAE with fewer parameters decodes a preview in about the time of a frame; larger ones are approximated.
SMALL_VAE_PARAMETERS = 5_000_000


class AutoencoderOverflow(FloatingPointError):
    """An autoencoder whose number format is too narrow for this picture."""


class LatentFormat:
    """z = (E(x) - shift) * scale, x = D(z / scale + shift): the latent space of an AutoencoderKL.

    Rombach et al. 2022, arXiv:2112.10752; scale and shift are the VAE's ``scaling_factor`` and ``shift_factor``.

    Args:
        vae: a ``diffusers.AutoencoderKL``.
        preview_vae: an ``AutoencoderTiny`` of the same latent space, for previews, or None.

    Attributes:
        channels: of the latents, c.
        factor: pixels per latent, along one side.
        decoder: calls the VAE's decoder: ``latents`` in the VAE's own scale to pixels (n, 3, height, width).
        preview_decoder: calls that of ``preview_vae`` in the same way.
    """

    def __init__(self, vae: Any, preview_vae: Any = None) -> None:
        self.vae = vae
        self.decoder: Callable[..., torch.Tensor] = partial(_vae_decode, vae)
        self.preview_vae = preview_vae
        self.preview_decoder: Callable[..., torch.Tensor] = partial(_vae_decode, preview_vae)
        self.channels: int = vae.config.latent_channels
        self.factor: int = 2 ** (self._stages() - 1)
        self.scale: float = vae.config.scaling_factor
        self.shift: float = getattr(vae.config, "shift_factor", None) or 0.0
        self._cheap = sum(p.numel() for p in vae.parameters()) <= SMALL_VAE_PARAMETERS

    def _stages(self) -> int:
        return len(self.vae.config.block_out_channels)

    def shape(self, n: int, width: int, height: int) -> tuple[int, int, int, int]:
        """(n, c, height / factor, width / factor) of the latents of n images of width x height pixels."""
        return n, self.channels, height // self.factor, width // self.factor

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Pixels (n, 3, height, width) in [-1, 1] to scaled latents (n, c, h, w), float32.

        The posterior's mean, or a sample of it when a generator is given.
        """
        posterior = self.vae.encode(self._to_vae(pixels)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        return self._scaled(latents)

    @torch.inference_mode()
    def moments(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mean and standard deviation of the scaled latents of pixels (n, 3, height, width), (n, c, h, w) float32 each.

        The deviation is None for a deterministic autoencoder.

        Raises:
            AutoencoderOverflow: if they are not all numbers.
        """
        posterior = self.vae.encode(self._to_vae(pixels)).latent_dist
        return self._scaled(finite(posterior.mean)), posterior.std.float() * self.scale

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Scaled latents (n, c, h, w) to n images, one at a time to bound the memory that large ones take.

        Raises:
            AutoencoderOverflow: if the pixels are not all numbers; as bytes they would be a black picture.
        """
        return [picture for one in latents.split(1) for picture in to_images(finite(self._pixels(one)))]

    @torch.inference_mode()
    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        """Cheap images of latents (n, c, h, w): decoded by a small VAE, else one pixel per latent.

        A CPU decodes one at a time: several at once are no faster there, and would be one more size to compile.
        """
        if latents.device.type == "cpu":
            return [image for one in latents.split(1) for image in self._preview(one)]
        return self._preview(latents)

    @property
    def preview_is_linear(self) -> bool:
        """Whether ``preview`` is the linear map itself: there is no autoencoder that is small enough."""
        return self.preview_vae is None and not self._cheap

    def rough_preview(self, latents: torch.Tensor) -> list[Image.Image]:
        """Images of latents (n, c, h, w), one pixel per latent, in less than a millisecond: the linear map."""
        return self.project(latents)

    def _preview(self, latents: torch.Tensor) -> list[Image.Image]:
        if self.preview_vae is not None:
            return to_images(self.preview_decoder(latents=latents / self.preview_vae.config.scaling_factor))
        if self._cheap:
            # Channels last is the faster layout for small convolutions on a CPU; rounding may differ from ``decode``.
            return to_images(self._pixels(latents.contiguous(memory_format=torch.channels_last)))
        return self.project(latents)

    @torch.inference_mode()
    def small_preview(self, latents: torch.Tensor, side: int) -> torch.Tensor | None:
        """As ``preview``, made where the latents are: bytes (n, height, width, 3) of at most ``side`` pixels.

        Latents are averaged to that size before they are decoded, and decoded one at a time: eight pictures of 1,024
        pixels would take gigabytes in the middle of a run.  None where the latents form no image.
        """
        rows = [self._small_pixels(one, side) for one in latents.split(1)]
        return torch.cat([to_bytes(_at_most(row, side)) for row in rows])

    def _small_pixels(self, latents: torch.Tensor, side: int) -> torch.Tensor:
        if self.preview_vae is not None:
            small = _at_most(latents, side // self.factor)
            return self.preview_decoder(latents=small / self.preview_vae.config.scaling_factor)
        if self._cheap:
            return self._pixels(_at_most(latents, side // self.factor))
        return self._projected(latents)

    @torch.inference_mode()
    def project(self, latents: torch.Tensor) -> list[Image.Image]:
        """rgb = z W + b for each latent (n, c, h, w): n images of w x h pixels."""
        return to_images(self._projected(latents))

    def _projected(self, latents: torch.Tensor) -> torch.Tensor:
        weight, bias = (upload(part, latents.device) for part in self._to_rgb)
        return torch.einsum("nchw,cd->ndhw", latents.float(), weight) + bias[:, None, None]

    def to_rgb(self) -> np.ndarray:
        """The map of ``project`` as float32 (c + 1, 3), the bias in the last row; RGB in [-1, 1]."""
        weight, bias = self._to_rgb
        return torch.cat([weight, bias[None]]).numpy()

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(latents=latents / self.scale + self.shift)

    def _scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """(latents - shift) * scale, float32: the scale that the diffusion model was trained on."""
        return (latents.float() - self.shift) * self.scale

    def _to_vae(self, x: torch.Tensor) -> torch.Tensor:
        # What is on a GPU stays there: an autoencoder that waits in RAM comes to it.
        return x.to(self.vae.device if x.device.type == "cpu" else x.device, self.vae.dtype)

    @cached_property
    def _to_rgb(self) -> tuple[torch.Tensor, torch.Tensor]:
        """W (c, 3) and b (3): least squares over smooth colour fields that the VAE itself encodes.

        So any VAE gets a preview, without a table of factors for each.
        """
        noise = torch.randn(24, 3, 3, 3, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        fields = torch.nn.functional.interpolate(noise, scale_factor=8 / 3, mode="bilinear", align_corners=True)
        pixels = torch.nn.functional.interpolate(fields, scale_factor=self.factor, mode="bilinear")
        # A few at a time: the card may be nearly full.
        latents = torch.cat([self.encode(few).cpu() for few in pixels.split(4)])
        latents = latents.permute(0, 2, 3, 1).reshape(-1, self.channels)
        colours = fields.permute(0, 2, 3, 1).reshape(-1, 3)
        known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
        # Ridge regression: some VAEs leave channels unused on smooth fields.
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


def latent_format(vae: Any, preview_vae: Any = None) -> LatentFormat:
    """The format of a VAE, by its class; arguments as for ``LatentFormat``."""
    return (TinyLatentFormat if type(vae).__name__ == "AutoencoderTiny" else LatentFormat)(vae, preview_vae)


def _vae_decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in a VAE's own scale to pixels (n, 3, height, width)."""
    place = vae.device if latents.device.type == "cpu" else latents.device
    return vae.decode(latents.to(place, vae.dtype), return_dict=False)[0]


def finite(x: torch.Tensor) -> torch.Tensor:
    """The same tensor; raises AutoencoderOverflow unless it is all numbers."""
    if not bool(torch.isfinite(x).all()):
        raise AutoencoderOverflow
    return x


def _at_most(x: torch.Tensor, side: int) -> torch.Tensor:
    """A map (n, c, h, w) averaged over areas, so that its longer side is at most ``side``."""
    longest = max(x.shape[-2:])
    if longest <= side:
        return x
    rows, columns = (_areas(edge, max(1, round(edge * side / longest)), x.device) for edge in x.shape[-2:])
    return rows @ x.float() @ columns.T


def _areas(edge: int, into: int, device: torch.device) -> torch.Tensor:
    """How much each of ``edge`` pixels counts in each of ``into`` larger ones, (into, edge).

    Two products with such matrices average a map over areas of any size; torch's own area mode is an adaptive pooling,
    which Apple's GPU refuses unless the sizes divide each other.
    """
    size = edge / into
    first = torch.arange(into, device=device, dtype=torch.float32)[:, None] * size
    pixel = torch.arange(edge, device=device, dtype=torch.float32)
    return (torch.minimum(first + size, pixel + 1) - torch.maximum(first, pixel)).clamp(min=0) / size


def to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (n, 3, height, width) in [-1, 1] to bytes (n, height, width, 3), where they are."""
    unit = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    return (unit.float() * 255).round().to(torch.uint8)


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Pixels (n, 3, height, width) in [-1, 1] to n RGB images."""
    return [Image.fromarray(one) for one in to_bytes(pixels).cpu().contiguous().numpy()]
