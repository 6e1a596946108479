"""A picture to paint on: brush, eraser, undo, clear and invert; what is painted comes back as a mask.

Not ``gr.ImageEditor``: once an event has asked it for its value, Gradio 6.31 uploads its three pictures again at every
change of any event's state, 96 files were counted in a run of 15 steps.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from pipelines.images import geometry
from pipelines.images.uploads import decode_upload
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.data_uri import PREFIX, thumbnail_uri

if TYPE_CHECKING:
    from pipelines.images.uploads import UserUploads

# Pixels of the canvas: at least so many that strokes are round on small pictures, and at most so many.
MIN_SIDE, MAX_SIDE = 512, 1024
# A mask of two levels is far below this.
MAX_BYTES = 4_000_000
_HEAD = PREFIX.format("png")
_TEMPLATE = """
<section class="mask-editor" aria-label="Paint over the part to change">
  <div class="line">
    <button type="button" class="quiet" data-part="paint" aria-pressed="true">Brush</button>
    <button type="button" class="quiet" data-part="erase" aria-pressed="false">Eraser</button>
    <label>Size <input type="range" min="2" max="40" step="1" value="12" data-part="size"></label>
    <button type="button" class="quiet" data-part="undo" disabled>Undo</button>
    <button type="button" class="quiet" data-part="clear" disabled>Clear</button>
    <button type="button" class="quiet" data-part="invert" title="Swap what is painted and what is not">Invert</button>
  </div>
  <div class="frame" data-part="frame">
    <img data-part="picture" alt="The picture to paint on" draggable="false">
    <canvas data-part="canvas" width="1" height="1"></canvas>
  </div>
  <p class="sentence">Paint over the part to change. Everything else stays as it is, pixel by pixel.</p>
</section>
"""


def mask_editor() -> gr.HTML:
    """The component; its event ``mask`` carries the picture's ``key`` and the painting as a data ``uri``."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("components/mask_editor.js"),
        elem_id="mask-editor",
        apply_default_css=False,
    )


def editor_value(image: Image.Image, key: str) -> dict[str, Any]:
    """The component's value: the picture to paint on; another key starts with an empty mask."""
    largest = max(image.size)
    scale = min(max(largest, MIN_SIDE), MAX_SIDE) / largest
    size = [max(1, round(image.width * scale)), max(1, round(image.height * scale))]
    return {"key": key, "uri": thumbnail_uri(image.resize(size, Image.Resampling.LANCZOS), MAX_SIDE), "size": size}


def read_mask(uri: Any, size: tuple[int, int], inputs: UserUploads) -> str | None:
    """The id of the painted mask, "L" of this size; None if it is empty or unreadable.

    Raises:
        InvalidRequest: if it cannot be stored.
    """
    if not isinstance(uri, str) or not uri.startswith(_HEAD) or len(uri) > MAX_BYTES:
        return None
    try:
        data = base64.b64decode(uri[len(_HEAD) :], validate=True)
        with inputs.slot():
            layer = decode_upload(data, MAX_SIDE**2, max_aspect=MAX_SIDE).image
            mask = geometry.mask_from_layers([layer], size) if max(layer.size) <= MAX_SIDE else None
    except (InvalidRequest, ValueError, binascii.Error):
        return None
    return None if mask is None or geometry.is_empty(mask) else inputs.put(mask)
