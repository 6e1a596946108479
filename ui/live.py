"""Drawing while somebody types: the toggle of the text-to-image tab, and the way of a draft to the stage."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.backend import Job, KeepFailed, QueueFull
from pipelines.live import Live
from pipelines.request import GenerationRequest, InvalidRequest
from ui import making, stream, words
from ui.making import QUICK, WATCH, Asking, Desk, Page
from ui.panel import script
from ui.plain import sentence
from ui.visiting import open_page, visitor

if TYPE_CHECKING:
    from pipelines.backend import Backend
    from pipelines.cards import ModelCard

# Each of these sentences fills two lines and takes the place of another: nothing moves.
LABEL = "Draw while I type"
ABOUT = "Every change shows at once: one picture, always from the same seed. Pause, and it is kept."
SLOW = "Turned off, since a picture takes {} here, too long to follow your typing; press Generate instead."
BLENDS = "Variations and blends are not drawn while you type; press Generate to make them."
KEPT = "This picture is kept already. Change something, or choose Again with a new seed."
# Pages whose drafts are known at once; of others only what they drew last is forgotten.
PAGES = 64
# A wait that is shorter is not named: words that come and go with every letter are hard to read past.
UNNAMED_SECONDS = 0.3
Updates = dict[Component, Any]
# Tells live.js, in the browser, that the desk asks for something else now.
_TELL = "() => { document.dispatchEvent(new CustomEvent('playground:asks')); }"


class Lives:
    """The drafts of each open page.  Thread-safe."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pages: OrderedDict[str, Live] = OrderedDict()
        self._lock = threading.Lock()

    def here(self) -> Live:
        """Those of the page that asks."""
        with self._lock:
            name = open_page()
            found = self._pages.setdefault(name, Live(self._backend))
            self._pages.move_to_end(name)
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)
            return found


@dataclass(frozen=True)
class Typing:
    """The components, and the drafts.

    Attributes:
        toggle: whether drafts are drawn; absent for guests and for models that are not quick.
        note: a sentence about it, that is seen with it alone.
        quicker: changes to a model that is quick, where the one that is chosen is not.
        hands: tells when something was changed; its event is ``draw``.
    """

    toggle: gr.Checkbox
    note: gr.HTML
    quicker: gr.Button
    hands: gr.HTML
    lives: Lives


def build(page: Page) -> Typing:
    """The toggle, absent until it is known who looks."""
    with gr.Column(elem_id="ask-live", elem_classes="ask-live"):
        toggle = gr.Checkbox(False, label=LABEL, visible=False, elem_id="live")
        note = sentence(ABOUT, elem_id="live-note", status=True)
        quicker = gr.Button(LABEL, size="sm", visible=False, elem_id="live-quicker")
        hands = gr.HTML(
            html_template="<i></i>", js_on_load=script("live.js"), elem_classes="keys", apply_default_css=False
        )
    return Typing(toggle, note, quicker, hands, Lives(page.backend))


def added(page: Page, asking: Asking, typing: Typing, desk: Desk) -> Asking:
    """What a tab adds to its desk, and this: the seed stays while drafts are drawn, and Generate keeps them."""

    def request_of(values: Mapping[Component, Any], new_seed: bool) -> GenerationRequest:
        if values[typing.toggle] and not new_seed:
            values = {**values, desk.controls.keep_seed: True}
        return asking.request_of(values, new_seed)

    def submit(request: GenerationRequest) -> tuple[Job, Updates]:
        if not visitor().owner:
            return page.backend.submit(request, visitor()), {}
        draft = typing.lives.here().leave(request)
        if draft is None:
            return page.backend.submit(request, visitor()), {}
        known = not draft.draft
        page.backend.keep(draft)
        return draft, {typing.note: KEPT} if known else {}

    return replace(
        asking,
        inputs=asking.inputs | {typing.toggle},
        outputs=[*asking.outputs, typing.note],
        request_of=request_of,
        submit=submit,
    )


def wire(page: Page, desk: Desk, asking: Asking, typing: Typing) -> None:
    """Offer the toggle where it makes sense, and draw when something is changed."""
    here, c = Drawing(page, desk, asking, typing), desk.controls
    shown = [desk.film, desk.mine, page.job, *desk.errors(), desk.settings, typing.toggle, typing.note]
    own = list(dict.fromkeys([*shown, *asking.outputs]))
    run_on = {**WATCH, "show_progress_on": [desk.run_error]}
    offered = [typing.toggle, typing.note, typing.quicker]
    gr.on([page.blocks.load, c.model.change], here.offer, [c.model], offered, **QUICK)
    # Through the queue, for a state's change is heard from there alone.
    typing.quicker.click(here.quicken, None, [typing.toggle, typing.quicker, page.picked], **WATCH)
    typing.toggle.change(here.switch, [typing.toggle], own, **run_on)
    # Each is heard at once, so that it can take the place of the one before.
    typing.hands.draw(here.draw, asking.inputs, own, **run_on, trigger_mode="multiple")
    asks = asking.inputs - {c.quality, c.keep_seed, c.num_images}
    gr.on([one.change for one in sorted(asks, key=lambda one: one._id) if hasattr(one, "change")], None, js=_TELL)


