"""Denoising: look into a generation, step by step."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from ui import charts, forward, guidance, keep, reel, stream, tour, words
from ui.making import BUNDLED, QUICK, WATCH, Page, find
from ui.panel import Panel, chosen
from ui.plain import sentence
from ui.player import player

NOTHING = "There is nothing to look into yet. Make a picture in Text to image; every step of it is kept and opens here."
RECORDED = "A recorded run that comes with the model. Make a picture of your own in Text to image, then open it here."
LATEST = "The picture that you made last, with every step of it."
UNSTARTED = "This picture was stopped before its first step, so there is nothing to look into. Make another one."
EARLIER = "A picture that you made earlier, with every step of it."
MAX_VISITORS = 1000


@dataclass(frozen=True)
class Theatre:
    """The components of this tab."""

    which: gr.HTML
    chooser: gr.Radio
    player: gr.HTML
    panels: tuple[Panel, ...]

    @property
    def outputs(self) -> list[Component]:
        """What the panels change when another trace is opened."""
        return [component for panel in self.panels for component in panel.outputs]


@dataclass
class Turns:
    """Whose turn it is to write to a visitor's player: the newest opening, never an older one that still draws."""

    _last: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _newest: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, visitor: str) -> int:
        """A new turn; every earlier one of this visitor is over."""
        with self._lock:
            # From the clock, so that they go on growing for a page that was open before a restart.
            self._newest = max(self._newest + 1, time.time_ns() // 1_000_000)
            self._last[visitor] = self._newest
            self._last.move_to_end(visitor)
            while len(self._last) > MAX_VISITORS:
                self._last.popitem(last=False)
            return self._newest

    def over(self, visitor: str, turn: int) -> bool:
        """Whether a newer turn was taken."""
        with self._lock:
            return self._last.get(visitor, turn) != turn


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    theatre = lay_out(page)
    wire_choosing(page, theatre)
    wire_opening(page, theatre)


def lay_out(page: Page) -> Theatre:
    """The player as wide as the page; what explains it stands below in tabs of its own."""
    with gr.Column(elem_id="theatre"):
        with gr.Row(elem_id="opened"):
            which = sentence(" ", elem_id="which")
            chooser = gr.Radio(
                [], label="Which picture", visible=False, elem_id="chooser", elem_classes="segments", container=False
            )
        shown = player()
        panels = []
        with gr.Tabs(selected="tour", elem_id="looks", overflow_behavior="wrap"):
            for name, label, make in (
                ("tour", "Five questions", lambda: tour.build(page)),
                ("guidance", "Guidance", lambda: guidance.build(page, page.opened)),
                ("forward", "Adding noise", lambda: forward.build(page, page.opened)),
                ("charts", "Charts", lambda: charts.build(page, page.opened)),
                ("keep", "Save", lambda: keep.build(page, page.opened)),
            ):
                with gr.Tab(label, id=name, elem_id=f"look-{name}"):
                    panels.append(make())
    return Theatre(which, chooser, shown, tuple(panels))


def wire_choosing(page: Page, theatre: Theatre) -> None:
    """What is opened: the newest generation on entering, then what the visitor chooses."""
    seen, there = gr.State(None), gr.State(False)

    def enter(job_id: Any, opened: Any, before: Any) -> tuple[Any, Any]:
        newest = newest_of(page, job_id)
        # A picture that was asked for by name stays until another one has been made.
        if opened is None or (before is not None and before != newest and opened.get("id") != newest):
            opened = {"id": newest, "picture": 0}
        return opened, newest

    def come_or_go(data: gr.SelectData) -> bool:
        return data.value == page.tab.label

    def follow(job_id: Any, opened: Any, before: Any, inside: Any) -> tuple[Any, Any]:
        return enter(job_id, opened, before) if inside else (gr.skip(), gr.skip())

    def choose(opened: Any, k: Any) -> Any:
        return {**opened, "picture": k} if isinstance(opened, dict) and isinstance(k, int) else gr.skip()

    # Queued, although quick: Gradio tells of a changed state on this way alone.
    page.tab.select(enter, [page.job, page.opened, seen], [page.opened, seen], **WATCH)
    # Who enters right after Generate is here before the page knows of the new job.
    page.tabs.select(come_or_go, None, [there], **WATCH)
    page.job.change(follow, [page.job, page.opened, seen, there], [page.opened, seen], **WATCH)
    theatre.chooser.input(choose, [page.opened, theatre.chooser], [page.opened], **WATCH)


def newest_of(page: Page, job_id: Any) -> str:
    """The last job of this browser if it can be looked into or still runs, else the bundled run."""
    job = find(page.backend, job_id)
    if job is not None and not job.done:
        return job.id
    return job_id if page.trace({"id": job_id}) is not None else BUNDLED


def wire_opening(page: Page, theatre: Theatre) -> None:
    """A change of what is opened -> the player at once, then the panels and the other lenses."""
    turns = Turns()

    def begin(opened: Any, job_id: Any, request: gr.Request) -> Iterator[dict[Component, Any]]:
        visitor = request.session_hash or ""
        turn = turns.take(visitor)
        for value, said in first_reels(page, opened, job_id):
            if turns.over(visitor, turn):
                return
            yield {theatre.player: {**value, "turn": turn}, theatre.which: said, theatre.chooser: choice(page, opened)}

    def explain(opened: Any) -> list[Any]:
        return [update for panel in theatre.panels for update in panel.refresh(opened)]

    def draw(opened: Any, request: gr.Request) -> Iterator[dict[str, Any]]:
        visitor = request.session_hash or ""
        turn = turns.take(visitor)
        found = chosen(page, opened)
        for value in reel.unroll(*found, page.decode(found[0]), page.films) if found else ():
            if turns.over(visitor, turn):
                return
            yield {**value, "turn": turn}

    # A new choice never waits for an older one, which ends by itself at its next value.
    several = {**WATCH, "trigger_mode": "multiple"}
    told = [theatre.player, theatre.which, theatre.chooser]
    first = page.opened.change(begin, [page.opened, page.job], told, **several)
    first.then(draw, [page.opened], [theatre.player], **several)
    first.then(explain, [page.opened], theatre.outputs, **{**QUICK, "trigger_mode": "multiple"})


def first_reels(page: Page, opened: Any, job_id: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """What the player shows first, and which run it is: how far a picture is while it is made, then its beliefs."""
    job = find(page.backend, opened.get("id")) if isinstance(opened, dict) else None
    if job is not None and page.trace(opened) is None:
        for value in stream.watch(job):
            text = f"This picture is still being made and opens here when it is done. {value['text']}."
            yield reel.waiting(job.id, text, words.heading(job.request)), ""
    found = chosen(page, opened)
    if found is not None:
        which = RECORDED if opened["id"] == BUNDLED else LATEST if opened["id"] == job_id else EARLIER
        yield reel.opening(*found), which
    elif job is not None and job.cancelled:
        yield reel.waiting(job.id, UNSTARTED, words.heading(job.request)), ""
    else:
        yield reel.waiting("nothing", NOTHING), ""


def choice(page: Page, opened: Any) -> Any:
    """The choice between the pictures of a run; there is none for a single picture."""
    found = chosen(page, opened)
    if found is None or found[0].request.num_images == 1:
        return gr.Radio(visible=False)
    trace, k = found
    return gr.Radio([(f"Picture {i + 1}", i) for i in range(trace.request.num_images)], value=k, visible=True)
