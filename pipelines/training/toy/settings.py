"""What the user chooses for the tiny model, with its bounds; free of torch, so that the page can show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, SCHEDULERS
from pipelines.training.toy.shapes import DRAWN, LETTER, SHAPES

LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1)
TRAINING_STEPS = (500, 1500, 3000, 6000)
SAMPLING_STEPS = (1, 2, 4, 8, 12, 25, 50)
GUIDANCE = (1.0, 2.0, 4.0, 8.0)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Seconds of training that one training of a guest may take; what is drawn meanwhile is counted apart.
GUEST_SECONDS = 15.0
# A training of 15 s counts towards a guest's hour as much as ten pictures of 512 px in 25 steps.
WORK_A_SECOND = 10 * 512 * 512 * 25 // 15
# What one call takes, about, in seconds: of the network, and of the ideal denoiser, which weighs all dots of the shape.
NETWORK_SECONDS, IDEAL_SECONDS = 0.002, 0.01
# Of a line that the user draws; the plane is shown from -PLANE to PLANE.
MIN_DRAWN, MAX_DRAWN, PLANE = 12, 400, 3.0
# The number of the chosen class is what the tiny model reads as its prompt.
NO_CLASS = 0


@dataclass(frozen=True)
class TrainingSettings:
    """One training: what is learned and how fast.

    Attributes:
        shape: key of ``SHAPES``, or ``DRAWN``.
        letter: of the shape of a letter.
        drawn: places of the pointer.
        learning_rate: at the start; it falls to 0 along half a cosine.
        steps: of training.
        seed: of weights, batches and noise.
    """

    shape: str = "moons"
    letter: str = "D"
    drawn: tuple[tuple[float, float], ...] = ()
    learning_rate: float = 0.003
    steps: int = 3000
    seed: int = 0


@dataclass(frozen=True)
class SamplingSettings:
    """How the dots are sampled, while training and after.

    Attributes:
        scheduler: one of ``DIFFUSION_SCHEDULERS``.
        steps: of sampling.
        guidance: classifier-free guidance towards the class.
        label: class from 1, or ``NO_CLASS``.
        seed: of the noise.
    """

    scheduler: str = "ddim"
    steps: int = 12
    guidance: float = 1.0
    label: int = NO_CLASS
    seed: int = 1

    @property
    def calls(self) -> int:
        """How often a run calls its denoiser."""
        return SCHEDULERS[self.scheduler].model_calls(self.steps) * (1 if self.guidance == 1 else 2)


def read_training(values: Any) -> TrainingSettings:
    """Settings that a client sent; raises InvalidRequest."""
    given = values if isinstance(values, dict) else {}
    shape = _one_of(given, "shape", (*SHAPES, DRAWN), "moons")
    return TrainingSettings(
        shape,
        _one_of(given, "letter", LETTERS, "D") if shape == LETTER else "D",
        _drawn(given.get("drawn")) if shape == DRAWN else (),
        _one_of(given, "learning_rate", LEARNING_RATES, 0.003),
        _one_of(given, "steps", TRAINING_STEPS, 3000),
    )


def read_sampling(values: Any, classes: int) -> SamplingSettings:
    """Settings that a client sent, for a shape with so many classes; raises InvalidRequest."""
    given = values if isinstance(values, dict) else {}
    label = _one_of(given, "label", range(classes + 1), NO_CLASS)
    found = SamplingSettings(
        _one_of(given, "scheduler", DIFFUSION_SCHEDULERS, "ddim"),
        _one_of(given, "sampling_steps", SAMPLING_STEPS, 12),
        # Without a class there is nothing to follow.
        _one_of(given, "guidance", GUIDANCE, 1.0) if label else 1.0,
        label,
        _one_of(given, "seed", range(1000), 1),
    )
    if found.steps > SCHEDULERS[found.scheduler].max_steps:
        raise InvalidRequest("sampling_steps", f"{SCHEDULERS[found.scheduler].label} allows fewer steps; choose fewer.")
    return found


def _one_of(given: dict[str, Any], name: str, allowed: Any, default: Any) -> Any:
    value = given.get(name, default)
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    if not (isinstance(value, str) and value and isinstance(default, str)) and not (
        numbers and not isinstance(default, str)
    ):
        raise InvalidRequest(name, f"This choice of {name.replace('_', ' ')} is not there; choose another.")
    # ``in`` on a text would also find parts of it.
    choices = list(allowed)
    if value not in choices:
        raise InvalidRequest(name, f"This choice of {name.replace('_', ' ')} is not there; choose another.")
    return choices[choices.index(value)]


def _drawn(given: Any) -> tuple[tuple[float, float], ...]:
    pairs = given if isinstance(given, list) else []
    places = [
        (float(pair[0]), float(pair[1]))
        for pair in pairs[: MAX_DRAWN + 1]
        if isinstance(pair, list) and len(pair) == 2 and all(map(_in_plane, pair))
    ]
    if len(places) > MAX_DRAWN or len(places) != len(pairs):
        raise InvalidRequest("drawn", "This drawing cannot be read; clear it and draw again.")
    if len(set(places)) < MIN_DRAWN:
        raise InvalidRequest("drawn", "Draw a line in the field first, with mouse, finger or arrow keys; then train.")
    return tuple(places)


def _in_plane(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared, not converted: a whole number may have more digits than a float can hold.
    return number and -PLANE <= value <= PLANE
