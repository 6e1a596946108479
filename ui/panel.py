"""What the panels of the denoising tab share: their shape, the opened trace, and a look at latents."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio import EventData
from gradio.components import Component
from PIL import Image

from pipelines.backend import LookFailed
from pipelines.lenses import project

if TYPE_CHECKING:
    import numpy as np

    from pipelines.trace import Trace
    from ui.making import Page

HERE = Path(__file__).resolve().parent
log = logging.getLogger(__name__)


def carried(data: EventData, name: str, default: Any = None) -> Any:
    """A field of what an event carries; an event that a program makes up may carry nothing at all."""
    fields = data._data
    return fields.get(name, default) if isinstance(fields, dict) else default


@dataclass(frozen=True)
class Panel:
    """One sub-tab of the denoising tab.

    Attributes:
        refresh: what the tab has opened (``{"id": str, "picture": int}``) -> one update for each of ``outputs``.
        outputs: the components that change when another trace is opened.
    """

    refresh: Callable[[Any], tuple[Any, ...]]
    outputs: list[Component]


def chosen(page: Page, opened: Any) -> tuple[Trace, int] | None:
    """The opened trace and the number of its picture that is looked at (from 0), or None when nothing is open."""
    trace = page.trace(opened)
    if trace is None or not trace.steps:
        return None
    asked = opened.get("picture") if isinstance(opened, dict) else 0
    k = asked if isinstance(asked, int) else 0
    return trace, min(max(k, 0), trace.x_t.shape[1] - 1)


def number(value: Any, low: float, high: float) -> float | None:
    """A number that a browser sent, or None when it is none or out of bounds (NaN is)."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    return float(value) if fits else None


def picture_uri(image: Image.Image, side: int) -> str:
    """A picture as a JPEG data URI, made smaller until no side is longer than ``side`` pixels."""
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def look(page: Page, trace: Trace, latents: np.ndarray) -> tuple[list[Image.Image], str]:
    """Latents (n, c, h, w) as n pictures, and a sentence about them.

    The model's own decoder draws them; without the model a linear map does, and the sentence says so ("" otherwise).
    """
    try:
        return page.backend.decode(trace.request.model, latents), ""
    except LookFailed as problem:
        log.info("Drawn without the decoder: %s", problem)
        return project(trace, latents), f"{problem} Until then the pictures are rough: one colour for each latent."


def script(*names: str) -> str:
    """The text of a script of the page, behind those that it builds on."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)
