"""The player of the denoising tab: markup and script, without Gradio in either, so that the capsule uses the same.

The markup is static and names no value; all text is drawn in player.js with ``textContent``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).resolve().parent
SCRIPTS = ("timeline.js", "player.js")

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
  <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="Timeline, from noise to picture"
       aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
  <div class="controls">
    <button type="button" class="quiet wide" data-part="play" disabled>Play</button>
    <button type="button" class="quiet" data-part="back" aria-label="One step back" disabled>&larr;</button>
    <button type="button" class="quiet" data-part="on" aria-label="One step on" disabled>&rarr;</button>
    <label class="speed">Speed <select data-part="speed"></select></label>
    <button type="button" class="quiet" data-part="loop" aria-pressed="true">Loop</button>
    <button type="button" class="quiet" data-part="double" aria-pressed="true">Side by side</button>
    <p class="text" data-part="text" role="status"></p>
  </div>
  <dl class="facts">
    <div><dt>Step</dt><dd data-part="place"></dd></div>
    <div><dt title="The scheduler's clock: 999 is all noise, 0 none">Timestep t</dt><dd data-part="timestep"></dd></div>
    <div class="far"><dt>In the mix</dt><dd data-part="mix"></dd></div>
    <div><dt title="The noise level: the noise's share of the mix as a standard deviation">Noise level &sigma;</dt>
      <dd data-part="sigma"></dd></div>
    <div><dt title="Signal-to-noise ratio: strength of the picture over strength of the noise">Signal to noise</dt>
      <dd data-part="snr"></dd></div>
    <div><dt>Belief changed</dt>
      <dd><span data-part="share"></span><i class="track"><i data-part="bar"></i></i></dd></div>
    <div class="phase"><dt data-part="phase"></dt><dd><span data-part="phase-words"></span></dd></div>
  </dl>
  <p class="note" data-part="note" role="note"></p>
</section>
"""
_START = """
const player = new Player(element.querySelector('.player'));
watch('value', () => player.take(props.value));
player.take(props.value);
"""


def script() -> str:
    """The text of ``Timeline`` and ``Player``."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)


def player(value: dict[str, Any] | None = None) -> gr.HTML:
    """The component; its value is a reel (see ``ui.reel``)."""
    return gr.HTML(
        value, html_template=PLAYER_HTML, js_on_load=script() + _START, elem_id="player", apply_default_css=False
    )
