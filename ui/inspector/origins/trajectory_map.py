"""The map: the ways of this run, its relatives and other seeds through latent space, seen in two directions.

The principal components are found by the worker when the panel is looked at, and again as other seeds come in.  The map
of a running job is drawn while it runs: as long as the panel is on view, it asks for the steps that are made by now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from history.database import HistoryUnavailable
from pipelines.jobs.backend import QueryFailed
from pipelines.request_errors import TRY_AGAIN
from pipelines.trace import seed_runs, trajectories
from pipelines.trace.trace import TraceError
from pipelines.trace.trajectories import Plane, Trajectory
from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import data_uri, thumbnail_uri
from ui.components.gradio_events import CONCURRENT, event_value
from ui.components.next_steps import next_step
from ui.inspector import lens_frames
from ui.inspector.panel import Panel, opened_trace
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.jobs.job import Job
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

log = logging.getLogger(__name__)
SIDE, MAX_RELATIVES = 72, 8
PROBLEMS = (QueryFailed, TraceError)
WAITS = "The map is drawn while the picture is made, from its first step on."
_TEMPLATE = """
<section class="origins map-panel" data-state="empty" aria-label="Map of the run">
  <p class="lead">Every latent is a point in a space of very many dimensions. This map shows the two directions in which
    the ways below differ most: each way leads from noise to a picture, and at each step the model points to where it
    guesses the way ends. <span class="term">The first two principal components of x_t and of the predicted
    x0</span></p>
  <p class="sentence" data-part="why" role="status"></p>
  <button type="button" class="quiet next-step" data-part="again" hidden></button>
  <div data-part="body" hidden>
    <div class="map-frame" data-part="frame" role="slider" tabindex="0" aria-label="Step on the map" aria-valuemin="1">
      <svg data-part="svg" preserveAspectRatio="xMidYMid meet" aria-hidden="true"></svg></div>
    <div class="bar"><p class="state" data-part="state"></p>
      <button type="button" class="quiet second" data-part="seeds" hidden></button></div>
    <p data-part="variance"></p>
    <p class="legend said"><span><i class="own"></i>this run, from noise to picture</span>
      <span data-part="legend-guess"><i class="guess"></i>where the model points at this step</span>
      <span data-part="legend-relatives" hidden><i class="relative"></i>pictures that came from it or that it came
        from</span>
      <span data-part="legend-seeds" hidden><i class="seed"></i>other seeds, each with its picture</span></p>
    <p class="said">Arrow keys on the map move the timeline.</p>
  </div>
</section>
"""


@dataclass(frozen=True, eq=False)
class Way:
    """One way on the map: its kind, a name, and the picture at its end as a data URI.

    The kinds are "own", "relative", "seed", and "lane" of a comparison.
    """

    kind: str
    name: str
    way: Trajectory
    picture: str = ""


def own_ways(page: PageContext, trace: Trace, k: int) -> list[Way]:
    """This run's way, and those of its relatives in the history that were recorded with latents of the same shape."""
    picture = data_uri(trace.finals[k]) if k < len(trace.finals) else ""
    found = [Way("own", "this run", trajectories.of_trace(trace, k), picture)]
    for run, place in relatives(page, trace, k):
        other = page.backend.trace(run, current_user())
        if other is None or place >= other.x_t.shape[1] or other.x_t.shape[2:] != trace.x_t.shape[2:]:
            continue
        picture = data_uri(other.finals[place]) if place < len(other.finals) else ""
        found.append(Way("relative", phrases.heading(other.request), trajectories.of_trace(other, place), picture))
    return found


def relatives(page: PageContext, trace: Trace, k: int) -> list[tuple[str, int]]:
    """Run and place of the entries that this picture came from or that came from it."""
    if page.history is None:
        return []
    try:
        return page.history.related_runs(current_user(), trace.id, k)[:MAX_RELATIVES]
    except HistoryUnavailable as problem:
        log.info("The map shows no relatives: %s", problem)
        return []


def running_value(job: Job, k: int) -> dict[str, Any]:
    """The value of a running job before its first step."""
    return {"key": f"{job.id}:{k}", "state": "running", "why": WAITS}


def live_value(page: PageContext, job: Job, k: int) -> dict[str, Any]:
    """The map of the steps that a running job has made by now, and of the run that it leaves."""
    value = running_value(job, k)
    try:
        (trace,) = page.backend.steps_so_far([job.id], current_user())
    except PROBLEMS as problem:
        return {**value, "why": str(problem)}
    if trace is None or k >= trace.x_t.shape[1]:
        return value
    original = _original(page, trace, k)
    steps = len(trace.steps) + (len(original.steps) if original else 0)
    every = trajectories.live_stride(steps, trace.x_t[0, k].size)
    ways = [Way("own", "this run", trajectories.of_trace(trace, k, every))]
    if original:
        picture = data_uri(original.finals[k]) if k < len(original.finals) else ""
        way = trajectories.of_trace(original, k, every)
        ways.append(Way("relative", phrases.heading(original.request), way, picture))
    told = {"why": "", "steps": trace.total, "made": len(trace.steps)}
    return {**value, **told, **flat_value(*trajectories.plane([one.way for one in ways]), ways)}


def _original(page: PageContext, trace: Trace, k: int) -> Trace | None:
    """The run that a fork leaves, if its latents have the same shape."""
    if trace.request.fork is None:
        return None
    bundled, run = page.bundled_trace, trace.request.fork.run
    found = bundled if bundled is not None and bundled.id == run else page.trace({"id": run})
    same = found is not None and found.steps and found.x_t.shape[2:] == trace.x_t.shape[2:]
    return found if same and found is not None and k < found.x_t.shape[1] else None


