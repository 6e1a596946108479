"""What the lesson shows of a run: its steps, its words, its nearest training pictures, and strips of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.grid.axes import changed
from pipelines.grid.plan import Grid, first_picture, read_axis
from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.trace.trace import TraceError
from pipelines.training_sample.pictures import SampleError
from ui.components import phrases
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.context import BUNDLED
from ui.inspector import lens_frames
from ui.inspector.forward_process import SLOW_SECONDS
from ui.inspector.origins.nearest import nearest_value
from ui.inspector.player import PLAYER_HTML, script
from ui.inspector.words import attention
from ui.tabs.compare import choosing
from ui.tabs.compare.running import Comparisons, head
from ui.tabs.compare.templates import VIEWER_HTML
from ui.tabs.history.question import text_of
from ui.tabs.learn import noise
from ui.tabs.learn.chapters import CHAPTERS, NEGATIVE, NOISE, PLAYER, SAMPLERS, STRIP, WORDS, RunPlan
from ui.tabs.learn.figures import negative_word

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# Samplers that race: more would not fit on one screen.
RACERS = 6
NO_RUN = "There is no run to show yet. Make a picture in Text to image, then come back."
NO_SAMPLE = "The training pictures of this model are not here; make a picture with Pocket and come back."
WORDS_HTML = f"""
<div class="lesson-words">
  <label class="step-of">Step <input type="range" min="0" max="0" step="1" value="0" data-part="step"
    aria-label="Step of the run"> <b data-part="step-text"></b></label>
  {attention.WORDS_HTML.replace("word-maps-keys", "lesson-word-maps-keys")}
</div>
"""
STRIP_HTML = f"""
<div class="lesson-strip">
  <div class="acts" data-part="acts"></div>
  <p class="sentence" data-part="cost" role="status"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  {VIEWER_HTML}
  <div class="near" data-part="nearest" hidden>
    <ol class="renders" data-part="renders"></ol>
    <p class="sentence" data-part="likeness"></p>
  </div>
  <ul class="onward" data-part="onward" aria-label="Where the method goes next" hidden></ul>
</div>
"""


def player_script() -> str:
    """The script of the lesson's player."""
    return script() + asset("tabs/learn/state.js", "tabs/learn/player.js")


def words_script() -> str:
    """The script of the lesson's maps of words."""
    return asset("inspector/words/attention.js", "tabs/learn/state.js", "tabs/learn/words.js")


def strip_script() -> str:
    """The script of the lesson's strips."""
    return asset("tabs/compare/viewer.js", "tabs/learn/state.js", "tabs/learn/strip.js")


@dataclass(frozen=True)
class LiveParts:
    """The components of which a chapter shows one."""

    noise: gr.HTML
    player: gr.HTML
    words: gr.HTML
    strip: gr.HTML


@dataclass
class LessonRuns:
    """The runs that the lesson is about."""

    page: PageContext

    @cached_property
    def recorded(self) -> Trace | None:
        """The run that comes with the program; also where the page begins with a model that has none."""
        if self.page.bundled_trace is not None:
            return self.page.bundled_trace
        found = (phrases.recording(card) for card in self.page.cards.values())
        return next((trace for trace in found if trace is not None), None)

    def latest(self, job_id: Any) -> Trace | None:
        """The user's latest finished run, else the recorded one."""
        trace = self.page.trace({"id": job_id}) if isinstance(job_id, str) else None
        return trace if trace is not None and trace.steps and trace.finals else self.recorded

    def name(self, trace: Trace | None) -> str:
        """How ``PageContext.opened`` names it; "" for a run that cannot be opened."""
        if trace is None or (trace is self.recorded and trace is not self.page.bundled_trace):
            return ""
        return BUNDLED if trace is self.recorded else trace.id

    def is_quick(self, trace: Trace | None) -> bool:
        """Whether strips of runs like this one are drawn without being asked for; so the recorded run's model is."""
        return trace is not None and (trace is self.recorded or 0 < trace.seconds_a_step <= SLOW_SECONDS)

    def with_sample(self, trace: Trace | None) -> Trace | None:
        """The run, or the recorded one where the training pictures of the run's model are not here."""
        known = self.page.backend.training_samples
        each = (one for one in (trace, self.recorded) if one is not None)
        return next((one for one in each if known.offered(one.request.model)), None)


def lay_out() -> LiveParts:
    """The components, each with the script of the place that it comes from."""
    options: dict[str, Any] = {"apply_default_css": False}
    return LiveParts(
        noise.view(),
        gr.HTML(None, html_template=PLAYER_HTML, js_on_load=player_script(), elem_id="learn-player", **options),
        gr.HTML(None, html_template=WORDS_HTML, js_on_load=words_script(), elem_id="learn-words", **options),
        gr.HTML(None, html_template=STRIP_HTML, js_on_load=strip_script(), elem_id="learn-strip", **options),
    )


