"""The map of a comparison: the ways of its lanes from noise to their pictures, in one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.grid.plan import MAX_CELLS
from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.trace import trajectories
from pipelines.trace.trace import TraceError
from ui.components.assets import asset
from ui.components.data_uri import data_uri
from ui.components.gradio_events import CONCURRENT, event_value
from ui.inspector.origins.trajectory_map import Way, flat_value, plane_value, within_bounds
from ui.server.current_user import current_user
from ui.tabs.compare import choosing
from ui.tabs.compare.cells import level, two_labels
from ui.tabs.history.question import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.grid.plan import Grid
    from pipelines.grid.sheet import Place
    from pipelines.trace.trace import Trace
    from ui.context import PageContext
    from ui.tabs.compare.running import Comparisons, RunningGrid

# Ways that can still be told from one another.
MAX_LANES = 20
SCRIPTS = ("inspector/origins/ways.js", "tabs/compare/lanes.js")
WAITS = "The map is drawn while the pictures are made, from their first steps on."
TOO_FEW = "A map needs two finished pictures whose latents have one size; these have not."
WAYS_HTML = """
<section class="origins compared-ways" data-state="empty" aria-label="Map of the comparison" hidden>
  <details data-part="fold">
    <summary>Map: the ways from noise to the pictures</summary>
    <p class="lead">Every latent is a point in a space of very many dimensions. This map shows the two directions in
      which these ways differ most. Each leads from noise to its picture.
      <span data-part="dots">The dots are where they are at the noise level of the timeline above</span>, and the dashed
      lines lead to the model's guess there.
      <span class="term">The first two principal components of x_t and of the predicted x0</span></p>
    <p class="sentence" data-part="why" role="status"></p>
    <div data-part="body" hidden>
      <div class="map-frame"><svg data-part="svg" preserveAspectRatio="xMidYMid meet" role="img"
        aria-label="Ways from noise to the pictures"></svg></div>
      <ol class="lanes" data-part="names"></ol>
      <p data-part="variance"></p>
      <p class="said" data-part="left-out"></p>
    </div>
  </details>
</section>
"""


def lanes(
    traces: Mapping[Place, Trace], names: Mapping[Place, str], every: int = 1
) -> tuple[list[Way], list[list[float]]]:
    """The ways of the runs whose latents have the first one's size, and the noise levels of their steps.

    ``every`` leaves steps out, as in ``trajectories.of_trace``.
    """
    ways: list[Way] = []
    levels: list[list[float]] = []
    for place, trace in alike(traces).items():
        picture = data_uri(trace.finals[0]) if trace.finals else ""
        ways.append(Way("lane", names.get(place, ""), trajectories.of_trace(trace, 0, every), picture))
        levels.append([round(level(trace.steps[i]), 3) for i in trajectories.steps_of(trace, every)])
    count = len(within_bounds(ways))
    return ways[:count], levels[:count]


def alike(traces: Mapping[Place, Trace]) -> dict[Place, Trace]:
    """The first runs whose latents have the size of the first one's."""
    found: dict[Place, Trace] = {}
    for place in sorted(traces):
        trace = traces[place]
        if len(found) < MAX_LANES and trace.x_t.shape[2:] == next(iter(found.values()), trace).x_t.shape[2:]:
            found[place] = trace
    return found


def lane_names(plan: Grid | None, traces: Mapping[Place, Trace]) -> dict[Place, str]:
    """What each lane is called: its value, or its values with their settings."""
    if plan is None:
        return dict(zip(sorted(traces), two_labels(traces).x, strict=False))
    axes = [(axis, number) for number, axis in enumerate((plan.pages, plan.y, plan.x)) if axis is not None]
    names = {}
    for place in traces:
        parts = [(axis.about.label, axis.labels[place[n]]) for axis, n in axes if place[n] < len(axis.labels)]
        alone = len(axes) == 1
        names[place] = ", ".join(text if alone else f"{label.lower()} {text}" for label, text in reversed(parts))
    return names


