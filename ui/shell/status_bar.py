"""The status bar: what the model does, and how long the queue is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from pipelines.jobs.backend import BackendStatus

FAST_SECONDS, SLOW_SECONDS = 0.7, 4.0

_TEMPLATE = """
<div class="foot">
  <span class="model"><i class="dot" aria-hidden="true"></i><span data-part="text" role="status">Starting</span></span>
  <span data-part="queue"></span>
  <span class="kept">Finished pictures are kept on the computer that runs this page</span>
  <button type="button" data-part="keys" aria-haspopup="dialog" title="The list of keys">Keys <kbd>?</kbd></button>
</div>
"""
_DRAW = """
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const shown = (name) => [...document.querySelectorAll(name)].find((one) => one.offsetParent);
// The server speaks of the model that it loaded last, at its next tick; the stage and the form are never contradicted.
const words = ({ state, model, text }) => {
  if (state !== 'ready') return text;
  const drawing = document.querySelector(':is(.workspace, .compare-setup)[data-busy="yes"]');
  const draws = drawing?.dataset.draws;
  if (drawing) return draws && draws !== model ? `${draws} is drawing` : text.replace(/, ready$/, ', drawing');
  const chosen = shown('.workspace')?.dataset.model;
  if (!chosen || chosen === model) return text;
  return `${chosen} draws the next picture; ${text.replace(/, ready$/, ' is ready')}`;
};
const draw = () => {
  const status = props.value;
  if (!status) return;
  element.querySelector('.foot').dataset.state = status.state;
  const text = words(status);
  if (part('text').textContent !== text) part('text').textContent = text;
  part('queue').textContent = status.queue;
  // The stage knows of its own place in the queue before the next tick; the room stays.
  const waits = document.querySelector('.stage[data-state="queued"]') && status.queue === 'Queue empty';
  part('queue').style.visibility = waits ? 'hidden' : '';
};
watch('value', draw);
draw();
// Once the stage has said in what state it is.
document.addEventListener('playground:shown', () => queueMicrotask(draw));
part('keys').addEventListener('click', () => document.dispatchEvent(new CustomEvent('playground:keys')));
"""


def status_value(status: BackendStatus) -> dict[str, Any]:
    """The component's value."""
    queue = "Queue empty" if not status.queue else f"{status.queue} in the queue"
    return {"state": status.state, "model": status.model, "text": status.text, "queue": queue}


def status_bar(ask: Callable[[], BackendStatus]) -> None:
    """The component and its timer: fast while a model loads, slow while nothing changes."""
    line = gr.HTML(
        status_value(ask()), html_template=_TEMPLATE, js_on_load=_DRAW, elem_id="status", apply_default_css=False
    )
    clock = gr.Timer(FAST_SECONDS)
    pace = gr.State(FAST_SECONDS)

    def tick(last: float) -> tuple[Any, Any, float]:
        status = ask()
        wanted = FAST_SECONDS if status.state in ("cold", "loading") or status.queue else SLOW_SECONDS
        return status_value(status), gr.Timer(wanted) if wanted != last else gr.skip(), wanted

    clock.tick(tick, [pace], [line, clock, pace], queue=False, show_progress="hidden", api_visibility="private")
