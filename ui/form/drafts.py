"""Drafts while typing: the toggle of the text-to-image tab, and the way of a draft to the stage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.jobs.backend import KeepFailed, QueueFull
from pipelines.jobs.drafts import DraftSession
from pipelines.jobs.job import Job
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.system.lru import LruDict
from ui.components import phrases, stage_updates
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED
from ui.components.message import message
from ui.form import memory
from ui.form.form import Form, FormSection, FormValues, Updates
from ui.server.current_user import current_session, current_user

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.jobs.backend import Backend
    from ui.context import PageContext
    from ui.form.layout import FormLayout

# Each of these sentences fills two lines and replaces another, so nothing moves.
LABEL = "Draw while I type"
ABOUT = "Every change shows at once: one picture, always from the same seed. Pause, and it is kept."
SLOW = "Turned off: a picture takes {} here, too long to follow your typing. Press Generate instead."
BLENDS = "Variations and blends are not drawn while you type. Press Generate to make them."
KEPT = "This picture is already kept. Change something, or press New seed."
# Browser pages whose drafts are remembered at once; of older ones only the last draft is forgotten.
PAGES = 64
# A shorter wait is not named: words that come and go with every letter are hard to read past.
UNNAMED_SECONDS = 0.3
# Tells drafts.js, in the browser, that the form's values have changed.
_ANNOUNCE = "() => { document.dispatchEvent(new CustomEvent('playground:asks')); }"


class DraftSessions:
    """The draft session of each open browser page.  Thread-safe."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pages: LruDict[str, DraftSession] = LruDict(PAGES)
        self._lock = threading.Lock()

    def current(self) -> DraftSession:
        """The session of the browser page that sent the current request."""
        with self._lock:
            name = current_session()
            session = self._pages.get(name)
            if session is None:
                session = self._pages[name] = DraftSession(self._backend)
            return session


@dataclass(frozen=True)
class DraftSection:
    """The components, and the drafts.

    Attributes:
        toggle: whether drafts are drawn; hidden from guests, and for slow models.
        note: a sentence about it, visible only with it.
        faster_model: changes to a model that is fast enough, where the chosen one is not.
        changes: an invisible component; its event ``draw`` announces changed values of the form.
        before: ``{"model", "form"}`` as JSON once ``faster_model`` was pressed: the model it chose, and what the form
            held; never shown.
    """

    toggle: gr.Checkbox
    note: gr.HTML
    faster_model: gr.Button
    changes: gr.HTML
    before: gr.Textbox
    sessions: DraftSessions

    def section(self, page: PageContext) -> FormSection:
        """These components as a section of a form."""
        return FormSection(
            frozenset({self.toggle}),
            self.fields,
            outputs=(self.note,),
            reuse=lambda request: self.reuse(page, request),
            wire=lambda form: wire(form, self),
        )

    def fields(self, values: FormValues) -> dict[str, Any]:
        """The seed stays while drafts are drawn."""
        return {"keep_seed": True} if values[self.toggle] and not values.new_seed else {}

    def reuse(self, page: PageContext, request: GenerationRequest) -> tuple[Job, Updates] | None:
        """The draft of this request, made an ordinary job; drafts of other requests are stopped.

        Raises:
            KeepFailed: if its picture cannot be written.
        """
        draft = self.sessions.current().stop(request) if current_user().owner else None
        if draft is None:
            return None
        already_kept = not draft.draft
        page.backend.keep(draft)
        return draft, {self.note: KEPT} if already_kept else {}


def build(layout: FormLayout) -> FormSection:
    """Lay out the toggle, hidden until the page knows its user."""
    with gr.Column(elem_id="drafts-group", elem_classes="drafts-group"):
        toggle = gr.Checkbox(False, label=LABEL, visible=False, elem_id="drafts")
        note = message(ABOUT, elem_id="drafts-note", status=True)
        faster_model = gr.Button(LABEL, size="sm", visible=False, elem_id="drafts-model")
        changes = gr.HTML(
            html_template="<i></i>", js_on_load=asset("form/drafts.js"), elem_classes="keys", apply_default_css=False
        )
    page = layout.page
    before = gr.Textbox("", visible="hidden", max_length=memory.MAX_STORED, elem_id="drafts-before")
    return DraftSection(toggle, note, faster_model, changes, before, DraftSessions(page.backend)).section(page)