def map_value(page: PageContext, trace: Trace, k: int, ways: Sequence[Way]) -> dict[str, Any]:
    """The map of some ways; raises QueryFailed."""
    return {**closed_value(trace, k), "state": "open", "steps": len(trace.steps), **plane_value(page, ways)}


def plane_value(page: PageContext, ways: Sequence[Way]) -> dict[str, Any]:
    """Some ways in their first two principal components, and how much these hold; raises QueryFailed."""
    ways = within_bounds(ways)
    numbers = sum(one.way.x_t.size + one.way.x0.size for one in ways)
    plane, flat = page.queries.ask(None, lambda _: trajectories.plane([one.way for one in ways]), numbers)
    return flat_value(plane, flat, ways)


def flat_value(plane: Plane, flat: Sequence[Trajectory], ways: Sequence[Way]) -> dict[str, Any]:
    """Some ways in a plane, and how much of their variance it holds."""
    first, second = plane.shares
    return {
        "ways": [
            {"kind": one.kind, "name": one.name, "picture": one.picture, "x_t": way.x_t.round(3).tolist(),
             "x0": way.x0.round(3).tolist(), "noise": [round(share, 4) for share in way.noise]}
            for one, way in zip(ways, flat, strict=True)
        ],
        "variance": f"The first direction (across) holds {first:.1%} of the variance, the second (up) {second:.1%}: "
        f"together {first + second:.1%}. The rest is in directions that the map cannot show.",
    }  # fmt: skip


def within_bounds(ways: Sequence[Way]) -> list[Way]:
    """The first ways, as many as the components are found of in bounded memory."""
    found: list[Way] = []
    numbers = 0
    for one in ways:
        numbers += one.way.x_t.size + one.way.x0.size
        if found and numbers > trajectories.MAX_NUMBERS:
            break
        found.append(one)
    return found


def closed_value(trace: Trace, k: int) -> dict[str, Any]:
    """The value of a run whose map was not drawn yet."""
    return {"key": lens_frames.run_key(trace, k), "state": "closed"}


def offer(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """What the button for other seeds says; "" where they would take too long."""
    card = page.card(trace.request.model)
    requests, seconds = seed_runs.affordable(card, trace, k) if card else ([], 0.0)
    if not requests:
        return {"offer": ""}
    count, steps = sum(request.num_images for request in requests), requests[0].sampling.num_inference_steps
    most = f", at most {phrases.seconds(max(1.0, seconds))}" if seconds else ""
    return {"offer": f"Add {count} seeds ({steps} steps each{most})"}


def first_values(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The map of the run and its relatives."""
    try:
        yield map_value(page, trace, k, own_ways(page, trace, k)) | offer(page, trace, k) | {"why": ""}
    except PROBLEMS as problem:
        yield {**closed_value(trace, k), "state": "failed", "why": str(problem), "next": next_step(TRY_AGAIN)}


def with_seeds(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The map as other seeds come in, a few at a time."""
    card = page.card(trace.request.model)
    requests, _ = seed_runs.affordable(card, trace, k) if card else ([], 0.0)
    ways, total = own_ways(page, trace, k), sum(request.num_images for request in requests)
    done = 0
    try:
        for request in requests:
            runs = page.queries.seed_runs(request)
            ways += [Way("seed", f"seed {run.seed}", run.way, thumbnail_uri(run.picture, SIDE)) for run in runs]
            done += len(runs)
            words = f"Seeds: {done} of {total}" if done < total else ""
            yield map_value(page, trace, k, ways) | {"offer": "", "why": words}
    except PROBLEMS as problem:
        # The same button asks once more.
        yield map_or_nothing(page, trace, k, ways) | offer(page, trace, k) | {"why": str(problem)}


def map_or_nothing(page: PageContext, trace: Trace, k: int, ways: Sequence[Way]) -> dict[str, Any]:
    """The map, or an empty value where the worker does not answer."""
    try:
        return map_value(page, trace, k, ways)
    except PROBLEMS:
        return {**closed_value(trace, k), "state": "failed"}


def build(page: PageContext) -> Panel:
    """The panel; its script asks when it comes into view."""
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("inspector/origins/ways.js", "inspector/origins/trajectory_map.js"),
        elem_id="trajectory-map",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (closed_value(*found) if found else None,)

    def answer(make: Any) -> Any:
        def tell(value: Any) -> Iterator[Any]:
            found = opened_trace(page, value)
            if found is None:
                yield gr.skip()
                return
            yield from make(page, *found)

        return tell

    def running(value: Any) -> tuple[Job, int] | None:
        """The opened job and picture, if it is being made."""
        job = page.find_job(value.get("id")) if isinstance(value, dict) else None
        if job is None or job.done:
            return None
        k = value.get("picture")
        return job, min(max(k, 0), job.request.num_images - 1) if isinstance(k, int) else 0

    def begin(value: Any) -> Any:
        found = running(value)
        return running_value(*found) if found else gr.skip()

    def look(value: Any, data: gr.EventData) -> Any:
        found = running(value)
        # Told apart from the answer before, also where no step was made meanwhile.
        turn = {"turn": event_value(data, "turn", None)}
        return {**live_value(page, *found), **turn} if found else gr.skip()

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    page.opened.change(begin, [page.opened], [panel], **several)
    panel.look(look, [page.opened], [panel], **several)
    panel.open(answer(first_values), [page.opened], [panel], **several)
    panel.seeds(answer(with_seeds), [page.opened], [panel], **several)
    return Panel(refresh, [panel])
