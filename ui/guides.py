"""Pictures that guide a run beside the prompt: a map that says where things are, and one that says how they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines import uploads
from pipelines.adapters import AdapterFile
from pipelines.controlnets import ControlFile
from pipelines.request import Control, GenerationRequest, InvalidRequest, amended
from ui.dropped import Dropped
from ui.making import WATCH, Asking, Desk, Page
from ui.panel import picture_uri
from ui.plain import sentence

SIDE = 320
KINDS = (("It is a map", "map"), ("Find edges", "canny"), ("Find depth", "depth"), ("Find the pose", "pose"))
ABOUT = {
    "map": "The picture goes to the ControlNet as it is.",
    "canny": "Its outlines are found first (Canny), for ControlNets made for edges.",
    "depth": "What is near and what is far is found first, for ControlNets made for depth.",
    "pose": "How a person stands is found first, for ControlNets made for poses.",
}
# How errors begin that belong here.
STARTS = (
    "There is no ControlNet", "There is no IP-Adapter", "The ControlNet", "The IP-Adapter", "Nothing here finds",
    "controls", "reference",
)  # fmt: skip
_TEMPLATE = """<figure class="map" hidden><img alt="What the ControlNet sees">
<figcaption>What the ControlNet sees</figcaption></figure>"""
_DRAW = """
const figure = element.querySelector('figure');
function draw() {
  figure.hidden = !props.value;
  if (props.value) figure.querySelector('img').src = props.value;
}
watch('value', draw);
draw();
"""


@dataclass(frozen=True)
class Guides:
    """The components.

    Attributes:
        picture, image: of the map: the upload, and the id under which it is kept.
        net, kind, weight, start, end: see ``pipelines.request.Control``.
        look, seen: of the picture to resemble: the upload, and its id.
        adapter, strength: see ``pipelines.request.Reference``.
        box, where, how: the accordion and its two halves.
        map, error: what the ControlNet sees, and the sentence about what is wrong.
    """

    picture: Dropped
    image: gr.State
    net: gr.Dropdown
    kind: gr.Radio
    weight: gr.Slider
    start: gr.Slider
    end: gr.Slider
    look: Dropped
    seen: gr.State
    adapter: gr.Dropdown
    strength: gr.Slider
    box: gr.Accordion
    where: gr.Column
    how: gr.Column
    map: gr.HTML
    error: gr.HTML

    def all(self) -> set[Component]:
        """Every component that asks, for an event's ``inputs``."""
        rest = {self.picture, self.look, self.box, self.where, self.how, self.map, self.error}
        return {getattr(self, f.name) for f in fields(self)} - rest

    def fields(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        """Values keyed by component -> fields of the request by name; nothing without a picture."""
        found: dict[str, Any] = {}
        if values[self.image]:
            control = {name: values[getattr(self, name)] for name in ("net", "image", "kind", "weight", "start", "end")}
            if not control["net"]:
                raise InvalidRequest("There is no ControlNet chosen for your map; choose one, or take the picture out.")
            found["controls"] = (control,)
        if values[self.seen]:
            if not values[self.adapter]:
                raise InvalidRequest("There is no IP-Adapter chosen; choose one, or take its picture out.")
            weight, image = values[self.strength], values[self.seen]
            found["reference"] = {"adapter": values[self.adapter], "image": image, "weight": weight}
        return found

    def explain(self, text: str) -> dict[Component, Any] | None:
        """Updates that put an error beside what caused it, or None when it belongs elsewhere."""
        return {self.error: text, self.box: gr.Accordion(open=True)} if text.startswith(STARTS) else None


def added(asking: Asking, guides: Guides) -> Asking:
    """What a tab adds to its desk, and these."""

    def request_of(values: Mapping[Component, Any], new_seed: bool) -> GenerationRequest:
        request, more = asking.request_of(values, new_seed), guides.fields(values)
        return amended(request, **more) if more else request

    def explain(text: str) -> dict[Component, Any] | None:
        found = guides.explain(text)
        return found if found is not None else asking.explain(text)

    return replace(
        asking,
        inputs=asking.inputs | guides.all(),
        outputs=[*asking.outputs, guides.error, guides.box],
        request_of=request_of,
        explain=explain,
        clear=lambda: {**asking.clear(), guides.error: ""},
    )


def build(page: Page, prefix: str = "") -> Guides:
    """The accordion; it is there only where a ControlNet or an IP-Adapter is."""
    nets, adapters = page.backend.controls(), page.backend.adapters()
    with gr.Accordion(
        "Guide it with a picture", open=False, visible=bool(nets or adapters), elem_id=f"{prefix}guides",
        elem_classes="fold",
    ) as box:  # fmt: skip
        error = sentence(elem_id=f"{prefix}guides-error", alert=True)
        with gr.Column(visible=bool(nets), elem_id=f"{prefix}where", elem_classes="guide") as where:
            found = map_controls(nets, prefix)
        with gr.Column(visible=bool(adapters), elem_id=f"{prefix}how", elem_classes="guide") as how:
            found |= look_controls(adapters, prefix)
    return Guides(**found, box=box, where=where, how=how, error=error)


def map_controls(nets: Sequence[ControlFile], prefix: str) -> dict[str, Any]:
    """A map and its ControlNet."""
    found: dict[str, Any] = {"picture": upload("Where things are (ControlNet)", f"{prefix}map-picture")}
    found["image"] = gr.State(None)
    found["kind"] = gr.Radio(
        list(KINDS), value="canny", label="What this picture is", info=ABOUT["canny"], elem_id=f"{prefix}map-kind",
    )  # fmt: skip
    found["map"] = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=_DRAW, elem_id=f"{prefix}map", apply_default_css=False
    )
    found["net"] = gr.Dropdown(
        choices(nets), value=first(nets), label="ControlNet", elem_id=f"{prefix}map-net",
        info="It has to be made for your model, and for such maps.",
    )  # fmt: skip
    found["weight"] = gr.Slider(
        0, 2, value=1, step=0.05, label="How strongly", info="0 is not at all, 1 is as it was trained.",
        elem_id=f"{prefix}map-weight",
    )  # fmt: skip
    found["start"] = gr.Slider(
        0, 1, value=0, step=0.05, label="From which share of the steps", elem_id=f"{prefix}map-start"
    )
    found["end"] = gr.Slider(
        0, 1, value=1, step=0.05, label="Until which share of the steps", elem_id=f"{prefix}map-end",
        info="Until 0.5 it decides the layout, and the details are free.",
    )  # fmt: skip
    return found


