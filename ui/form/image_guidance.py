"""Image guidance: a map for a ControlNet, which says where things are, and a reference image for an IP-Adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.jobs.backend import QueryFailed
from pipelines.models.adapters.controlnet import ControlNetFile
from pipelines.models.adapters.ip_adapter import IPAdapterFile
from pipelines.request import Control, InvalidRequest
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT
from ui.components.image_upload import ImageUpload
from ui.components.message import message
from ui.form.form import Form, FormSection, FormValues, error_of, shows_errors_beside
from ui.form.form import shown as shown_error

if TYPE_CHECKING:
    from ui.context import PageContext
    from ui.form.layout import FormLayout

TITLE = "Guide with an image"
CONTROLNET, IP_ADAPTER = "ControlNet", "IP-Adapter"
SIDE = 320
KINDS = (("None: already a map", "map"), ("Edges (Canny)", "canny"), ("Depth", "depth"), ("Pose", "pose"))
ABOUT = {
    "map": "The image goes to the ControlNet as it is.",
    "canny": "Its outlines are found first (Canny), for ControlNets made for edges.",
    "depth": "What is near and what is far is found first, for ControlNets made for depth.",
    "pose": "How a person stands is found first, for ControlNets made for poses.",
}
ERROR_FIELDS = frozenset({"controls", "reference"})
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
class ImageGuidance:
    """The components.

    Attributes:
        page: what every tab is given.
        map_upload, map_image: the image for the ControlNet: the upload, and its path and id in the upload store.
        map_kept: that id, as a text that the browser keeps; never shown.
        net, kind, weight, start, end: see ``pipelines.request.Control``.
        map_preview: what the ControlNet sees.
        reference_upload, reference_image, reference_kept: the same for the image for the IP-Adapter.
        adapter, adapter_weight: see ``pipelines.request.ImagePrompt``.
        accordion, control_group, reference_group: the accordion and its two halves.
        errors: the sentences about what is wrong, by field of the request; "controls" and "reference" are those about
            the images.
    """

    page: PageContext
    map_upload: ImageUpload
    map_image: gr.State
    map_kept: gr.Textbox
    net: gr.Dropdown
    kind: gr.Radio
    weight: gr.Slider
    start: gr.Slider
    end: gr.Slider
    map_preview: gr.HTML
    reference_upload: ImageUpload
    reference_image: gr.State
    reference_kept: gr.Textbox
    adapter: gr.Dropdown
    adapter_weight: gr.Slider
    accordion: gr.Accordion
    control_group: gr.Column
    reference_group: gr.Column
    errors: Mapping[str, gr.HTML]

    def section(self) -> FormSection:
        """These components as a section of a form."""
        inputs = {self.map_upload, self.map_image, self.net, self.kind, self.weight, self.start, self.end}
        inputs |= {self.reference_upload, self.reference_image, self.adapter, self.adapter_weight}
        here = self.page.backend.adapters
        return FormSection(
            frozenset(inputs),
            self.fields,
            tuple(self.errors.values()),
            shows_errors_beside(self.errors, self.errors["controls"], ERROR_FIELDS, self.accordion),
            outputs=(self.accordion,),
            kept=(self.map_kept, self.kind, self.net, self.weight, self.start, self.end,
                  self.reference_kept, self.adapter, self.adapter_weight),
            offered={self.net: lambda: names(here.controlnets()), self.adapter: lambda: names(here.ip_adapters())},
            brought_back=self.brought_back,
            fixes={**dict.fromkeys(("controls", "controls.image", "controls.net"), self.without_map),
                   **dict.fromkeys(("reference", "reference.image", "reference.adapter"), self.without_reference)},
            in_use_of=(self.map_kept, self.reference_kept),
            in_use=self.in_use,
            wire=lambda form: wire(form, self),
        )  # fmt: skip

    def in_use(self, values: Mapping[Component, Any]) -> list[tuple[str, str]]:
        """What guides, and the id of its control."""
        guides = ((self.map_kept, CONTROLNET, "map-picture"), (self.reference_kept, IP_ADAPTER, "look-picture"))
        return [(label, opens) for kept, label, opens in guides if values[kept]]

    def without_map(self, _: FormValues) -> dict[Any, Any]:
        """Updates that remove the map."""
        return {self.map_upload: None, self.map_image: None, self.map_kept: ""}

    def without_reference(self, _: FormValues) -> dict[Any, Any]:
        """Updates that remove the reference image."""
        return {self.reference_upload: None, self.reference_image: None, self.reference_kept: ""}

    def brought_back(self, values: Mapping[Component, Any]) -> dict[Any, Any]:
        """Updates for a preprocessor that a reload brings back."""
        if self.kind not in values:
            return {}
        kind = values[self.kind]
        return {self.kind: gr.Radio(value=kind, info=ABOUT[kind])}

    def fields(self, values: FormValues) -> dict[str, Any]:
        """Fields of the request: ``controls`` and ``reference``, each only with an image; raises InvalidRequest."""
        found: dict[str, Any] = {}
        if map_image := self._image("controls", values[self.map_upload], values[self.map_image]):
            if not values[self.net]:
                raise InvalidRequest(
                    "controls.net", "No ControlNet is chosen for your map. Choose one or remove the map."
                )
            names = ("net", "kind", "weight", "start", "end")
            control = {name: values[getattr(self, name)] for name in names}
            found["controls"] = ({**control, "image": map_image},)
        if reference := self._image("reference", values[self.reference_upload], values[self.reference_image]):
            if not values[self.adapter]:
                raise InvalidRequest("reference.adapter", "No IP-Adapter is chosen. Choose one or remove its image.")
            adapter, weight = values[self.adapter], values[self.adapter_weight]
            found["reference"] = {"adapter": adapter, "image": reference, "weight": weight}
        return found

    def _image(self, field: str, path: Any, stored: Any) -> str | None:
        """The id of an uploaded image, also where Generate was pressed before its own event had stored it."""
        if not path or (stored and stored[0] == path):
            return stored[1] if path else None
        try:
            return store_upload(self.page, path)
        except InvalidRequest as problem:
            raise InvalidRequest(field, str(problem)) from problem


def build(layout: FormLayout) -> FormSection:
    """Lay out the accordion; it is visible only if there is a ControlNet or an IP-Adapter."""
    return lay_out(layout.page, layout.prefix).section()


def lay_out(page: PageContext, prefix: str = "") -> ImageGuidance:
    """The components."""
    nets, adapters = page.backend.adapters.controlnets(), page.backend.adapters.ip_adapters()
    # Outside of the drawer: what is in a closed one is not built, and says nothing when a reload brings it back.
    kept = {"map_kept": kept_id(f"{prefix}map-kept"), "reference_kept": kept_id(f"{prefix}look-kept")}
    with gr.Accordion(
        TITLE, open=False, visible=bool(nets or adapters), elem_id=f"{prefix}guides",
        elem_classes="drawer",
    ) as accordion:  # fmt: skip
        with gr.Column(visible=bool(nets), elem_id=f"{prefix}where", elem_classes="guide") as control_group:
            found, errors = map_controls(nets, prefix)
        with gr.Column(visible=bool(adapters), elem_id=f"{prefix}how", elem_classes="guide") as reference_group:
            looks, more = reference_controls(adapters, prefix)
    found |= looks
    groups = {"control_group": control_group, "reference_group": reference_group}
    return ImageGuidance(page, **found, **kept, **groups, accordion=accordion, errors={**errors, **more})


def map_controls(nets: Sequence[ControlNetFile], prefix: str) -> tuple[dict[str, Any], dict[str, gr.HTML]]:
    """The map and its ControlNet, and where the errors of each stand."""
    found: dict[str, Any] = {"map_upload": upload("Where things are (ControlNet)", f"{prefix}map-picture")}
    errors = {"controls": error_of(f"{prefix}map-picture")}
    found["map_image"] = gr.State(None)
    found["kind"] = gr.Radio(
        list(KINDS), value="canny", label="Preprocessor: what your image is", info=ABOUT["canny"],
        elem_id=f"{prefix}map-kind",
    )  # fmt: skip
    errors["controls.kind"] = error_of(f"{prefix}map-kind")
    found["map_preview"] = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=_DRAW, elem_id=f"{prefix}map", apply_default_css=False
    )
    found["net"] = gr.Dropdown(
        choices(nets), value=first(nets), label="ControlNet", elem_id=f"{prefix}map-net",
        info="It has to be made for your model, and for such maps.",
    )  # fmt: skip
    errors["controls.net"] = error_of(f"{prefix}map-net")
    found["weight"] = gr.Slider(
        0, 2, value=1, step=0.05, label="Weight", info="0 is off, 1 is as it was trained.",
        elem_id=f"{prefix}map-weight",
    )  # fmt: skip
    errors["controls.weight"] = error_of(f"{prefix}map-weight")
    found["start"] = gr.Slider(
        0, 1, value=0, step=0.05, label="Start, as a share of the steps", elem_id=f"{prefix}map-start"
    )
    errors["controls.start"] = error_of(f"{prefix}map-start")
    found["end"] = gr.Slider(
        0, 1, value=1, step=0.05, label="End, as a share of the steps", elem_id=f"{prefix}map-end",
        info="With 0.5 it decides the layout, and the details stay free.",
    )  # fmt: skip
    errors["controls.end"] = error_of(f"{prefix}map-end")
    return found, errors


def reference_controls(adapters: Sequence[IPAdapterFile], prefix: str) -> tuple[dict[str, Any], dict[str, gr.HTML]]:
    """The reference image and its IP-Adapter, and where the errors of each stand."""
    found: dict[str, Any] = {
        "reference_upload": upload("How it looks (IP-Adapter)", f"{prefix}look-picture"),
        "reference_image": gr.State(None),
    }
    errors = {"reference": error_of(f"{prefix}look-picture")}
    found["adapter"] = gr.Dropdown(
        choices(adapters), value=first(adapters), label="IP-Adapter", elem_id=f"{prefix}look-adapter",
        info="It has to be made for your model. It sees the middle square of the image.",
    )  # fmt: skip
    errors["reference.adapter"] = error_of(f"{prefix}look-adapter")
    found["adapter_weight"] = gr.Slider(
        0, 1.5, value=0.6, step=0.05, label="Weight", elem_id=f"{prefix}look-weight",
        info="0 is off, 0.6 leaves room for the prompt, 1 is as it was trained.",
    )  # fmt: skip
    errors["reference.weight"] = error_of(f"{prefix}look-weight")
    return found, errors


def upload(label: str, elem_id: str) -> ImageUpload:
    """An image upload with its title."""
    message(label, elem_id=f"{elem_id}-head")
    return ImageUpload(
        label=label, show_label=False, type="filepath", sources=["upload", "clipboard", "webcam"], format="png",
        height=160, elem_id=elem_id,
    )  # fmt: skip


def kept_id(elem_id: str) -> gr.Textbox:
    """Holds the id of a stored image."""
    return gr.Textbox("", visible="hidden", max_length=64, elem_id=elem_id)


def names(files: Sequence[ControlNetFile] | Sequence[IPAdapterFile]) -> list[str]:
    """What a dropdown offers."""
    return [file.name for file in files]


def choices(files: Sequence[ControlNetFile] | Sequence[IPAdapterFile]) -> list[tuple[str, str]]:
    """Choices of a dropdown, as (label, name)."""
    return [(file.name, file.name) for file in files]


def first(files: Sequence[ControlNetFile] | Sequence[IPAdapterFile]) -> str | None:
    """The one that is chosen by default."""
    return files[0].name if files else None


def wire(form: Form, guidance: ImageGuidance) -> None:
    """Store the uploads, show the map, and keep the lists of files up to date."""
    page, c, g = guidance.page, form.controls, guidance

    def store(path: Any) -> tuple[Any, str, Any]:
        try:
            name = store_upload(page, path) if path else ""
            return ((path, name) if path else None), name, ""
        except InvalidRequest as problem:
            return None, "", shown_error(problem)

    def bring_back(name: Any, path: Any) -> tuple[Any, Any]:
        """The image that a reload has left only the id of."""
        if path or not isinstance(name, str) or not name:
            return gr.skip(), gr.skip()
        try:
            return page.inputs.get(name), gr.skip()
        except InvalidRequest:
            return gr.skip(), ""

    def preview(stored: Any, kind: Any, width: Any, height: Any) -> tuple[Any, Any, Any]:
        image = stored[1] if stored else None
        try:
            return about(kind), map_uri(page, image, kind, width, height), ""
        except (InvalidRequest, QueryFailed) as problem:
            return about(kind), None, shown_error(problem)

    def refresh(net: Any, adapter: Any) -> tuple[Any, ...]:
        nets, adapters = page.backend.adapters.controlnets(), page.backend.adapters.ip_adapters()
        return (
            gr.Accordion(visible=bool(nets or adapters)),
            gr.Column(visible=bool(nets)),
            gr.Column(visible=bool(adapters)),
            listed(nets, net),
            listed(adapters, adapter),
        )

    options = {**CONCURRENT, "show_progress_on": [g.map_preview]}
    asked, shown = [g.map_image, g.kind, c.width, c.height], [g.kind, g.map_preview, g.errors["controls.kind"]]
    stored = g.map_upload.change(store, [g.map_upload], [g.map_image, g.map_kept, g.errors["controls"]], **options)
    stored.success(preview, asked, shown, **options)
    gr.on([g.kind.input, c.width.change, c.height.change], preview, asked, shown, **options)
    g.reference_upload.change(
        store, [g.reference_upload], [g.reference_image, g.reference_kept, g.errors["reference"]], **options
    )
    for kept, image in ((g.map_kept, g.map_upload), (g.reference_kept, g.reference_upload)):
        kept.change(bring_back, [kept, image], [image, kept], **options)
    # What is in use is on view while the drawer is closed.
    images = [g.map_kept, g.reference_kept]
    gr.on([one.change for one in images], title, images, [g.accordion], **CONCURRENT)
    lists = [g.accordion, g.control_group, g.reference_group, g.net, g.adapter]
    gr.on([page.blocks.load, page.tab.select], refresh, [g.net, g.adapter], lists, **{**CONCURRENT, "queue": False})


def about(kind: Any) -> Any:
    """The preprocessor, with what it does."""
    return gr.Radio(info=ABOUT.get(kind, "") if isinstance(kind, str) else "")


def listed(files: Sequence[ControlNetFile] | Sequence[IPAdapterFile], chosen: Any) -> Any:
    """A dropdown with what is there now; a choice that is still there stays, also one that is on its way."""
    return gr.Dropdown(choices(files)) if chosen in names(files) else gr.Dropdown(choices(files), value=first(files))


def title(control: Any, reference: Any) -> Any:
    """The drawer's title, with what is in use."""
    used = [name for name, image in ((CONTROLNET, control), (IP_ADAPTER, reference)) if image]
    return gr.Accordion(label=": ".join([TITLE, *([" and ".join(used)] if used else [])]))


def store_upload(page: PageContext, path: str) -> str:
    """The id of an uploaded image, once it is read and stored; raises InvalidRequest."""
    inputs = page.inputs
    with inputs.slot():
        return inputs.put(inputs.read(path).image)


def map_uri(page: PageContext, image: Any, kind: Any, width: Any, height: Any) -> str | None:
    """What a ControlNet would see, as a thumbnail's data URI; None without an image; raises InvalidRequest."""
    sides = [int(side) if isinstance(side, int | float) and 8 <= side <= 2048 else 0 for side in (width, height)]
    known = isinstance(image, str) and isinstance(kind, str) and kind in ABOUT
    if not known or not image or not all(sides):
        return None
    return thumbnail_uri(page.queries.control_map(Control(net="any", image=image, kind=kind), *sides), SIDE)
