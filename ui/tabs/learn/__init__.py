"""Learn: a lesson of ten chapters, each with something to play with and a question to guess."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.trace.trace import TraceError
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.inspector.export import save_answer
from ui.tabs.learn import dots, runs
from ui.tabs.learn.capsule import FILE_NAME, lesson_capsule
from ui.tabs.learn.chapters import CHAPTERS
from ui.tabs.learn.figures import chapter_values
from ui.tabs.learn.recording import record
from ui.tabs.learn.template import LESSON_HTML, SCRIPTS

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

STYLES = ("tabs/learn/learn.css", "tabs/learn/parts.css", "tabs/learn/dots.css")
OWN, RECORDED = (
    "With your latest run.",
    "With a recorded run that comes with the program; make a picture to learn with it.",
)


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    with gr.Row(elem_id="learn"):
        with gr.Column(elem_id="lesson-column", min_width=0):
            lesson = gr.HTML(
                None,
                html_template=LESSON_HTML,
                js_on_load=asset(*SCRIPTS),
                elem_id="lesson",
                apply_default_css=False,
            )
        with gr.Column(elem_id="live-column", min_width=0):
            parts = runs.lay_out()
            dots.build(page)
    known = runs.LessonRuns(page)
    runs.wire(page, known, parts)
    wire(page, known, lesson, parts)


def lesson_value(page: PageContext, known: runs.LessonRuns, trace: Trace | None) -> dict[str, Any]:
    """The chapters as the browser shows them."""
    whose = runs.NO_RUN if trace is None else RECORDED if trace is known.recorded else OWN
    return {"chapters": chapter_values(page, trace), "run": known.name(trace), "whose": whose}


def wire(page: PageContext, known: runs.LessonRuns, lesson: gr.HTML, parts: runs.LiveParts) -> None:
    """Turn the chapters, open a run in Denoising, and save the lesson as a file."""
    components = {"noise": parts.noise, "player": parts.player, "words": parts.words, "strip": parts.strip}

    def turn(job_id: Any, data: gr.EventData) -> tuple[Any, ...]:
        number = event_value(data, "chapter")
        number = number if type(number) is int and 0 <= number < len(CHAPTERS) else 0
        trace = known.latest(job_id)
        values = runs.live_values(page, known, trace, number)
        return lesson_value(page, known, trace), *(values.get(part, gr.skip()) for part in components)

    def look(data: gr.EventData) -> tuple[Any, Any]:
        return gr.Tabs(selected="denoising"), {"id": str(event_value(data, "run", ""))[:80], "picture": 0}

    def save(job_id: Any, data: gr.EventData) -> Iterator[Any]:
        ask = str(event_value(data, "ask", ""))[:40]
        if not ask:  # a call of another program, not of the page
            yield gr.skip()
            return
        try:
            value: dict[str, Any] = {}
            for told in record(page, known, known.latest(job_id)):
                if isinstance(told, str):
                    yield {"saving": told}
                else:
                    value = told
        except (QueryFailed, InvalidRequest, TraceError) as problem:
            yield {"ask": ask, "problem": str(problem)}
            return
        yield {
            "ask": ask,
            **save_answer(lambda: (FILE_NAME, lesson_capsule(value).encode()), "lesson", "capsule", page),
        }

    lesson.turn(
        turn, [page.latest_job], [lesson, *components.values()], **{**CONCURRENT, "trigger_mode": "always_last"}
    )
    lesson.look(look, None, [page.tabs, page.opened], **CONCURRENT)
    saving = lesson.save(save, [page.latest_job], [lesson], **CONCURRENT)
    lesson.quit(None, None, None, cancels=[saving], **UNQUEUED)
