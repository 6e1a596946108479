"""Train the autoencoder: 128 x 128 px pictures <-> 8 x 8 latents with 24 channels.

A small convolutional autoencoder (diffusers' AutoencoderTiny).  Besides the reconstruction loss, the latents are
pulled towards zero mean, unit variance and uncorrelated channels, and are decoded with a little noise on them:
both make the latent space easier for the diffusion model (Rombach et al., 2022, arXiv:2112.10752, section 3.1).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers import AutoencoderTiny
from tqdm import tqdm

from pocket import data, workers

CHANNELS = 24
WIDTH = 64
BATCH = 16
PEAK_RATE = 7e-4
WARM_UP = 4_000
AVERAGE_EVERY = 4
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
    """Train for ``samples`` pictures, resuming from the checkpoint."""
    torch.manual_seed(workers.rank())
    vae = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, weight_decay=1e-4, betas=(0.9, 0.99), fused=True)
    average, seen = copy.deepcopy(vae).requires_grad_(False), 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        vae.load_state_dict(state["model"])
        average.load_state_dict(state["vae"])
        seen = state["seen"]
        if state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
    started = seen
    pictures, smooth = Pictures(seed=1 + seen + 1000 * workers.rank()), None
    silent = workers.rank() > 0
    progress = tqdm(total=samples, initial=seen, desc="autoencoder", unit=" pictures", mininterval=10, disable=silent)
    batch = BATCH // workers.count()
    while seen < samples:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(seen, samples, started)
        x = pictures.batch(batch).to(memory_format=torch.channels_last)
        loss, psnr = loss_of(vae, x)
        optimizer.zero_grad()
        loss.backward()
        workers.average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        seen += batch * workers.count()
        steps = (seen - started) // BATCH
        if steps % AVERAGE_EVERY == 0:
            decay = min(0.998, (1 + steps) / (20 + steps)) ** AVERAGE_EVERY
            torch._foreach_lerp_(list(average.parameters()), list(vae.parameters()), 1 - decay)
        smooth = psnr if smooth is None else 0.98 * smooth + 0.02 * psnr
        progress.set_postfix_str(f"PSNR {smooth:.2f} dB", refresh=False)
        progress.update(batch * workers.count())
        if workers.rank() == 0 and (seen // BATCH % 250 == 0 or seen >= samples):
            save(vae.state_dict(), average.state_dict(), optimizer.state_dict(), seen)
    progress.close()


def learning_rate(seen: int, samples: int, started: int = 0) -> float:
    """Warm-up over 4,000 pictures (``WARM_UP``), then constant, then down to zero over the last 30% of this run."""
    cool_down = 0.3 * (samples - started)
    return PEAK_RATE * min(1, (seen - started + BATCH) / WARM_UP) * min(1, max(0.01, (samples - seen) / cool_down))


def save(model: dict, average: dict, optimizer: dict | None, seen: int) -> None:
    """Write the checkpoint in one move; without an optimizer's state it is a warm start."""
    data.RUNS.mkdir(exist_ok=True)
    partial = CHECKPOINT.with_suffix(".tmp")
    torch.save({"model": model, "vae": average, "optimizer": optimizer, "seen": seen}, partial)
    partial.replace(CHECKPOINT)


def load() -> AutoencoderTiny:
    """The trained autoencoder, from the checkpoint."""
    vae = build()
    vae.load_state_dict(torch.load(CHECKPOINT, weights_only=True)["vae"])
    return vae.eval().requires_grad_(False)
