"""Image to image: start from a picture instead of from noise alone, all of it, a part of it, or beyond its edges."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines import geometry, uploads
from pipelines.backend import QueueFull
from pipelines.events import Finished
from pipelines.request import MAX_FEATHER, MAX_PADDING, MAX_SIDE, GenerationRequest, InvalidRequest
from ui import brush, chain, controls, guides, making, strength
from ui.dropped import Dropped
from ui.film import film
from ui.guides import Guides
from ui.making import OWN, QUICK, WATCH, Asking, Desk, Page
from ui.panel import carried
from ui.plain import sentence
from ui.visiting import visitor

if TYPE_CHECKING:
    from pipelines.backend import Job

WHOLE, PART, BEYOND = "whole", "part", "beyond"
ABOUT: Mapping[str, str] = {
    WHOLE: "All of the picture gets noise and is drawn anew.",
    PART: "Only what you paint over is drawn anew (inpainting); every other pixel stays as it is.",
    BEYOND: "The picture stays, and the model draws on around it (outpainting).",
}
NONE = "Choose a picture to start from first."
SENT_GONE = "That picture is not here any more; make it again, or bring one of your own."
UNMARKED = "Nothing is marked yet; paint over the part that is to change, under Mark the part."
# Pictures are shown at least this large where Gradio's own components show them.
SEEN_SIDE = 512
BRUSH = "#0f766e"
COMPARED = "Left: the picture that the run started from. Right: the result. Drag the line between them."
TWINS = (
    "Both began with the same noise. Left: with what little of your picture is left in it. Right: with the noise alone."
)
OTHER_NOISE = "\u201cKeep this seed\u201d is off under Settings, so the run will draw other noise than you see here."
EMPTY = "Here you compare the picture that a run started from with its result."


@dataclass(frozen=True)
class Source:
    """What says where a run starts.

    Attributes:
        picture: the picture; fit, colour: how it becomes as large as the result.
        mode: WHOLE, PART or BEYOND.
        editor, feather, only, padding: of a part.
        left, right, up, down: pixels to draw beyond each edge.
        strength: 0 to 1.
        base: what was made of the picture, a dict, or None while there is none.
        mask: id of what was painted last, or None.
    """

    picture: gr.Image
    fit: gr.Radio
    colour: gr.ColorPicker
    mode: gr.Radio
    editor: gr.HTML
    feather: gr.Slider
    only: gr.Checkbox
    padding: gr.Slider
    left: gr.Number
    right: gr.Number
    up: gr.Number
    down: gr.Number
    strength: gr.Slider
    base: gr.State
    mask: gr.State

    def all(self) -> set[Component]:
        """Every component that a run asks, for an event's ``inputs``."""
        return {getattr(self, f.name) for f in fields(self)} - {self.editor}

    def edges(self) -> list[Component]:
        """Left, right, up and down."""
        return [self.left, self.right, self.up, self.down]


@dataclass(frozen=True)
class Views:
    """What the right column shows, one at a time.

    Attributes:
        turn: which one to turn to, and when that was asked.
        other: says beneath the strip of noise levels that the run will draw other noise.
    """

    tabs: gr.Tabs
    turn: gr.State
    mark: gr.Tab
    begin: gr.HTML
    other: gr.HTML
    chain: gr.HTML
    slider: gr.ImageSlider
    said: gr.HTML


@dataclass(frozen=True)
class Groups:
    """What comes and goes with the mode, and what is remembered.

    Attributes:
        part, beyond: controls of these modes.
        error, note: what is wrong with the picture, and what was done to it.
        links, now: the chain, and the picture of it that is used.
        painted: id of the picture on the painting surface.
    """

    part: gr.Column
    beyond: gr.Column
    error: gr.HTML
    note: gr.HTML
    links: gr.BrowserState
    now: gr.State
    painted: gr.State


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    desk, source, views, groups, guided = lay_out(page)
    asking = guides.added(asking_of(page, desk, source, views, groups), guided)
    making.wire_running(page, desk, asking, lambda: None)
    making.wire_settings(page, desk)
    making.wire_onwards(page, desk)
    wire_source(page, desk, source, groups)
    wire_views(source, views, groups)
    wire_strength(page, desk, source, views, asking)
    wire_chain(page, source, views, groups)
    guides.wire(page, desk, guided)


