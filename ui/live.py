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

LABEL = "Draw while I type"
ABOUT = "Every change shows at once, from the same seed. Pause, and the picture is kept."
SLOW = (
    "Drawing while you type was turned off: a picture takes {} here, too long to keep up with typing. "
    "Press Generate instead."
)
BLENDS = "Variations and blends are not drawn while you type; press Generate to make them."
KEPT = "This picture is kept already. Change something, or choose Again with a new seed."
# Pages whose drafts are known at once; of others only what they drew last is forgotten.
PAGES = 64
# A wait that is shorter is not named: words that come and go with every letter are hard to read past.
UNNAMED_SECONDS = 0.3
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
        note: a sentence about it.
        hands: tells when something was changed; its event is ``draw``.
    """

    toggle: gr.Checkbox
    note: gr.HTML
    hands: gr.HTML
    lives: Lives


def build(page: Page) -> Typing:
    """The toggle, absent until it is known who looks."""
    with gr.Column(elem_id="ask-live", elem_classes="ask-live"):
        toggle = gr.Checkbox(False, label=LABEL, info=ABOUT, visible=False, elem_id="live")
        note = sentence(elem_id="live-note", alert=False)
        hands = gr.HTML(
            html_template="<i></i>", js_on_load=script("live.js"), elem_classes="keys", apply_default_css=False
        )
    return Typing(toggle, note, hands, Lives(page.backend))


def added(page: Page, asking: Asking, typing: Typing, desk: Desk) -> Asking:
    """What a tab adds to its desk, and this: the seed stays while drafts are drawn, and Generate keeps them."""

    def request_of(values: Mapping[Component, Any], new_seed: bool) -> GenerationRequest:
        if values[typing.toggle] and not new_seed:
            values = {**values, desk.controls.keep_seed: True}
        return asking.request_of(values, new_seed)

    def submit(request: GenerationRequest) -> tuple[Job, dict[Component, Any]]:
        if not visitor().owner:
            return page.backend.submit(request, visitor()), {}
        draft = typing.lives.here().leave(request)
        if draft is None:
            return page.backend.submit(request, visitor()), {typing.note: ""}
        known = not draft.draft
        page.backend.keep(draft)
        return draft, {typing.note: KEPT if known else ""}

    return replace(
        asking,
        inputs=asking.inputs | {typing.toggle},
        outputs=[*asking.outputs, typing.note],
        request_of=request_of,
        submit=submit,
    )


def may_draw(page: Page, model: Any) -> bool:
    """Whether whoever asks may have drafts of this model drawn."""
    card = page.card(model)
    return card is not None and card.live and visitor().owner


def wire(page: Page, desk: Desk, asking: Asking, typing: Typing) -> None:
    """Offer the toggle where it makes sense, and draw when something is changed."""
    model, told = desk.controls.model, [typing.toggle, typing.note]

    def offer(chosen: Any) -> tuple[Any, str]:
        typing.lives.here().begin()
        return (gr.Checkbox(visible=True) if may_draw(page, chosen) else gr.Checkbox(False, visible=False)), ""

    def switch(on: Any) -> Iterator[dict[Component, Any]]:
        live = typing.lives.here()
        if on:
            live.begin()
            yield {typing.note: ""}
        elif (draft := live.leave()) is not None:
            yield from kept(page, desk, asking, draft)
        else:
            yield {desk.run_error: gr.skip()}

    def draw(values: dict[Component, Any]) -> Iterator[dict[Component, Any]]:
        if not values[typing.toggle] or not may_draw(page, values[model]):
            yield {desk.run_error: gr.skip()}
            return
        yield from drafts(page, desk, asking, typing, values)

    shown = [desk.film, desk.mine, page.job, *desk.errors(), desk.settings, *told]
    own = list(dict.fromkeys([*shown, *asking.outputs]))
    run_on = {**WATCH, "show_progress_on": [desk.run_error]}
    gr.on([page.blocks.load, model.change], offer, [model], told, **QUICK)
    typing.toggle.change(switch, [typing.toggle], own, **run_on)
    # Each is heard at once, so that it can take the place of the one before.
    typing.hands.draw(draw, asking.inputs, own, **run_on, trigger_mode="multiple")
    c = desk.controls
    asks = asking.inputs - {c.quality, c.keep_seed, c.num_images}
    gr.on([one.change for one in sorted(asks, key=lambda one: one._id) if hasattr(one, "change")], None, js=_TELL)


def drafts(
    page: Page, desk: Desk, asking: Asking, typing: Typing, values: Mapping[Component, Any]
) -> Iterator[dict[Component, Any]]:
    """Draw what the values ask for, as long as nothing newer is asked for: updates of the desk."""
    live = typing.lives.here()
    try:
        request = asking.request_of(values, False)
        if request.variation or request.interpolation:
            yield {typing.note: BLENDS}
            return
        job = live.ask(request)
        yield {**desk.errors(), **asking.clear(), typing.note: ""} if job else {desk.run_error: gr.skip()}
        while job is not None:
            yield from follow(page, desk, asking, typing, live, job)
            job = live.again(job)
    except (InvalidRequest, QueueFull) as problem:
        yield making.explain(desk, asking, problem)


def follow(
    page: Page, desk: Desk, asking: Asking, typing: Typing, live: Live, job: Job
) -> Iterator[dict[Component, Any]]:
    """Updates until a draft is over; then it is kept, unless something newer comes soon."""
    roll = stream.Roll(job)
    for text in waiting(live, roll):
        yield {desk.film: {**roll.value([]), "live": True, "state": "live", "text": text}}
    live.took(job)
    slow = live.slow()
    if slow:
        yield {typing.toggle: False, typing.note: SLOW.format(words.seconds(slow))}
    if roll.state == "failed":
        yield {desk.run_error: roll.text}
    if roll.state != "done":
        return
    if job.draft and not slow:
        try:
            yield {desk.film: {**roll.value([]), "live": True, "state": "live", "text": drawn(job)}}
            if not live.rests(job):
                return
        except GeneratorExit:  # the page went away
            if live.is_newest(job):
                page.backend.keep(job)
            raise
    yield from kept(page, desk, asking, job)


def drawn(job: Job) -> str:
    """What is said of a finished draft."""
    return f"Drawn in {words.seconds(job.poll()[-1].seconds)}"


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


def kept(page: Page, desk: Desk, asking: Asking, job: Job) -> Iterator[dict[Component, Any]]:
    """Make an ordinary picture of a draft, and show it as one."""
    try:
        page.backend.keep(job)
    except KeepFailed as problem:
        yield {desk.run_error: str(problem)}
        return
    for value in stream.watch(job):
        if value["state"] == "done":
            value = {**value, "text": f"Kept. {value['text']}"}
            yield {desk.film: value, desk.mine: job.id, page.job: job.id, **asking.shown(job.request, value)}
