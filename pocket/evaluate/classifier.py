"""The judge of the evaluation: a small classifier of concepts, trained on augmented renders of the artwork."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from pocket.paths import RUNS
from pocket.train import processes
from pocket.train.pictures import to_tensor
from pocket.world import plain
from pocket.world.artwork import STYLES
from pocket.world.vocabulary import Concept, load_concepts

SIZE = 64
BATCH = 64
SIZES = {None: 0.6, "small": 0.25, "large": 0.15}
CHECKPOINT = RUNS / "classifier.pt"


def build(classes: int) -> nn.Module:
    """A plain residual network for pictures (n, 3, 64, 64)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    for before, after in ((32, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [Residual(after)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, classes))


class Residual(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def shrink(x: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, 128, 128) -> (n, 3, 64, 64)."""
    return F.avg_pool2d(x, 2)


def augment(x: torch.Tensor) -> torch.Tensor:
    """Blur, noise and colour changes, so that soft or slightly wrong pictures are judged by what they show."""
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    weight = torch.rand(len(x), 1, 1, 1)
    x = x.lerp(blurred, weight) + 0.1 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
    return (x * (0.85 + 0.3 * torch.rand(len(x), 3, 1, 1)) + 0.1 * torch.randn(len(x), 3, 1, 1)).clamp(-1, 1)


def labelled_batch(pictures: plain.Pictures, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Composed pictures (size, 3, 64, 64) of every pair, held out or not, and their concepts (size,).

    Small and large ones too, so that the judge may look at pictures of every size and at halves of pictures of two.
    """
    colours, styles, rng = list(plain.COLOURS), list(STYLES), pictures.rng
    concepts = rng.integers(len(pictures.concepts), size=size)
    pixels = [
        plain.compose(
            pictures.artwork[styles[rng.integers(3)]][i],
            colours[rng.integers(len(colours))],
            rng,
            word=plain.choose(SIZES, rng),
        )
        for i in concepts
    ]
    return shrink(to_tensor(np.stack(pixels))), torch.from_numpy(concepts)


def train(
    samples: int = 160_000, load: Callable[[Path], list[Concept]] = load_concepts, checkpoint: Path = CHECKPOINT
) -> nn.Module:
    """Train the judge of the concepts that ``load`` reads, or load it from its checkpoint."""
    pictures = plain.Pictures(seed=77, load=load)
    model = build(len(pictures.concepts)).to(memory_format=torch.channels_last)
    if checkpoint.exists():
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
        return model.eval()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    steps = samples // BATCH
    for step in tqdm(range(steps), desc="judge", mininterval=10):
        rate = 2e-3 * min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = labelled_batch(pictures, BATCH)
        with processes.half_precision():
            logits = model(augment(x).to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), checkpoint)
    return model.eval()


@torch.inference_mode()
def top1_on_real(model: nn.Module, count: int = 2000) -> float:
    """Accuracy of the judge on fresh renders that it was not trained on."""
    x, y = labelled_batch(plain.Pictures(seed=4711), count)
    return (model(x).argmax(1) == y).float().mean().item()
