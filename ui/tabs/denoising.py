"""Denoising: look into a run, step by step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.system.lru import LruDict
from ui.components import phrases, stage_updates
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.message import message
from ui.context import BUNDLED, PageContext
from ui.inspector import forks, lens_frames
from ui.inspector.panel import Panel, opened_trace
from ui.inspector.panels import PANELS
from ui.inspector.past_runs import is_gone, past_runs, past_runs_value
from ui.inspector.player import player

NOTHING_YET = "No run to look into yet. Make a picture in Text to image; every step of it is recorded and opens here."
GONE = "This run is no longer kept. Open the latest one, or choose another from your past runs."
RECORDED = "A recorded run that comes with the model. Make your own in Text to image and open it here."
LATEST = "Your latest picture, with every step."
STOPPED_AT_ONCE = "This run was stopped before its first step, so there is nothing to look into. Make another one."
EARLIER = "An earlier picture of yours, with every step."
FORKED = "A fork: another run up to step {step}, then {changes}."
LOUDEST = "Opened at step {step}, where its guess changes most."
MAX_SESSIONS = 1000
MAX_NAME = 80


@dataclass(frozen=True)
class Inspector:
    """The components of this tab."""

    which: gr.HTML
    chooser: gr.Radio
    past: gr.HTML
    player: gr.HTML
    panels: tuple[Panel, ...]

    @property
    def outputs(self) -> list[Component]:
        """What the panels change when another trace is opened."""
        return [self.past, *(component for panel in self.panels for component in panel.outputs)]


@dataclass
class LatestOpening:
    """Which opening of a run may write to a session's player: the newest, never an older one that still renders."""

    _last: LruDict[str, int] = field(default_factory=lambda: LruDict(MAX_SESSIONS))
    _newest: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, user: str) -> int:
        """Start a new opening; it supersedes every earlier one of this session."""
        with self._lock:
            # From the clock, so that the numbers keep growing for a page that was open before a restart.
            self._newest = max(self._newest + 1, time.time_ns() // 1_000_000)
            self._last[user] = self._newest
            return self._newest

    def superseded(self, user: str, turn: int) -> bool:
        """Whether a newer opening was started."""
        with self._lock:
            return self._last.get(user, turn) != turn


def build(page: PageContext) -> None:
    """Lay the tab out and wire it up."""
    inspector = lay_out(page)
    wire_choice(page, inspector)
    wire_opening(page, inspector)


def lay_out(page: PageContext) -> Inspector:
    """The player with the panels beside it; the other panels below in sub-tabs."""
    with gr.Column(elem_id="inspector"):
        with gr.Row(elem_id="playback"):
            with gr.Column(elem_id="player-column"):
                with gr.Row(elem_id="opened"):
                    which = message(" ", elem_id="run-title")
                    chooser = gr.Radio(
                        [], label="Which picture", visible=False, elem_id="picture-choice", elem_classes="segments",
                        container=False,
                    )  # fmt: skip
                    past = past_runs()
                shown = player()
                forks.here()
            with gr.Column(elem_id="questions-column"):
                panels = [panel.build(page) for panel in PANELS.values() if panel.beside]
        below = {name: panel for name, panel in PANELS.items() if not panel.beside}
        with gr.Tabs(selected=next(iter(below)), elem_id="panels", overflow_behavior="wrap"):
            for name, panel in below.items():
                with gr.Tab(panel.label, id=name, elem_id=f"look-{name}"):
                    panels.append(panel.build(page))
    return Inspector(which, chooser, past, shown, tuple(panels))


def wire_choice(page: PageContext, inspector: Inspector) -> None:
    """What is opened: the newest run on entering, then what the user chooses."""
    seen, there = gr.State(None), gr.State(False)

    def enter(job_id: Any, opened: Any, before: Any) -> tuple[Any, Any]:
        newest = newest_run(page, job_id)
        # A run that was opened by name stays until a newer one was made.
        named = opened is not None and newest in (opened.get("id"), opened.get("while"))
        if opened is None or (before not in (None, newest) and not named):
            return {"id": newest, "picture": 0}, newest
        # What another event opens meanwhile stays.
        return gr.skip(), newest

    def come_or_go(data: gr.SelectData) -> bool:
        return data.value == page.tab.label

    def follow(job_id: Any, opened: Any, before: Any, inside: Any) -> tuple[Any, Any]:
        return enter(job_id, opened, before) if inside else (gr.skip(), gr.skip())

    def choose(opened: Any, k: Any) -> Any:
        return {**opened, "picture": k} if isinstance(opened, dict) and isinstance(k, int) else gr.skip()

    def pick(data: gr.EventData) -> Any:
        run = event_value(data, "run", None)
        return {"id": run[:MAX_NAME], "picture": 0} if isinstance(run, str) else gr.skip()

    # Queued, although quick: Gradio announces a changed state only for queued events.
    page.tab.select(enter, [page.latest_job, page.opened, seen], [page.opened, seen], **CONCURRENT)
    # A user may enter right after Generate, before the page knows the new job.
    page.tabs.select(come_or_go, None, [there], **CONCURRENT)
    page.latest_job.change(follow, [page.latest_job, page.opened, seen, there], [page.opened, seen], **CONCURRENT)
    inspector.chooser.input(choose, [page.opened, inspector.chooser], [page.opened], **CONCURRENT)
    inspector.past.pick(pick, None, [page.opened], **CONCURRENT)


def newest_run(page: PageContext, job_id: Any) -> str:
    """This browser's latest job if it runs or has a trace, else the bundled run."""
    job = page.find_job(job_id)
    if job is not None and not job.done:
        return job.id
    return job_id if page.trace({"id": job_id}) is not None else BUNDLED


def wire_opening(page: PageContext, inspector: Inspector) -> None:
    """When another run is opened: the player at once, then the panels and the other lenses."""
    openings = LatestOpening()

    def begin(opened: Any, job_id: Any, request: gr.Request) -> Iterator[dict[Component, Any]]:
        user = request.session_hash or ""
        turn = openings.begin(user)
        for value, sentence in first_values(page, opened, job_id):
            if openings.superseded(user, turn):
                return
            yield {
                inspector.player: {**value, "turn": turn},
                inspector.which: sentence,
                inspector.chooser: picture_choice(page, opened),
            }

    def explain(opened: Any) -> list[Any]:
        updates = [update for panel in inspector.panels for update in panel.refresh(opened)]
        return [past_runs_value(page, opened), *updates]

    def draw(opened: Any, request: gr.Request) -> Iterator[Any]:
        user = request.session_hash or ""
        turn = openings.begin(user)
        found = opened_trace(page, opened)
        if found and lens_frames.is_complete(*found, page.frame_cache):
            yield gr.skip()  # the first value held every lens
            return
        for value in lens_frames.render_lenses(*found, page.decode(found[0]), page.frame_cache) if found else ():
            if openings.superseded(user, turn):
                return
            yield {**value, "turn": turn}

    # A new choice never waits for an older one, which ends at its next value.
    several = {**CONCURRENT, "trigger_mode": "multiple"}
    outputs = [inspector.player, inspector.which, inspector.chooser]
    first = page.opened.change(begin, [page.opened, page.latest_job], outputs, **several)
    first.then(draw, [page.opened], [inspector.player], **several)
    inspector.player.again(draw, [page.opened], [inspector.player], **several)
    first.then(explain, [page.opened], inspector.outputs, **{**UNQUEUED, "trigger_mode": "multiple"})


def first_values(page: PageContext, opened: Any, job_id: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """What the player shows first, and which run it is: the progress of a running job, then the predicted x0."""
    job = page.find_job(opened.get("id")) if isinstance(opened, dict) else None
    if job is not None and page.trace(opened) is None:
        for value in stage_updates.watch(job):
            text = f"This picture is still being made and opens here when it is done. {value['text']}."
            yield lens_frames.empty_value(job.id, text, phrases.heading(job.request)), ""
    found = opened_trace(page, opened)
    if found is not None:
        which = RECORDED if opened["id"] == BUNDLED else LATEST if opened["id"] == job_id else EARLIER
        if (request := found[0].request).fork:
            which = FORKED.format(step=request.fork.step, changes=phrases.fork_changes(request))
        value = lens_frames.first_value(*found, page.frame_cache)
        yield value, f"{which} {LOUDEST.format(step=value['at'] + 1)}" if value["at"] else which
    elif job is not None and job.cancelled:
        yield lens_frames.empty_value(job.id, STOPPED_AT_ONCE, phrases.heading(job.request)), ""
    else:
        yield lens_frames.empty_value("nothing", GONE if is_gone(page, opened) else NOTHING_YET), ""


def picture_choice(page: PageContext, opened: Any) -> Any:
    """The choice between the pictures of a run; hidden for a single picture."""
    found = opened_trace(page, opened)
    if found is None or found[0].request.num_images == 1:
        return gr.Radio(visible=False)
    trace, k = found
    return gr.Radio([(f"Picture {i + 1}", i) for i in range(trace.request.num_images)], value=k, visible=True)
