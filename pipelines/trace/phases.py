"""The phases of a run: when its layout is decided, when its details are, and when it is only finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

# Blocks along the shorter side over which latents are averaged to see the layout.
COARSE_PARTS = 4
# Shares of the largest distance from the last x0 below which the layout is decided, and below which all details are.
LAYOUT_LEFT = 0.25
DETAIL_LEFT = 0.1


@dataclass(frozen=True)
class Phase:
    """What happens around a step: a short name, and a sentence with the trace's own figure."""

    name: str
    words: str


def find_phases(trace: Trace, k: int) -> list[Phase]:
    """The phase of each step of image k, from the distance of its x0 to the last x0.

    d_i = RMS(x0_i - x0_last) / max_j RMS(x0_j - x0_last), of the latents (fine) and of their averages over blocks
    (coarse).  The layout counts as decided once the coarse distance stays below a quarter, the details once the fine
    distance stays below a tenth.
    """
    if not trace.steps:
        return []
    coarse = block_average(trace.x0s[:, k])
    near, whole = _distance(coarse), _distance(trace.x0s[:, k])
    layout, detail = _settled(near, LAYOUT_LEFT), _settled(whole, DETAIL_LEFT)
    return [_phase(i, layout, detail, near[i], whole[i]) for i in range(len(trace.steps))]


def block_average(x: np.ndarray) -> np.ndarray:
    """Latents (s, c, h, w) averaged over blocks, about four along the shorter side: the layout."""
    block = max(1, min(x.shape[-2:]) // COARSE_PARTS)
    h, w = x.shape[-2] // block, x.shape[-1] // block
    cut = x[..., : h * block, : w * block]
    return cut.reshape(*x.shape[:-2], h, block, w, block).mean(axis=(-3, -1))


def _distance(x: np.ndarray) -> list[float]:
    """How far each of (s, ...) is from the last one, as a share of the largest distance."""
    far = np.sqrt(np.mean(np.square(x - x[-1]).reshape(len(x), -1), axis=1))
    return [float(d) for d in far / far.max()] if far.max() > 0 else [0.0] * len(x)


def _settled(distance: list[float], limit: float) -> int:
    """The first step from which on the distance stays at or below ``limit``."""
    above = [i for i, d in enumerate(distance) if d > limit]
    return above[-1] + 1 if above else 0


def _phase(i: int, layout: int, detail: int, near: float, whole: float) -> Phase:
    if i < layout:
        way = f"In the model's guess, the layout is {1 - near:.0%} of the way to where it ends."
        return Phase("Finding the layout", way)
    if i < detail:
        return Phase("Detail", f"The layout is decided ({1 - near:.0%} of the way); shapes and edges are worked out.")
    return Phase("Finishing", f"Little changes now: the guess is {1 - whole:.0%} of the way to where it ends.")
