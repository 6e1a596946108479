"""What can be compared: the settings of a run, proposals for their values, and what a plan costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipelines.grid.axes import joined, settings_of
from pipelines.grid.plan import Grid, expected_seconds, first_picture, read_axis
from pipelines.grid.proposals import Bounds
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.sampling.schedulers import SCHEDULERS, incompatibility
from ui.components import phrases
from ui.components.gradio_events import event_value
from ui.inspector.past_runs import past_runs_value
from ui.server.current_user import current_user
from ui.tabs.history.question import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import gradio as gr

    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# What a question calls the settings that another tab has sent, in place of a run.
ASKED = "asked"
GONE = "This run is no longer kept; choose another one."
LEFT_ANOTHER = "It left another run, whose seed, steps, size, model and strength it keeps."
NO_PLAN = "This is no comparison that can be opened here."
# Runs that a page may have chosen: one to start from, and a first and a second one.
MAX_CHOSEN = 3
# The latest runs among which one of the same model is looked for.
LOOKED_AT = 8
MAX_PLAN = 60_000
AXES = ("x", "y", "pages")


@dataclass(frozen=True)
class StartingPoint:
    """What a comparison starts from.

    Attributes:
        request: of the run.
        seconds: how long a run took on this computer, to foretell others; 0 if that is not known.
        timed: the request of that run.
    """

    request: GenerationRequest
    seconds: float = 0.0
    timed: GenerationRequest | None = None


def base_of(page: PageContext, run: str, asked: Any) -> StartingPoint:
    """The run that a question names, or the settings that another tab has sent.

    Raises:
        InvalidRequest: if there is no such run.
    """
    if run == ASKED and isinstance(asked, dict) and isinstance(asked.get("request"), GenerationRequest):
        return _timed_by_others(page, asked["request"])
    trace = page.trace({"id": run})
    if trace is None:
        raise InvalidRequest("run", GONE)
    if trace is page.bundled_trace or not trace.seconds:
        return _timed_by_others(page, trace.request)
    return StartingPoint(trace.request, trace.seconds_whole, trace.request)


def _timed_by_others(page: PageContext, request: GenerationRequest) -> StartingPoint:
    """A request that no run here took the time of: the latest run of its model says how quick that is."""
    for run in page.backend.runs(LOOKED_AT, current_user()):
        trace = page.trace({"id": run.id}) if run.request.model == request.model else None
        if trace is not None and trace.seconds and not trace.request.fork:
            return StartingPoint(request, trace.seconds_whole, trace.request)
    return StartingPoint(request)


def bounds_of(page: PageContext, request: GenerationRequest) -> Bounds:
    """What the request's model allows."""
    card = page.card(request.model)
    if card is None:
        return Bounds()
    fits = tuple(n for n in SCHEDULERS if not incompatibility(n, card.prediction_type, card.terminal_snr_zero))
    # Those that come with the program: nothing is downloaded unless the user names it.
    models = tuple(name for name, other in page.cards.items() if other.live or other.recording)
    return Bounds(fits, models, card.size_factor)


def description(page: PageContext, base: StartingPoint) -> dict[str, Any]:
    """The settings of a run that can be changed, each with proposed values."""
    request, bounds = base.request, bounds_of(page, base.request)
    choices = {
        "scheduler": [SCHEDULERS[name].label for name in bounds.schedulers],
        "model": list(page.cards),
    }
    rows = [
        {
            "name": name,
            "label": setting.label,
            "does": setting.does,
            "hint": setting.hint,
            "values": joined(name, setting.propose(request, bounds)),
            "choices": choices.get(name, []),
        }
        for name, setting in settings_of(request).items()
    ]
    return {
        "title": phrases.heading(request) or "A run without a prompt",
        "settings": rows,
        "seed": str(request.sampling.seed),
        "note": LEFT_ANOTHER if request.fork else "",
    }


def plan_of(page: PageContext, data: gr.EventData, base: StartingPoint) -> Grid:
    """The comparison that an event's fields describe.

    Raises:
        InvalidRequest: whose field is the axis at fault.
    """
    request = first_picture(base.request)
    axes = {}
    for field in AXES:
        given = event_value(data, field, {})
        given = given if isinstance(given, dict) else {}
        values = given.get("values")
        axes[field] = read_axis(
            field, text_of(given.get("setting")), values if isinstance(values, str) else "", request
        )
    if axes["x"] is None:
        raise InvalidRequest("x", "Choose what is to change.")
    return Grid(request=request, x=axes["x"], y=axes["y"], pages=axes["pages"])


def saved_plan(text: Any) -> Grid:
    """A plan that a page or a file kept.

    Raises:
        InvalidRequest: if it is none.
    """
    if not isinstance(text, str) or len(text) > MAX_PLAN:
        raise InvalidRequest("", NO_PLAN)
    try:
        return Grid.model_validate_json(text)
    except (ValidationError, RecursionError):
        raise InvalidRequest("", NO_PLAN) from None


def plan_from(value: Any) -> Grid:
    """A plan as JSON's parts; raises InvalidRequest if it is none."""
    try:
        return saved_plan(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("comparison", NO_PLAN) from None


def estimate(grid: Grid, base: StartingPoint) -> dict[str, Any]:
    """How many pictures a plan makes, and about how long they take."""
    cells = grid.cells()
    count = f"{len(cells)} picture{'s' * (len(cells) != 1)}"
    seconds = expected_seconds(cells, base.timed or base.request, base.seconds) if base.seconds else 0.0
    return {"count": len(cells), "text": f"{count}, about {phrases.seconds(seconds)}" if seconds else count}


def runs(page: PageContext, chosen: Any = None) -> list[Mapping[str, str]]:
    """The runs to choose from; those that are chosen stay among them, however many were made since."""
    kept = [run for run in chosen[:MAX_CHOSEN] if isinstance(run, str)] if isinstance(chosen, list) else []
    return past_runs_value(page, None, kept)["runs"]


def traces_of(page: PageContext, names: Any, most: int) -> dict[tuple[int, int, int], Trace]:
    """The runs of a kept comparison that can still be opened, by place: ``[[page, row, column, id], ...]``."""
    found = {}
    for entry in names[:most] if isinstance(names, list) else []:
        if not isinstance(entry, list) or len(entry) != 4 or not all(type(n) is int for n in entry[:3]):
            continue
        trace = page.trace({"id": entry[3]}) if isinstance(entry[3], str) else None
        if trace is not None:
            found[entry[0], entry[1], entry[2]] = trace
    return found