def wire(form: Form, drafts: DraftSection) -> None:
    """Offer the toggle for fast models, and draw when something changes."""
    page, c, events = form.page, form.controls, DraftEvents(form, drafts)
    outputs = [*form.outputs, drafts.toggle]
    options = {**CONCURRENT, "show_progress_on": [form.run_error]}
    offered = [drafts.toggle, drafts.note, drafts.faster_model]
    c.model.change(events.offer, [c.model], offered, **UNQUEUED)
    _wire_memory(form, drafts, events)
    # Queued, although quick: Gradio announces the change of a state only there.
    chosen = [drafts.toggle, drafts.faster_model, page.picked_model, drafts.before]
    drafts.faster_model.click(events.choose_faster_model, memory.fields_of(form), chosen, **CONCURRENT)
    drafts.toggle.change(events.switch, [drafts.toggle], outputs, **options)
    now = [drafts.toggle, drafts.before, c.model, c.prompt]
    drafts.toggle.change(events.put_back, now, [*memory.set_by_restored(form), drafts.before], **CONCURRENT)
    # Each change is handled at once, so that it can replace the one before.
    drafts.changes.draw(events.draw, form.inputs | {page.tab_job}, outputs, **options, trigger_mode="multiple")
    inputs: list[Any] = sorted(form.inputs - {c.quality, c.keep_seed, c.num_images}, key=lambda one: one._id)
    gr.on([component.change for component in inputs], None, js=_ANNOUNCE)


def _wire_memory(form: Form, drafts: DraftSection, events: DraftEvents) -> None:
    """Over a reload the toggle stays on, for the model with which it was."""
    key, model = f"{memory.KEY}drafts", form.controls.model
    kept = [drafts.toggle, model, drafts.before]
    stored = gr.Textbox(visible=False, max_length=memory.MAX_STORED)
    back = [drafts.toggle, drafts.note, drafts.faster_model, drafts.before]
    form.page.blocks.load(events.bring_back, [stored, model], back, js=memory.LOAD % (key, key, key), **UNQUEUED)
    gr.on([one.change for one in kept], None, kept, None, js=memory.SAVE % (key, key))


