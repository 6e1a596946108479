"""What the trainers share: the optimizer's step in every process, the moving average, the checkpoint and the loop.

A trainer brings a model and, for every step, a loss and one figure to show.  What is released is an exponential moving
average of the weights (Ho et al., 2020, arXiv:2006.11239, appendix B).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pocket.train import processes
from pocket.train.checkpoints import Checkpoints

SAVE_EVERY = 600.0
REPORT_EVERY = 60.0
# A step that seems to take longer was stopped meanwhile: the time does not count as training.
LONGEST_STEP = 60.0

Loss = Callable[[int], tuple[torch.Tensor, float]]


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

    def rate(self, seen: int, share: float) -> float:
        """The learning rate after ``seen`` samples of this run, of which a share is over."""
        warm = min(1.0, (seen + self.batch) / self.warm_up)
        return self.peak_rate * warm * min(1.0, max(0.01, (1 - share) / max(self.cool_down, 1e-9)))

    def pull(self, steps: int) -> float:
        """How far the moving average goes towards the weights after so many steps of a run."""
        return 1 - min(self.keep, (1 + steps) / (20 + steps)) ** self.average_every


@dataclass(frozen=True)
class Until:
    """When a run ends: after so many samples in all or, with ``seconds``, when so much time has passed."""

    samples: int
    seconds: float | None = None

    def share(self, seen: int, first: int, spent: float) -> float:
        """How much of the run is over, 1 at its end; it began with ``first`` samples."""
        if self.seconds is not None:
            return min(1.0, spent / self.seconds)
        return min(1.0, (seen - first) / max(1, self.samples - first))


class Training:
    """A model (n parameters), its moving average and its optimizer, in as many processes as there are workers.

    Resumes from the newest checkpoint where there is one; ``extra`` is saved with it, and then comes from it.

    Attributes:
        seen: samples in all.
        hours: of training in all, in wall-clock time.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        checkpoints: Checkpoints,
        recipe: Recipe,
        extra: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.model, self.name, self.checkpoints, self.recipe = model.to(device), name, checkpoints, recipe
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=recipe.peak_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.extra, self.seen, self.hours, self.steps = dict(extra or {}), 0, 0.0, 0
        if (state := checkpoints.load(name)) is not None:
            self._resume(state)
        # Only from here on do the processes differ: each draws its own samples and its own noise.
        torch.manual_seed(self.seen + processes.rank())

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state.pop("model"))
        self.average.load_state_dict(state.pop("average"))
        if optimizer := state.pop("optimizer"):
            self.optimizer.load_state_dict(optimizer)
        self.seen, self.hours, self.steps = (state.pop(key) for key in ("seen", "hours", "steps"))
        self.extra.update(state)

    def save(self) -> None:
        """Write the checkpoint to all folders."""
        self.checkpoints.save(
            self.name,
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "seen": self.seen,
                "hours": self.hours,
                "steps": self.steps,
                **self.extra,
            },
        )

    def run(
        self,
        until: Until,
        loss: Loss,
        title: str,
        figure: str,
        look: Callable[[], None] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        """Train until the end of this run, saving every ten minutes.

        ``loss`` takes a number of samples and returns the loss and the figure that is shown under the name
        ``figure``; ``look`` is called after every step, in the first process alone.
        """
        recipe = recipe or self.recipe
        begun, clock = Clock(self.seen), time.monotonic()
        first = self.extra.setdefault(f"began {title}", self.seen)
        if until.seconds is None and self.seen >= until.samples:
            return
        while (share := until.share(self.seen, first, time.monotonic() - clock)) < 1:
            shown = self._step(loss, recipe, recipe.rate(self.seen - begun.first, share))
            if processes.rank() > 0:
                continue
            self.hours += begun.lap()
            if begun.due(REPORT_EVERY, "report"):
                print(f"{title}: {self.seen} samples, {self.hours:.2f} h, {begun.speed(self.seen):.1f} a second, "
                      f"{figure} {begun.smooth(shown):.4f}", flush=True)  # fmt: skip
            begun.smooth(shown)
            if begun.due(SAVE_EVERY, "save"):
                self.save()
            if look:
                look()
        if processes.rank() == 0:
            self.save()

    def _step(self, loss: Loss, recipe: Recipe, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mine = recipe.batch // processes.count()
        value, shown = loss(mine)
        self.optimizer.zero_grad()
        value.backward()
        processes.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seen += mine * processes.count()
        self.steps += 1
        if self.steps % recipe.average_every == 0:
            pull = recipe.pull(self.steps)
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), pull)
        return shown


class Clock:
    """Times of one run in one process."""

    def __init__(self, first: int) -> None:
        self.first, self.start = first, time.monotonic()
        self.last, self.reached = self.start, {}
        self.shown: float | None = None

    def lap(self) -> float:
        """Hours of training since the last call."""
        now = time.monotonic()
        spent, self.last = now - self.last, now
        return min(spent, LONGEST_STEP) / 3600

    def due(self, every: float, what: str) -> bool:
        """Whether so many seconds have passed since this was last due."""
        if self.last - self.reached.setdefault(what, self.start) < every:
            return False
        self.reached[what] = self.last
        return True

    def speed(self, seen: int) -> float:
        """Samples a second since the run began."""
        return (seen - self.first) / max(1e-6, self.last - self.start)

    def smooth(self, value: float) -> float:
        """A moving average of a figure."""
        self.shown = value if self.shown is None else 0.98 * self.shown + 0.02 * value
        return self.shown
