"""Noise on a picture by arithmetic alone: the browser mixes it, so nothing waits and a visitor's photo stays there."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import data_uri, thumbnail_uri

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

# Larger pictures are sent smaller.
SIDE = 256
NOISE_HTML = """
<section class="noise-mix" data-state="empty" aria-label="Noise on a picture">
  <div class="terms">
    <figure><canvas data-part="clean" width="128" height="128" role="img" aria-label="The picture"></canvas>
      <figcaption><b data-part="signal">1.00</b> &times; the picture</figcaption></figure>
    <span class="sign" aria-hidden="true">+</span>
    <figure><canvas data-part="eps" width="128" height="128" role="img" aria-label="The noise"></canvas>
      <figcaption class="of-noise"><b data-part="sigma">0.00</b> &times; the noise</figcaption></figure>
    <span class="sign" aria-hidden="true">=</span>
    <figure class="mixed"><canvas data-part="mixed" width="128" height="128" role="img"
        aria-label="The noisy picture"></canvas>
      <figcaption>the noisy picture at <b>t = <span data-part="t">0</span></b></figcaption></figure>
  </div>
  <label class="dial"><span class="unseen">Timestep t</span><input type="range" min="0" max="999" step="1" value="300"
    data-part="range"></label>
  <div class="timeline">
    <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="From the picture to noise"
      aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
    <div class="ends"><span class="to">t = 0: the picture</span><span class="from">t = 999: noise</span></div>
  </div>
  <div class="acts">
    <label class="quiet file">Use your own photo<input type="file" accept="image/*" data-part="photo"></label>
    <button type="button" class="quiet" data-do="back" hidden>Back to the run&rsquo;s picture</button>
    <button type="button" class="quiet" data-do="again">Other noise</button>
    <button type="button" class="quiet" data-do="play">Play</button>
  </div>
  <p class="sentence" data-part="about" role="status"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
</section>
"""


def view() -> gr.HTML:
    """The component; it asks the server for nothing."""
    return gr.HTML(
        None,
        html_template=NOISE_HTML,
        js_on_load=script(),
        elem_id="learn-noise",
        apply_default_css=False,
    )


def script() -> str:
    """Its script."""
    return asset("components/timeline.js", "tabs/learn/state.js", "tabs/learn/noise.js")


def noise_value(trace: Trace) -> dict[str, Any]:
    """The finished picture of a run."""
    small = max(trace.request.width, trace.request.height) <= SIDE
    picture = data_uri(trace.finals[0]) if small else thumbnail_uri(Image.open(io.BytesIO(trace.finals[0])), SIDE)
    return {"key": trace.id, "picture": picture, "title": phrases.heading(trace.request)}
