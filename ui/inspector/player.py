"""The player of the denoising tab: markup and script, free of Gradio, so that the HTML export uses the same.

The markup is static and holds no value; player.js writes all text with ``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.components.assets import asset

SCRIPTS = ("components/timeline.js", "inspector/player.js")

_VIEW = """
    <figure class="view" data-view="{side}">
      <label class="lens"><span>{label}</span><select></select></label>
      <div class="well"><canvas role="img" width="512" height="512"></canvas>
        <p class="hint" data-part="hint"></p></div>
      <figcaption data-part="caption"><p><span data-part="about"></span> <span class="term"><span
        data-part="term"></span><a data-part="paper" target="_blank" rel="noopener noreferrer" hidden></a></span></p>
      </figcaption>
    </figure>"""
_LEFT, _RIGHT = (_VIEW.format(side=side, label=f"{side.capitalize()} picture") for side in ("left", "right"))
PLAYER_HTML = f"""
<section class="player" aria-label="The steps of one picture">
  <p class="title" data-part="title"></p>
  <div class="views">{_LEFT}{_RIGHT}
  </div>
  <div class="timeline">
    <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Timeline, from noise to picture"
         aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
    <svg class="curve" data-part="curve" preserveAspectRatio="none" viewBox="0 0 100 100" aria-hidden="true">
      <polyline class="rim"></polyline><polyline></polyline>
    </svg>
    <div class="ends"><span class="from" data-part="from">noise</span><span class="keys-hint"
      >drag, or &larr; &rarr; and space; the line is the noise left</span><span class="to">picture</span></div>
  </div>
  <div class="controls">
    <button type="button" class="quiet wide" data-part="play" disabled>Play</button>
    <button type="button" class="quiet" data-part="back" aria-label="One step back" disabled>&larr;</button>
    <button type="button" class="quiet" data-part="on" aria-label="One step on" disabled>&rarr;</button>
    <dl class="facts">
      <div class="long"><dt>step</dt><dd data-part="place"></dd></div>
      <div><dt title="Its share of the mix that the model is given">noise</dt>
        <dd class="is-noise" data-part="mix"></dd></div>
      <div class="long"><dt title="How much of all change to the guess is done">guess settled</dt>
        <dd class="is-picture" data-part="share"></dd></div>
      <div><dt title="Guidance scale (CFG)">guidance</dt><dd data-part="guidance"></dd></div>
    </dl>
    <span class="grow"></span>
    <label class="speed"><span>Speed</span> <select data-part="speed"></select></label>
    <button type="button" class="quiet" data-part="loop" aria-pressed="true">Loop</button>
    <button type="button" class="quiet" data-part="double" aria-pressed="true">Side by side</button>
  </div>
  <div class="below">
    <p class="phase"><b data-part="phase"></b><span><span data-part="phase-words"></span></span></p>
    <dl class="exact">
      <div><dt title="999 is all noise, 0 is none"><span class="name">timestep</span> t</dt>
        <dd data-part="timestep"></dd></div>
      <div><dt title="The noise level: the noise's share of the mix as a standard deviation"><span
        class="name">noise level</span> &sigma;</dt>
        <dd data-part="sigma"></dd></div>
      <div><dt title="Signal-to-noise ratio: strength of the picture over strength of the noise"><span
        class="name">signal to noise</span><span class="short" aria-hidden="true">SNR</span></dt>
        <dd data-part="snr"></dd></div>
    </dl>
  </div>
  <div class="tail"><p class="note" data-part="note" role="note"></p
    ><button type="button" class="quiet next-step" data-part="again" hidden></button
    ><p class="text" data-part="text" role="status"></p></div>
</section>
"""
_START = """
const player = new Player(element.querySelector('.player'));
player.renders = () => trigger('again');
player.remember('playground-player');
watch('value', () => player.take(props.value));
player.take(props.value);
// What a stage showed, until the server has opened the run; the tab may be laid out only then.
const early = (event) => {
  if (element.isConnected) player.early(event.detail); else document.removeEventListener('playground:inside', early);
};
document.addEventListener('playground:inside', early);
if (!props.value) player.early(window.playgroundInside);
"""


def script() -> str:
    """The text of ``Timeline`` and ``Player``."""
    return asset(*SCRIPTS)


def player(value: dict[str, Any] | None = None) -> gr.HTML:
    """The component; for its value see ``ui.inspector.lens_frames``.

    Its event ``again`` asks for the lenses that were drawn without the model.
    """
    return gr.HTML(
        value, html_template=PLAYER_HTML, js_on_load=script() + _START, elem_id="player", apply_default_css=False
    )
