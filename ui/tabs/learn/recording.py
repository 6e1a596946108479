"""The whole lesson as values that a file can hold: one run, the tiny model's training, and every strip, drawn once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS
from pipelines.training.toy.live import LiveTraining
from pipelines.training.toy.settings import SamplingSettings, TrainingSettings
from ui.components.frame_cache import FrameCache
from ui.inspector import lens_frames
from ui.inspector.export import credit_lines
from ui.inspector.words import attention
from ui.tabs.compare.cells import cell_value
from ui.tabs.compare.running import RunningGrid, head
from ui.tabs.learn import dots, runs
from ui.tabs.learn.chapters import CHAPTERS, PLAYER, STRIP, WORDS
from ui.tabs.learn.figures import chapter_values

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# Of the training that the file replays.
DOTS = TrainingSettings("moons", steps=1500)
# Its reports, evenly over its steps, and places of the strips' cells by which few steps of each run are sent.
REPORTS, MANY = 20, 99
WHOSE = "With a recorded run. Everything here was drawn and trained by the program, and nothing is computed now."


def record(page: PageContext, known: runs.LessonRuns, trace: Trace | None) -> Iterator[str | dict[str, Any]]:
    """How far it is, in sentences, and at the end the value of the file; raises QueryFailed.

    Args:
        page: with the backend that draws.
        known: the runs of the lesson.
        trace: the run on view; one of a model that is not quick gives way to the recorded run.
    """
    if not known.is_quick(trace):
        trace = known.recorded
    if trace is None:
        raise QueryFailed(runs.NO_RUN)
    yield "Reading the run"
    told: dict[str, Any] = {"chapters": chapter_values(page, trace), "run": "", "whose": WHOSE}
    value: dict[str, Any] = {"lesson": told, "live": {}, "strips": {}, "credits": credit_lines(trace)}
    value["request"] = trace.request
    value["settings"] = lens_frames.settings(trace, 0)
    yield from _record_run(page, known, trace, value)
    yield from _record_dots(page, value)
    for number, chapter in enumerate(CHAPTERS):
        for k, _ in enumerate(chapter.plans):
            yield from _record_strip(page, known, trace, (number, k), value)
        if chapter.nearest:
            yield "Looking for the nearest training pictures"
            value["nearest"] = runs.nearest_pictures(page, known.with_sample(trace))
    yield value


def _record_run(page: PageContext, known: runs.LessonRuns, trace: Trace, value: dict[str, Any]) -> Iterator[str]:
    """What each chapter shows of the run, the player's lenses among it."""
    if not attention.cached(page, trace, 0) and attention.panel_value(page, trace, 0)["state"] == "closed":
        for each in attention.compute(page, trace, 0):
            yield str(each.get("text") or "Reading the attention")
    for number, chapter in enumerate(CHAPTERS):
        live = runs.live_values(page, known, trace, number)
        if chapter.live == PLAYER:
            live = {PLAYER: _player_value(page, trace, live[PLAYER], chapter.left, chapter.right)}
        if chapter.live == STRIP:
            live[STRIP]["quick"] = True
            for plan in live[STRIP]["plans"]:
                plan["cost"] = ""
        if chapter.live == WORDS:
            maps = attention.capsule_value(trace, 0, page.frame_cache).get("attention", {})
            live[WORDS] = {**live[WORDS], **maps}
        value["live"][str(number)] = live


def _player_value(page: PageContext, trace: Trace, first: dict[str, Any], left: str, right: str) -> dict[str, Any]:
    """The player's value with the views of its chapter, and of no others: the other chapter has its own."""
    cache: FrameCache = page.frame_cache
    names = [name for name in dict.fromkeys((left, right, "x_t", "x0")) if name in first["order"]]
    decode = lens_frames.memoised(page.decode(trace))
    lenses = {name: lens_frames.lens_frames(trace, 0, name, decode, cache)[0] for name in names}
    return {**first, "lenses": lenses, "order": names, "rest": False}


def _record_dots(page: PageContext, value: dict[str, Any]) -> Iterator[str]:
    """The tiny model's reports while it learns, and its runs under every sampler when it has learned."""
    live = LiveTraining("training-1", DOTS)
    reports: list[dict[str, Any]] = []
    while not reports or reports[-1]["state"] == "training":
        report = dots.asked(page.queries, live, trains=True)
        if not reports or report["state"] != "training" or report["step"] >= len(reports) * DOTS.steps / REPORTS:
            reports.append(report)
            yield f"Recording the tiny model: step {report['step']} of {DOTS.steps}"
    # What stays the same is told once.
    value["dots"] = [reports[0]] + [
        {name: part for name, part in each.items() if part != reports[0].get(name) or name == "run"}
        for each in reports[1:]
    ]
    value["samples"] = {}
    for scheduler in DIFFUSION_SCHEDULERS:
        yield f"Sampling the tiny model: {scheduler}"
        live.sampling = SamplingSettings(scheduler)
        report = dots.asked(page.queries, live, trains=False)
        value["samples"][scheduler] = {name: report[name] for name in ("run", "state", "flow", "ideal")}


def _record_strip(
    page: PageContext, known: runs.LessonRuns, trace: Trace, which: tuple[int, int], value: dict[str, Any]
) -> Iterator[str]:
    """The cells of one strip, with few steps of each."""
    number, k = which
    name = f"{number}.{k}"
    try:
        grid = runs.plan_of(known, trace, number, k)
    except InvalidRequest as problem:
        value["strips"][name] = {"state": "refused", "problem": problem.message}
        return
    count, cells = len(grid.cells()), []
    making = RunningGrid(page.backend, grid, threading.Event(), watched=False)
    try:
        for news in making.news():
            if news is None or news.state == "running":
                continue
            at = {"at": [news.cell.page, news.cell.row, news.cell.column]}
            # A file has no run to open.
            shown = {**cell_value(news.trace, 0, MANY), "run": ""} if news.trace is not None else {}
            cells.append({**at, "state": news.state, "text": news.text, **shown})
            yield f"Chapter {number + 1}: {len(cells)} of {count} pictures"
    finally:
        making.cancel()
    frame = head(grid, name, "done")
    value["strips"][name] = {**frame, "plan": "", "cells": cells, "started": True}