def ways_value(page: PageContext, plan: Grid | None, traces: Mapping[Place, Trace]) -> dict[str, Any]:
    """The map's value, or why there is none."""
    ways, levels = lanes({p: t for p, t in traces.items() if t.finals}, lane_names(plan, traces))
    if len(ways) < 2:
        return {"state": "failed", "why": TOO_FEW}
    try:
        found = plane_value(page, ways)
    except (QueryFailed, TraceError) as problem:
        return {"state": "failed", "why": str(problem)}
    return {"state": "open", "why": "", "left_out": left_out(ways, traces), **with_levels(found, levels)}


def kept_map(plan: Grid | None, traces: Mapping[Place, Trace]) -> dict[str, Any] | None:
    """The map for a file, found at once: of ways with very many numbers steps are left out; None for fewer than two."""
    finished = alike({place: trace for place, trace in traces.items() if trace.finals and trace.steps})
    if len(finished) < 2:
        return None
    size = next(iter(finished.values())).x_t[0, 0].size
    every = trajectories.live_stride(sum(len(trace.steps) for trace in finished.values()), size)
    ways, levels = lanes(finished, lane_names(plan, traces), every)
    flat = flat_value(*trajectories.plane([one.way for one in ways]), ways)
    return {"left_out": left_out(ways, traces), **with_levels(flat, levels)}


def left_out(ways: Sequence[Way], traces: Mapping[Place, Trace]) -> str:
    """How many of the pictures the map has, "" where it has all."""
    return f"{len(ways)} of {len(traces)} pictures are on the map." if len(ways) < len(traces) else ""


def with_levels(found: dict[str, Any], levels: Sequence[list[float]]) -> dict[str, Any]:
    """The map's value with the noise levels of each way's steps."""
    for way, its in zip(found["ways"], levels, strict=True):
        way["levels"] = its
    return found


def live_value(page: PageContext, running: RunningGrid) -> dict[str, Any]:
    """The map of a comparison that is being made: its pictures, and the steps that the others have made by now."""
    jobs, made = running.jobs, running.traces.copy()
    places = sorted({**jobs, **made})[:MAX_LANES]
    under_way = [place for place in places if place in jobs]
    try:
        so_far = page.backend.steps_so_far([jobs[place] for place in under_way], current_user())
    except QueryFailed as problem:
        return {"state": "running", "why": str(problem)}
    found = {place: page.trace({"id": made[place].id}) for place in places if place in made}
    found |= dict(zip(under_way, so_far, strict=True))
    traces = alike({place: trace for place, trace in found.items() if trace is not None and trace.steps})
    if not traces:
        return {"state": "running", "why": WAITS}
    size = next(iter(traces.values())).x_t[0, 0].size
    every = trajectories.live_stride(sum(len(trace.steps) for trace in traces.values()), size)
    ways, levels = lanes(traces, lane_names(running.grid, traces), every)
    flat = flat_value(*trajectories.plane([one.way for one in ways]), ways)
    return {"state": "running", "why": "", "left_out": "", **with_levels(flat, levels)}


def build(page: PageContext, comparisons: Comparisons) -> gr.HTML:
    """The map below the viewer; its script asks when it is unfolded."""
    panel = gr.HTML(
        None,
        html_template=WAYS_HTML,
        js_on_load=asset(*SCRIPTS, "tabs/compare/ways.js"),
        elem_id="compare-ways",
        apply_default_css=False,
    )

    def draw(data: gr.EventData) -> dict[str, Any]:
        asked = {"ask": text_of(event_value(data, "ask", ""))}
        text = event_value(data, "plan", "")
        try:
            plan = choosing.saved_plan(text) if text else None
        except InvalidRequest as problem:
            return {**asked, "state": "failed", "why": str(problem)}
        traces = choosing.traces_of(page, event_value(data, "runs", []), MAX_CELLS)
        return {**asked, **ways_value(page, plan, traces)}

    def look(data: gr.EventData) -> dict[str, Any]:
        asked = {"ask": text_of(event_value(data, "ask", ""))}
        running = comparisons.running(text_of(event_value(data, "name", "")))
        return {**asked, **(live_value(page, running) if running else {"state": "over"})}

    panel.look(look, None, [panel], **{**CONCURRENT, "trigger_mode": "multiple"})
    panel.ask(draw, None, [panel], **{**CONCURRENT, "trigger_mode": "multiple"})
    return panel
