"""Compare: two runs, one setting, samplers, or a grid, all at the same noise level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.grid.plan import MAX_CELLS
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.next_steps import next_step
from ui.inspector.export import save_answer
from ui.tabs.compare import choosing, templates, ways
from ui.tabs.compare.cells import two_labels, two_value
from ui.tabs.compare.running import Comparisons, kept_value
from ui.tabs.compare.saving import saved
from ui.tabs.history.question import text_of

if TYPE_CHECKING:
    from ui.context import PageContext

STYLES = ("tabs/compare/compare.css", "tabs/compare/viewer.css")
TWO = "Choose two runs to compare."
Answer = dict[str, Any]


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    with gr.Row(elem_id="compare", elem_classes="compare"):
        with gr.Column(elem_id="compare-column"):
            setup = gr.HTML(
                None,
                html_template=templates.SETUP,
                js_on_load=asset("tabs/history/calls.js", "tabs/compare/setup.js"),
                elem_id="compare-setup",
                apply_default_css=False,
            )
        with gr.Column(elem_id="compared-column"):
            view = gr.HTML(
                None,
                html_template=templates.VIEW,
                js_on_load=asset("components/saving.js", "tabs/compare/viewer.js", "tabs/compare/view.js"),
                elem_id="compare-view",
                apply_default_css=False,
            )
            comparisons = Comparisons()
            ways.build(page, comparisons)
    wire_setup(page, setup)
    wire_making(page, comparisons, setup, view)
    wire_view(page, setup, view)


def wire_setup(page: PageContext, setup: gr.HTML) -> None:
    """Questions of the setup: what there is to compare, and what a plan costs."""

    def answer(asked: Any, data: gr.EventData) -> Answer:
        token, what = (text_of(event_value(data, name, "")) for name in ("ask", "do"))
        try:
            return {"ask": token, **QUESTIONS[what](page, asked, data)} if what in QUESTIONS else {"ask": token}
        except InvalidRequest as problem:
            return {"ask": token, "field": problem.field, "message": problem.message, **next_of(problem)}

    def shown(asked: Any) -> Any:
        return {"show": {k: asked[k] for k in ("setting", "at")}} if isinstance(asked, dict) else gr.skip()

    setup.ask(answer, [page.shown_setting], [setup], trigger_mode="multiple", **UNQUEUED)
    page.shown_setting.change(shown, [page.shown_setting], [setup], **CONCURRENT)


def next_of(problem: InvalidRequest) -> Answer:
    """Where a sentence's link leads: what an error says of the page; the form's own fields are not here."""
    step = next_step(problem.remedy)
    return {"next": [step["label"], step["to"]]} if step.get("to", "").startswith("#/") else {}


def _list(page: PageContext, asked: Any, data: gr.EventData) -> Answer:
    return {"runs": choosing.runs(page, event_value(data, "chosen", []))}


def _describe(page: PageContext, asked: Any, data: gr.EventData) -> Answer:
    return choosing.description(page, choosing.base_of(page, text_of(event_value(data, "run", "")), asked))


def _estimate(page: PageContext, asked: Any, data: gr.EventData) -> Answer:
    base = choosing.base_of(page, text_of(event_value(data, "run", "")), asked)
    return choosing.estimate(choosing.plan_of(page, data, base), base)


QUESTIONS: Mapping[str, Callable[[PageContext, Any, gr.EventData], Answer]] = {
    "list": _list,
    "describe": _describe,
    "estimate": _estimate,
}


def wire_making(page: PageContext, comparisons: Comparisons, setup: gr.HTML, view: gr.HTML) -> None:
    """Make a comparison, that of a file too, and stop it."""

    def start(asked: Any, data: gr.EventData) -> Iterator[Answer]:
        try:
            base = choosing.base_of(page, text_of(event_value(data, "run", "")), asked)
            grid = choosing.plan_of(page, data, base)
            grid.cells()
        except InvalidRequest as problem:
            yield {"state": "refused", "field": problem.field, "problem": problem.message, **next_of(problem)}
            return
        yield from comparisons.values(page.backend, grid)

    def again(data: gr.EventData) -> Iterator[Answer]:
        """A comparison from a file that was saved."""
        try:
            grid = choosing.saved_plan(event_value(data, "plan", ""))
            grid.cells()
        except InvalidRequest as problem:
            yield {"state": "refused", "field": "", "problem": problem.message, **next_of(problem)}
            return
        yield from comparisons.values(page.backend, grid)

    def stop(data: gr.EventData) -> None:
        comparisons.stop(text_of(event_value(data, "name", "")))

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    setup.start(start, [page.shown_setting], [view], **several)
    setup.again(again, None, [view], **several)
    setup.stop(stop, None, None, **UNQUEUED)


def wire_view(page: PageContext, setup: gr.HTML, view: gr.HTML) -> None:
    """Show two runs or a kept comparison, save it, and look inside one of its runs."""

    def two(data: gr.EventData) -> Answer:
        runs = two_runs(page, text_of(event_value(data, "a", "")), text_of(event_value(data, "b", "")))
        # Told apart from the answer before, also where both show the same.
        return {**runs, "turn": text_of(event_value(data, "turn", ""))}

    def reopen(data: gr.EventData) -> Any:
        try:
            grid = choosing.saved_plan(event_value(data, "plan", ""))
            return kept_value(grid, choosing.traces_of(page, event_value(data, "runs", []), MAX_CELLS), "kept")
        except InvalidRequest:
            return gr.skip()

    def save(data: gr.EventData) -> Answer:
        kind, token = (text_of(event_value(data, name, "")) for name in ("kind", "ask"))

        def file() -> tuple[str, bytes]:
            traces = choosing.traces_of(page, event_value(data, "runs", []), MAX_CELLS)
            text = event_value(data, "plan", "")
            grid = choosing.saved_plan(text) if text else None
            labels = grid.labels if grid else two_labels(traces)
            return saved(labels, grid, traces, kind)

        return {"ask": token, "state": "saved", **save_answer(file, "a comparison", kind, page)}

    def inside(data: gr.EventData) -> tuple[Any, Any]:
        run = text_of(event_value(data, "run", ""))
        return gr.Tabs(selected="denoising"), {"id": run, "picture": 0}

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    setup.two(two, None, [view], **several)
    view.reopen(reopen, None, [view], **several)
    view.save(save, None, [view], **several)
    view.inside(inside, None, [page.tabs, page.opened], **CONCURRENT)


def two_runs(page: PageContext, a: str, b: str) -> Answer:
    """Two recorded runs side by side, with what differs."""
    found = [page.trace({"id": run}) for run in (a, b)]
    if found[0] is None or found[1] is None or a == b:
        return {"state": "refused", "field": "run", "problem": TWO if a == b or not (a and b) else choosing.GONE}
    return two_value(found[0], found[1])