@dataclass(frozen=True)
class Drawing:
    """The way of drafts to the stage of a desk; each handler gives updates of it."""

    page: Page
    desk: Desk
    asking: Asking
    typing: Typing

    def offer(self, model: Any) -> tuple[Any, str, Any]:
        """The toggle for whoever looks, with this model, or the way to a quicker model."""
        if not self._may_draw(model):
            quicker = self._quicker()
            way = gr.Button(f"{LABEL}, with {quicker.name}", visible=True) if quicker else gr.Button(visible=False)
            return gr.Checkbox(False, visible=False), ABOUT, way
        self.typing.lives.here().begin()
        return gr.Checkbox(visible=True), ABOUT, gr.Button(visible=False)

    def quicken(self) -> tuple[Any, Any, Any]:
        """Choose the quicker model, as the Models tab does, and draw with it."""
        quicker = self._quicker()
        if quicker is None:
            return gr.skip(), gr.Button(visible=False), gr.skip()
        chosen = {"tab": self.page.tab.id, "model": quicker.id, "prompt": "", "at": time.time()}
        return gr.Checkbox(True, visible=True), gr.Button(visible=False), chosen

    def switch(self, on: Any) -> Iterator[Updates]:
        """The toggle was switched: what was drawn last is kept."""
        yield {self.typing.note: ABOUT} if on else self._nothing()
        if not visitor().owner:
            return
        live = self.typing.lives.here()
        if on:
            live.begin()
        elif (draft := live.leave()) is not None:
            yield from self._kept(draft)

    def draw(self, values: dict[Component, Any]) -> Iterator[Updates]:
        """Draw what the values ask for, as long as nothing newer is asked for."""
        if not values[self.typing.toggle] or not self._may_draw(values[self.desk.controls.model]):
            yield self._nothing()
            return
        live = self.typing.lives.here()
        try:
            request = self.asking.request_of(values, False)
            if request.variation or request.interpolation:
                yield {self.typing.note: BLENDS}
                return
            job = live.ask(request)
            clear = {**self.desk.errors(), **self.asking.clear(), self.typing.note: ABOUT}
            yield clear if job else self._nothing()
            while job is not None:
                yield from self._follow(live, job)
                job = None if live.slow() else live.again(job)
        except (InvalidRequest, QueueFull) as problem:
            yield making.explain(self.desk, self.asking, problem)

    def _follow(self, live: Live, job: Job) -> Iterator[Updates]:
        """A draft until it is over; then it is kept, unless something newer comes soon."""
        roll = stream.Roll(job)
        for text in waiting(live, roll):
            yield {self.desk.film: as_draft(roll, text)}
        live.took(job)
        if roll.state == "failed":
            yield {self.desk.run_error: roll.text}
        if slow := live.slow():
            yield {self.typing.toggle: False, self.typing.note: SLOW.format(words.seconds(slow))}
        if roll.state != "done":
            return
        if job.draft and not slow:
            try:
                value = as_draft(roll, f"Drawn in {words.seconds(job.poll()[-1].seconds)}")
                # The strip of an earlier blend goes; it looks at finished runs alone.
                yield {self.desk.film: value, **self.asking.shown(job.request, {**value, "state": "done"})}
                if not live.rests(job):
                    return
            except GeneratorExit:  # the page went away
                if live.is_newest(job):
                    self.page.backend.keep(job)
                raise
        yield from self._kept(job)

    def _kept(self, job: Job) -> Iterator[Updates]:
        """Make an ordinary picture of a draft, and show it as one."""
        try:
            self.page.backend.keep(job)
        except KeepFailed as problem:
            yield {self.desk.run_error: str(problem)}
            return
        mine = {self.desk.mine: job.id, self.page.job: job.id}
        for value in stream.watch(job):
            if value["state"] == "done":
                value = {**value, "kept": True, "text": f"Kept. {value['text']}"}
                yield {self.desk.film: value, **mine, **self.asking.shown(job.request, value)}

    def _may_draw(self, model: Any) -> bool:
        card = self.page.card(model)
        return card is not None and card.live and visitor().owner

    def _quicker(self) -> ModelCard | None:
        """The first model on this machine that can follow somebody's typing, for whoever may use it so."""
        return next((card for card in self.page.library.offered() if self._may_draw(card.id)), None)

    def _nothing(self) -> Updates:
        """Gradio takes an empty dict for a value."""
        return {self.desk.run_error: gr.skip()}


def as_draft(roll: stream.Roll, text: str) -> dict[str, Any]:
    """A value of the film that replaces a picture and moves nothing; without a picture it changes the words alone."""
    return {**roll.value([]), "live": True, "state": "live", "text": text}


def waiting(live: Live, roll: stream.Roll) -> Iterator[str]:
    """Take in what a draft tells until it is over; words for waits that last."""
    seen, told, since = 0, "", time.monotonic()
    while not roll.over:
        roll.job.wait_more(seen, stream.BEAT_SECONDS)
        for event in roll.job.poll(seen):
            roll.take(event)
            seen += 1
        if live.late(roll.job):
            roll.job.cancel()
        lasts = time.monotonic() - since > UNNAMED_SECONDS and live.is_newest(roll.job)
        if lasts and roll.state in ("queued", "loading") and roll.text != told:
            told = roll.text
            yield told