def wire(page: PageContext, runs: LessonRuns, parts: LiveParts) -> None:
    """What the components ask for; each about the user's latest run."""
    comparisons = Comparisons()

    def lenses(job_id: Any) -> Iterator[Any]:
        trace = runs.latest(job_id)
        if trace is None or lens_frames.is_complete(trace, 0, page.frame_cache):
            yield gr.skip()
            return
        yield from lens_frames.render_lenses(trace, 0, page.decode(trace), page.frame_cache)

    def attend(job_id: Any) -> Iterator[Any]:
        trace = runs.latest(job_id)
        known = attention.panel_value(page, trace, 0) if trace else None
        if trace is None or known is None or known["state"] != "closed":
            yield known
            return
        yield from attention.compute(page, trace, 0)

    def draw(job_id: Any, data: gr.EventData) -> Iterator[Any]:
        try:
            grid = plan_of(runs, runs.latest(job_id), event_value(data, "chapter"), event_value(data, "plan"))
        except InvalidRequest as problem:
            yield {"state": "refused", "problem": problem.message}
            return
        yield from comparisons.values(page.backend, grid)

    def nearest(job_id: Any) -> Any:
        return nearest_pictures(page, runs.with_sample(runs.latest(job_id)))

    def stop(data: gr.EventData) -> None:
        comparisons.stop(text_of(event_value(data, "name", "")))

    def inside(data: gr.EventData) -> tuple[Any, Any]:
        return gr.Tabs(selected="denoising"), {"id": text_of(event_value(data, "run", "")), "picture": 0}

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    parts.player.rest(lenses, [page.latest_job], [parts.player], **several)
    asking = parts.words.attend(attend, [page.latest_job], [parts.words], **several)
    parts.words.quit(None, None, None, cancels=[asking], **UNQUEUED)
    parts.strip.draw(draw, [page.latest_job], [parts.strip], **several)
    parts.strip.nearest(nearest, [page.latest_job], [parts.strip], **several)
    parts.strip.stop(stop, None, None, **UNQUEUED)
    parts.strip.inside(inside, None, [page.tabs, page.opened], **CONCURRENT)


def nearest_pictures(page: PageContext, trace: Trace | None) -> dict[str, Any]:
    """The training pictures that a run's picture is nearest to, or why there are none."""
    if trace is None:
        return {"state": "refused", "problem": NO_SAMPLE}
    try:
        return {"state": "nearest", "nearest": nearest_value(page, trace, 0)}
    except (SampleError, QueryFailed) as problem:
        return {"state": "refused", "problem": str(problem)}


def live_values(page: PageContext, runs: LessonRuns, trace: Trace | None, number: int) -> dict[str, Any]:
    """The first value of each component for a chapter; those that it does not show are left out."""
    chapter = CHAPTERS[number]
    if chapter.live == STRIP:
        return {STRIP: strip_value(page, runs, trace, number)}
    if trace is None:
        return {NOISE: {"problem": NO_RUN}} if chapter.live == NOISE else {}
    if chapter.live == NOISE:
        return {NOISE: noise.noise_value(trace)}
    if chapter.live == PLAYER:
        go = {"left": chapter.left, "right": chapter.right, "share": chapter.share}
        rest = not lens_frames.is_complete(trace, 0, page.frame_cache)
        return {PLAYER: {**lens_frames.first_value(trace, 0, page.frame_cache), "go": go, "rest": rest}}
    if chapter.live == WORDS:
        return {WORDS: words_value(page, trace)}
    return {}


def words_value(page: PageContext, trace: Trace) -> dict[str, Any]:
    """The maps of words with the pictures that they lie over."""
    frames = lens_frames.first_value(trace, 0)["lenses"]["x0"]["frames"]
    return {**attention.panel_value(page, trace, 0), "frames": frames}


def strip_value(page: PageContext, runs: LessonRuns, trace: Trace | None, number: int) -> dict[str, Any]:
    """The buttons of a chapter's strips, each with its empty frame and what it costs, or why it cannot be drawn."""
    chapter, plans, quick = CHAPTERS[number], [], True
    for k, plan in enumerate(chapter.plans):
        one: dict[str, Any] = {"label": plan.label}
        try:
            grid = plan_of(runs, trace, number, k)
            one["frame"] = head(grid, f"planned {number} {k} {grid.request.prompt}", "planned")
            one["cost"] = choosing.estimate(grid, _base(page, runs, trace, plan))["text"]
            quick = quick and runs.is_quick(runs.recorded if plan.pocket else trace)
        except (InvalidRequest, QueryFailed, TraceError) as problem:
            one["cost"], quick = str(problem), False
        plans.append(one)
    onward = [[what, how, list(where)] for what, how, where in chapter.onward]
    value = {"state": "planned", "chapter": number, "plans": plans, "onward": onward, "quick": quick}
    return {**value, "nearest": chapter.nearest}


def _base(page: PageContext, runs: LessonRuns, trace: Trace | None, plan: RunPlan) -> choosing.StartingPoint:
    """What foretells how long a plan takes."""
    run = runs.recorded if plan.pocket else trace
    assert run is not None
    if name := runs.name(run):
        return choosing.base_of(page, name, None)
    return choosing.base_of(page, choosing.ASKED, {"request": run.request})


def plan_of(runs: LessonRuns, trace: Trace | None, chapter: Any, plan: Any) -> Grid:
    """The comparison of a chapter's button; raises InvalidRequest."""
    chosen = _chosen(chapter, plan)
    run = runs.recorded if chosen.pocket else trace
    if run is None:
        raise InvalidRequest("run", NO_RUN)
    request = first_picture(run.request)
    request = changed(request, **dict(chosen.changes)) if chosen.changes else request
    x = read_axis("x", chosen.setting, _values(runs.page, chosen, request), request)
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
