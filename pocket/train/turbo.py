"""Distil pocket into pocket-turbo: a LoRA with which its UNet draws in one to four steps, without guidance.

    python -m pocket.train.turbo [--weights FOLDER] [--runs FOLDER] [--walks N] [--samples N] [--device cuda]
                                 [--only teach|learn|export]

The teacher walks from noise to picture with guidance, by DDIM in small steps, and its latents are kept at some of
them.  The student, which begins with the teacher's weights, learns to say from each of these where the walk ends: the
consistency function of that path (Song et al., 2023, arXiv:2303.01469), with guidance folded in (Luo et al., 2023,
arXiv:2310.04378), learnt from whole paths as by Luhman and Luhman (2021, arXiv:2101.02388), as a low-rank change of
the weights (Luo et al., 2023, arXiv:2311.05556).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from pocket.paths import RUNS, TURBO, WEIGHTS
from pocket.train import processes, text_encoder, unet
from pocket.train.checkpoints import Checkpoints
from pocket.train.loop import Recipe, Training, Until
from pocket.world.artwork import load_words
from pocket.world.captions import caption
from pocket.world.samples import draw_sample

# Steps of a walk: timesteps 999, 959, ... 39.  ``LCMScheduler`` goes from 999 on in steps of 20, so that wherever it
# stops the student has learnt from that timestep or from both of its neighbours.
STEPS = 25
# So many points of a walk are kept, pure noise always.
KEPT = 8
GUIDANCE = 4.0
CHUNK = 256
RANK = 24
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "conv_in",
    "conv_out",
)
RECIPE = Recipe(batch=64, peak_rate=1e-3, warm_up=4_000, weight_decay=0.0, keep=0.999, average_every=5, cool_down=0.6)
NAME = "turbo"


def build_scheduler() -> LCMScheduler:
    """The sampler for the student, as it is used for other models that are distilled so."""
    given = unet.build_scheduler().config
    return LCMScheduler(
        num_train_timesteps=1000,
        beta_start=given.beta_start,
        beta_end=given.beta_end,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        original_inference_steps=50,
    )


def levels() -> list[int]:
    """The timesteps of a walk from pure noise on."""
    return list(range(999, 0, -1000 // STEPS))


def amounts(t: int | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha_t and sigma_t, the square roots of alpha_bar and of 1 - alpha_bar; t = -1 is the picture itself."""
    alpha_bar = torch.cat([unet.build_scheduler().alphas_cumprod, torch.ones(1)])
    kept = alpha_bar[t]
    return kept.sqrt(), (1 - kept).sqrt()


