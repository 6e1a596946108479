"""Making a comparison: its cells as jobs, one after another, and what the page shows meanwhile."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.events import Finished
from pipelines.grid.sheet import what_changed
from pipelines.jobs.backend import QueueFull
from pipelines.request import InvalidRequest
from pipelines.system.lru import LruDict
from ui.components.data_uri import data_uri
from ui.components.stage_updates import JobView
from ui.server.current_user import current_user
from ui.tabs.compare.cells import FEW_CELLS, cell_value, final_picture, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.grid.plan import Cell, Grid
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# Jobs that wait for the device at once, so that it is never idle and others' jobs come in between.
AHEAD = 2
# The page gets a value at most so often.
VALUE_SECONDS = 0.15
MAX_RUNNING = 200
STOPPED, NOT_MADE = "Stopped", "Not made"
Place = tuple[int, int, int]


@dataclass
class Comparisons:
    """The comparisons that are being made, by an unguessable name."""

    _stops: LruDict[str, threading.Event] = field(default_factory=lambda: LruDict(MAX_RUNNING))

    def begin(self) -> tuple[str, threading.Event]:
        """A new one: its name, and the event that stops it."""
        name, stop = secrets.token_urlsafe(12), threading.Event()
        self._stops[name] = stop
        return name, stop

    def stop(self, name: str) -> None:
        """Stop one; nothing happens if there is none."""
        if stop := self._stops.get(name):
            stop.set()


def head(grid: Grid, name: str, state: str) -> dict[str, Any]:
    """What the viewer shows around the cells."""
    pages, rows, columns = grid.shape
    axes = {field: {"label": axis.about.label, "values": axis.labels} for field, axis in grid.axes.items()}
    return {
        "name": name,
        "state": state,
        "shape": [pages, rows, columns],
        "axes": axes,
        "plan": grid.model_dump_json(),
        "size": [grid.request.width, grid.request.height],
        "cells": [],
        "sentence": "",
    }


@dataclass
class _Active:
    """A cell whose job is queued or runs."""

    cell: Cell
    job: Job
    view: JobView
    seen: int = 0
    watching: ExitStack = field(default_factory=ExitStack)


@dataclass
class RunningGrid:
    """One comparison on its way.

    Attributes:
        page: submits the jobs.
        grid: what is made.
        stop: ends it.
        traces: the finished cells, by place.
    """

    page: PageContext
    grid: Grid
    name: str
    stop: threading.Event
    traces: dict[Place, Trace] = field(default_factory=dict)
    _active: deque[_Active] = field(default_factory=deque)
    _refused: str = ""

    def values(self) -> Iterator[dict[str, Any]]:
        """Values of the viewer until every cell is made, refused or stopped.

        Raises:
            InvalidRequest: before anything is made, if a cell can never be.
        """
        cells = self.grid.cells()
        waiting, count = deque(cells), len(cells)
        user, shown = current_user(), 0.0
        yield {**head(self.grid, self.name, "running"), "started": True}
        fresh: dict[Place, dict[str, Any]] = {}
        while (waiting or self._active) and not self.stop.is_set():
            for place, value in self._submit(waiting, user, count):
                fresh[place] = value
            if not self._active:
                continue
            for place, value in self._watch(count):
                fresh[place] = value
            if fresh and time.monotonic() - shown > VALUE_SECONDS:
                yield self._value("running", fresh)
                fresh, shown = {}, time.monotonic()
        for active in self._active:
            active.job.cancel()
            active.watching.close()
            fresh[_place(active.cell)] = {"state": "stopped", "text": STOPPED}
        for cell in waiting:
            fresh[_place(cell)] = {"state": "stopped", "text": self._refused or STOPPED}
        yield {**self._value("done", fresh), "sentence": sentence(self.grid, self.traces)}

    def _value(self, state: str, fresh: Mapping[Place, Mapping[str, Any]]) -> dict[str, Any]:
        cells = [{"at": list(place), **value} for place, value in fresh.items()]
        return {**head(self.grid, self.name, state), "cells": cells}

    def _submit(self, waiting: deque[Cell], user: User, count: int) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Keep a few jobs waiting; a refused cell says why, and a full queue is tried again later."""
        while waiting and len(self._active) < AHEAD:
            cell = waiting[0]
            try:
                job = self.page.backend.submit(cell.request, user, watched=count <= FEW_CELLS)
            except InvalidRequest as problem:
                waiting.popleft()
                yield _place(cell), {"state": "failed", "text": str(problem)}
                continue
            except QueueFull as problem:
                if not self._active:
                    # Nothing of this comparison will make room: the others are not made.
                    self._refused = str(problem)
                    self.stop.set()
                return
            waiting.popleft()
            active = _Active(cell, job, JobView(job))
            if count <= FEW_CELLS:
                active.watching.enter_context(job.watching())
            self._active.append(active)

    def _watch(self, count: int) -> Iterator[tuple[Place, dict[str, Any]]]:
        """What is new of the oldest job; it leaves the row once it is over."""
        active = self._active[0]
        cell, job, view = active.cell, active.job, active.view
        job.wait_for_event(active.seen, VALUE_SECONDS)
        events = job.poll(active.seen)
        active.seen += len(events)
        for event in events:
            view.take(event)
        if not view.over:
            newest = view.frames[max(view.frames)] if view.frames else None
            live = {"live": data_uri(newest.noisy[0] if newest.noisy else newest.frames[0])} if newest else {}
            yield _place(cell), {"state": "running", "text": view.text, **live}
            return
        self._active.popleft().watching.close()
        trace = self.page.backend.trace(job.id, job.user)
        if trace is not None and isinstance(job.poll()[-1], Finished):
            self.traces[_place(cell)] = trace
            yield _place(cell), cell_value(trace, 0, count)
        else:
            yield _place(cell), {"state": "failed" if view.state == "failed" else "stopped", "text": view.text}


def _place(cell: Cell) -> Place:
    return cell.page, cell.row, cell.column


def sentence(grid: Grid, traces: Mapping[Place, Trace]) -> str:
    """What changes along the columns of the first row, in one sentence; "" until that row is whole."""
    row = row_of(traces, 0, 0, len(grid.x.values))
    pictures = [final_picture(trace) for trace in row or ()]
    whole = [picture for picture in pictures if picture is not None]
    if not row or len(whole) != len(row):
        return ""
    return what_changed(grid.x.about.label, [f"\u201c{label}\u201d" for label in grid.x.labels], whole)


def kept_value(grid: Grid, traces: Mapping[Place, Trace], name: str) -> dict[str, Any]:
    """The viewer's value for a comparison that was made before: its cells as far as their runs are kept."""
    cells = grid.cells()
    found = []
    for cell in cells:
        trace = traces.get(_place(cell))
        value = cell_value(trace, 0, len(cells)) if trace else {"state": "stopped", "text": NOT_MADE}
        found.append({"at": list(_place(cell)), **value})
    return {**head(grid, name, "done"), "cells": found, "sentence": sentence(grid, traces)}
