"""Making a comparison: its cells as jobs, one after another, and what the page shows meanwhile."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.events import Announced, Finished
from pipelines.grid.sheet import what_changed
from pipelines.jobs.backend import QueueFull
from pipelines.request import InvalidRequest
from ui.components.data_uri import data_uri
from ui.components.stage_updates import JobView
from ui.form.form import said
from ui.server.current_user import current_user
from ui.tabs.compare.cells import FEW_CELLS, cell_value, final_picture, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.grid.plan import Cell, Grid
    from pipelines.jobs.backend import Backend
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User
    from pipelines.trace.trace import Trace

# Jobs that wait besides one for each device, so that none is ever idle and others' jobs come in between.
AHEAD = 1
# Lanes of a race, which are all queued at once.
LANES = 6
# The page gets a value at most so often.
VALUE_SECONDS = 0.15
# So long a comparison waits for room in a queue that is full of others' jobs.
ROOM_SECONDS = 120.0
STOPPED, NOT_MADE = "Stopped", "Not made"
Place = tuple[int, int, int]


@dataclass
class Comparisons:
    """The comparisons that are being made, by an unguessable name."""

    _stops: dict[str, threading.Event] = field(default_factory=dict)
    _running: dict[str, RunningGrid] = field(default_factory=dict)

    def begin(self) -> tuple[str, threading.Event]:
        """A new one: its name, and the event that stops it."""
        name, stop = secrets.token_urlsafe(12), threading.Event()
        self._stops[name] = stop
        return name, stop

    def stop(self, name: str) -> None:
        """Stop one; nothing happens if there is none."""
        if stop := self._stops.get(name):
            stop.set()

    def values(self, backend: Backend, grid: Grid) -> Iterator[dict[str, Any]]:
        """Values of the viewer while one is made; it is forgotten once it is over."""
        name, stop = self.begin()
        running = self._running[name] = RunningGrid(backend, grid, stop)
        try:
            yield from running.values(name)
        finally:
            self._stops.pop(name, None)
            self._running.pop(name, None)

    def running(self, name: str) -> RunningGrid | None:
        """The comparison that is being made under this name."""
        return self._running.get(name)


def head(grid: Grid, name: str, state: str) -> dict[str, Any]:
    """What the viewer shows around the cells."""
    pages, rows, columns = grid.shape
    axes = {
        field: {"label": axis.about.label, "does": axis.about.does, "values": axis.labels}
        for field, axis in grid.axes.items()
    }
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


@dataclass(frozen=True, eq=False)
class CellNews:
    """What is new of one cell.

    Attributes:
        cell: its place and request.
        state: "running", "done", "failed" or "stopped".
        text: in one sentence, where it is not done.
        view: of its job, while that runs.
        trace: of the finished run.
    """

    cell: Cell
    state: str
    text: str = ""
    view: JobView | None = None
    trace: Trace | None = None


@dataclass(eq=False)
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
        backend: runs the jobs.
        grid: what is made.
        stop: ends it.
        watched: whether a page shows it.
        traces: the finished cells by place, without their steps: those are in the store.
    """

    backend: Backend
    grid: Grid
    stop: threading.Event
    watched: bool = True
    traces: dict[Place, Trace] = field(default_factory=dict)
    _active: deque[_Active] = field(default_factory=deque)
    _refused: str = ""
    _together: str = ""
    _full_since: float = 0.0

    @property
    def jobs(self) -> dict[Place, str]:
        """The jobs of the cells that are queued or run, by place; other threads may ask."""
        return {place_of(each.cell): each.job.id for each in self._active.copy()}

    @property
    def _is_race(self) -> bool:
        """Whether samplers run together, by noise level, from the same noise."""
        only_columns = self.grid.y is None and self.grid.pages is None
        return only_columns and self.grid.x.setting == "scheduler" and len(self.grid.x.values) <= LANES

    def news(self) -> Iterator[CellNews | None]:
        """What is new, cell by cell, and None where nothing is, until all are made, refused or stopped.

        Raises:
            InvalidRequest: before anything is made, if a cell can never be.
        """
        cells, user = self.grid.cells(), current_user()
        waiting = deque(cells)
        # While a page looks at a few cells, their steps are painted as they come.
        live = self.watched and len(cells) <= FEW_CELLS
        self._together = secrets.token_urlsafe(12) if self._is_race else ""
        while (waiting or self._active) and not self.stop.is_set():
            yield from self._submit(waiting, user, live)
            yield from self._watch()
        for made in [each for each in self._active if is_made(each.job)]:  # at the moment of the stop
            while made in self._active:
                made.job.wait_for_event(made.seen, VALUE_SECONDS)
                yield self._news_of(made)
        active = [each.cell for each in self._active]
        self.cancel()
        yield from (CellNews(cell, "stopped", STOPPED) for cell in active)
        yield from (CellNews(cell, "stopped", self._refused or STOPPED) for cell in waiting)

    def cancel(self) -> None:
        """Cancel the jobs that are queued or run."""
        while self._active:
            active = self._active.popleft()
            active.job.cancel()
            active.watching.close()

    def values(self, name: str) -> Iterator[dict[str, Any]]:
        """Values of the viewer, under this name; raises as ``news`` does."""
        try:
            yield from self._values(name)
        finally:
            # A page that is closed leaves its generator.
            self.cancel()

    def _values(self, name: str) -> Iterator[dict[str, Any]]:
        shown, count = 0.0, len(self.grid.cells())
        yield {**head(self.grid, name, "running"), "started": True}
        fresh: dict[Place, dict[str, Any]] = {}
        for each in self.news():
            if each is not None:
                fresh[place_of(each.cell)] = news_value(each, count)
            if fresh and time.monotonic() - shown > VALUE_SECONDS and not self.stop.is_set():
                yield self._value(name, "running", fresh)
                fresh, shown = {}, time.monotonic()
        made = [[*place, trace.id] for place, trace in sorted(self.traces.items())]
        yield {**self._value(name, "done", fresh), "sentence": sentence(self.grid, self.traces), "made": made}

    def _value(self, name: str, state: str, fresh: Mapping[Place, Mapping[str, Any]]) -> dict[str, Any]:
        cells = [{"at": list(place), **value} for place, value in fresh.items()]
        return {**head(self.grid, name, state), "cells": cells}

    def _submit(self, waiting: deque[Cell], user: User, live: bool) -> Iterator[CellNews]:
        """Keep a few jobs waiting; a refused cell says why, and a full queue is tried again later."""
        most = LANES if self._together else AHEAD + self.backend.status().workers
        while waiting and len(self._active) < most:
            cell = waiting[0]
            try:
                job = self.backend.submit(cell.request, user, watched=live, together=self._together)
            except InvalidRequest as problem:
                yield CellNews(waiting.popleft(), "failed", said(problem))
                continue
            except QueueFull as problem:
                if not self._active:
                    self._wait_for_room(problem)
                return
            waiting.popleft()
            self._full_since = 0.0
            active = _Active(cell, job, JobView(job))
            if live:
                active.watching.enter_context(job.watching())
            self._active.append(active)

    def _wait_for_room(self, problem: QueueFull) -> None:
        """Wait a moment for others' jobs; where these make no room, the other cells are not made."""
        now = time.monotonic()
        self._full_since = self._full_since or now
        if problem.soon and now - self._full_since < ROOM_SECONDS:
            self.stop.wait(VALUE_SECONDS)
        else:
            self._refused = said(problem)
            self.stop.set()

    def _watch(self) -> Iterator[CellNews | None]:
        """What is new of the oldest job, of others that run or are over, and of all lanes of a race.

        With several devices, jobs run at the same time.  One leaves the row once it is over.
        """
        if not self._active:
            yield None
            return
        first = self._active[0]
        first.job.wait_for_event(first.seen, VALUE_SECONDS)
        for active in list(self._active):
            if self._together or active is first or active.job.progress or active.job.done:
                yield self._news_of(active)

    def _news_of(self, active: _Active) -> CellNews | None:
        cell, job, view = active.cell, active.job, active.view
        events = job.poll(active.seen)
        active.seen += len(events)
        for event in events:
            view.take(event)
        if not view.over:
            return CellNews(cell, "running", view.text, view) if events else None
        self._active.remove(active)
        active.watching.close()
        trace = self.backend.trace(job.id, job.user)
        if trace is None or not isinstance(job.poll()[-1], Finished):
            return CellNews(cell, "failed" if view.state == "failed" else "stopped", view.text)
        self.traces[place_of(cell)] = without_steps(trace)
        return CellNews(cell, "done", trace=trace)