class Teacher:
    """A trained model."""

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(weights).to(device)
        self.unet, self.text, self.tokenizer = pipeline.unet.eval(), pipeline.text_encoder.eval(), pipeline.tokenizer
        self.device = device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its latents."""
        config = self.unet.config
        return config.in_channels, config.sample_size, config.sample_size

    @torch.inference_mode()
    def read(self, captions: list[str]) -> torch.Tensor:
        """The text encoder's answer, (n, 32, 192)."""
        with processes.half_precision(self.device):
            return self.text(text_encoder.token_ids(self.tokenizer, captions).to(self.device))[0].float()

    @torch.inference_mode()
    def walk(self, x: torch.Tensor, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """DDIM with guidance from noise x (n, c, s, s): latents at each level (n, 25, c, s, s), and the walk's end."""
        hidden = self.read(["", *captions])
        both = torch.cat([hidden[:1].expand(len(x), -1, -1), hidden[1:]])
        kept = []
        for t, following in pairwise([*levels(), -1]):
            kept.append(x)
            with processes.half_precision(self.device):
                v = self.unet(torch.cat([x, x]), t, both).sample.float()
            free, asked = v.chunk(2)
            v = free + GUIDANCE * (asked - free)
            (alpha, sigma), (next_alpha, next_sigma) = amounts(t), amounts(following)
            x = next_alpha * (alpha * x - sigma * v) + next_sigma * (sigma * x + alpha * v)
        return torch.stack(kept, 1), x


def training_captions(count: int, seed: int) -> list[str]:
    """Captions of samples that are not held out."""
    things, rng = load_words(), np.random.default_rng([20_000, seed])
    return [caption(draw_sample(things, rng), things, rng) for _ in range(count)]


def teach(options: argparse.Namespace) -> None:
    """Keep walks of the teacher in files that a rerun completes."""
    folder = options.runs / "walks"
    folder.mkdir(parents=True, exist_ok=True)
    mine = range(processes.rank(), -(-options.walks // CHUNK), processes.count())
    todo = [k for k in mine if not (folder / f"{k:03}.npz").exists()]
    teacher = Teacher(options.weights, options.device) if todo else None
    for k in todo:
        captions, generator = training_captions(CHUNK, k), torch.Generator().manual_seed(k)
        rng = np.random.default_rng(k)
        parts = []
        for begin in range(0, CHUNK, 64):
            some = captions[begin : begin + 64]
            noise = torch.randn(len(some), *teacher.shape, generator=generator).to(options.device)
            parts.append(_keep(*teacher.walk(noise, some), rng))
        x, level, end = (np.concatenate(part) for part in zip(*parts, strict=True))
        partial_file = folder / f"{k:03}.part.npz"
        np.savez(partial_file, x=x, level=level, end=end, captions=np.array(json.dumps(captions)))
        partial_file.replace(folder / f"{k:03}.npz")
        print(f"walks: {k + 1} x {CHUNK}", flush=True)


def _keep(walks: torch.Tensor, end: torch.Tensor, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Some points of walks (n, 25, c, s, s): these in half precision (n, 8, c, s, s), their levels, and the ends."""
    level = np.stack([np.append(0, 1 + rng.permutation(STEPS - 1)[: KEPT - 1]) for _ in range(len(walks))])
    x = walks[torch.arange(len(walks))[:, None], torch.from_numpy(level)]
    return x.half().cpu().numpy(), level, end.half().cpu().numpy()


def build(teacher: UNet2DConditionModel, rank: int = RANK) -> UNet2DConditionModel:
    """The student: the teacher with a LoRA, which alone is trained."""
    teacher.requires_grad_(False)
    teacher.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(TARGETS)))
    return teacher


class Walks:
    """The teacher's walks on disk."""

    def __init__(self, folder: Path, seed: int) -> None:
        archives = [np.load(file) for file in sorted(folder.glob("???.npz"))]
        self.captions = [line for archive in archives for line in json.loads(str(archive["captions"]))]
        self.x, self.level, self.end = (
            torch.from_numpy(np.concatenate([archive[key] for archive in archives])) for key in ("x", "level", "end")
        )
        self.rng = np.random.default_rng(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
        """x_t (n, c, s, s), t (n,), the walk's end (n, c, s, s), and which walks these are (n,)."""
        walk = self.rng.integers(len(self.captions), size=size)
        # Pure noise, from which the least can be known, is drawn more often than any other level.
        point = np.where(self.rng.random(size) < 0.1, 0, self.rng.integers(self.x.shape[1], size=size))
        t = torch.tensor(levels())[self.level[walk, point]]
        return self.x[walk, point].float(), t, self.end[walk].float(), walk


class Student:
    """The student on the walks of its teacher, whose text encoder stays as it is."""

    def __init__(self, options: argparse.Namespace) -> None:
        teacher, self.device = Teacher(options.weights, options.device), options.device
        self.walks = Walks(options.runs / "walks", seed=0)
        self.told = torch.cat(
            [teacher.read(self.walks.captions[k : k + 256]).half() for k in range(0, len(self.walks.captions), 256)]
        )
        checkpoints = Checkpoints(options.runs, tuple(options.copy_to))
        self.training = Training(build(teacher.unet), NAME, checkpoints, RECIPE, device=options.device)
        self.walks.rng = np.random.default_rng([self.training.seen, processes.rank()])

    def loss(self, size: int) -> tuple[torch.Tensor, float]:
        """How far the ends of walks are missed from so many points of them, and the mean square error as a number."""
        x, t, end, walk = self.walks.batch(size)
        alpha, sigma = (amount.view(-1, 1, 1, 1).to(self.device) for amount in amounts(t))
        x, t, end = x.to(self.device), t.to(self.device), end.to(self.device)
        with processes.half_precision(self.device):
            v = self.training.model(x, t, self.told[walk].float()).sample
        squares = (alpha * x - sigma * v.float() - end).square().flatten(1)
        return pseudo_huber(squares), squares.mean().item()


def pseudo_huber(squares: torch.Tensor) -> torch.Tensor:
    """The mean of sqrt(|d|^2 + c^2) - c over differences d, whose squares are given (n, m); c = 0.00054 sqrt(m).

    So little noise, where every error is small, counts as much as pure noise (Song and Dhariwal, 2023,
    arXiv:2310.14189, section 3.3).  In units of sqrt(m).
    """
    m = squares.shape[1]
    c = 0.00054 * m**0.5
    return ((squares.sum(1) + c * c).sqrt() - c).mean() / m**0.5


def learn(options: argparse.Namespace) -> None:
    """Train the student until it has seen so many points of walks."""
    student = Student(options)
    seconds = None if options.minutes is None else 60 * options.minutes
    student.training.run(Until(options.samples, seconds), student.loss, NAME, "loss")


def export(options: argparse.Namespace) -> None:
    """Write the moving average of the LoRA in fp16, and the scheduler: all that the student does not share."""
    state = Checkpoints(options.runs, tuple(options.copy_to)).load(NAME)
    if state is None:
        raise FileNotFoundError(f"no {NAME}.pt in {options.runs}")
    student = build(UNet2DConditionModel.from_pretrained(options.weights / "unet"))
    student.load_state_dict(state["average"])
    layers = get_peft_model_state_dict(student.half())
    StableDiffusionPipeline.save_lora_weights(options.out, unet_lora_layers=layers, safe_serialization=True)
    build_scheduler().save_pretrained(options.out / "scheduler")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the teacher, a diffusers folder")
    parser.add_argument("--runs", type=Path, default=RUNS / "pocket3", help="where walks and checkpoints are kept")
    parser.add_argument("--copy-to", type=Path, action="append", default=[], help="a second place for checkpoints")
    parser.add_argument("--out", type=Path, default=TURBO, help="where the LoRA is written")
    parser.add_argument("--walks", type=int, default=8_192, help="walks of the teacher")
    parser.add_argument("--samples", type=int, default=400_000, help="points of walks that the student sees")
    parser.add_argument("--minutes", type=float, help="learn for so long instead")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="each takes its share of a batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["teach", "learn", "export"])
    return parser.parse_args(argv)


def _start(stage: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """A stage in as many processes as are asked for, or on one accelerator."""
    if options.device == "cpu":
        processes.run(stage, options, options.processes)
    else:
        stage(options)


def main(argv: list[str] | None = None) -> None:
    """Run the stages in order; each is skipped or resumed as far as its files go."""
    options = parse(argv)
    start = partial(_start, options=options)
    stages = {"teach": partial(start, teach), "learn": partial(start, learn), "export": partial(export, options)}
    for name, stage in stages.items():
        if options.only in (None, name):
            stage()


if __name__ == "__main__":
    main()