# -- laying out ----------------------------------------------------------------------------------------------------


def lay_out(page: Page) -> tuple[Desk, Source, Views, Groups, Guides]:
    """The left column asks, the right one shows: where the run starts, the result, and both side by side."""
    parts = making.Parts(page, "image-", kept=True)
    with gr.Row(elem_id="image-desk", elem_classes="desk"):
        with gr.Column(elem_id="image-asks", elem_classes="asks"):
            asked, groups = source_controls(page)
            parts.prompt()
            with gr.Column(elem_classes="ask-strength"):
                asked["strength"] = strength_control()
            parts.go()
            parts.main()
            with gr.Accordion("Fit", open=False, elem_id="image-fit-fold", elem_classes="fold"):
                asked |= fit_controls()
            parts.settings()
            guided = guides.build(page, "image-")
        with gr.Column(elem_id="image-shows", elem_classes="shows"):
            views, editor, stage = shown_views(page)
            asked |= {"editor": editor, "base": gr.State(None), "mask": gr.State(None)}
    return parts.desk(stage), Source(**asked), views, groups, guided


def source_controls(page: Page) -> tuple[dict[str, Any], Groups]:
    """The picture, how it is fitted, and what is to happen to it."""
    asked: dict[str, Any] = {}
    with gr.Column(elem_id="ask-source", elem_classes="ask-source"):
        sentence("Picture to start from", elem_id="source-head")
        asked["picture"] = Dropped(
            label="Picture to start from",
            show_label=False,
            type="filepath",
            sources=["upload", "clipboard", "webcam"],
            format="png",
            height=180,
            elem_id="source",
        )
        error = sentence(elem_id="source-error", alert=True)
        asked["mode"] = gr.Radio(
            [("Whole picture", WHOLE), ("A part of it", PART), ("Beyond it", BEYOND)],
            value=WHOLE,
            label="What is drawn anew",
            info=ABOUT[WHOLE],
            elem_id="image-mode",
            elem_classes="segments",
        )
        with gr.Column(visible=False, elem_id="ask-part") as part:
            asked |= part_controls()
        with gr.Column(visible=False, elem_id="ask-beyond") as beyond:
            asked |= beyond_controls(page)
        note = sentence(elem_id="source-note")
    return asked, Groups(part, beyond, error, note, page.links, gr.State(None), gr.State(""))


def part_controls() -> dict[str, Any]:
    """How a marked part is drawn anew."""
    return {
        "feather": gr.Slider(
            0,
            MAX_FEATHER,
            value=4,
            step=1,
            label="Soft edge (feather), pixels",
            info="0 cuts sharply, 16 fades gently. It fades inwards, so that nothing outside the mark changes.",
            elem_id="image-feather",
        ),
        "only": gr.Checkbox(
            False,
            label="Work on the marked part enlarged (only masked)",
            info="The picture keeps its own size; a crop around the mark fills the model's frame and gets more detail.",
            elem_id="image-only",
        ),
        "padding": gr.Slider(
            0,
            MAX_PADDING,
            value=32,
            step=4,
            label="Surroundings of that crop (padding), pixels",
            info="More shows the model more of what is around the mark, and leaves less room for the mark itself.",
            visible=False,
            elem_id="image-padding",
        ),
    }


