"""When was it decided?  A strip is stopped by its name, with its page, or not at all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.jobs.job import Job
from tests.support.known_trace import jpeg, make_trace
from ui.inspector import forks
from ui.inspector.forks.strips import Strips


class Site:
    """A page whose forks are finished at once."""

    def __init__(self) -> None:
        self.trace_opened = make_trace("one", num_images=2)
        self.jobs: list[Job] = []
        self.bundled_trace = None
        self.backend = SimpleNamespace(submit=self.submit, runs=lambda most, user: [])

    def submit(self, request: Any, user: Any) -> Job:
        job = Job(request)
        job.emit(Finished(request=request, pictures=(), seconds=0.1))
        self.jobs.append(job)
        return job

    def trace(self, opened: Any) -> Any:
        return self.trace_opened


def strip_of(site: Any, strips: Strips) -> Any:
    data = gr.EventData(None, {"prompt": "an owl"})
    return forks.decide(site, {"id": "one", "picture": 0}, data, strips)


def test_a_stopped_strip_makes_no_more_forks() -> None:
    site, strips = Site(), Strips()
    values = strip_of(site, strips)
    next(values)
    name = next(values)["decided"]["name"]
    strips.stop("another")
    strips.stop(name)
    last = list(values)[-1]["decided"]
    assert last["done"] and len(site.jobs) == 1 and site.jobs[0].cancelled


def test_a_page_that_is_closed_makes_no_more_forks() -> None:
    site, strips = Site(), Strips()
    values = strip_of(site, strips)
    next(values)
    name = next(values)["decided"]["name"]
    values.close()
    assert len(site.jobs) == 1 and site.jobs[0].cancelled
    strips.stop(name)  # it is forgotten


def test_a_stop_just_before_a_fork_begins_cancels_it() -> None:
    _, strip = Strips().begin()
    strip.stop()
    assert strip.follow(Job(make_trace("one").request)).cancelled


def test_what_may_succeed_a_moment_later_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    site: Any = Site()

    def full(*_: Any) -> None:
        raise QueueFull("Ten pictures wait already.")

    site.backend.submit = full
    last = list(strip_of(site, Strips()))[-1]
    assert last["problem"] == "Ten pictures wait already." and last["next"]["do"] == "decide"
    opened = {"id": "one", "picture": 0}
    fields = {"prompt": "an owl", "negative_prompt": "", "scheduler": "ddim", "guidance": 4, "step": 1}
    _, sheet = forks.fork(site, opened, gr.EventData(None, fields))
    assert sheet["next"]["do"] == "fork" and sheet["next"]["label"] == "Try again"
    # What is wrong with the fields themselves is to be changed first.
    _, sheet = forks.fork(site, opened, gr.EventData(None, {**fields, "guidance": None}))
    assert sheet["problem"].startswith("Guidance") and "next" not in sheet

    def unknown(*_: Any) -> None:
        raise QueryFailed("The model could not be loaded.")

    monkeypatch.setattr(forks, "samplers", unknown)
    assert forks.look(site, opened, gr.EventData(None, {"step": 1}))["found"]["next"]["do"] == "look"


def test_a_strip_says_what_it_makes_and_how_long_that_takes() -> None:
    site: Any = Site()
    run = replace(make_trace("one", num_images=2), seconds=6.0, frames_seconds=1.2)
    # Forks of 6 to 1 steps, each 1 s and its frames 0.2 s.
    assert "12 pictures" in forks.cost(site, run) and "about 25 s in all" in forks.cost(site, run)
    site.bundled_trace = run  # its time is that of another computer
    assert "12 pictures" in forks.cost(site, run) and "about" not in forks.cost(site, run)


def test_a_guest_whose_share_ends_keeps_the_strip_so_far_and_its_sentence() -> None:
    site, strips = Site(), Strips()
    site.trace_opened = replace(site.trace_opened, finals=(jpeg(Image.new("RGB", (32, 32), "red")),) * 2)
    plain = site.submit

    def submit(request: Any, user: Any) -> Job:
        if len(site.jobs) == 4:
            raise QueueFull("You have had your share of this hour.")
        return plain(request, user)

    site.backend.submit = submit
    last = list(strip_of(site, strips))[-1]
    assert last["problem"] == "You have had your share of this hour." and last["decided"]["done"]
    assert sum("picture" in cell for cell in last["decided"]["cells"]) == 4
    assert "Not enough" not in last["decided"]["text"] and len(last["decided"]["cells"]) == 6


def test_the_first_few_steps_already_say_when_it_was_decided() -> None:
    site, strips = Site(), Strips()
    long = make_trace("one", num_images=2, num_inference_steps=12)
    steps = tuple(replace(long.steps[0], index=k) for k in range(12))
    finals = (jpeg(Image.new("RGB", (32, 32), "red")),) * 2
    site.trace_opened = replace(long, steps=steps, finals=finals)
    said = [value["decided"]["text"] for value in strip_of(site, strips)]
    assert said[:8] == [f"{k} of 12 done." for k in range(8)]
    assert all(text.startswith(f"{k} of 12 done. ") for k, text in enumerate(said[8:12], 8))
    assert [job.request.fork.step for job in site.jobs][:3] == [0, 2, 3]
