"""``/compare``: one request with one to three of its settings changed, as files and JSON."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.cards import ModelCard
from pipelines.grid.plan import Grid, read_axis
from pipelines.grid.sheet import distances
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.request import InvalidRequest
from pipelines.system.text import shorten
from ui.api.publishing import calling_user, publish, with_signature
from ui.api.settings import SETTINGS, SYNTAX, CallValues, resolve
from ui.components import stage_updates
from ui.inspector.export import served_bytes
from ui.tabs.compare.cells import calls_of, final_picture, level
from ui.tabs.compare.choosing import AXES, plan_from
from ui.tabs.compare.running import RunningGrid, place_of, sentence
from ui.tabs.compare.saving import saved

if TYPE_CHECKING:
    from pipelines.grid.plan import Cell
    from pipelines.jobs.backend import Backend
    from pipelines.trace.trace import Trace

SHARED: Mapping[str, type] = {name: kind for name, kind in SETTINGS.items() if name != "num_images"}
# A value is sent at least so often, so that a client that cancels is noticed.
BEAT_SECONDS = 1.0
NEITHER = "Give a prompt with changes, or the comparison of an earlier call or of a saved comparison.json."
Answer = list[Any]


@dataclass(frozen=True)
class ComparisonEndpoint:
    """The endpoint; ``compare`` takes the values of one call by name, None for those left out."""

    backend: Backend
    cards: Mapping[str, ModelCard]
    default_model: str
    export_slots: DecodingSlots = field(default_factory=DecodingSlots)

    def compare(self, given: CallValues) -> Iterator[Answer]:
        """The pictures so far and what is known of them, after each cell; the last value has the sheet, too.

        Raises:
            gr.Error: with one sentence, if it is wrong or no picture was made.
        """
        user = calling_user()
        try:
            grid = self.plan(given)
            making = _Making(RunningGrid(self.backend, grid, threading.Event(), watched=False), grid.cells())
        except InvalidRequest as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        try:
            yield from making.values()
        finally:
            # A client that cancels, or is gone, leaves its generator.
            making.running.cancel()
        if not making.files:
            raise gr.Error(making.problem or "No picture was made; try again.", print_exception=False)
        with self.export_slots.hold(user.guest):
            name, data = saved(grid.labels, grid, making.running.traces, "sheet")
            self.backend.guest_bytes.charge(user.guest, len(data))
            sheet = served_bytes(name, data)
        yield [list(making.files), sheet, making.told("done")]

    def plan(self, given: CallValues) -> Grid:
        """What is compared; raises InvalidRequest."""
        changes, kept = given["changes"], given["comparison"]
        if (changes is None) == (kept is None):
            raise InvalidRequest("changes", NEITHER)
        if kept is not None:
            return plan_from(kept.get("comparison", kept) if isinstance(kept, dict) else kept)
        if not isinstance(changes, dict) or not 1 <= len(changes) <= len(AXES):
            raise InvalidRequest(
                "changes", f"changes is {shorten(repr(changes))}; name one to three settings, each with its values."
            )
        settings = {name: given[name] for name in (*SHARED, *SYNTAX) if name != "model"}
        request = resolve(
            self.cards, self.default_model, given["prompt"], given["model"], settings, self.backend.adapters
        )
        axes: dict[str, Any] = {}
        for axis, (name, values) in zip(AXES, changes.items(), strict=False):
            if not isinstance(values, str | list):
                raise InvalidRequest("changes", f"The values of {shorten(name)} must be a list or a text.")
            axes[axis] = read_axis(axis, name or "-", values, request)
        return Grid(request=request, **axes)


@dataclass
class _Making:
    """A comparison on its way, and what is told of it."""

    running: RunningGrid
    cells: list[Cell]
    files: list[Any] = field(default_factory=list)
    problem: str = ""
    _told: dict[tuple[int, int, int], dict[str, Any]] = field(default_factory=dict)

    def values(self) -> Iterator[Answer]:
        """A value after each cell, and at each beat."""
        last = time.monotonic()
        for news in self.running.news():
            over = news is not None and news.state != "running"
            if news is not None and over:
                self._told[place_of(news.cell)] = {"state": news.state, "text": news.text, **self._made(news.trace)}
                self.problem = self.problem or news.text
            if over or time.monotonic() - last > BEAT_SECONDS:
                last = time.monotonic()
                yield [list(self.files), None, self.told("running")]

    def _made(self, trace: Trace | None) -> dict[str, Any]:
        """What is told of a finished cell; its file is the next one."""
        if trace is None:
            return {}
        if trace.pictures and trace.pictures[0].path.is_file():
            self.files.append(stage_updates.served_file(trace.pictures[0]))
        else:  # the disk took none: what the run's record keeps of it
            self.files.append(served_bytes(f"{trace.id}.png", trace.finals[0]))
        return {
            "file": len(self.files) - 1,
            "run": trace.id,
            "request": trace.request.model_dump(mode="json"),
            "steps": len(trace.steps),
            "model_calls": calls_of(trace),
            "seconds": round(trace.seconds, 3),
            "log_snr": [round(level(step), 3) for step in trace.steps],
        }

    def told(self, state: str) -> dict[str, Any]:
        """The comparison as JSON."""
        grid, apart = self.running.grid, self._apart() if state == "done" else {}
        rows = []
        for cell in self.cells:
            place = place_of(cell)
            at = dict(zip(("page", "row", "column"), place, strict=True))
            values = {
                axis.setting: axis.labels[place[number]]
                for number, axis in enumerate((grid.pages, grid.y, grid.x))
                if axis is not None
            }
            rows.append({**at, "values": values, **self._told.get(place, {"state": "waiting"}), **apart.get(place, {})})
        return {
            "state": state,
            "comparison": grid.model_dump(mode="json"),
            "shape": list(grid.shape),
            "cells": rows,
            "sentence": sentence(grid, self.running.traces) if state == "done" else "",
        }

    def _apart(self) -> dict[tuple[int, int, int], dict[str, float]]:
        """How far each picture is from the one on its left."""
        found = {}
        for one, other in pairwise(map(place_of, self.cells)):
            pictures = [final_picture(trace) for p in (one, other) if (trace := self.running.traces.get(p))]
            whole = [picture for picture in pictures if picture is not None]
            if one[:2] == other[:2] and len(whole) == 2:
                found[other] = {"difference": round(distances(whole)[0], 5)}
        return found


def add(backend: Backend, cards: Mapping[str, ModelCard], default_model: str, export_slots: DecodingSlots) -> None:
    """Add the endpoint to the page under construction."""
    endpoint = ComparisonEndpoint(backend, cards, default_model, export_slots)
    publish(
        with_signature(endpoint.compare, {}, {"prompt": str, "changes": dict, **SHARED, "comparison": dict, **SYNTAX}),
        "compare",
        "Makes pictures that differ in one to three settings, as the Compare tab does. changes names the settings with "
        'their values, {"guidance_scale": [1, 4, 7.5], "scheduler": "DDIM, Euler"}: the first goes across, the second '
        "down, the third over pages. Settings: guidance_scale, num_inference_steps, scheduler, seed, negative_prompt, "
        "size (128x192), words (the first is searched in the prompt, the others replace it), prompt, model, lora:NAME. "
        "Everything else is as in /text_to_image and the same in all of them, the seed too. Or comparison: what an "
        "earlier call returned by that name, or the content of a comparison.json. Returns the saved PNG files, the "
        "labelled sheet, and a JSON with comparison, shape, sentence, and cells: page, row, column, values, state, "
        "file (its place among the files), run, request, steps, model_calls, seconds, log_snr of each step, and "
        "difference to the picture on its left (RMS over RGB, 0 to 1). It sends them as they are made; a cancelled "
        "call makes no more. Each picture counts towards a guest's share.",
    )