def beyond_controls(page: Page) -> dict[str, Any]:
    """By how many pixels the canvas grows at each side."""
    card = page.cards[page.default_model]
    found: dict[str, Any] = {}
    for pair in (("left", "right"), ("up", "down")):
        with gr.Row(elem_classes="pair"):
            for name in pair:
                found[name] = gr.Number(
                    card.width // 4 // card.size_factor * card.size_factor if name in ("left", "right") else 0,
                    label=f"{name.capitalize()}, pixels",
                    precision=0,
                    minimum=0,
                    maximum=MAX_SIDE,
                    step=card.size_factor,
                    min_width=80,
                    elem_id=f"image-{name}",
                )
    return found


def fit_controls() -> dict[str, Any]:
    """What happens to a picture of another shape, and to transparency."""
    return {
        "fit": gr.Radio(
            [(label, name) for name, (label, _) in geometry.FITS.items()],
            value="crop",
            label="A picture of another shape",
            info=geometry.FITS["crop"][1],
            elem_id="image-fit",
            elem_classes="segments",
        ),
        "colour": gr.ColorPicker(
            geometry.WHITE,
            label="Colour beneath transparency and around a padded picture",
            elem_id="image-colour",
        ),
    }


def strength_control() -> gr.Slider:
    """The strength; the strip under Where it starts is the same control, drawn."""
    return gr.Slider(
        0,
        1,
        value=0.6,
        step=0.01,
        label="How much is drawn anew (strength)",
        info="0 keeps the picture, 0.5 keeps its layout, 1 keeps next to nothing.",
        elem_id="image-strength",
        elem_classes="strength",
    )


def shown_views(page: Page) -> tuple[Views, gr.HTML, gr.HTML]:
    """The right column."""
    with gr.Tabs(selected="begin", elem_id="views", elem_classes="views", overflow_behavior="wrap") as tabs:
        with gr.Tab("Where it starts", id="begin"):
            begin = strength.panel()
            other = sentence(elem_id="other-noise")
        with gr.Tab("Mark the part", id="mark", visible=False) as mark:
            editor = brush.brush()
        with gr.Tab("Result", id="result"):
            stage = film(prefix="image-")
        with gr.Tab("Before and after", id="compare"):
            slider = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                type="filepath",
                format="png",
                interactive=False,
                # What it would download is enlarged and holds no settings; the result's own button is on the film.
                buttons=["fullscreen"],
                elem_id="compare",
            )
            said = sentence(EMPTY, elem_id="compare-said")
    return Views(tabs, gr.State(None), mark, begin, other, chain.chain(), slider, said), editor, stage


def turn_to(name: str) -> dict[str, Any]:
    """A value of ``Views.turn``; the time, so that the same view can be asked for twice."""
    return {"to": name, "at": time.time()}


def turned(turn: Any) -> Any:
    """The view that was asked for last."""
    return gr.Tabs(selected=turn["to"]) if isinstance(turn, dict) else gr.skip()


# -- from the controls to a request --------------------------------------------------------------------------------


def asking_of(page: Page, desk: Desk, source: Source, views: Views, groups: Groups) -> Asking:
    """What this tab adds to its desk."""

    def request_of(values: Mapping[Component, Any], new_seed: bool) -> GenerationRequest:
        return request_from(page, desk, source, values, new_seed=new_seed)

    def explained(text: str) -> dict[Component, Any] | None:
        if text == UNMARKED:
            return {groups.error: text, views.turn: turn_to("mark")}
        return {groups.error: text} if text in (NONE, uploads.GONE) else None

    def shown(request: GenerationRequest, value: Mapping[str, Any]) -> dict[Component, Any]:
        if value["state"] != "done" or request.init is None:
            return {}
        try:
            before = page.backend.inputs.get(request.init.image)
        except InvalidRequest as problem:
            return {views.said: str(problem)}
        with Image.open(value["pictures"][0]["file"]["path"]) as after:
            return {views.slider: (enlarged(before), enlarged(after.convert("RGB"))), views.said: COMPARED}

    return Asking(
        desk.controls.all() | source.all(),
        [groups.error, views.slider, views.said, views.turn],
        request_of,
        explained,
        lambda: {groups.error: ""},
        shown,
        lambda: {views.turn: turn_to("result")},
    )


