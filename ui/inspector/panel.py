"""What the panels of the denoising tab share: their shape, the opened trace, and decoding latents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradio.components import Component
from PIL import Image

from pipelines.jobs.backend import QueryFailed
from pipelines.trace.lenses import project

if TYPE_CHECKING:
    import numpy as np

    from pipelines.trace.trace import Trace
    from ui.context import PageContext

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Panel:
    """One sub-tab of the denoising tab.

    Attributes:
        refresh: what the tab has opened (``{"id": str, "picture": int}``) -> one update for each of ``outputs``.
        outputs: the components that change when another trace is opened.
    """

    refresh: Callable[[Any], tuple[Any, ...]]
    outputs: list[Component]


def opened_trace(page: PageContext, opened: Any) -> tuple[Trace, int] | None:
    """The opened trace and the number of the chosen picture (from 0), or None if nothing is open."""
    trace = page.trace(opened)
    if trace is None or not trace.steps:
        return None
    asked = opened.get("picture") if isinstance(opened, dict) else 0
    k = asked if isinstance(asked, int) else 0
    return trace, min(max(k, 0), trace.x_t.shape[1] - 1)


def number_within(value: Any, low: float, high: float) -> float | None:
    """A number sent by a client, or None if it is no number or out of bounds (NaN included)."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return float(value) if fits else None


def decode_or_project(page: PageContext, trace: Trace, latents: np.ndarray) -> tuple[list[Image.Image], str]:
    """Latents (n, c, h, w) as n pictures, and a sentence about them.

    The model's own decoder is used; without the model a linear map is, and the sentence says so ("" otherwise).
    """
    try:
        return page.queries.decode(trace.request.model, latents), ""
    except QueryFailed as problem:
        log.info("Drawn without the decoder: %s", problem)
        return project(trace, latents), f"{problem} Until then the pictures are rough: one colour for each latent."
