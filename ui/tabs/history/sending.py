"""Sending an entry to another tab: its picture, its settings, a part of them, or its recorded steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from history.database import HistoryUnavailable
from history.readers.settings import ForeignSettings
from pipelines.request_errors import TRY_AGAIN
from presets.prompts.wildcards import escape
from ui.components.gradio_events import CONCURRENT
from ui.components.next_steps import next_step
from ui.form import picture_settings
from ui.form.picture_settings import reading
from ui.form.taken_settings import SAMPLER, lora_tags
from ui.server.current_user import current_user
from ui.tabs.history.detail import GONE
from ui.tabs.history.question import Question

if TYPE_CHECKING:
    from history.entries import EntryDetail
    from pipelines.request import GenerationRequest
    from ui.context import PageContext

TEXT_TAB, IMAGE_TAB, DENOISING_TAB = "text-to-image", "image-to-image", "denoising"
# What is taken over: the fields of a request by their flat names.
SEED, PROMPT = ("seed",), ("prompt", "negative_prompt", "prompt_syntax", "styles")
PARTS: Mapping[str, tuple[str, ...]] = {
    "settings": (*PROMPT, "model", *SAMPLER, *SEED, "width", "height", "strength", "fork_step", "left_out"),
    "prompt": PROMPT,
    "seed": SEED,
    "sampler": SAMPLER,
    "typed": ("typed", *PROMPT),
}
# The same of pictures of other programs, by the parts of ``picture_settings``.
FOREIGN_PARTS: Mapping[str, tuple[str, ...]] = {
    "settings": tuple(picture_settings.PARTS), "prompt": ("prompt", "negative_prompt", "loras"), "seed": ("seed",),
    "sampler": ("sampler", "steps", "guidance"),
}  # fmt: skip
NO_SETTINGS = "The settings of this picture are not known in a form that can be used again."
NO_PICTURE = "There is no picture here to start from."
NO_STEPS = "The steps of this run are no longer kept."


def wire(page: PageContext, component: gr.HTML) -> None:
    """Attach the event ``send``: it carries ``ids``, ``to`` (a tab) and ``what`` (picture, both, or one of PARTS)."""

    def send(data: gr.EventData) -> tuple[Any, ...]:
        if page.history is None:
            return (gr.skip(),) * len(outputs)
        question = Question(page, page.history, current_user(), data)
        try:
            sent, problem = outcome(question)
            said: dict[str, Any] = {"problem": problem}
        except HistoryUnavailable as unavailable:
            sent, said = {}, {"problem": str(unavailable), "next": next_step(TRY_AGAIN)}
        others = [sent.get(name, gr.skip()) for name in ("tab", "opened", "image", "settings")]
        return (*others, {"ask": question.text("ask"), **said})

    # Queued, although quick: Gradio announces the change of a state only there.
    outputs = [page.tabs, page.opened, page.sent_image, page.taken_settings, component]
    component.send(send, None, outputs, trigger_mode="multiple", **CONCURRENT)


def outcome(question: Question) -> tuple[dict[str, Any], str]:
    """What the page gets, by the names of ``wire``, and what is wrong, "" if nothing is; raises HistoryUnavailable."""
    found = question.history.detail(question.user, question.ids[0]) if question.ids else None
    if found is None:
        return {}, GONE
    to, what = question.text("to"), question.text("what")
    if to == DENOISING_TAB:
        return opened(question, found)
    return taken(question, found, to if to in (TEXT_TAB, IMAGE_TAB) else TEXT_TAB, what)


def opened(question: Question, found: EntryDetail) -> tuple[dict[str, Any], str]:
    """Open the run in the denoising tab."""
    entry = found.entry
    if question.page.trace({"id": entry.run}) is None:
        return {}, NO_STEPS
    return {"tab": gr.Tabs(selected=DENOISING_TAB), "opened": {"id": entry.run, "picture": entry.place}}, ""


def taken(question: Question, found: EntryDetail, tab: str, what: str) -> tuple[dict[str, Any], str]:
    """Take over the picture, settings, or both."""
    sent: dict[str, Any] = {"tab": gr.Tabs(selected=tab)}
    # The time, so that the same can be sent twice.
    if what in ("picture", "both"):
        if found.picture is None or tab != IMAGE_TAB:
            return {}, NO_PICTURE
        entry = found.entry
        sent["image"] = {"id": entry.run, "picture": entry.place, "entry": entry.id, "at": time.time()}
    if what != "picture":
        part = "settings" if what == "both" else what
        fields = fields_of(found, PARTS.get(part, ())) or foreign_fields(question, found, FOREIGN_PARTS.get(part, ()))
        if not fields:
            return {}, NO_SETTINGS
        sent["settings"] = {"tab": tab, "fields": fields, "at": time.time()}
    return sent, ""


def fields_of(found: EntryDetail, names: tuple[str, ...]) -> dict[str, Any]:
    """Fields of the request that made an entry, by their flat names; {} where it is not known."""
    request = found.request
    if request is None:
        return {}
    loras = lora_tags((lora.name, lora.weight) for lora in request.loras)
    values = {
        **{name: getattr(request, name) for name in ("model", "prompt_syntax", "width", "height")},
        **{name: getattr(request.sampling, name) for name in SAMPLER},
        # As it was sent: nothing is added to it or drawn for it again.
        "prompt": escape(f"{request.prompt_of(found.entry.place)} {loras}".strip()),
        "negative_prompt": escape(request.negative_prompt),
        "styles": [],
        "seed": str(found.entry.seed),
    }
    if "typed" in names and request.typed is not None:
        typed = request.typed
        values |= {"prompt": typed.prompt, "negative_prompt": typed.negative_prompt, "styles": list(typed.styles)}
    if request.fork is not None:
        values["fork_step"] = request.fork.step
    if request.init is not None:
        values["strength"] = request.init.strength
    if left_out := left_out_of(request):
        values["left_out"] = left_out
    return {name: values[name] for name in names if name in values}


def left_out_of(request: GenerationRequest) -> list[str]:
    """What a form does not take over of a request, in words."""
    init = request.init
    found = {
        "the picture that it started from": init is not None, "the mask": bool(init and init.mask),
        "ControlNet": bool(request.controls), "the image prompt": request.reference is not None,
        "the variation": request.variation is not None, "the blend": request.interpolation is not None,
        "the number of pictures": request.num_images > 1 and request.interpolation is None,
    }  # fmt: skip
    return [words for words, is_there in found.items() if is_there]


def foreign_fields(question: Question, found: EntryDetail, parts: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a request from what another program wrote, as far as there are counterparts here."""
    settings = ForeignSettings.from_dict(found.foreign)
    return reading.fields_of(settings, parts, picture_settings.known(question.page)) if settings and parts else {}
