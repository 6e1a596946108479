"""At strength 1: a run with the source image and one without it, from the same noise, side by side."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradio.components import Component
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.backend import QueueFull
from pipelines.request import GenerationRequest, InvalidRequest, make_request, replaced
from ui.components.gradio_events import CONCURRENT
from ui.form import controls, run_events
from ui.form.form import Form, FormValues, Updates
from ui.form.styles.composing import composed, read_names
from ui.server.current_user import current_user
from ui.tabs.image_to_image.prepared_image import enlarged
from ui.tabs.image_to_image.source import Source, whole_image
from ui.tabs.image_to_image.views import COMPARISON, Views, turn_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pipelines.jobs.job import Job

SAME_NOISE = (
    "Both started from the same noise. Left: with the little of your image that is left in it. Right: with the noise "
    "alone."
)


def requests(form: Form, source: Source, values: Mapping[Component, Any]) -> tuple[GenerationRequest, ...]:
    """One picture of the whole image at strength 1, and the same from the noise alone; raises InvalidRequest."""
    c, prepared = form.controls, whole_image(values[source.prepared])
    changed = FormValues({**values, source.strength: 1.0, source.prepared: prepared, c.num_images: 1})
    chosen = {"styles": read_names(changed[form.chosen_styles])}
    fields = controls.request_fields({**c.named(changed), **source.fields(changed), **chosen})
    request = make_request(**composed(form.page, fields))
    assert request.init is not None
    return request, replaced(request, init=request.init.model_copy(update={"noise_only": True}))


def wire(form: Form, source: Source, views: Views) -> None:
    """Run both when the strength strip asks for it."""
    page = form.page

    def compared(values: dict[Component, Any]) -> Iterator[Updates]:
        try:
            jobs = [page.backend.submit(request, current_user()) for request in requests(form, source, values)]
        except (InvalidRequest, QueueFull) as problem:
            yield form.show_error(problem)
            return
        yield {**form.clear_errors(), **form.started()}
        yield from follow(form, jobs)
        pictures = [enlarged(image) for job in jobs if (image := first_picture(job))]
        if len(pictures) == len(jobs):
            shown = {views.comparison: tuple(pictures), views.comparison_note: SAME_NOISE}
            yield {**shown, views.target: turn_to(COMPARISON)}

    options = {**CONCURRENT, "show_progress_on": [form.run_error]}
    views.strength_strip.compare(compared, form.inputs, form.outputs, **options)


def follow(form: Form, jobs: Sequence[Job]) -> Iterator[Updates]:
    """Both on the stage, one after the other; Stop ends both."""
    page = form.page
    for job in jobs:
        yield {page.tab_job: job.id, page.latest_job: job.id}
        for updates in run_events.show(form, job):
            yield {form.stage: updates[form.stage]}
        if job.cancelled:
            for other in jobs:
                if not other.done:
                    other.cancel()
            return


def first_picture(job: Job) -> Image.Image | None:
    """The first picture of a finished job, or None."""
    last = job.poll()[-1:]
    if not last or not isinstance(last[0], Finished):
        return None
    saved, unsaved = last[0].pictures, last[0].drafts
    with Image.open(saved[0].path if saved else io.BytesIO(unsaved[0])) as image:
        return image.convert("RGB")
