"""A picture to paint on: brush, eraser, undo, clear and invert; what is painted comes back as a mask.

Not ``gr.ImageEditor``: once an event has asked it for its value, Gradio 6.31 uploads its three pictures anew at every
change of any event's state, 96 files were counted in a run of 15 steps.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from pipelines import geometry
from ui.panel import picture_uri, script

if TYPE_CHECKING:
    from pipelines.uploads import Inputs

# The surface has at least so many pixels, that strokes are round on small pictures, and at most so many.
LEAST, MOST = 512, 1024
# A mask of two levels is far below this.
MAX_BYTES = 4_000_000
_HEAD = "data:image/png;base64,"
_TEMPLATE = """
<section class="brush" aria-label="Paint over the part that is to change">
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
  <p class="sentence">Paint over the part that is to change. Everything else stays as it is, pixel by pixel.</p>
</section>
"""


def brush() -> gr.HTML:
    """The component; its event ``mask`` carries the picture's ``key`` and the painting as a data ``uri``."""
    return gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=script("brush.js"), elem_id="brush", apply_default_css=False
    )


def shown(image: Image.Image, key: str) -> dict[str, Any]:
    """The component's value: the picture to paint on; another key begins with nothing painted."""
    largest = max(image.size)
    scale = min(max(largest, LEAST), MOST) / largest
    size = [max(1, round(image.width * scale)), max(1, round(image.height * scale))]
    return {"key": key, "uri": picture_uri(image.resize(size, Image.Resampling.LANCZOS), MOST), "size": size}


def read(uri: Any, size: tuple[int, int], inputs: Inputs) -> str | None:
    """The id of the mask that was painted, "L" of this size; None where nothing is painted or nothing can be read."""
    if not isinstance(uri, str) or not uri.startswith(_HEAD) or len(uri) > MAX_BYTES:
        return None
    try:
        data = base64.b64decode(uri[len(_HEAD) :], validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if max(image.size) > MOST:
                return None
            mask = geometry.mask_of([image], size)
    except (OSError, SyntaxError, ValueError, binascii.Error):
        return None
    return None if geometry.is_empty(mask) else inputs.put(mask)