@dataclass(frozen=True)
class DraftEvents:
    """Event handlers; each gives updates of the form."""

    form: Form
    drafts: DraftSection

    def offer(self, model: Any) -> tuple[Any, str, Any]:
        """The toggle for the current user with this model, or the button that changes to a faster model."""
        if not self._may_draw(model):
            faster = self._faster_model()
            button = gr.Button(f"{LABEL}, with {faster.name}", visible=True) if faster else gr.Button(visible=False)
            return gr.Checkbox(False, visible=False), ABOUT, button
        self.drafts.sessions.current().reset_timing()
        return gr.Checkbox(visible=True), ABOUT, gr.Button(visible=False)

    def bring_back(self, text: Any, model: Any) -> tuple[Any, str, Any, Any]:
        """The same when the page opens: on, if it was with a model that is still there."""
        on, former, before, *_ = [*memory.stored_list(text), None, None, None]
        at_hand = {card.id for card in self.form.page.library.available()}
        if on is not True or not self._may_draw(former) or former not in at_hand:
            return (*self.offer(model), gr.skip())
        return gr.Checkbox(True, visible=True), ABOUT, gr.Button(visible=False), str(before or "")

    def choose_faster_model(self, *values: Any) -> tuple[Any, Any, Any, Any]:
        """Choose the faster model, as the Models tab does, and draw with it; the form's values are kept for later."""
        faster = self._faster_model()
        if faster is None:
            return gr.skip(), gr.Button(visible=False), gr.skip(), gr.skip()
        chosen = {"tab": self.form.page.tab.id, "model": faster.id, "prompt": "", "at": time.time()}
        before = json.dumps({"model": faster.id, "form": json.dumps(values)})
        return gr.Checkbox(True, visible=True), gr.Button(visible=False), chosen, before

    def put_back(self, on: Any, before: Any, model: Any, prompt: Any) -> Updates:
        """Switched off: the model and the settings from before ``faster_model``, unless another was chosen since."""
        before = _read(before)
        if on or before is None:
            return {self.drafts.before: gr.skip()}
        former = memory.restored(self.form, before["form"]) if before["model"] == model else {}
        if not any(prompt in card.prompts for card in self.form.page.cards.values()):
            former = {**former, self.form.controls.prompt: gr.skip()}  # what was written since stays
        return {**former, self.drafts.before: ""}

    def switch(self, on: Any) -> Iterator[Updates]:
        """The toggle was switched; off keeps the last draft."""
        yield {self.drafts.note: ABOUT} if on else self._no_update()
        if not current_user().owner:
            return
        session = self.drafts.sessions.current()
        if on:
            session.reset_timing()
        elif (draft := session.stop()) is not None:
            yield from self._keep(draft)

    def draw(self, values: dict[gr.components.Component, Any]) -> Iterator[Updates]:
        """Draw a draft of the form's values, unless they change in the meantime."""
        if not values[self.drafts.toggle] or not self._may_draw(values[self.form.controls.model]):
            yield self._no_update()
            return
        session = self.drafts.sessions.current()
        try:
            request = self.form.request(FormValues(values))
            if request.variation or request.interpolation:
                yield {self.drafts.note: BLENDS}
                return
            if session.is_new and (made := self._made(values[self.form.page.tab_job])) is not None:
                session.begin_with(made)
            job = session.submit(request)
            yield {**self.form.clear_errors(), self.drafts.note: ABOUT} if job else self._no_update()
            while job is not None:
                yield from self._follow(session, job)
                job = None if session.slow_seconds() else session.resubmit(job)
        except (InvalidRequest, QueueFull) as problem:
            yield self.form.show_error(problem)

    def _follow(self, session: DraftSession, job: Job) -> Iterator[Updates]:
        """A draft until it is over; then it is kept, unless something newer comes soon."""
        view = stage_updates.JobView(job)
        for text in wait_texts(session, view):
            yield {self.form.stage: draft_value(view, text)}
        session.record_duration(job)
        if view.state == "failed":
            yield {self.form.run_error: view.text}
        if slow := session.slow_seconds():
            yield {self.drafts.toggle: False, self.drafts.note: SLOW.format(phrases.seconds(slow))}
        if view.state != "done":
            return
        if job.draft and not slow:
            try:
                value = draft_value(view, f"Drawn in {phrases.seconds(view.seconds)}")
                # As a finished run, so that the strip of an earlier blend goes.
                yield {**self.form.stage_updates(job.request, {**value, "state": "done"}), self.form.stage: value}
                if not session.wait_for_pause(job):
                    return
            except GeneratorExit:  # the browser page is closed
                if session.is_newest(job):
                    self.form.page.backend.keep(job)
                raise
        yield from self._keep(job)

    def _keep(self, job: Job) -> Iterator[Updates]:
        """Make a draft an ordinary picture, and show it as one."""
        page = self.form.page
        try:
            page.backend.keep(job)
        except KeepFailed as problem:
            yield {self.form.run_error: str(problem)}
            return
        for value in stage_updates.watch(job):
            if value["state"] == "done":
                value = {**value, "kept": True, "text": f"Kept. {value['text']}"}
                updates = self.form.stage_updates(job.request, value)
                yield {**updates, page.tab_job: job.id, page.latest_job: job.id}

    def _made(self, job_id: Any) -> GenerationRequest | None:
        """The request of the picture on the stage, which is not drawn a second time after a reload."""
        job = self.form.page.find_job(job_id)
        trace = self.form.page.trace({"id": job_id}) if job is None else None
        return job.request if job is not None else trace.request if trace is not None else None

    def _may_draw(self, model: Any) -> bool:
        card = self.form.page.card(model)
        return card is not None and card.live and current_user().owner

    def _faster_model(self) -> ModelCard | None:
        """The first model on this machine that is fast enough and that the current user may draw drafts with."""
        return next((card for card in self.form.page.library.available() if self._may_draw(card.id)), None)

    def _no_update(self) -> Updates:
        """Gradio takes an empty dict for a value."""
        return {self.form.run_error: gr.skip()}


def _read(before: Any) -> dict[str, Any] | None:
    """What ``DraftSection.before`` holds; None for nothing that this page wrote."""
    try:
        found = json.loads(before) if isinstance(before, str) and len(before) <= memory.MAX_STORED else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"model", "form"} <= found.keys() else None


def draft_value(view: stage_updates.JobView, text: str) -> dict[str, Any]:
    """A value of the stage that replaces a picture and moves nothing; without a picture only the words change."""
    return {**view.value([]), "live": True, "state": "live", "text": text}


def wait_texts(session: DraftSession, view: stage_updates.JobView) -> Iterator[str]:
    """Take in a draft's events until it is over; yields words for waits that last."""
    seen, last_text, since = 0, "", time.monotonic()
    while not view.over:
        view.job.wait_for_event(seen, stage_updates.HEARTBEAT_SECONDS)
        for event in view.job.poll(seen):
            view.take(event)
            seen += 1
        if session.is_too_slow(view.job):
            view.job.cancel()
        lasts = time.monotonic() - since > UNNAMED_SECONDS and session.is_newest(view.job)
        if lasts and view.state in ("queued", "loading") and view.text != last_text:
            last_text = view.text
            yield last_text
