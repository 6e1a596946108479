"""The part of the image that is used, as a frame on its thumbnail: moved by mouse, finger or arrow keys."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.images import geometry
from ui.components.assets import asset
from ui.components.gradio_events import event_value
from ui.inspector.panel import number_within

if TYPE_CHECKING:
    from ui.tabs.image_to_image.prepared_image import Preparation

_TEMPLATE = """
<div class="crop" data-part="area" hidden>
  <div class="frame" data-part="frame" role="slider" tabindex="0" aria-label="The part of the image that is used"
       title="The part that is used. Drag it, or move it with the arrow keys."
       aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"></div>
</div>
"""


def crop_frame() -> gr.HTML:
    """The component; its event ``move`` carries ``x`` and ``y``, 0 to 1 (``geometry.fit``)."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("tabs/image_to_image/crop_frame.js"),
        elem_id="crop",
        apply_default_css=False,
    )


def crop_frame_value(how: Preparation, path: str, original: str) -> dict[str, Any]:
    """The component's value for the image at ``path``; the browser hides a frame that would hold the whole image.

    Args:
        how: the preparation of the image.
        path: the image's file.
        original: the id of the whole image, under which the browser keeps where the frame was moved.
    """
    image = f"{zlib.crc32(path.encode()):08x}"
    where = {"x": how.focus[0], "y": how.focus[1]}
    return {"image": image, "original": original, "size": list(how.size), **where, "shown": how.crops}


def moved(path: Any, data: gr.EventData) -> Any:
    """The frame's new place on the image at ``path``, for the state ``Source.focus``."""
    x, y = (number_within(event_value(data, name, None), 0, 1) for name in ("x", "y"))
    return gr.skip() if x is None or y is None else (path, x, y)


def focus_of(path: Any, focus: Any) -> tuple[float, float]:
    """The frame's place; the middle on another image than the one on which it was moved."""
    return focus[1:] if isinstance(focus, tuple) and focus[0] == path else geometry.CENTRE
