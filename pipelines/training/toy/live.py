"""Trainings that users watch: one each, in slices, and what the page is told after every slice."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.system.lru import LruDict
from pipelines.training.toy.settings import IDEAL_SECONDS, NETWORK_SECONDS, SamplingSettings, TrainingSettings
from pipelines.training.toy.shapes import SHAPES

if TYPE_CHECKING:
    from pipelines.training.toy.denoisers import Denoiser
    from pipelines.training.toy.training import DotsTraining

# Seconds of training in one slice: the page is told after each.
SLICE = 0.1
# The dots' way is drawn after every so many slices.
FLOW_EVERY = 3
# A place is sent as a whole number of hundredths.
HUNDREDTHS = 100
# Dots of the data set that are drawn, places of the curve of the loss, and states of a run while training.
SHOWN_DOTS, CURVE_POINTS, LIVE_STATES = 400, 120, 14
# Trainings of as many users are kept.
KEPT = 32
# What the page is told, made in parts, between which the worker may do something else.
Report = Generator[None, None, dict[str, Any]]


class LiveTraining:
    """A training with what the page shows of it; ``slice`` and ``sample`` are for the worker's thread.

    Both may be begun again before they have ended: a guest's gives way to the owner's tasks.

    Args:
        name: by which the page finds it.
        settings: what is learned.
        limit: seconds of the worker's thread at most, drawing included, or None.

    Attributes:
        spent: seconds of the worker's thread.
    """

    def __init__(self, name: str, settings: TrainingSettings, limit: float | None = None) -> None:
        self.name, self.settings, self.limit = name, settings, limit
        self.sampling = SamplingSettings()
        self._watched = threading.Lock()
        self.spent = 0.0
        self._wanted = True
        self._training: DotsTraining | None = None
        self._slices = 0
        self._fixed: dict[str, Any] = {}
        self._ideal: tuple[SamplingSettings, dict[str, Any]] | None = None
        self._learned: dict[str, Any] = {}

    @property
    def classes(self) -> int:
        """How many classes its shape has."""
        spec = SHAPES.get(self.settings.shape)
        return len(spec.classes) if spec else 0

    @property
    def running(self) -> bool:
        """Whether its slices are being asked for."""
        return self._watched.locked()

    def watch(self) -> bool:
        """Be the one who asks for its slices; False if another one is."""
        return self._watched.acquire(blocking=False)

    def unwatch(self) -> None:
        """Its slices are no longer asked for."""
        self._watched.release()

    def seconds(self, trains: bool) -> float:
        """How long ``slice`` (it trains) or ``sample`` takes, about."""
        known = self._ideal is not None and self._ideal[0] == self.sampling
        each = NETWORK_SECONDS if known else NETWORK_SECONDS + IDEAL_SECONDS
        return SLICE * trains + self.sampling.calls * each

    @property
    def state(self) -> str:
        """One of waiting, training, paused, done, limit."""
        training = self._training
        if training is not None and training.done:
            return "done"
        if training is not None and self.limit is not None and self.spent >= self.limit:
            return "limit"
        if not self._wanted:
            return "paused"
        return "waiting" if training is None else "training"

    def pause(self) -> None:
        """Stop within a step; safe from any thread."""
        self._wanted = False
        if self._training is not None:
            self._training.stop()

    def go_on(self) -> None:
        """Train again from the next slice on."""
        self._wanted = True
        if self._training is not None:
            self._training.go_on()

    def slice(self) -> Report:
        """Train for a moment; what the page is told."""
        return (yield from self._counted(self._slice()))

    def _slice(self) -> Report:
        training = self._started()
        if self.state == "training":
            left = SLICE if self.limit is None else min(SLICE, self.limit - self.spent)
            training.train_for(max(left, 0.0))
            self._slices += 1
        live = self.state == "training"
        if not live or self._slices % FLOW_EVERY == 1 or not self._learned:
            self._learned = yield from self._flow(training.network, self.sampling, LIVE_STATES if live else None)
        return (yield from self._report(training))

    def _counted(self, parts: Report) -> Report:
        """The parts, whose time counts; what the worker does between them does not."""
        while True:
            began = time.thread_time()
            try:
                next(parts)
            except StopIteration as end:
                return end.value
            finally:
                self.spent += time.thread_time() - began
            yield

    def sample(self) -> Report:
        """Sample again by the current settings; what the page is told."""
        training = self._started()
        self._learned = yield from self._flow(training.network, self.sampling)
        return (yield from self._report(training))

    def _started(self) -> DotsTraining:
        from pipelines.training.toy.training import DotsTraining

        if self._training is None:
            self._training = DotsTraining(self.settings)
            if not self._wanted:
                self._training.stop()
        return self._training

    def _report(self, training: DotsTraining) -> Report:
        label = self.sampling.label
        ideal = yield from self._best(training)
        return {
            "run": self.name,
            "state": self.state,
            "step": training.step,
            "steps": self.settings.steps,
            "seconds": round(training.seconds, 1),
            "curve": _rounded(_spread(training.curve, CURVE_POINTS)),
            "loss": _rounded(training.loss()),
            "field": packed(training.field(training.network, label)),
            "flow": self._learned,
            **self._known(training),
            "ideal": ideal,
        }

    def _known(self, training: DotsTraining) -> dict[str, Any]:
        if not self._fixed:
            dots = training.dots
            self._fixed = {
                "dots": packed(dots.points[:SHOWN_DOTS]),
                "labels": dots.labels[:SHOWN_DOTS].tolist(),
                "classes": list(dots.classes),
                "ideal_loss": _rounded(training.ideal_loss()),
                "field_noise": _rounded(training.field_noise()),
            }
        return self._fixed

    def _best(self, training: DotsTraining) -> Report:
        """Field and run of the ideal denoiser, computed once for each choice of sampling."""
        # The choice may change while it is computed.
        sampling, known = self.sampling, self._ideal
        if known is None or known[0] != sampling:
            field = packed(training.field(training.ideal, sampling.label))
            run = yield from self._flow(training.ideal, sampling)
            known = self._ideal = sampling, {"field": field, **run}
        return known[1]

    def _flow(self, denoiser: Denoiser, sampling: SamplingSettings, most: int | None = None) -> Report:
        from pipelines.training.toy.flow import distance, flow_parts

        assert self._training is not None
        run = yield from flow_parts(denoiser, sampling)
        shown = _spread(range(len(run.places)), most or len(run.places))
        far = distance(run.places[-1], self._training.dots, sampling.label)
        return {
            "states": [packed(run.places[i]) for i in shown],
            "noise": _rounded([run.noise[i] for i in shown]),
            "far": _rounded([far])[0],
        }


class LiveTrainings:
    """The trainings of some users: one each, the latest.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: LruDict[str, LiveTraining] = LruDict(KEPT)
        self._numbers = itertools.count(1)

    def begin(self, user: str, settings: TrainingSettings, limit: float | None = None) -> LiveTraining:
        """A new training of a user; the user's former one is stopped."""
        with self._lock:
            if user in self._of:
                self._of[user].pause()
            self._of[user] = LiveTraining(f"training-{next(self._numbers)}", settings, limit)
            return self._of[user]

    def get(self, user: str, name: object) -> LiveTraining | None:
        """A user's training by its name, while it is the user's latest."""
        with self._lock:
            found = self._of.get(user)
            return found if found is not None and found.name == name else None


def packed(places: np.ndarray) -> list[int]:
    """Numbers in whole hundredths, those far outside of the plane cut; one after the other."""
    far = 10.0
    return np.rint(np.clip(np.nan_to_num(places, nan=far), -far, far) * HUNDREDTHS).astype(int).ravel().tolist()


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread, with both ends."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Numbers for JSON, which knows neither infinity nor NaN."""
    return [round(value, 4) if value is not None and np.isfinite(value) else None for value in values]