def request_from(
    page: Page, desk: Desk, source: Source, values: Mapping[Component, Any], *, new_seed: bool = False
) -> GenerationRequest:
    """The request of everything on the left; raises InvalidRequest with one sentence."""
    base = values[source.base]
    if not isinstance(base, dict):
        raise InvalidRequest(NONE)
    named = {**desk.controls.named(values), "width": base["size"][0], "height": base["size"][1]}
    return controls.request_of({**named, "init": init_of(source, values, base)}, new_seed=new_seed)


def init_of(source: Source, values: Mapping[Component, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``InitImage``."""
    chosen = values[source.strength]
    init: dict[str, Any] = {"image": base["image"], "strength": float(chosen) if type(chosen) is int else chosen}
    if base["mode"] == BEYOND:
        return {**init, "mask": base["mask"], "feather": 0}
    if base["mode"] != PART:
        return init
    if not values[source.mask]:
        raise InvalidRequest(UNMARKED)
    more = {"only_masked": True, "padding": controls.whole(values[source.padding])} if values[source.only] else {}
    return {**init, "mask": values[source.mask], "feather": controls.whole(values[source.feather]), **more}


# -- the picture ---------------------------------------------------------------------------------------------------


def prepared(page: Page, source: Source, desk: Desk, values: Mapping[Component, Any]) -> dict[str, Any] | None:
    """What is made of the picture before a run: stored, fitted or grown; None without a picture.

    Returns:
        ``image`` and ``mask``: ids; ``size``: of the request; ``fitted``: id of what the strip shows; ``mode``;
        ``notes``: what a person should know.

    Raises:
        InvalidRequest: with one sentence.
    """
    path = values[source.picture]
    if not path:
        return None
    found, put = uploads.read(path), page.backend.inputs.put
    mode, colour = values[source.mode], values[source.colour] or geometry.WHITE
    size = tuple(side(values[control], name) for control, name in sizes(desk))
    fitted = geometry.fit(found.image, *size, values[source.fit], colour)
    base = {"mode": mode, "notes": list(found.notes), "mask": None}
    if mode == BEYOND:
        edges = [side(values[control] or 0, "The edge") for control in source.edges()]
        factor = page.cards[values[desk.controls.model]].size_factor
        canvas, mask = geometry.grow(fitted, *edges, factor)
        name = put(canvas)
        return {**base, "image": name, "fitted": name, "mask": put(mask), "size": list(canvas.size)}
    fit_id = put(fitted)
    image = fit_id
    if mode == PART and values[source.only]:
        image = put(geometry.bounded(found.image, colour))
    return {**base, "image": image, "fitted": fit_id, "size": list(size)}


def sizes(desk: Desk) -> list[tuple[Component, str]]:
    """Width and height."""
    return [(desk.controls.width, "width"), (desk.controls.height, "height")]


def side(value: Any, name: str) -> int:
    """A number of pixels that a browser sent; raises InvalidRequest."""
    if value is None:
        raise InvalidRequest(f"{name} is empty; give a number of pixels.")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SIDE:
        raise InvalidRequest(f"{name} is {str(value)[:20]}; give a whole number up to {MAX_SIDE}.")
    return int(value)


def canvas_for(page: Page, base: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the painting surface shows: the picture, with nothing painted on it; None in the other modes."""
    if base is None or base["mode"] != PART:
        return None
    return brush.shown(page.backend.inputs.get(base["image"]), base["image"])


def enlarged(image: Image.Image) -> Image.Image:
    """A picture that is large enough to be compared: a small one a whole number of times as large."""
    scale = max(1, SEEN_SIDE // max(image.size))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)


def painted(page: Page, base: Any, key: Any, uri: Any) -> Any:
    """The id of what a browser painted on picture ``key``; None for nothing, no update if that is not on view."""
    if not isinstance(base, dict) or key != base["image"]:
        return gr.skip()
    try:
        size = page.backend.inputs.get(base["image"]).size
    except InvalidRequest:
        return None  # said when a run is asked for
    return brush.read(uri, size, page.backend.inputs)


def wire_source(page: Page, desk: Desk, source: Source, groups: Groups) -> None:
    """A picture, or how it is to be used, has changed."""
    outputs = [source.base, groups.error, groups.note, source.editor, source.mask, groups.painted]

    def prepare(values: Mapping[Component, Any]) -> dict[Component, Any]:
        try:
            base = prepared(page, source, desk, values)
        except InvalidRequest as problem:
            return {source.base: None, groups.error: str(problem), groups.note: ""}
        found: dict[Component, Any] = {source.base: base, groups.error: "", groups.note: note_of(base)}
        # Painting is lost only when another picture is to be painted on.
        if base and base["mode"] == PART and base["image"] != values[groups.painted]:
            found |= {source.editor: canvas_for(page, base), source.mask: None, groups.painted: base["image"]}
        return found

    def paint(base: Any, data: gr.EventData) -> Any:
        return painted(page, base, carried(data, "key", None), carried(data, "uri", None))

    changes = [source.picture.change, source.fit.input, source.colour.input, source.mode.input, source.only.input]
    changes += [control.change for control, _ in sizes(desk)] + [edge.change for edge in source.edges()]
    # Queued, although quick: Gradio tells of a changed state on this way alone.
    asked = source.all() | desk.controls.all() | {groups.painted}
    here = {"show_progress_on": [groups.error]}
    gr.on(changes, prepare, asked, outputs, trigger_mode="always_last", **WATCH, **here)
    # One after the other, so that the last one stays.
    one = {**OWN, "concurrency_limit": 1, "trigger_mode": "multiple"}
    told = source.editor.mask(paint, [source.base], [source.mask], **one, **here)
    told.then(None, None, None, js="() => document.dispatchEvent(new CustomEvent('playground:mask'))", **QUICK)


def wire_views(source: Source, views: Views, groups: Groups) -> None:
    """What comes and goes with the mode, and which view is on top."""

    def choose(mode: Any, only: Any) -> tuple[Any, ...]:
        known = mode if isinstance(mode, str) and mode in ABOUT else WHOLE
        return (
            gr.Radio(info=ABOUT[known]), gr.Column(visible=known == PART), gr.Column(visible=known == BEYOND),
            gr.Tab(visible=known == PART), gr.Tabs(selected="mark" if known == PART else "begin"),
            gr.Slider(visible=bool(only)),
        )  # fmt: skip

    here = {"show_progress_on": [groups.error]}
    shown = [source.mode, groups.part, groups.beyond, views.mark, views.tabs, source.padding]
    gr.on([source.mode.input, source.only.input], choose, [source.mode, source.only], shown, **QUICK, **here)
    # Not by the runs themselves: a component that a generator changes goes on being asked for all that it holds.
    views.turn.change(turned, [views.turn], [views.tabs], **QUICK, **here)
    source.fit.input(
        lambda name: gr.Radio(info=geometry.FITS[name][1]) if name else gr.skip(), [source.fit], [source.fit], **QUICK
    )


def note_of(base: Mapping[str, Any] | None) -> str:
    """What was done to the picture, in words."""
    if base is None:
        return ""
    grown = f"The canvas is {base['size'][0]} x {base['size'][1]} pixels now." if base["mode"] == BEYOND else ""
    return " ".join([*base["notes"], *([grown] if grown else [])])


# -- strength ------------------------------------------------------------------------------------------------------


def wire_strength(page: Page, desk: Desk, source: Source, views: Views, asking: Asking) -> None:
    """The strip of noise levels, the model's one look, and the same noise without the picture."""
    c = desk.controls
    asked = [source.base, c.model, c.prompt, c.scheduler, c.num_inference_steps, c.seed]

    def level(values: Mapping[Component, Any]) -> GenerationRequest | None:
        """The request whose noise levels are drawn: those of the whole picture, whatever is marked."""
        base = values[source.base]
        if not isinstance(base, dict):
            return None
        named = {
            "model": values[c.model], "prompt": values[c.prompt] or "", "scheduler": values[c.scheduler],
            "num_inference_steps": values[c.num_inference_steps], "guidance_scale": 1.0,
            "width": base["size"][0], "height": base["size"][1], "seed": controls.read_seed(values[c.seed], True),
        }  # fmt: skip
        return controls.make_request(**named, init={"image": base["fitted"], "strength": 1.0})

    def draw(values: Mapping[Component, Any]) -> Iterator[dict[Component, Any]]:
        try:
            request = level(values)
        except InvalidRequest as problem:
            yield {views.begin: {"key": "failed", "state": "failed", "text": str(problem)}}
            return
        if request is None:
            yield {views.begin: {"key": "none", "state": "empty", "text": ""}}
            return
        for value in strength.story(page, request, strength.key_of(request)):
            yield {views.begin: value}

    def see(values: Mapping[Component, Any], data: gr.EventData) -> dict[Component, Any]:
        try:
            request = level(values)
        except InvalidRequest:
            request = None
        if request is None:
            return {views.begin: gr.skip()}
        return {views.begin: strength.seen(page, request, strength.key_of(request), carried(data, "index", None))}

    changed = [source.base.change, c.scheduler.change, c.num_inference_steps.change, c.seed.change, c.model.change]
    gr.on(changed, draw, set(asked), [views.begin], trigger_mode="always_last", **WATCH)
    views.begin.see(see, set(asked), [views.begin], **WATCH)
    c.keep_seed.change(about_noise, [c.keep_seed], [views.other], **QUICK)
    wire_twins(page, desk, source, views, asking)


def about_noise(kept: Any) -> str:
    """What the strip cannot show: with a seed that is drawn at the start, the run's noise is not known before."""
    return "" if kept else OTHER_NOISE


def wire_twins(page: Page, desk: Desk, source: Source, views: Views, asking: Asking) -> None:
    """At strength 1: the run with the picture and the run without it, from the same noise, side by side."""
    told = list(dict.fromkeys([desk.film, desk.mine, page.job, *desk.errors(), desk.settings, *asking.outputs]))

    def compare(values: Mapping[Component, Any]) -> Iterator[dict[Component, Any]]:
        try:
            base = values[source.base]
            if isinstance(base, dict):
                base = {**base, "mode": WHOLE, "image": base["fitted"]}
            named = {**values, source.strength: 1.0, source.base: base, desk.controls.num_images: 1}
            request = request_from(page, desk, source, named)
            assert request.init is not None
            init = {"image": request.init.image, "strength": 1.0, "noise_only": True}
            alone = GenerationRequest.model_validate({**request.model_dump(), "init": init})
            jobs = [page.backend.submit(one, visitor()) for one in (request, alone)]
        except (InvalidRequest, QueueFull) as problem:
            yield making.explain(desk, asking, problem)
            return
        yield {**desk.errors(), **asking.clear(), **asking.begun()}
        for job in jobs:
            yield {desk.mine: job.id, page.job: job.id}
            for update in making.show(desk, asking, job):
                yield {key: value for key, value in update.items() if key is desk.film}
        pair = [finished(job) for job in jobs]
        if all(pair):
            both = tuple(enlarged(image) for image in pair if image)
            yield {views.slider: both, views.said: TWINS, views.turn: turn_to("compare")}

    views.begin.compare(compare, asking.inputs, told, **WATCH, show_progress_on=[desk.run_error])


def finished(job: Job) -> Image.Image | None:
    """The first picture of a job that is done, or None."""
    last = job.poll()[-1:]
    if not last or not isinstance(last[0], Finished):
        return None
    with Image.open(last[0].pictures[0].path) as image:
        return image.convert("RGB")


# -- the chain -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Links:
    """What happens to the chain; each answer is the picture, the links, the one in use, the chain's value, an error."""

    page: Page

    def join(self, image: Image.Image, links: Any, kind: str) -> tuple[Any, ...]:
        """A picture that is used from now on."""
        inputs = self.page.backend.inputs
        name = inputs.put(image)
        more = chain.add(links, name, kind)
        return image, more, name, chain.shown(more, inputs, name), ""

    def bring(self, path: Any, links: Any) -> tuple[Any, ...]:
        """A picture of one's own; what is wrong with it is said when it is prepared."""
        try:
            found = uploads.read(path).image if path else None
        except InvalidRequest:
            found = None
        return (gr.skip(), *self.join(geometry.bounded(found), links, chain.YOURS)[1:]) if found else self.as_it_is()

    def receive(self, sent: Any, links: Any) -> tuple[Any, ...]:
        """A result that is to be the next start."""
        image = sent_picture(self.page, sent)
        return self.join(image, links, chain.RESULT) if image else self.as_it_is(SENT_GONE)

    def back(self, links: Any, data: gr.EventData) -> tuple[Any, ...]:
        """A click on one of the chain."""
        try:
            return self.use(links, str(carried(data, "id", "")))
        except InvalidRequest as problem:
            return self.as_it_is(str(problem))

    def enter(self, path: Any, links: Any, sent: Any) -> tuple[Any, ...]:
        """Coming here without a picture: the last one of this browser, else the one that comes with the model."""
        # A picture that was sent here is on its way, or was: these links may not know of it yet.
        if path or sent:
            return self.as_it_is()
        found = chain.read(links)
        for link in reversed(found):
            with suppress(InvalidRequest):
                return self.use(found, link["id"])
        first = sent_picture(self.page, {"id": making.BUNDLED, "picture": 0})
        return self.join(first, [], chain.EXAMPLE) if first else self.as_it_is()

    def use(self, links: Any, name: str) -> tuple[Any, ...]:
        """A picture of the chain; raises InvalidRequest if it is gone."""
        inputs = self.page.backend.inputs
        return inputs.get(name), links, name, chain.shown(links, inputs, name), ""

    def as_it_is(self, error: str | None = None) -> tuple[Any, ...]:
        """Nothing changes but, where there is one, the error."""
        return (*[gr.skip() for _ in range(4)], gr.skip() if error is None else error)


def wire_chain(page: Page, source: Source, views: Views, groups: Groups) -> None:
    """Pictures that runs started from: each that is brought or sent here joins, and a click goes back."""
    outputs = [source.picture, groups.links, groups.now, views.chain, groups.error]
    links = Links(page)
    source.picture.input(links.bring, [source.picture, groups.links], outputs, **WATCH)
    page.sent.change(links.receive, [page.sent, groups.links], outputs, **WATCH)
    page.sent.change(lambda: gr.Tabs(selected="begin"), None, [views.tabs], **QUICK, show_progress_on=[groups.error])
    views.chain.back(links.back, [groups.links], outputs, **WATCH)
    page.tab.select(links.enter, [source.picture, groups.links, page.sent], outputs, **WATCH)


def sent_picture(page: Page, sent: Any) -> Image.Image | None:
    """The picture that was sent here: the stored file, or what its trace kept of it."""
    if not isinstance(sent, dict):
        return None
    job, k = making.find(page.backend, sent.get("id")), sent.get("picture", 0)
    trace = page.trace(sent)
    sources: list[Callable[[], Any]] = []
    if job is not None and job.poll() and isinstance(job.poll()[-1], Finished):
        sources.append(lambda: job.poll()[-1].pictures[k].path)
    if trace is not None:
        sources += [lambda: trace.pictures[k].path, lambda: io.BytesIO(trace.finals[k])]
    for where in sources:
        try:
            with Image.open(where()) as image:
                return image.convert("RGB")
        except (OSError, IndexError, TypeError):
            continue
    return None
