"""Learn: a lesson of ten chapters, each with something to play with and a question to guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, event_value
from ui.tabs.learn import dots, runs
from ui.tabs.learn.chapters import CHAPTERS
from ui.tabs.learn.figures import chapter_values

if TYPE_CHECKING:
    from ui.context import PageContext

STYLES = ("tabs/learn/learn.css", "tabs/learn/dots.css")
OWN, RECORDED = (
    "With your latest run.",
    "With a recorded run that comes with the program; make a picture to learn with it.",
)
_TEMPLATE = """
<section class="lesson" aria-label="Lesson">
  <nav class="chapters" aria-label="Chapters"><ol data-part="list"></ol></nav>
  <div class="turn">
    <button type="button" class="quiet" data-do="back">Back</button>
    <button type="button" class="quiet second" data-do="next">Next</button>
    <span class="grow"></span>
    <button type="button" class="quiet" data-do="project" aria-pressed="false"
      title="Large type for a whole room; the arrow keys turn the chapters, Escape ends it">Projector</button>
    <button type="button" class="quiet" data-do="sheet" title="All questions with their answers, to print"
      >Teacher's sheet</button>
  </div>
  <p class="count" data-part="count"></p>
  <h2 data-part="title" tabindex="-1"></h2>
  <div class="told" data-part="text"></div>
  <button type="button" class="quiet more" data-do="more" hidden></button>
  <div class="ask" data-part="ask">
    <p class="asked" data-part="question"></p>
    <div class="answers" data-part="answers" role="group" aria-label="Your guess"></div>
    <p class="why" data-part="why" role="status"></p>
  </div>
  <p class="sentence" data-part="whose"></p>
</section>
"""


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    with gr.Row(elem_id="learn"):
        with gr.Column(elem_id="lesson-column", min_width=0):
            lesson = gr.HTML(
                None,
                html_template=_TEMPLATE,
                js_on_load=asset("tabs/learn/sheet.js", "tabs/learn/lesson.js"),
                elem_id="lesson",
                apply_default_css=False,
            )
        with gr.Column(elem_id="live-column", min_width=0):
            parts = runs.lay_out()
            dots.build(page)
    runs.wire(page, parts)
    components = {"forward": parts.forward, "player": parts.player, "words": parts.words, "strip": parts.strip}

    def turn(job_id: Any, data: gr.EventData) -> tuple[Any, ...]:
        number = event_value(data, "chapter")
        number = number if type(number) is int and 0 <= number < len(CHAPTERS) else 0
        trace, name = runs.latest(page, job_id)
        if trace is None:
            return {"problem": runs.NO_RUN}, *(gr.skip() for _ in components)
        own = trace is not page.bundled_trace
        told = {"chapters": chapter_values(page, trace), "run": name, "whose": OWN if own else RECORDED}
        values = runs.live_values(page, trace, number)
        return told, *(values.get(part, gr.skip()) for part in components)

    def look(data: gr.EventData) -> tuple[Any, Any]:
        return gr.Tabs(selected="denoising"), {"id": str(event_value(data, "run", ""))[:80], "picture": 0}

    lesson.turn(
        turn, [page.latest_job], [lesson, *components.values()], **{**CONCURRENT, "trigger_mode": "always_last"}
    )
    lesson.look(look, None, [page.tabs, page.opened], **CONCURRENT)
