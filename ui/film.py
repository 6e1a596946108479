"""The stage and the timeline: one component, whose frames live in the browser.

The template is static and names no value: Gradio renders templates as Handlebars and then as a JavaScript template
literal, so a user's text in one would be code.  All drawing is in film.js, with ``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.panel import script

_TEMPLATE = """
<section class="film" data-state="empty" aria-label="Picture and timeline">
  <div class="stage" data-part="stage">
    <div class="cells" data-part="cells"></div>
    <p class="hint" data-part="hint">Your picture forms here, step by step. Describe it and press Generate.</p>
  </div>
  <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Timeline, from noise to picture"
       aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
  <div class="line">
    <button type="button" class="quiet play" data-part="play" hidden>Play</button>
    <p class="words" data-part="words"></p>
    <button type="button" class="quiet" data-part="retry" hidden>Try again</button>
    <button type="button" class="quiet" data-part="all" hidden>All pictures</button>
    <button type="button" class="quiet" data-part="send" hidden
            title="Start the next picture from this one, in the Image to image tab">Use as input</button>
    <button type="button" class="quiet" data-part="inside" hidden
            title="See every step of this picture in the Denoising tab">Look inside</button>
    <button type="button" class="quiet" data-part="true" aria-pressed="false" hidden
            title="Show one picture pixel per screen pixel">1:1</button>
  </div>
  <div class="line tools" data-part="tools" hidden>
    <span class="seed">Seed <b data-part="seed"></b></span>
    <button type="button" class="quiet" data-part="keep">Keep this seed</button>
    <button type="button" class="quiet" data-part="again">Again with a new seed</button>
    <a class="quiet" data-part="save" download>Download PNG</a>
  </div>
  <p class="notes" data-part="notes" role="note"></p>
  <p class="aside" data-part="aside" aria-live="polite"></p>
</section>
"""


def film(value: dict[str, Any] | None = None, prefix: str = "") -> gr.HTML:
    """The component; ``prefix`` is that of the tab's element ids.

    Its events: ``again`` (make another), ``keep`` (carries ``seed`` as text), ``inside`` and
    ``send`` (both carry ``run`` and ``picture``, the number of the picture from 0).
    """
    code = script("timeline.js", "film.js")
    return gr.HTML(value, html_template=_TEMPLATE, js_on_load=code, elem_id=f"{prefix}film", apply_default_css=False)
