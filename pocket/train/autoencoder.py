"""Train the autoencoder: pictures of 256 (or 128) px <-> 16 x 16 (8 x 8) latents with 24 channels.

A small convolutional autoencoder (diffusers' AutoencoderTiny).  Besides the reconstruction loss, the latents are
pulled towards zero mean, unit variance and uncorrelated channels, and are decoded with a little noise on them:
both make the latent space easier for the diffusion model (Rombach et al., 2022, arXiv:2112.10752, section 3.1).
It learns on squares of 128 px, half of them cut out of a picture of 256 px and half a whole picture at half its size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from pocket.train import processes
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Recipe, Training, Until
from pocket.train.pictures import PictureSource, halved, to_tensor

CHANNELS = 24
FACTOR = 16
WIDTH = 64
SQUARE = 128
NAME, DECODER = "autoencoder", "decoder"
RECIPE = Recipe(batch=16, peak_rate=5e-4, warm_up=1_000, weight_decay=1e-4, keep=0.998, average_every=4)
GPU_RECIPE = Recipe(batch=64, peak_rate=8e-4, warm_up=6_400, weight_decay=1e-4, keep=0.998, average_every=4)


def build() -> AutoencoderTiny:
    """The autoencoder with random weights; 16 x downsampling, cheap at full resolution."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 5,
        decoder_block_out_channels=(WIDTH,) * 5,
        num_encoder_blocks=(0, 1, 1, 2, 3),
        num_decoder_blocks=(4, 2, 1, 1, 0),
        latent_channels=CHANNELS,
    )


def build_from(weights: Path | None) -> AutoencoderTiny:
    """The autoencoder with the weights of a diffusers folder, if it is there and of the same shape."""
    model = build()
    if weights is not None and (weights / "vae").is_dir():
        found = AutoencoderTiny.from_pretrained(weights / "vae").state_dict()
        if {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in model.state_dict().items()}:
            model.load_state_dict(found)
    return model


def squares(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Squares of 128 px of pictures (n, 3, 256, 256): of half of them a part, of the others all at half the size."""
    parts, whole = x[::2], halved(x[1::2])
    corners = rng.integers(x.shape[-1] - SQUARE + 1, size=(len(parts), 2)).tolist()
    cut = [part[:, y : y + SQUARE, x : x + SQUARE] for part, (y, x) in zip(parts, corners, strict=True)]
    return torch.cat([torch.stack(cut), whole])


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal and vertical differences of pictures (n, 3, h, w)."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(vae: AutoencoderTiny, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Training loss for pictures (n, 3, h, w) in [-1, 1], and the reconstruction's mean PSNR in dB.

    The absolute error, the logarithm of each picture's mean square (which is its PSNR, so that fine pictures count as
    much as hard ones), the error of the edges and how far the latents are from white noise.
    """
    with processes.half_precision(x.device.type):
        z = vae.encoder(x).float()
        y = vae.decoder(z + 0.1 * torch.randn_like(z)).float()
    error = y - x
    squared = error.square().mean((1, 2, 3))
    pixel = error.abs().mean() + 0.05 * (squared + 1e-4).log().mean()
    edge = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x), strict=True))
    flat = z.permute(1, 0, 2, 3).flatten(1)
    mean = flat.mean(1)
    covariance = (flat - mean[:, None]) @ (flat - mean[:, None]).T / flat.shape[1]
    whiteness = mean.square().mean() + (covariance - torch.eye(CHANNELS, device=x.device)).square().mean()
    return pixel + 0.5 * edge + 0.02 * whiteness, decibels(squared.detach()).mean().item()


def decibels(squared: torch.Tensor) -> torch.Tensor:
    """PSNR of mean square errors between pictures in [-1, 1]."""
    return 10 * torch.log10(4 / squared)


def train(
    source: PictureSource, checkpoints: Checkpoints, until: Until, start: Path | None = None, device: str = "cpu"
) -> None:
    """Train until the end of the run, resuming from the checkpoint; without one from the weights in ``start``."""
    torch.manual_seed(0)
    _run(build_from(start), source, checkpoints, until, device, NAME)


def _run(
    model: AutoencoderTiny, source: PictureSource, checkpoints: Checkpoints, until: Until, device: str, name: str
) -> None:
    recipe = GPU_RECIPE if device == "cuda" else RECIPE
    # Without AVX-512 the backward pass of convolutions takes 1.7 times as long with channels last.
    layout = torch.channels_last if device == "cuda" or processes.computes_in_bfloat16() else torch.contiguous_format
    training = Training(model.to(memory_format=layout), name, checkpoints, recipe, device=device)
    rng = np.random.default_rng([training.seen, processes.rank()])

    def loss(size: int) -> tuple[torch.Tensor, float]:
        x = squares(to_tensor(source.draw(size)[1], device), rng)
        return loss_of(training.model, x.contiguous(memory_format=layout))

    training.run(until, loss, name, "PSNR in dB")


def refine(source: PictureSource, checkpoints: Checkpoints, until: Until, device: str = "cpu") -> None:
    """Train the decoder further, with the encoder as it is: a UNet that was trained on its latents stays valid."""
    torch.manual_seed(1)
    model = load(checkpoints).requires_grad_(True).train()
    model.encoder.requires_grad_(False)
    _run(model, source, checkpoints, until, device, DECODER)


def load(checkpoints: Checkpoints) -> AutoencoderTiny:
    """The trained autoencoder, from the checkpoint; with the decoder that was trained further where there is one."""
    state = checkpoints.load(DECODER) or checkpoints.load(NAME)
    if state is None:
        raise FileNotFoundError(f"no {NAME}.pt in {checkpoints.folder}")
    vae = build()
    vae.load_state_dict(state["average"])
    return vae.eval().requires_grad_(False)


@torch.inference_mode()
def encode(vae: AutoencoderTiny, pixels: np.ndarray, size: int, device: str = "cpu", part: int = 32) -> torch.Tensor:
    """Latents of pictures (n, 256, 256, 3) at ``size`` px: half precision (n, 24, size / 16, size / 16)."""
    found = []
    for k in range(0, len(pixels), part):
        x = to_tensor(pixels[k : k + part], device)
        x = halved(x) if size == 128 else x
        with processes.half_precision(device):
            found.append(vae.encoder(x.to(memory_format=torch.channels_last)).half().cpu())
    return torch.cat(found)
