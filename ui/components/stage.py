"""The stage and the timeline: one component, whose frames live in the browser.

The template is static and names no value: Gradio renders templates as Handlebars and then as a JavaScript template
literal, so a user's text in one would be code.  All drawing is in stage.js, with ``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.components.assets import asset

_TEMPLATE = """
<section class="stage" data-state="empty" data-view="noisy" aria-label="Picture and timeline">
  <div class="mat" data-part="stage">
    <canvas class="motif" data-part="static" width="96" height="96" aria-hidden="true"></canvas>
    <div class="cells" data-part="cells"></div>
    <p class="hint" data-part="hint">Every picture starts as noise. Describe yours and press Generate.</p>
    <div class="counter">
      <p class="told" data-part="told"></p>
      <b data-part="count"></b>
      <p class="words" data-part="words"></p>
      <button type="button" class="quiet" data-part="retry" hidden></button>
    </div>
    <button type="button" class="inset" data-part="swap" hidden>
      <img data-part="inset" alt=""><span data-part="inset-name"></span>
      <span class="told" data-part="inset-told"></span>
    </button>
    <div class="zoom">
      <p data-part="scale"></p>
      <div class="choices" role="group" aria-label="Size of the picture">
        <button type="button" data-size="smooth" aria-pressed="true">Smooth</button>
        <button type="button" data-size="pixels" aria-pressed="false">Pixels</button>
        <button type="button" data-size="actual" aria-pressed="false"
                title="One picture pixel for each screen pixel">Actual size</button>
        <button type="button" data-part="full" title="Full screen, with zoom">Full screen</button>
      </div>
    </div>
  </div>
  <div class="timeline">
    <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Timeline, from noise to picture"
         aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
    <svg class="curve" data-part="curve" preserveAspectRatio="none" viewBox="0 0 100 100" aria-hidden="true">
      <polyline class="rim"></polyline><polyline></polyline>
    </svg>
    <div class="ends"><span class="from">noise</span><span class="keys-hint"
      >drag, or \u2190 \u2192 and space; the line is the noise left</span><span class="told-short"
      data-part="told-short"></span><span class="to">picture</span></div>
  </div>
  <div class="acts">
    <button type="button" class="quiet play" data-part="play" hidden>Play</button>
    <button type="button" class="quiet" data-part="all" hidden>All pictures</button>
    <span class="grow"></span>
    <a class="quiet" data-part="save" download hidden>Save</a>
    <button type="button" class="quiet" data-part="send" hidden
            title="Start the next picture from this one, in Image to image">Edit image</button>
    <button type="button" class="quiet" data-part="again" hidden title="The same settings with another seed"
      >New seed</button>
    <button type="button" class="quiet" data-part="keep" hidden
            title="Keep this picture's seed for the next one">Lock seed</button>
    <button type="button" class="quiet second" data-part="inside" hidden
            title="See every step of this picture in Denoising">Look inside</button>
  </div>
  <p class="notes" data-part="notes" role="note"></p>
  <p class="aside" data-part="aside" aria-live="polite"></p>
  <dialog class="lightbox" data-part="lightbox" aria-label="Full screen">
    <img data-part="large" alt="" draggable="false">
    <div class="bar">
      <button type="button" class="quiet" data-part="before" aria-label="Previous picture">\u2190</button>
      <button type="button" class="quiet" data-part="after" aria-label="Next picture">\u2192</button>
      <span class="grow">Scroll to zoom, drag to move</span>
      <button type="button" class="quiet" data-part="close">Close</button>
    </div>
  </dialog>
</section>
"""


def stage(value: dict[str, Any] | None = None, prefix: str = "") -> gr.HTML:
    """The component; ``prefix`` is that of the tab's element ids.

    Its events: ``again`` (make another), ``keep`` (carries ``seed`` as text), ``inside`` and
    ``send`` (both carry ``run`` and ``picture``, the number of the picture from 0).
    """
    code = asset("components/timeline.js", "components/lightbox.js", "components/stage.js")
    return gr.HTML(
        value,
        html_template=_TEMPLATE,
        js_on_load=code,
        elem_id=f"{prefix}stage",
        elem_classes="stage-host",
        apply_default_css=False,
    )
