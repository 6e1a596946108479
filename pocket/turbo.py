"""Distil pocket into pocket-turbo: a UNet that draws in one to four steps, without guidance.

    python -m pocket.turbo [--trajectories N] [--samples N] [--processes N] [--only teach|learn|export]

The teacher walks from noise to picture with guidance, by DDIM in small steps, and its latents are kept at each of
them.  The student, which begins with the teacher's weights, learns to say from each of these where the walk ends: the
consistency function of that path (Song et al., 2023, arXiv:2303.01469), with guidance folded in (Luo et al., 2023,
arXiv:2310.04378), learnt from whole paths as by Luhman and Luhman (2021, arXiv:2101.02388).  Of the middle block the
first layer alone is kept; text encoder and autoencoder are pocket's.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import cached_property
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from pocket import data, text, unet, vae, workers
from pocket.export import TURBO, WEIGHTS
from pocket.training import Recipe, Training

# Steps of a walk: timesteps 999, 959, ... 39.  ``LCMScheduler`` goes from 999 on in steps of 20, so that wherever it
# stops the student has learnt from that timestep or from both of its neighbours.
STEPS = 25
GUIDANCE = 4.0
CHUNK = 512
RECIPE = Recipe(
    batch=128, peak_rate=6e-4, warm_up=8_000, weight_decay=0.01, keep=0.999, average_every=5, cool_down=0.6
)
FOLDER = data.RUNS / "turbo"
CHECKPOINT = data.RUNS / "turbo.pt"


def build_scheduler() -> LCMScheduler:
    """The sampler for the student, as it is used for other models that are distilled so."""
    given = unet.build_scheduler().config
    return LCMScheduler(
        num_train_timesteps=1000, beta_start=given.beta_start, beta_end=given.beta_end, beta_schedule="linear",
        prediction_type="v_prediction", clip_sample=False, original_inference_steps=50,
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
    """Pocket's weights and captions."""

    def __init__(self, seed: int) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
        self.unet, self.text, self.tokenizer = pipeline.unet.eval(), pipeline.text_encoder.eval(), pipeline.tokenizer
        self.rng = np.random.default_rng(seed)

    @cached_property
    def concepts(self) -> list[data.Concept]:
        """What the captions are of; fetches the labels at the first call."""
        return data.load_concepts(data.fetch())

    def captions(self, count: int) -> list[str]:
        """Captions of training samples."""
        found = []
        for _ in range(count):
            s = data.draw_sample(self.concepts, self.rng)
            other = None if s.other is None else self.concepts[s.other]
            found.append(data.caption(
                self.concepts[s.concept], s.style, s.colour, self.rng, size=s.size, other=other
            ))
        return found

    @torch.inference_mode()
    def walk(self, x: torch.Tensor, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """DDIM with guidance from noise x (n, c, 8, 8): latents at each level (n, 25, c, 8, 8), and the walk's end."""
        with workers.half_precision():
            hidden = self.text(text.token_ids(self.tokenizer, ["", *captions]))[0].float()
        both = torch.cat([hidden[:1].expand(len(x), -1, -1), hidden[1:]])
        kept = []
        for t, following in pairwise([*levels(), -1]):
            kept.append(x)
            with workers.half_precision():
                v = self.unet(torch.cat([x, x]), t, both).sample.float()
            free, asked = v.chunk(2)
            v = free + GUIDANCE * (asked - free)
            (alpha, sigma), (next_alpha, next_sigma) = amounts(t), amounts(following)
            x = next_alpha * (alpha * x - sigma * v) + next_sigma * (sigma * x + alpha * v)
        return torch.stack(kept, 1), x


def teach(count: int) -> None:
    """Keep ``count`` walks of the teacher in files that a rerun completes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    mine = range(workers.rank(), count // CHUNK, workers.count())
    todo = [k for k in mine if not (FOLDER / f"{k:03}.captions.txt").exists()]
    teacher = Teacher(0) if todo else None
    for k in tqdm(todo, desc="walks", unit=f" x {CHUNK}", disable=workers.rank() > 0):
        teacher.rng = np.random.default_rng([20_000, k])
        captions = teacher.captions(CHUNK)
        noise = torch.randn(CHUNK, vae.CHANNELS, 8, 8, generator=torch.Generator().manual_seed(k))
        walks = [teacher.walk(*part) for part in zip(noise.split(64), _split(captions, 64), strict=True)]
        np.save(FOLDER / f"{k:03}.x.npy", torch.cat([x for x, _ in walks]).half().numpy())
        np.save(FOLDER / f"{k:03}.end.npy", torch.cat([end for _, end in walks]).half().numpy())
        # Last, for its presence says that the chunk is whole.
        (FOLDER / f"{k:03}.captions.txt").write_text("\n".join(captions))


def _split(items: list[str], size: int) -> list[list[str]]:
    return [items[k:k + size] for k in range(0, len(items), size)]


def build(teacher: UNet2DConditionModel) -> UNet2DConditionModel:
    """The student: the teacher with the first layer of its middle block alone, and its weights."""
    # What begins with an underscore is where the teacher was read from.
    shape = {name: value for name, value in teacher.config.items() if not name.startswith("_")}
    student = UNet2DConditionModel.from_config({**shape, "mid_block_type": "UNetMidBlock2D"})
    wanted = student.state_dict()
    student.load_state_dict({name: value for name, value in teacher.state_dict().items() if name in wanted})
    return student


class Walks:
    """The teacher's walks on disk."""

    def __init__(self, seed: int) -> None:
        done = sorted(FOLDER.glob("???.captions.txt"))
        self.captions = [line for path in done for line in path.read_text().split("\n")]
        names = [path.name[:3] for path in done]
        self.x = [np.load(FOLDER / f"{name}.x.npy", mmap_mode="r") for name in names]
        self.end = torch.from_numpy(np.concatenate([np.load(FOLDER / f"{name}.end.npy") for name in names]))
        self.rng = np.random.default_rng(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
        """x_t (n, c, 8, 8), t (n,), the walk's end (n, c, 8, 8), and which walks these are (n,)."""
        walk, level = self.rng.integers(len(self.captions), size=size), self._levels(size)
        x = np.stack([self.x[i // CHUNK][i % CHUNK, k] for i, k in zip(walk, level, strict=True)])
        t = torch.tensor(levels())[level]
        return torch.from_numpy(x).float(), t, self.end[walk].float(), walk

    def _levels(self, size: int) -> np.ndarray:
        """Pure noise, where the least is known, is drawn in a fifth of all cases besides."""
        anywhere = self.rng.integers(STEPS, size=size)
        return np.where(self.rng.random(size) < 0.2, 0, anywhere)


class Student:
    """The student on the walks of its teacher, whose text encoder stays as it is."""

    def __init__(self) -> None:
        self.teacher = Teacher(0)
        self.training = Training(build(self.teacher.unet), CHECKPOINT, RECIPE)
        self.training.model.set_attn_processor(AttnProcessor())
        self.walks = Walks(seed=self.training.seen + 7 * workers.rank())
        self.told = self._read(self.walks.captions)

    @torch.inference_mode()
    def _read(self, captions: list[str]) -> torch.Tensor:
        """The text encoder's answers to all captions, half precision (n, 32, 192): it does not change."""
        parts = _split(captions, 256)
        return torch.cat([self.teacher.text(text.token_ids(self.teacher.tokenizer, part))[0].half() for part in parts])

    def loss(self, size: int) -> tuple[torch.Tensor, float]:
        """How far the ends of walks are missed from so many points of them, and the mean square error as a number."""
        x, t, end, walk = self.walks.batch(size)
        alpha, sigma = (amount.view(-1, 1, 1, 1) for amount in amounts(t))
        with workers.half_precision():
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


def learn(samples: int) -> None:
    """Train the student until it has seen so many points of walks."""
    student = Student()
    student.training.run(samples, student.loss, "turbo", "loss")


def export(folder: Path = TURBO) -> None:
    """Write the moving average in fp16 and the scheduler: all that the student does not share with pocket."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    student = build(pipeline.unet)
    student.load_state_dict(torch.load(CHECKPOINT, weights_only=True)["average"])
    student.to(torch.float16).save_pretrained(folder / "unet", safe_serialization=True)
    build_scheduler().save_pretrained(folder / "scheduler")
    index = json.loads((WEIGHTS / "model_index.json").read_text()) | {"scheduler": ["diffusers", "LCMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Run the stages in order; each is skipped or resumed as far as its files go."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=20_480, help="walks of the teacher")
    parser.add_argument("--samples", type=int, default=1_500_000, help="points of walks that the student sees")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="each takes its share of a batch")
    parser.add_argument("--only", choices=["teach", "learn", "export"])
    options = parser.parse_args(argv)
    stages = {
        "teach": lambda: workers.run(teach, options.trajectories, options.processes),
        "learn": lambda: workers.run(learn, options.samples, options.processes),
        "export": export,
    }
    for name, stage in stages.items():
        if options.only in (None, name):
            stage()


if __name__ == "__main__":
    main()
