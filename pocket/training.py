"""What the trainers share: the optimizer's step in every process, the moving average, the checkpoint and the loop.

A trainer brings a model and, for every step, a loss and one figure to show.  What is released is an exponential moving
average of the weights (Ho et al., 2020, arXiv:2006.11239, appendix B).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from pocket import workers

SAVE_EVERY = 120.0


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: samples a step, and AdamW's settings.

    The learning rate warms up over ``warm_up`` samples, stays, and goes down to zero over the last ``cool_down`` (a
    share) of the run.
    The moving average is brought up to date every ``average_every`` steps and keeps ``keep`` of itself a step, less in
    the beginning.
    """

    batch: int
    peak_rate: float
    warm_up: int
    weight_decay: float
    keep: float
    average_every: int
    cool_down: float = 0.3

    def rate(self, seen: int, samples: int, started: int = 0) -> float:
        """The learning rate after ``seen`` samples of a run from ``started`` to ``samples``."""
        cool_down = self.cool_down * (samples - started)
        warm = min(1, (seen - started + self.batch) / self.warm_up)
        return self.peak_rate * warm * min(1, max(0.01, (samples - seen) / cool_down))

    def pull(self, steps: int) -> float:
        """How far the moving average goes towards the weights after so many steps of a run."""
        return 1 - min(self.keep, (1 + steps) / (20 + steps)) ** self.average_every


class Training:
    """A model (n parameters), its moving average and its optimizer, in as many processes as there are workers.

    Resumes from the checkpoint where there is one; ``extra`` is saved with it, and then comes from it.
    """

    def __init__(
        self, model: nn.Module, checkpoint: Path, recipe: Recipe, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.model, self.checkpoint, self.recipe = model, checkpoint, recipe
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.extra, self.seen = dict(extra or {}), 0
        if checkpoint.exists():
            self._resume(torch.load(checkpoint, weights_only=True))
        self.started = self.seen
        # Only from here on do the processes differ: each draws its own samples and its own noise.
        torch.manual_seed(self.seen + workers.rank())

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state.pop("model"))
        self.average.load_state_dict(state.pop("average"))
        if optimizer := state.pop("optimizer"):
            self.optimizer.load_state_dict(optimizer)
        self.seen = state.pop("seen")
        self.extra.update(state)

    def save(self) -> None:
        """Write the checkpoint."""
        save(
            self.checkpoint, self.model.state_dict(), self.average.state_dict(), self.optimizer.state_dict(),
            self.seen, **self.extra,
        )

    def run(
        self, samples: int, loss: Callable[[int], tuple[torch.Tensor, float]], title: str, figure: str,
        look: Callable[[], None] | None = None,
    ) -> None:
        """Train until ``samples`` have been seen in all, saving every two minutes.

        ``loss`` takes a number of samples and returns the loss and the figure that is shown under the name
        ``figure``; ``look`` is called after every step, in the first process alone.
        """
        first, saved, smooth = workers.rank() == 0, time.time(), None
        progress = tqdm(
            total=samples, initial=self.seen, desc=title, unit=" samples", mininterval=10, disable=not first
        )
        while self.seen < samples:
            before, shown = self.seen, self._step(loss, samples)
            smooth = shown if smooth is None else 0.99 * smooth + 0.01 * shown
            progress.set_postfix_str(f"{figure} {smooth:.4f}", refresh=False)
            progress.update(self.seen - before)
            if first and (time.time() - saved > SAVE_EVERY or self.seen >= samples):
                self.save()
                saved = time.time()
            if first and look:
                look()
        progress.close()

    def _step(self, loss: Callable[[int], tuple[torch.Tensor, float]], samples: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.seen, samples, self.started)
        mine = self.recipe.batch // workers.count()
        value, shown = loss(mine)
        self.optimizer.zero_grad()
        value.backward()
        workers.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seen += mine * workers.count()
        steps = (self.seen - self.started) // self.recipe.batch
        if steps % self.recipe.average_every == 0:
            pull = self.recipe.pull(steps)
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), pull)
        return shown


def save(checkpoint: Path, model: dict, average: dict, optimizer: dict | None, seen: int, **extra: Any) -> None:
    """Write a checkpoint in one move; without an optimizer's state it is a warm start."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".tmp")
    torch.save({"model": model, "average": average, "optimizer": optimizer, "seen": seen, **extra}, partial)
    partial.replace(checkpoint)
