"""The recipe of an entry, as JSON and as a script for diffusers; and making it again to compare both pictures."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from history.parents import named_uploads
from history.recipes.files import json_file, script_file
from history.recipes.plan import Materials, NoScript
from pipelines.events import Loading
from pipelines.jobs.backend import QueueFull
from pipelines.request import InvalidRequest
from ui.inspector.export import save_answer
from ui.tabs.history.question import Question

if TYPE_CHECKING:
    from PIL import Image

    from history.entries import EntryDetail
    from pipelines.jobs.job import Job

TEMPLATE = """
<div class="recipe" data-part="recipe"><h3>Recipe</h3>
  <p class="sentence">Everything that made this picture. The script makes it again with diffusers alone.</p>
  <div class="buttons">
    <button type="button" class="quiet" data-recipe="json">Recipe (JSON)</button>
    <button type="button" class="quiet" data-recipe="script">diffusers script (.py)</button>
    <button type="button" class="quiet" data-recipe="replay">Make again and compare</button></div>
  <p class="sentence" data-part="recipe-said" role="status" hidden></p>
  <div class="buttons">
    <button type="button" class="quiet" data-recipe="stop" hidden>Stop</button>
    <button type="button" class="quiet" data-recipe="both" hidden>Compare both</button></div>
</div>
"""
JSON, SCRIPT = "json", "script"
GONE = "This picture is no longer here."
UNKNOWN_REPLAY = "The program was restarted meanwhile; make it again once more."
WAITING = "Making it again: waiting for its turn."


def recipe_file(question: Question) -> dict[str, Any]:
    """The file of the first entry that a question names; a sentence where it cannot be written."""
    found = question.history.detail(question.user, question.ids[0]) if question.ids else None
    if found is None:
        return {"problem": GONE}
    detail, kind = found, question.text("kind")

    def make() -> tuple[str, bytes]:
        try:
            return json_file(detail) if kind == JSON else script_file(detail, materials(question, detail))
        except NoScript as reason:
            raise InvalidRequest("", str(reason)) from None

    return save_answer(make, detail.entry.id, kind, question.page)


def materials(question: Question, detail: EntryDetail) -> Materials:
    """Where the recipe of an entry finds what it names, for the user who asks."""
    page = question.page

    def upload(name: str) -> Image.Image:
        return upload_of(question, name)

    card = page.card(detail.request.model) if detail.request else None
    return Materials(card, page.backend.adapters, upload, shows_paths=question.user.owner)


def upload_of(question: Question, name: str) -> Image.Image:
    """An uploaded picture; one that is gone and was a picture of the history comes from there.

    Raises:
        InvalidRequest: if it is in neither.
    """
    try:
        return question.page.inputs.get(name)
    except InvalidRequest:
        if (kept := question.history.picture_with_pixels(question.user, name)) is None:
            raise
        return question.page.inputs.read(kept).image


def bring_uploads_back(question: Question) -> None:
    """Store the uploads again that the named entry's run needs and that are gone, as far as the history has them."""
    found = question.history.detail(question.user, question.ids[0]) if question.ids else None
    for name in named_uploads(found.request.model_dump_json()) if found and found.request else ():
        with suppress(InvalidRequest):  # the backend says what it lacks
            question.page.inputs.put(upload_of(question, name))


def replay(question: Question) -> dict[str, Any]:
    """Make the first entry that a question names again; the id of the job."""
    try:
        bring_uploads_back(question)
        job = question.history.replays.start(
            question.page.backend.submit, question.user, question.ids[0] if question.ids else ""
        )
    except (InvalidRequest, QueueFull) as problem:
        return {"problem": str(problem)}
    return {"job": job.id}


def replayed(question: Question) -> dict[str, Any]:
    """How a replay stands: while it runs in words, at its end what was found."""
    state = question.history.replays.state(question.user, question.text("job"))
    if state is None:
        return {"problem": UNKNOWN_REPLAY}
    job = question.page.backend.find(question.text("job"), question.user)
    running = state.state == "running"
    text = progress(job) if running else state.text
    return {"running": running, "text": text, "same": state.same, "entry": state.entry}


def stop_replay(question: Question) -> dict[str, Any]:
    """Stop a replay."""
    job = question.page.backend.find(question.text("job"), question.user)
    if job is not None and question.history.replays.state(question.user, job.id) is not None:
        job.cancel()
    return {}


def progress(job: Job | None) -> str:
    """How far a job is, in words."""
    if job is not None and job.at[0]:
        return f"Making it again: step {job.at[0]} of {job.at[1]}."
    loading = job is not None and any(isinstance(event, Loading) for event in job.poll())
    return "Making it again: loading the model." if loading else WAITING