def look_controls(adapters: Sequence[AdapterFile], prefix: str) -> dict[str, Any]:
    """A picture to resemble and its IP-Adapter."""
    return {
        "look": upload("How it looks (IP-Adapter)", f"{prefix}look-picture"),
        "seen": gr.State(None),
        "adapter": gr.Dropdown(
            choices(adapters), value=first(adapters), label="IP-Adapter", elem_id=f"{prefix}look-adapter",
            info="It has to be made for your model. The middle of the picture is looked at.",
        ),
        "strength": gr.Slider(
            0, 1.5, value=0.6, step=0.05, label="How strongly", elem_id=f"{prefix}look-weight",
            info="0 is not at all, 0.6 leaves room for the prompt, 1 is as it was trained.",
        ),
    }  # fmt: skip


def upload(label: str, elem_id: str) -> Dropped:
    """A place for a picture, with its title."""
    sentence(label, elem_id=f"{elem_id}-head")
    return Dropped(
        label=label, show_label=False, type="filepath", sources=["upload", "clipboard", "webcam"], format="png",
        height=160, elem_id=elem_id,
    )  # fmt: skip


def choices(files: Sequence[ControlFile] | Sequence[AdapterFile]) -> list[tuple[str, str]]:
    """Choices of a dropdown, as (label, name)."""
    return [(file.name, file.name) for file in files]


def first(files: Sequence[ControlFile] | Sequence[AdapterFile]) -> str | None:
    """The one that is chosen where somebody has not."""
    return files[0].name if files else None


# -- what one control does to another --------------------------------------------------------------------------------


def wire(page: Page, desk: Desk, guides: Guides) -> None:
    """Keep the pictures, show the map, and keep up with the files that are there."""
    c, g = desk.controls, guides
    drawn = [g.image, g.kind, c.width, c.height]

    def keep(path: Any) -> tuple[Any, str]:
        try:
            return (page.backend.inputs.put(uploads.read(path).image) if path else None), ""
        except (InvalidRequest, OSError) as problem:
            return None, str(problem) if isinstance(problem, InvalidRequest) else "The picture could not be kept."

    def draw(image: Any, kind: Any, width: Any, height: Any) -> tuple[Any, Any, str]:
        about = gr.Radio(info=ABOUT.get(kind, "") if isinstance(kind, str) else "")
        try:
            return about, map_uri(page, image, kind, width, height), ""
        except InvalidRequest as problem:
            return about, None, str(problem)

    def refresh(net: Any, adapter: Any) -> tuple[Any, ...]:
        nets, adapters = page.backend.controls(), page.backend.adapters()
        names, others = {file.name for file in nets}, {file.name for file in adapters}
        return (
            gr.Accordion(visible=bool(nets or adapters)),
            gr.Column(visible=bool(nets)),
            gr.Column(visible=bool(adapters)),
            gr.Dropdown(choices(nets), value=net if net in names else first(nets)),
            gr.Dropdown(choices(adapters), value=adapter if adapter in others else first(adapters)),
        )

    here = {**WATCH, "show_progress_on": [g.error]}
    shown = [g.kind, g.map, g.error]
    g.picture.change(keep, [g.picture], [g.image, g.error], **here).success(draw, drawn, shown, **here)
    gr.on([g.kind.input, c.width.change, c.height.change], draw, drawn, shown, **here)
    g.look.change(keep, [g.look], [g.seen, g.error], **here)
    files = [g.box, g.where, g.how, g.net, g.adapter]
    gr.on([page.blocks.load, page.tab.select], refresh, [g.net, g.adapter], files, **{**WATCH, "queue": False})


def map_uri(page: Page, image: Any, kind: Any, width: Any, height: Any) -> str | None:
    """What a ControlNet would see, as a small picture; None while there is nothing to see.

    Raises:
        InvalidRequest: if it cannot be made.
    """
    sides = [int(side) if isinstance(side, int | float) and 8 <= side <= 2048 else 0 for side in (width, height)]
    known = isinstance(image, str) and isinstance(kind, str) and kind in ABOUT
    if not known or not image or not all(sides):
        return None
    return picture_uri(page.backend.map_of(Control(net="any", image=image, kind=kind), *sides), SIDE)
