"""The judge of scenes: a classifier of things, surroundings, medium, colour and count.

It learns from pictures that the renderer draws with random seeds of its own, held-out combinations too, blurred and
distorted, and shares no weights with what it judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pocket.evaluate.classifier import Residual, augment
from pocket.paths import RUNS
from pocket.train import processes
from pocket.train.pictures import halved, to_tensor
from pocket.world.colours import THING_COLOURS
from pocket.world.media import MEDIA
from pocket.world.renderer import Renderer
from pocket.world.samples import SURROUNDINGS, Sample, draw_any

BATCH = 64
WIDTH = 256
CHECKPOINT = RUNS / "attributes.pt"
SEED = 7_000_000
ANSWERS = {
    "surroundings": SURROUNDINGS,
    "medium": tuple(MEDIA),
    "colour": (None, *THING_COLOURS),
    "count": (1, 2, 3),
}


class Attributes(nn.Module):
    """A plain residual network for pictures (n, 3, 128, 128) with an answer for each question."""

    def __init__(self, things: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 24, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
        for before, after in ((24, 32), (32, 64), (64, 128), (128, WIDTH)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [Residual(after)]
        self.trunk = nn.Sequential(*layers)
        sizes = {"thing": things, **{name: len(values) for name, values in ANSWERS.items()}}
        # Things by the likeliest place of each, the rest by what all places say together.
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in sizes.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of each question, (n, answers)."""
        places = self.trunk(x).flatten(2).transpose(1, 2)
        mean = places.mean(1)
        found = {name: head(mean) for name, head in self.heads.items() if name != "thing"}
        return {**found, "thing": self.heads["thing"](places).logsumexp(1)}


def view(pixels: np.ndarray) -> torch.Tensor:
    """What the judge sees of pictures of 256 or 128 px, (n, h, w, 3): (n, 3, 128, 128)."""
    x = to_tensor(pixels)
    return halved(x) if x.shape[-1] == 256 else x


def labels(samples: Sequence[Sample], things: int) -> dict[str, torch.Tensor]:
    """Right answers: places in ``ANSWERS`` (n,), -1 where there is none, and shares of things (n, things)."""
    shown = torch.zeros(len(samples), things)
    for k, sample in enumerate(samples):
        both = [sample.thing] if sample.other is None else [sample.thing, sample.other]
        shown[k, both] = 1 / len(both)
    found = {
        name: torch.tensor([values.index(getattr(sample, name)) for sample in samples])
        for name, values in ANSWERS.items()
    }
    # Of two different things there is no count, and the colour is the first one's alone.
    pairs = torch.tensor([sample.other is not None for sample in samples])
    return {**found, "count": found["count"].masked_fill(pairs, -1), "thing": shown}


def loss_of(answers: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of all questions; the thing, which is the hardest, counts twice."""
    parts = [
        F.cross_entropy(answers[name].float(), right[name], ignore_index=-1, label_smoothing=0.05) for name in ANSWERS
    ]
    return sum(parts) + 2 * F.cross_entropy(answers["thing"].float(), right["thing"], label_smoothing=0.05)


def train(renderer: Renderer, samples: int = 100_000, checkpoint: Path = CHECKPOINT, device: str = "cpu") -> Attributes:
    """Train the judge, or load it from its checkpoint."""
    things = renderer.things
    model = Attributes(len(things)).to(device)
    if checkpoint.exists():
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
        return model.eval()
    torch.manual_seed(0)
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    steps = samples // BATCH
    for step in range(steps):
        rate = 2e-3 * min(1, (step + 1) / min(200, 0.2 * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        drawn = [draw_any(things, rng) for _ in range(BATCH)]
        x = augment(view(np.stack([renderer.draw(sample) for sample in drawn]))).to(device)
        right = {name: value.to(device) for name, value in labels(drawn, len(things)).items()}
        with processes.half_precision(device):
            answers = model(x)
        loss = loss_of(answers, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"judge: {step * BATCH} of {samples}, loss {loss.item():.3f}", flush=True)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), checkpoint)
    return model.eval()


@torch.inference_mode()
def answer(model: Attributes, pixels: np.ndarray, part: int = 50) -> dict[str, list]:
    """What the judge sees in pictures (n, 256, 256, 3): names for ``ANSWERS``, and things from the likeliest on."""
    found: dict[str, list] = {name: [] for name in ("thing", *ANSWERS)}
    for k in range(0, len(pixels), part):
        answers = model(view(pixels[k : k + part]))
        found["thing"] += answers["thing"].argsort(1, descending=True)[:, :5].tolist()
        for name, values in ANSWERS.items():
            found[name] += [values[i] for i in answers[name].argmax(1)]
    return found
