"""Train the preview decoder: as the autoencoder's decoder, with half the channels and a quarter of the work.

    python -m pocket.preview_decoder [--minutes 20] [--runs FOLDER] [--pictures 400] [--evaluate]

It learns from the decoder itself (a distillation: Hinton et al. 2015, arXiv:1503.02531) on latents that the embedded
models make: finished ones, guesses of all steps, and both with noise of any strength.  Resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny

from pocket.paths import ROOT, RUNS, WEIGHTS
from pocket.train.autoencoder import decibels, edges
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Recipe, Training, Until
from pocket.world.colours import BACKGROUNDS

FOLDER = ROOT / "preview_vae"
NAME = "preview_decoder"
WIDTH = 32
BLOCKS = (3, 2, 1, 1, 0)
RECIPE = Recipe(batch=16, peak_rate=1e-3, warm_up=2_000, weight_decay=1e-5, keep=0.998, average_every=4)
# Models and steps of the runs whose latents are learnt from.
RUNS_OF = (("pocket", 12, 3.0), ("pocket-turbo", 4, 1.0))


def build(vae: AutoencoderTiny) -> AutoencoderTiny:
    """The small decoder with random weights, for the latents of ``vae``; its encoder is never used, and tiny."""
    return AutoencoderTiny(
        encoder_block_out_channels=(4,) * len(BLOCKS), decoder_block_out_channels=(WIDTH,) * len(BLOCKS),
        num_encoder_blocks=(0,) * len(BLOCKS), num_decoder_blocks=BLOCKS,
        latent_channels=vae.config.latent_channels, scaling_factor=vae.config.scaling_factor,
    )  # fmt: skip


def load_vae() -> AutoencoderTiny:
    """The embedded model's autoencoder, in float32."""
    return AutoencoderTiny.from_pretrained(WEIGHTS / "vae").float().eval().requires_grad_(False)


def prompts(number: int, draw: random.Random) -> list[str]:
    """Prompts of the embedded model's world."""
    names = [thing["name"] for thing in json.loads((ROOT / "vocabulary.json").read_text())]
    colours = list(BACKGROUNDS)
    return [f"a {draw.choice(names)} on a {draw.choice(colours)} background" for _ in range(number)]


@torch.inference_mode()
def latents_of_runs(pictures: int, seed: int = 0) -> torch.Tensor:
    """Guesses of all steps and finished latents of runs with the embedded models, half precision (n, c, 8, 8)."""
    from pipelines.models.manager import PipelineManager
    from pipelines.request import make_request
    from pipelines.sampling.denoise import denoise
    from presets.catalogue import load

    draw, found = random.Random(seed), []
    manager = PipelineManager(load(), device="cpu")
    for model, steps, guidance in RUNS_OF:
        scheduler = "lcm" if guidance == 1 else "ddim"
        with manager.lease(model) as loaded:
            for prompt in prompts(pictures // len(RUNS_OF), draw):
                request = make_request(
                    model=model, prompt=prompt, width=128, height=128, scheduler=scheduler, num_inference_steps=steps,
                    guidance_scale=guidance, seed=draw.randrange(2**31),
                )  # fmt: skip
                for step in denoise(loaded, request):
                    found.append(step.x0.half())
                found.append(step.x_next.half())
    return torch.cat(found)


def noised(clean: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Latents (n, c, h, w), half of them with noise of any strength between none and all: alpha x0 + sigma e."""
    angle = torch.rand(len(clean), 1, 1, 1, generator=draw) * (torch.pi / 2)
    angle[::2] = 0
    return angle.cos() * clean + angle.sin() * torch.randn(clean.shape, generator=draw)


def loss_of(student: AutoencoderTiny, vae: AutoencoderTiny, z: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Absolute error of pixels and of their edges for scaled latents z, and the PSNR against the decoder in dB."""
    scaled = z / vae.config.scaling_factor
    with torch.no_grad():
        wanted = vae.decoder(scaled).clamp(-1, 1)
    made = student.decoder(scaled)
    # Beyond white and black only the direction counts.
    made = made.clamp(-1, 1) + 0.1 * (made - made.clamp(-1, 1))
    edge = sum((a - b).abs().mean() for a, b in zip(edges(made), edges(wanted), strict=True))
    squared = (made - wanted).square().mean((1, 2, 3)).detach()
    return (made - wanted).abs().mean() + 0.5 * edge, decibels(squared + 1e-9).mean().item()


def train(latents: torch.Tensor, vae: AutoencoderTiny, checkpoints: Checkpoints, until: Until) -> AutoencoderTiny:
    """Train until the end of the run; returns the moving average."""
    training = Training(build(vae), NAME, checkpoints, RECIPE)
    draw = torch.Generator().manual_seed(training.seen)

    def loss(size: int) -> tuple[torch.Tensor, float]:
        rows = torch.randint(len(latents), (size,), generator=draw)
        return loss_of(training.model, vae, noised(latents[rows].float(), draw))

    training.run(until, loss, NAME, "PSNR in dB")
    return training.average


@torch.inference_mode()
def figures(student: AutoencoderTiny, vae: AutoencoderTiny, latents: torch.Tensor) -> Iterator[tuple[str, float]]:
    """PSNR in dB of the student's pictures against the decoder's, of clean and of noisy latents."""
    draw = torch.Generator().manual_seed(1)
    views = {"guesses": latents.float(), "noisy latents": noised(latents.float(), draw)[1::2]}
    for name, z in views.items():
        scaled = z / vae.config.scaling_factor
        pairs = [(student.decoder(one).clamp(-1, 1), vae.decoder(one).clamp(-1, 1)) for one in scaled.split(16)]
        squared = torch.cat([(made - wanted).square().mean((1, 2, 3)) for made, wanted in pairs])
        yield name, round(decibels(squared + 1e-9).mean().item(), 2)


def save(student: AutoencoderTiny, folder: Path) -> None:
    """Write it in half precision."""
    student.half().save_pretrained(folder, safe_serialization=True)


def parse(argv: list[str] | None = None) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--pictures", type=int, default=400, help="runs whose latents are learnt from")
    parser.add_argument("--runs", type=Path, default=RUNS / NAME)
    parser.add_argument("--evaluate", action="store_true", help="only print the figures of what is there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    vae = load_vae()
    if not options.evaluate:
        latents = latents_of_runs(options.pictures)
        print(f"{len(latents)} latents", flush=True)
        save(train(latents, vae, Checkpoints(options.runs), Until(0, 60 * options.minutes)), FOLDER)
    student = AutoencoderTiny.from_pretrained(FOLDER).float().eval()
    for name, value in figures(student, vae, latents_of_runs(max(2, options.pictures // 10), seed=1)):
        print(f"{name}: {value} dB against the decoder")


if __name__ == "__main__":
    main()
