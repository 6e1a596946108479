"""What the lesson shows of a run: its steps, noise on its picture, its words, and strips of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.grid.axes import changed
from pipelines.grid.plan import Grid, first_picture, read_axis
from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.trace.trace import TraceError
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.context import BUNDLED
from ui.inspector import forward_process, lens_frames
from ui.inspector.player import PLAYER_HTML, script
from ui.inspector.words import attention
from ui.tabs.compare import choosing
from ui.tabs.compare.running import Comparisons
from ui.tabs.compare.templates import VIEWER_HTML
from ui.tabs.history.question import text_of
from ui.tabs.learn.chapters import CHAPTERS, NEGATIVE, SAMPLERS, RunPlan
from ui.tabs.learn.figures import negative_word

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# Samplers that race: more would not fit on one screen.
RACERS = 6
NO_RUN = "There is no run to show yet. Make a picture in Text to image, then come back."
_WORDS_HTML = f"""
<div class="lesson-words">
  <label class="step-of">Step <input type="range" min="0" max="0" step="1" value="0" data-part="step"
    aria-label="Step of the run"> <b data-part="step-text"></b></label>
  {attention.WORDS_HTML.replace("word-maps-keys", "lesson-word-maps-keys")}
</div>
"""
_STRIP_HTML = f"""
<div class="lesson-strip">
  <div class="acts" data-part="acts"></div>
  <p class="sentence" data-part="cost" role="status"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  {VIEWER_HTML}
</div>
"""


@dataclass(frozen=True)
class LiveParts:
    """The components of which a chapter shows one."""

    forward: gr.HTML
    player: gr.HTML
    words: gr.HTML
    strip: gr.HTML


def latest(page: PageContext, job_id: Any) -> tuple[Trace | None, str]:
    """The user's latest finished run, or the one that comes with the model, and how ``page.opened`` names it."""
    trace = page.trace({"id": job_id}) if isinstance(job_id, str) else None
    if trace is not None and trace.steps and trace.finals:
        return trace, trace.id
    return page.bundled_trace, BUNDLED


def lay_out() -> LiveParts:
    """The components, each with the script of the place that it comes from."""
    options: dict[str, Any] = {"apply_default_css": False}
    player = asset("tabs/learn/player.js")
    words = asset("inspector/words/attention.js", "tabs/learn/words.js")
    strip = asset("tabs/compare/viewer.js", "tabs/learn/strip.js")
    return LiveParts(
        forward_process.view("learn-forward"),
        gr.HTML(None, html_template=PLAYER_HTML, js_on_load=script() + player, elem_id="learn-player", **options),
        gr.HTML(None, html_template=_WORDS_HTML, js_on_load=words, elem_id="learn-words", **options),
        gr.HTML(None, html_template=_STRIP_HTML, js_on_load=strip, elem_id="learn-strip", **options),
    )


def wire(page: PageContext, parts: LiveParts) -> None:
    """What the components ask for; each about the user's latest run."""
    comparisons = Comparisons()

    def noise(job_id: Any) -> Iterator[Any]:
        trace, _ = latest(page, job_id)
        if trace is None:
            yield gr.skip()
            return
        choice = forward_process.ForwardRequest(forward_process.THIS, None, False, not forward_process.is_slow(trace))
        for value, _ in forward_process.panel_values(page, trace, 0, choice):
            yield value

    def lenses(job_id: Any) -> Iterator[Any]:
        trace, _ = latest(page, job_id)
        if trace is None or lens_frames.is_complete(trace, 0, page.frame_cache):
            yield gr.skip()
            return
        yield from lens_frames.render_lenses(trace, 0, page.decode(trace), page.frame_cache)

    def attend(job_id: Any) -> Iterator[Any]:
        trace, _ = latest(page, job_id)
        known = attention.panel_value(page, trace, 0) if trace else None
        if trace is None or known is None or known["state"] != "closed":
            yield known
            return
        yield from attention.compute(page, trace, 0)

    def draw(job_id: Any, data: gr.EventData) -> Iterator[Any]:
        trace, _ = latest(page, job_id)
        try:
            grid = plan_of(page, trace, event_value(data, "chapter"), event_value(data, "plan"))
        except InvalidRequest as problem:
            yield {"state": "refused", "problem": problem.message}
            return
        yield from comparisons.values(page.backend, grid)

    def stop(data: gr.EventData) -> None:
        comparisons.stop(text_of(event_value(data, "name", "")))

    def inside(data: gr.EventData) -> tuple[Any, Any]:
        return gr.Tabs(selected="denoising"), {"id": text_of(event_value(data, "run", "")), "picture": 0}

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    parts.forward.open(noise, [page.latest_job], [parts.forward], **several)
    parts.player.rest(lenses, [page.latest_job], [parts.player], **several)
    asking = parts.words.attend(attend, [page.latest_job], [parts.words], **several)
    parts.words.quit(None, None, None, cancels=[asking], **UNQUEUED)
    parts.strip.draw(draw, [page.latest_job], [parts.strip], **several)
    parts.strip.stop(stop, None, None, **UNQUEUED)
    parts.strip.inside(inside, None, [page.tabs, page.opened], **CONCURRENT)


