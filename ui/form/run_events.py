"""The events of a run: Generate, New seed, Stop, finding the job after a reload, and what follows a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.jobs.backend import KeepFailed, QueueFull
from pipelines.jobs.job import Job
from pipelines.request import InvalidRequest
from pipelines.request_errors import Remedy
from ui.components import stage_updates
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.next_steps import RUN, next_step
from ui.context import BUNDLED, RECORDING
from ui.form.form import Form, FormValues, Updates

if TYPE_CHECKING:
    from collections.abc import Mapping

FORGOTTEN = "This run is no longer kept, so its timeline cannot be opened. Its picture may still be in the history."
STILL_MAKING = "A picture is being made here. Press Stop, or open the other one when it is done."


def run(form: Form, values: FormValues) -> Iterator[Updates]:
    """Submit the form's request: updates until the picture is there, or an error next to its cause."""
    try:
        request = form.request(values)
        job, more = form.submit(request)
    except (InvalidRequest, QueueFull, KeepFailed) as problem:
        yield form.show_error(problem)
        return
    accepted = {form.page.tab_job: job.id, form.page.latest_job: job.id, form.controls.seed: str(request.sampling.seed)}
    yield {**form.clear_errors(), **form.started(), **accepted, **more}
    yield from show(form, job)


def show(form: Form, job: Job) -> Iterator[Updates]:
    """Stage updates until the job is over."""
    for value in stage_updates.watch(job):
        yield form.stage_updates(job.request, value)


def reopen(form: Form, opened: Mapping[str, Any]) -> Iterator[Updates]:
    """Put an earlier picture back on the stage, with the timeline as far as it is kept."""
    page = form.page
    if (job := page.find_job(opened["id"])) is not None:
        accepted = {page.tab_job: job.id, page.latest_job: job.id}
        for updates in show(form, job):
            yield {**updates, **accepted}
    elif (trace := page.trace(opened)) is not None and trace.finals:
        shown = form.stage_updates(trace.request, stage_updates.reopened(trace))
        yield {**shown, form.run_error: "", page.tab_job: trace.id, page.latest_job: trace.id}
    else:
        yield {form.run_error: {"text": FORGOTTEN, **next_step(Remedy(RUN))}}


def wire(form: Form, first_value: Callable[[], Mapping[str, Any] | None] = lambda: None) -> None:
    """Attach the events of a run.

    Args:
        first_value: what the stage shows in place of a picture that is no longer there, or None.
    """
    page = form.page

    def generate(values: dict[Component, Any]) -> Iterator[Updates]:
        yield from run(form, FormValues(values))

    def again(values: dict[Component, Any]) -> Iterator[Updates]:
        yield from run(form, FormValues(values, new_seed=True))

    def attach(job_id: Any) -> Iterator[Updates]:
        page.backend.warm_up(page.default_model)
        if (job := page.find_job(job_id)) is not None:
            yield from show(form, job)
        elif isinstance(job_id, str) and (trace := page.trace({"id": job_id})) is not None and trace.finals:
            # The program was restarted since.
            yield form.stage_updates(trace.request, stage_updates.reopened(trace))
        else:
            # A generator that ends without a value would empty every component.
            value = first_value()
            yield {form.run_error: ""} if value is None or job_id is None else {form.stage: value}

    def pick(job_id: Any, data: gr.EventData) -> Iterator[Updates]:
        # Stop, and a reload, find the run that is being made here.
        if (job := page.find_job(job_id)) is not None and not job.done:
            yield {form.run_error: STILL_MAKING}
            return
        yield from reopen(form, picture_of(None, data))

    def stop(job_id: Any) -> None:
        if (job := page.find_job(job_id)) is not None:
            job.cancel()

    options = CONCURRENT
    form.generate.click(generate, form.inputs, form.outputs, **options)
    form.stage.again(again, form.inputs, form.outputs, **options)
    form.stop.click(stop, [page.tab_job], None, **UNQUEUED)
    page.blocks.load(attach, [page.tab_job], form.outputs, **options)
    form.recent.pick(pick, [page.tab_job], form.outputs, **options)
    _wire_next_steps(form)


def _wire_next_steps(form: Form) -> None:
    """Open the stage's picture in the denoising tab, or send it to image to image as the next source."""
    page = form.page

    def inspect(job_id: Any, newest: Any, data: gr.EventData) -> dict[str, Any]:
        opened = picture_of(job_id, data)
        # It stays open although another tab has made a newer picture.
        return {**opened, "while": newest[:80]} if isinstance(newest, str) and newest != opened["id"] else opened

    def send(job_id: Any, data: gr.EventData) -> tuple[Any, Any]:
        # The time, so that the same picture can be sent twice.
        return gr.Tabs(selected="image-to-image"), {**picture_of(job_id, data), "at": time.time()}

    # Queued, although quick: Gradio announces the change of a state only there.
    options = CONCURRENT
    # The tab comes at once, without the server, and shows the frames that the stage has.
    form.stage.inside(None, None, [page.tabs], js="() => ({ __type__: 'update', selected: 'denoising' })")
    form.stage.inside(inspect, [page.tab_job, page.latest_job], [page.opened], **options)
    form.stage.send(send, [page.tab_job], [page.tabs, page.sent_image], **options)


def picture_of(job_id: Any, data: gr.EventData) -> dict[str, Any]:
    """The picture that an event of the stage names: id of its run, by default ``job_id``, and number from 0."""
    run_id, k = event_value(data, "run", None), event_value(data, "picture", 0)
    name = BUNDLED if run_id == RECORDING else run_id if isinstance(run_id, str) else job_id
    return {"id": name, "picture": k if isinstance(k, int) and not isinstance(k, bool) and k >= 0 else 0}
