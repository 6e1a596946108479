"""The section of the form below the prompt: chosen styles, what is sent, and the words that were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.request import GenerationRequest
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED
from ui.components.message import message
from ui.form.form import Form, FormSection, FormValues, Updates, shows_errors_of
from ui.form.styles import answers
from ui.form.styles.composing import MAX_CHOSEN, read_names

if TYPE_CHECKING:
    from ui.context import PageContext

# States of the stage in which the drawn words may change.
SETTLED = ("queued", "loading", "done", "stopped", "failed")
# Tells styles.js that the chosen styles were changed by the server.
_ANNOUNCE = "() => { document.dispatchEvent(new CustomEvent('playground:styles')); }"
_KEY = "diffusion-playground-styles-"
_SAVE = """(names) => {
  for (const storage of [sessionStorage, localStorage]) {
    try { storage.setItem('%s', names || '[]'); } catch { /* full, or switched off: nothing is kept */ }
  }
}"""
_LOAD = """() => {
  try { return [sessionStorage.getItem('%s') || localStorage.getItem('%s') || '[]']; } catch { return ['[]']; }
}"""
_TEMPLATE = """
<div class="styles">
  <div class="styles-row" role="group" aria-label="Styles">
    <span class="styles-chosen" data-part="chosen"></span>
    <button type="button" class="chip" data-part="open" aria-haspopup="dialog">Styles</button>
    <button type="button" class="chip" data-part="look" aria-expanded="false" hidden>What is sent</button>
  </div>
  <div class="sent" data-part="sent" role="status" hidden></div>
  <dialog class="builder styles-dialog" aria-label="Styles">
    <header><h2>Styles</h2><button type="button" class="quiet" data-part="close">Close</button></header>
    <div class="made">
      <section class="pick">
        <label>Search
          <input type="search" data-part="query" placeholder="watercolour, photo" autocomplete="off"></label>
        <div class="cards" role="group" aria-label="Styles to choose" data-part="cards"></div>
        <p class="none" role="status" data-part="none"></p>
      </section>
      <section class="how">
        <div class="choice" data-part="drawing" hidden>
          <h3>Pictures</h3>
          <p data-part="undrawn"></p>
          <div class="options"><button type="button" class="chip" data-part="draw">Draw them</button></div>
        </div>
        <div class="choice owner" hidden>
          <h3>Save the prompt as a style</h3>
          <p>The prompt and the negative prompt in the form; {prompt} is where other prompts go.</p>
          <form class="options" data-part="save">
            <input data-part="name" aria-label="Name of the style" placeholder="Name" maxlength="100"
              autocomplete="off">
            <button type="submit" class="chip">Save</button>
          </form>
        </div>
        <div class="choice owner" hidden>
          <h3>Files</h3>
          <div class="options">
            <button type="button" class="chip" data-part="import">Import</button>
            <button type="button" class="chip" data-part="export">Export yours</button>
            <input type="file" data-part="file" accept=".csv,.json,text/csv,application/json"
              aria-label="A file of styles" hidden>
          </div>
          <p>A styles.csv of AUTOMATIC1111, or JSON of Fooocus or of this program, whose file holds your sampling
            presets, too.</p>
        </div>
        <div class="choice">
          <h3>Wildcards</h3>
          <p>{red|blue} or a name below: each picture draws its own word, the same for the same seed.</p>
          <div class="options" data-part="wildcards"></div>
          <p class="owner" data-part="folder" hidden></p>
        </div>
      </section>
    </div>
    <footer>
      <p class="said"><b data-part="said" role="status"></b>
        <span class="problem" data-part="problem" role="alert"></span></p>
      <button type="button" class="quiet main" data-part="done">Done</button>
    </footer>
  </dialog>
</div>
"""


@dataclass(frozen=True)
class Styles:
    """The components.

    Attributes:
        chosen: names of the chosen styles in their order, as JSON; never shown.
        panel: chips, what is sent, and the dialog.
        drawn: the words that were drawn for the run on the stage.
        error: what is wrong with the styles.
    """

    chosen: gr.Textbox
    panel: gr.HTML
    drawn: gr.HTML
    error: gr.HTML

    def section(self, page: PageContext) -> FormSection:
        """These components as a section of a form."""
        return FormSection(
            frozenset({self.chosen}),
            self.fields,
            (self.error,),
            shows_errors_of(frozenset({"styles"}), self.error),
            self.updates,
            outputs=(self.drawn,),
            wire=lambda form: wire(page, form, self),
        )

    def fields(self, values: FormValues) -> dict[str, Any]:
        """The names of the chosen styles, which ``composing.composed`` takes out again."""
        return {"styles": read_names(values[self.chosen])}

    def updates(self, request: GenerationRequest, stage_value: Mapping[str, Any]) -> Updates:
        """The drawn words, along with a value of the stage."""
        return {self.drawn: drawn_text(request)} if stage_value["state"] in SETTLED else {}


def lay_out(prefix: str = "") -> Styles:
    """The components."""
    chosen = gr.Textbox(
        "[]", visible="hidden", max_length=MAX_CHOSEN, elem_id=f"{prefix}chosen-styles", elem_classes="chosen-styles"
    )
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/styles/cards.js", "form/styles/styles.js"),
        elem_id=f"{prefix}styles",
        elem_classes="styles-host",
        apply_default_css=False,
    )
    error = message(elem_id=f"{prefix}styles-error", alert=True)
    return Styles(chosen, panel, message(elem_id=f"{prefix}drawn", status=True), error)


def drawn_text(request: GenerationRequest) -> str:
    """The words that were drawn for a run, of each picture; "" without any."""
    words = [", ".join(filter(None, request.drawn_for(k))) for k in range(request.num_images)]
    if not any(words):
        return ""
    if len(set(words)) == 1:
        return f"Drawn: {words[0]}"
    return "Drawn: " + " \u00b7 ".join(f"{k} {text}" for k, text in enumerate(words, 1))


def wire(page: PageContext, form: Form, styles: Styles) -> None:
    """Answer the panel, and remember what is chosen."""
    c, panel, key = form.controls, styles.panel, _KEY + page.tab.id

    def fill(model: Any) -> dict[str, Any]:
        return answers.listing(page, model)

    def look(values: Mapping[Component, Any]) -> dict[str, Any]:
        return answers.sent(page, c.named(values), values[styles.chosen])

    def change_styles(values: Mapping[Component, Any], data: gr.EventData) -> dict[str, Any]:
        return answers.act(page, c.named(values), data)

    def draw(model: Any) -> Iterator[dict[str, Any]]:
        yield from answers.draw_previews(page, model)

    panel.fill(fill, [c.model], [panel], **UNQUEUED)
    panel.look(look, {*c.all(), styles.chosen}, [panel], **{**UNQUEUED, "trigger_mode": "always_last"})
    panel.act(change_styles, c.all(), [panel], **UNQUEUED)
    drawing = panel.draw(draw, [c.model], [panel], **CONCURRENT)
    panel.halt(None, None, None, cancels=[drawing], **UNQUEUED)
    stored = gr.Textbox(visible=False, max_length=MAX_CHOSEN)
    restore = {"fn": lambda text: text if read_names(text) else "[]", "js": _LOAD % (key, key)}
    page.blocks.load(**restore, inputs=[stored], outputs=[styles.chosen], **UNQUEUED)
    styles.chosen.change(None, [styles.chosen], None, js=_SAVE % key)
    styles.chosen.change(None, None, None, js=_ANNOUNCE)
