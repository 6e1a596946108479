"""Ways of runs through latent space, in the two directions in which they differ most (principal components).

Hotelling 1933; as a picture of sampling: Wang and Vastola 2023, arXiv:2303.02490.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

# Numbers of all points together, in double precision 256 MB.
MAX_NUMBERS = 32 * 2**20
# Points of ways that still grow, and their numbers: their plane is found in a few hundredths of a second.
LIVE_POINTS, LIVE_NUMBERS = 320, 2**20


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One way from noise to a picture.

    Attributes:
        x_t: the latents of each of s steps as alpha * x0 + sigma * eps, and the finished ones, (s + 1, d).  Those after
            the last step of a run that did not end are left out: they are in the sampler's own scale, at a level of
            noise that only the next step would name.
        x0: what the model predicted at each step, (s, d).
        noise: the noise's share of each x_t by power, 0 to 1; empty where it is not asked for.
    """

    x_t: np.ndarray
    x0: np.ndarray
    noise: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Plane:
    """The first two principal components of points.

    Attributes:
        points: the points in these components, (n, 2).
        shares: of the points' whole variance, that the components hold, each 0 to 1.
    """

    points: np.ndarray
    shares: tuple[float, float]


def of_trace(trace: Trace, k: int, every: int = 1) -> Trajectory:
    """The way of picture k of a run; x0 under the run's own guidance, which is what the sampler went by.

    ``every`` leaves steps out; see ``steps_of``.
    """
    steps = steps_of(trace, every)
    x_t = [trace.variance_preserving(i)[k].ravel() for i in steps]
    noise = [1 - trace.steps[i].alpha_bar for i in steps]
    if _ended(trace):
        x_t.append(trace.final[k].ravel())
        noise.append(0.0)
    return Trajectory(np.stack(x_t), np.stack([trace.x0(i)[k].ravel() for i in steps]), tuple(noise))


def steps_of(trace: Trace, every: int = 1) -> list[int]:
    """Each so manieth step of a run, and the newest of one that did not end."""
    steps = list(range(0, len(trace.steps), every))
    newest = len(trace.steps) - 1
    return steps if _ended(trace) or newest in steps else [*steps, newest]


def _ended(trace: Trace) -> bool:
    return bool(trace.finals) or len(trace.steps) >= trace.total


def live_stride(steps: int, size: int) -> int:
    """Of the steps of all ways together, how many to go on by, so that their plane is found at once.

    Args:
        steps: of all ways.
        size: numbers of each of their latents.
    """
    points = 2 * steps
    return max(1, math.ceil(points / LIVE_POINTS), math.ceil(points * size / LIVE_NUMBERS))


def principal_components(points: np.ndarray) -> Plane:
    """The centred points (n, d) in the two directions of largest variance; n at least 1.

    From the eigenvectors of the smaller of the two Gram matrices.  Signs are chosen so that the largest coordinate of
    each component, by magnitude, is positive.
    """
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    total = float(np.square(centred).sum())
    if len(centred) <= centred.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        found = vectors[:, ::-1][:, :2] * np.sqrt(values[::-1][:2].clip(min=0))
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        found = centred @ vectors[:, ::-1][:, :2]
    found = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    largest = found[np.abs(found).argmax(0), [0, 1]]
    found = found * np.where(largest < 0, -1.0, 1.0)
    first, second = (float(np.square(axis).sum()) / total if total > 0 else 0.0 for axis in found.T)
    return Plane(found, (first, second))


def plane(ways: Sequence[Trajectory]) -> tuple[Plane, list[Trajectory]]:
    """All x_t and x0 of some ways in one plane, and the ways in it, each with d = 2."""
    parts = [part for way in ways for part in (way.x_t, way.x0)]
    found = principal_components(np.concatenate(parts))
    flat = iter(np.split(found.points, np.cumsum([len(part) for part in parts])[:-1]))
    return found, [Trajectory(next(flat), next(flat), way.noise) for way in ways]