def is_made(job: Job) -> bool:
    """Whether a job's pictures are there, or it ended without them."""
    return job.done or any(isinstance(event, Announced) for event in job.poll())


def news_value(news: CellNews, count: int) -> dict[str, Any]:
    """What the viewer shows of a cell; ``count`` is the number of all cells."""
    if news.trace is not None:
        return cell_value(news.trace, 0, count)
    frames = news.view.frames if news.view else {}
    newest = frames[max(frames)] if frames else None
    live = {"live": data_uri(newest.noisy[0] if newest.noisy else newest.frames[0])} if newest else {}
    return {"state": news.state, "text": news.text, **live}


def without_steps(trace: Trace) -> Trace:
    """The request and the pictures of a run alone, in a fraction of its memory."""
    none = np.empty((0, *trace.x_t.shape[1:]), np.float32)
    empty: dict[str, Any] = {"x_t": none, "cond": None, "uncond": None, "final": none}
    return replace(trace, steps=(), frames=(), noisy=(), **empty)


def place_of(cell: Cell) -> Place:
    """Page, row and column of a cell."""
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
        trace = traces.get(place_of(cell))
        value = cell_value(trace, 0, len(cells)) if trace else {"state": "stopped", "text": NOT_MADE}
        found.append({"at": list(place_of(cell)), **value})
    return {**head(grid, name, "done"), "cells": found, "sentence": sentence(grid, traces)}
