"""Train the autoencoder: 128 x 128 px pictures <-> 8 x 8 latents with 24 channels.

A small convolutional autoencoder (diffusers' AutoencoderTiny).  Besides the reconstruction loss, the latents are
pulled towards zero mean, unit variance and uncorrelated channels, and are decoded with a little noise on them:
both make the latent space easier for the diffusion model (Rombach et al., 2022, arXiv:2112.10752, section 3.1).
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderTiny

from pocket import data, workers
from pocket.training import Recipe, Training

CHANNELS = 24
WIDTH = 64
RECIPE = Recipe(batch=16, peak_rate=7e-4, warm_up=4_000, weight_decay=1e-4, keep=0.998, average_every=4)
CHECKPOINT = data.RUNS / "vae.pt"


def build() -> AutoencoderTiny:
    """The autoencoder with random weights; 16 x downsampling, cheap at full resolution."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 5,
        decoder_block_out_channels=(WIDTH,) * 5,
        num_encoder_blocks=(0, 1, 1, 2, 3),
        num_decoder_blocks=(4, 2, 1, 1, 0),
        latent_channels=CHANNELS,
    )


class Pictures:
    """An endless source of composed pictures."""

    def __init__(self, seed: int) -> None:
        modules = data.fetch()
        self.concepts = data.load_concepts(modules)
        self.artwork = data.load_artwork(modules, self.concepts)
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[data.Sample, np.ndarray]:
        """One sample and its picture: uint8 array (128, 128, 3)."""
        sample = data.draw_sample(self.concepts, self.rng)
        art = self.artwork[sample.style or next(iter(data.STYLES))]
        other = None if sample.other is None else art[sample.other]
        return sample, data.compose(art[sample.concept], sample.colour, self.rng, word=sample.size, other=other)

    def batch(self, size: int) -> torch.Tensor:
        """Pictures as a tensor (size, 3, 128, 128) in [-1, 1]."""
        return to_tensor(np.stack([self.draw()[1] for _ in range(size)]))


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical differences of pictures (n, 3, h, w)."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(vae: AutoencoderTiny, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Training loss for pictures (n, 3, 128, 128) in [-1, 1], and the reconstruction's mean PSNR in dB.

    The absolute error, the logarithm of each picture's mean square (which is its PSNR, so that fine pictures count as
    much as hard ones), the error of the edges and how far the latents are from white noise.
    """
    with workers.half_precision():
        z = vae.encoder(x).float()
        y = vae.decoder(z + 0.1 * torch.randn_like(z)).float()
    error = y - x
    squares = error.square().mean((1, 2, 3))
    pixel = error.abs().mean() + 0.05 * (squares + 1e-4).log().mean()
    edge = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x), strict=True))
    flat = z.permute(1, 0, 2, 3).flatten(1)
    mean = flat.mean(1)
    covariance = (flat - mean[:, None]) @ (flat - mean[:, None]).T / flat.shape[1]
    whiteness = mean.square().mean() + (covariance - torch.eye(CHANNELS)).square().mean()
    psnr = (10 * torch.log10(4 / squares.detach())).mean().item()
    return pixel + 0.5 * edge + 0.02 * whiteness, psnr


def train(samples: int) -> None:
    """Train until ``samples`` pictures have been seen, resuming from the checkpoint."""
    torch.manual_seed(0)
    training = Training(build().to(memory_format=torch.channels_last), CHECKPOINT, RECIPE)
    pictures = Pictures(seed=1 + training.seen + 1000 * workers.rank())

    def loss(size: int) -> tuple[torch.Tensor, float]:
        return loss_of(training.model, pictures.batch(size).to(memory_format=torch.channels_last))

    training.run(samples, loss, "autoencoder", "PSNR in dB")


def load() -> AutoencoderTiny:
    """The trained autoencoder, from the checkpoint."""
    vae = build()
    vae.load_state_dict(torch.load(CHECKPOINT, weights_only=True)["average"])
    return vae.eval().requires_grad_(False)