def live_values(page: PageContext, trace: Trace | None, number: int) -> dict[str, Any]:
    """The first value of each component for a chapter; those that it does not show are left out."""
    chapter = CHAPTERS[number]
    if trace is None:
        return {}
    if chapter.live == "forward":
        return {"forward": {**forward_process.picture_key(trace, 0), "state": "closed"}}
    if chapter.live == "player":
        go = {"left": chapter.left, "right": chapter.right, "share": chapter.share}
        rest = not lens_frames.is_complete(trace, 0, page.frame_cache)
        return {"player": {**lens_frames.first_value(trace, 0, page.frame_cache), "go": go, "rest": rest}}
    if chapter.live == "words":
        frames = lens_frames.first_value(trace, 0)["lenses"]["x0"]["frames"]
        return {"words": {**attention.panel_value(page, trace, 0), "frames": frames}}
    if chapter.live == "strip":
        return {"strip": {"state": "planned", "chapter": number, "plans": plans_value(page, trace, number)}}
    return {}


def plans_value(page: PageContext, trace: Trace, number: int) -> list[dict[str, str]]:
    """The buttons of a chapter's strips, each with what it costs, or why it cannot be drawn."""
    found = []
    for k, plan in enumerate(CHAPTERS[number].plans):
        try:
            run = page.bundled_trace if plan.pocket else trace
            name = BUNDLED if run is page.bundled_trace or run is None else run.id
            cost = choosing.estimate(plan_of(page, trace, number, k), choosing.base_of(page, name, None))["text"]
        except (InvalidRequest, QueryFailed, TraceError) as problem:
            cost = str(problem)
        found.append({"label": plan.label, "cost": cost})
    return found


def plan_of(page: PageContext, trace: Trace | None, chapter: Any, plan: Any) -> Grid:
    """The comparison of a chapter's button; raises InvalidRequest."""
    chosen = _chosen(chapter, plan)
    run = page.bundled_trace if chosen.pocket else trace
    if run is None:
        raise InvalidRequest("run", NO_RUN)
    request = first_picture(run.request)
    request = changed(request, **dict(chosen.changes)) if chosen.changes else request
    x = read_axis("x", chosen.setting, _values(page, chosen, request), request)
    assert x is not None
    y = read_axis("y", chosen.rows, chosen.row_values, request)
    grid = Grid(request=request, x=x, y=y)
    grid.cells()
    return grid


def _chosen(chapter: Any, plan: Any) -> RunPlan:
    numbers = [each if type(each) is int else -1 for each in (chapter, plan)]
    plans = CHAPTERS[numbers[0]].plans if 0 <= numbers[0] < len(CHAPTERS) else ()
    if not 0 <= numbers[1] < len(plans):
        raise InvalidRequest("plan", "There is no such strip in the lesson; choose a chapter again.")
    return plans[numbers[1]]


def _values(page: PageContext, plan: RunPlan, request: GenerationRequest) -> str:
    if plan.values == SAMPLERS:
        return ", ".join(choosing.bounds_of(page, request).schedulers[:RACERS])
    return f" | {negative_word(request.prompt)}" if plan.values == NEGATIVE else plan.values
