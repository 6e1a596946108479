"""When was it decided?  The run is left at several steps for another prompt, and the results are compared."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

# A run is left first at so many of its steps, evenly over it, and then at those between them.
FIRST = 8
# Colours and things that are swapped in a prompt, each for the other.
_COLOURS = (("red", "blue"), ("green", "orange"), ("yellow", "purple"), ("black", "white"), ("pink", "brown"))
_THINGS = (("cat", "dog"), ("fox", "owl"), ("apple", "banana"), ("rocket", "bus"), ("horse", "rabbit"), ("car", "boat"),
           ("house", "castle"), ("tree", "flower"), ("pizza", "cake"), ("bear", "penguin"))  # fmt: skip
COLOURS, THINGS = ({**dict(pairs), **{second: first for first, second in pairs}} for pairs in (_COLOURS, _THINGS))
# What two pictures are compared in: at this side colours without outlines, at this one outlines without colours.
COLOUR_SIDE, OUTLINE_SIDE = 8, 64
# Pictures that are nearer to each other than this, of the whole range, do not differ in it.
ALIKE = 0.02
ASPECTS = ("colours", "outlines")


def steps_to_try(total: int) -> list[int]:
    """All steps from 0 (all of it is new) to the last one, a few evenly over the run before those between them.

    So a strip says soon about when it was decided, then exactly, and one that is stopped is of use.
    """
    few = total <= FIRST
    first = list(range(total)) if few else [round(k * (total - 1) / (FIRST - 1)) for k in range(FIRST)]
    return [*first, *(step for step in range(total) if step not in first)]


def other_colour(prompt: str) -> str:
    """The prompt with its first colour swapped for another, "" if it names none."""
    return _swapped(prompt, COLOURS)


def other_thing(prompt: str) -> str:
    """The prompt with its first thing swapped for another, "" if it names none that is known here."""
    return _swapped(prompt, THINGS)


def _swapped(prompt: str, swaps: Mapping[str, str]) -> str:
    found = next((word for word in re.finditer(r"[A-Za-z]+", prompt) if word[0].lower() in swaps), None)
    return prompt[: found.start()] + swaps[found[0].lower()] + prompt[found.end() :] if found else ""


@dataclass(frozen=True)
class Outcome:
    """How a fork ended: each figure is 1 if it is the other prompt's picture, 0 if it is the original's.

    Attributes:
        step: steps of the original that were kept.
        changed: by distances of latents.
        colours, outlines: of the pictures; None where the two prompts' own pictures do not differ in it.
    """

    step: int
    changed: float
    colours: float | None = None
    outlines: float | None = None


def outcome(step: int, fork: Trace, original: Trace, other: Trace, k: int) -> Outcome:
    """Where a fork's picture k lies between the original's and that of the other prompt's own run."""
    latents = [trace.final[k] for trace in (fork, original, other)]
    pictures = [_picture(trace, k) for trace in (fork, original, other)]
    seen = ([None if one is None else look(one) for one in pictures] for look in (_colours, _outlines))
    return Outcome(step, _between(*latents) or 0.0, *(_apart(*each) for each in seen))


def _between(fork: np.ndarray, original: np.ndarray, other: np.ndarray) -> float | None:
    away, left = _distance(fork, original), _distance(fork, other)
    return away / (away + left) if away + left > 0 else None


def _apart(fork: np.ndarray | None, original: np.ndarray | None, other: np.ndarray | None) -> float | None:
    if fork is None or original is None or other is None or _distance(original, other) < ALIKE:
        return None
    return _between(fork, original, other)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b))))


def _picture(trace: Trace, k: int) -> Image.Image | None:
    """The finished picture as the trace keeps it."""
    return Image.open(io.BytesIO(trace.finals[k])).convert("RGB") if k < len(trace.finals) else None


def _colours(picture: Image.Image) -> np.ndarray:
    """Mean colours of large parts of a picture, 0 to 1."""
    return np.asarray(picture.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX), np.float32) / 255


def _outlines(picture: Image.Image) -> np.ndarray:
    """Where brightness changes: the magnitude of its gradient, 0 to about 1."""
    small = picture.convert("L").resize((OUTLINE_SIDE, OUTLINE_SIDE), Image.Resampling.BOX)
    down, right = np.gradient(np.asarray(small, np.float32) / 255)
    return np.hypot(down, right)


def sentence(outcomes: Sequence[Outcome]) -> str:
    """What the strip shows, in one sentence or two."""
    return f"{_whole(outcomes)} {_parts(outcomes)}".strip()


def _parts(outcomes: Sequence[Outcome]) -> str:
    """Until when colours and outlines could still change, "" where neither differs."""
    said = []
    for aspect in ASPECTS:
        shares = [(one.step, getattr(one, aspect)) for one in outcomes]
        if any(share is None for _, share in shares):
            continue
        late = [step for step, share in shares if share >= 0.5]
        said.append(f"{aspect} {_until(late[-1])}" if late else f"{aspect} not even at the beginning")
    return f"What could still change: {', '.join(said)}." if said else ""


def _until(step: int) -> str:
    return f"until after {_steps(step)}" if step else "only before the first step"


def _whole(outcomes: Sequence[Outcome]) -> str:
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
