"""When was it decided?  The run is left at several steps for another prompt, and the results are compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

# Steps at which a run is left.
TRIES = 8
# Colours that are swapped in a prompt, each for the other.
_PAIRS = (("red", "blue"), ("green", "orange"), ("yellow", "purple"), ("black", "white"), ("pink", "brown"))
SWAPS = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}}


def steps_to_try(total: int) -> list[int]:
    """At most ``TRIES`` steps, evenly over the run, from 0 (all of it is new) to the last one."""
    if total <= TRIES:
        return list(range(total))
    return [round(k * (total - 1) / (TRIES - 1)) for k in range(TRIES)]


def other_colour(prompt: str) -> str:
    """The prompt with its first colour swapped for another, "" if it names none."""
    found = next((word for word in re.finditer(r"[A-Za-z]+", prompt) if word[0].lower() in SWAPS), None)
    return prompt[: found.start()] + SWAPS[found[0].lower()] + prompt[found.end() :] if found else ""


@dataclass(frozen=True)
class Outcome:
    """How a fork ended.

    Attributes:
        step: steps of the original that were kept.
        changed: 1 if it is the other prompt's picture, 0 if it is the original's, by distances of latents.
    """

    step: int
    changed: float


def outcome(step: int, fork: Trace, original: Trace, other: Trace, k: int) -> Outcome:
    """Where a fork's picture k lies between the original's and that of the other prompt's own run."""
    away, left = (_distance(fork.final[k], trace.final[k]) for trace in (original, other))
    return Outcome(step, away / (away + left) if away + left > 0 else 0.0)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b))))


def sentence(outcomes: Sequence[Outcome]) -> str:
    """What the strip shows, in one sentence."""
    changed = [one.step for one in outcomes if one.changed >= 0.5]
    last = max(changed, default=None)
    if last is None:
        return "The other prompt changes less than half of this picture at any step, even from the beginning."
    if last == outcomes[-1].step:
        return f"Even after step {last} the other prompt still made most of the picture its own."
    after = next(one.step for one in outcomes if one.step > last)
    if last == 0:
        return f"After {_steps(after)} it was decided: from there on the picture stays nearer to the original."
    return (
        f"It was decided between step {last} and step {after}: left after {_steps(last)}, the picture is nearer to the "
        f"other prompt's; left after {after}, it stays nearer to the original."
    )


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"
