"""The source image's section of the form: the upload, what is to change in it, the strength, and how it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.images import geometry
from pipelines.request import MAX_FEATHER, MAX_PADDING, MAX_SIDE, InvalidRequest
from ui.components import mask_editor
from ui.components.gradio_events import CONCURRENT, PRIVATE, UNQUEUED, event_value
from ui.components.image_upload import ImageUpload
from ui.components.message import message
from ui.form import controls
from ui.form.form import said, shown
from ui.tabs.image_to_image import crop_frame
from ui.tabs.image_to_image.prepared_image import (
    INPAINT,
    OUTPAINT,
    WHOLE,
    Preparation,
    PreparedImage,
    pixels,
)

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.context import PageContext
    from ui.form.form import Form, FormValues

ABOUT: Mapping[str, str] = {
    WHOLE: "The whole image gets noise and is drawn again.",
    INPAINT: "Only the part that you paint over changes (inpainting); every other pixel stays as it is.",
    OUTPAINT: "The image stays, and the model continues it at the edges (outpainting).",
}
NO_IMAGE = "Choose an image to start from first."
UNMARKED = "Nothing is marked yet. Paint over the part that is to change, under Mark the part."
# The fields whose errors are shown below the image.
ERROR_FIELDS = frozenset({"init", "image", "mask"})
_ANNOUNCE_MASK = "() => document.dispatchEvent(new CustomEvent('playground:mask'))"


@dataclass(frozen=True)
class Source:
    """The components.

    Attributes:
        upload: the image file; fit, colour: how it gets the size of the result.
        mode: WHOLE, INPAINT or OUTPAINT.
        editor, feather, only_masked, padding: of INPAINT.
        left, right, up, down: of OUTPAINT, pixels to add at each edge.
        strength: 0 to 1.
        prepared: a PreparedImage, or None without an image.
        mask: id of what was painted last, or None.
        painted_on: id of the image in the mask editor.
        inpaint_group, outpaint_group: the controls of these modes.
        crop_frame: the frame on the thumbnail; focus: the image's path and where the frame was moved, or None.
        error, note: what is wrong with the image, and what was done to it.
        width, height: the form's, to which the image is fitted.
    """

    upload: gr.Image
    fit: gr.Radio
    colour: gr.ColorPicker
    mode: gr.Radio
    editor: gr.HTML
    feather: gr.Slider
    only_masked: gr.Checkbox
    padding: gr.Slider
    left: gr.Number
    right: gr.Number
    up: gr.Number
    down: gr.Number
    strength: gr.Slider
    prepared: gr.State
    mask: gr.State
    painted_on: gr.State
    inpaint_group: gr.Column
    outpaint_group: gr.Column
    crop_frame: gr.HTML
    focus: gr.State
    error: gr.HTML
    note: gr.HTML
    width: gr.Number
    height: gr.Number

    @property
    def edges(self) -> list[gr.Number]:
        """Left, right, up and down."""
        return [self.left, self.right, self.up, self.down]

    @property
    def inputs(self) -> frozenset[Component]:
        """What ``fields`` reads."""
        own = {self.prepared, self.mask, self.strength, self.feather, self.only_masked, self.padding}
        return frozenset({*own, self.width, self.height})

    @property
    def kept(self) -> tuple[Component, ...]:
        """What survives a reload; the image comes back by itself, what was painted and the frame by the browser."""
        inpaint = (self.feather, self.only_masked, self.padding)
        return (self.mode, self.strength, self.fit, self.colour, *inpaint, *self.edges)

    @property
    def preparation_inputs(self) -> set[Component]:
        """What ``preparation`` reads, besides the form's size and model."""
        return {self.upload, self.fit, self.colour, self.mode, self.only_masked, self.focus, *self.edges}

    def fields(self, values: FormValues) -> dict[str, Any]:
        """Fields of the request: its size, and ``init``; raises InvalidRequest."""
        prepared = values[self.prepared]
        if not isinstance(prepared, PreparedImage):
            self._size(values)  # what is wrong with it keeps an image from being prepared
            raise InvalidRequest("init.image", NO_IMAGE)
        width, height = prepared.size
        return {"width": width, "height": height, "init": self._init(values, prepared)}

    def _size(self, values: Mapping[Component, Any]) -> tuple[int, int]:
        return pixels(values[self.width], "width", "Width"), pixels(values[self.height], "height", "Height")

    def _init(self, values: FormValues, prepared: PreparedImage) -> dict[str, Any]:
        init = {"image": prepared.image, "strength": values[self.strength]}
        if prepared.mode == OUTPAINT:
            return {**init, "mask": prepared.mask, "feather": 0}
        if prepared.mode != INPAINT:
            return init
        if not values[self.mask]:
            raise InvalidRequest("init.mask", UNMARKED)
        init |= {"mask": values[self.mask], "feather": controls.int_if_whole(values[self.feather])}
        if values[self.only_masked]:
            init |= {"only_masked": True, "padding": controls.int_if_whole(values[self.padding])}
        return init

    def preparation(self, values: Mapping[Component, Any], form: Form) -> Preparation:
        """How the upload is prepared; raises InvalidRequest."""
        mode = values[self.mode]
        mode = mode if isinstance(mode, str) and mode in ABOUT else WHOLE
        edges = [pixels(values[edge] or 0, "edges", "The edge") if mode == OUTPAINT else 0 for edge in self.edges]
        return Preparation(
            mode,
            self._size(values),
            values[self.fit],
            values[self.colour] or geometry.WHITE,
            bool(values[self.only_masked]),
            (edges[0], edges[1], edges[2], edges[3]),
            form.page.cards[values[form.controls.model]].size_factor if mode == OUTPAINT else 1,
            crop_frame.focus_of(values[self.upload], values[self.focus]),
        )


def prepare(source: Source, form: Form, values: Mapping[Component, Any]) -> PreparedImage | None:
    """The upload as a run needs it, or None without one; raises InvalidRequest."""
    path = values[source.upload]
    prepared = source.preparation(values, form).prepare(path, form.page.inputs) if path else None
    if prepared:
        # A picture of the history stays the parent of what is made from a crop of it.
        form.page.note_source((prepared.image, prepared.fitted), prepared.original)
    return prepared


# -- laying out ----------------------------------------------------------------------------------------------------


def source_controls(page: PageContext) -> dict[str, Any]:
    """The image, and what is to change in it."""
    named: dict[str, Any] = {"prepared": gr.State(None), "mask": gr.State(None), "painted_on": gr.State("")}
    named["focus"] = gr.State(None)
    with gr.Column(elem_id="source-group", elem_classes="source-group"):
        message("Image to start from", elem_id="source-head")
        with gr.Column(elem_id="source-frame"):
            named["upload"] = ImageUpload(
                label="Image to start from",
                show_label=False,
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                format="png",
                height=180,
                elem_id="source",
            )
            named["crop_frame"] = crop_frame.crop_frame()
        named["error"] = message(elem_id="source-error", alert=True)
        named["mode"] = gr.Radio(
            [("Whole image", WHOLE), ("Part (inpaint)", INPAINT), ("Extend (outpaint)", OUTPAINT)],
            value=WHOLE,
            label="Change",
            info=ABOUT[WHOLE],
            elem_id="image-mode",
            elem_classes="segments",
        )
        with gr.Column(visible=False, elem_id="inpaint") as named["inpaint_group"]:
            named |= inpaint_controls()
        with gr.Column(visible=False, elem_id="outpaint") as named["outpaint_group"]:
            named |= outpaint_controls(page)
        named["note"] = message(elem_id="source-note")
    return named


def inpaint_controls() -> dict[str, Any]:
    """How the marked part is repainted."""
    return {
        "feather": gr.Slider(
            0,
            MAX_FEATHER,
            value=4,
            step=1,
            label="Feather (soft edge), pixels",
            info="0 cuts sharply, 16 fades gently. It fades inwards, so that nothing outside the mark changes.",
            elem_id="image-feather",
        ),
        "only_masked": gr.Checkbox(
            False,
            label="Work on the marked part enlarged (only masked)",
            info="The image keeps its own size; a crop around the mark fills the model's frame and gets more detail.",
            elem_id="image-only",
        ),
        "padding": gr.Slider(
            0,
            MAX_PADDING,
            value=32,
            step=4,
            label="Padding around that crop, pixels",
            info="More shows the model more of what is around the mark, and leaves less room for the mark itself.",
            visible=False,
            elem_id="image-padding",
        ),
    }


def outpaint_controls(page: PageContext) -> dict[str, Any]:
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
    """How an image of another shape is fitted, and what stands for transparency."""
    return {
        "fit": gr.Radio(
            [(label, name) for name, (label, _) in geometry.FIT_MODES.items()],
            value="crop",
            label="An image of another shape",
            info=geometry.FIT_MODES["crop"][1],
            elem_id="image-fit",
            elem_classes="segments",
        ),
        "colour": gr.ColorPicker(
            geometry.WHITE,
            label="Colour beneath transparency and around a padded image",
            elem_id="image-colour",
        ),
    }


def strength_control(card: ModelCard) -> gr.Slider:
    """The strength; the strip under Where it starts shows the same value as an image."""
    return gr.Slider(
        0,
        1,
        value=card.strength,
        step=0.01,
        label="Strength: how far from your image",
        info="0 keeps the image, 0.5 keeps its layout, 1 keeps next to nothing.",
        elem_id="image-strength",
        elem_classes="strength",
    )


# -- events --------------------------------------------------------------------------------------------------------


def wire(form: Form, source: Source, strip: gr.HTML) -> None:
    """Prepare the image again when it or its use changes, and store what is painted.

    Args:
        strip: is told which image is ready (``strength_strip``).
    """
    page, c = form.page, form.controls
    errors = [source.error, form.errors["width"], form.errors["height"]]

    def update(values: Mapping[Component, Any]) -> dict[Component, Any]:
        try:
            prepared = prepare(source, form, values)
            how, path = source.preparation(values, form), values[source.upload]
            frame = prepared and crop_frame.crop_frame_value(how, path, prepared.original)
        except InvalidRequest as problem:
            nothing = {strip: {"prepared": ""}, source.crop_frame: None, source.prepared: None, source.note: ""}
            return {
                **nothing,
                **dict.fromkeys(errors, ""),
                form.errors.get(problem.field, source.error): shown(problem),
            }
        ready = {strip: {"prepared": prepared.fitted if prepared else ""}, source.crop_frame: frame}
        return {**prepared_updates(values, prepared), **ready}

    def prepared_updates(values: Mapping[Component, Any], prepared: PreparedImage | None) -> dict[Component, Any]:
        found: dict[Component, Any] = {source.prepared: prepared, **dict.fromkeys(errors, "")}
        found[source.note] = prepared.note if prepared else ""
        # What is painted is lost only when another image is to be painted on.
        if prepared and prepared.mode == INPAINT and prepared.image != values[source.painted_on]:
            canvas = canvas_for(page, prepared)
            found |= {source.editor: canvas, source.mask: None, source.painted_on: prepared.image}
        return found

    def paint(prepared: Any, data: gr.EventData) -> Any:
        return painted(page, prepared, event_value(data, "key", None), event_value(data, "uri", None))

    options = {"show_progress_on": [source.error]}
    # Not only by hand: what a reload brings back counts, too.
    changes = [source.upload.change, source.fit.change, source.colour.change, source.mode.change]
    changes += [source.only_masked.change, c.width.change, c.height.change, *(edge.change for edge in source.edges)]
    changes += [source.focus.change]
    inputs = source.preparation_inputs | {c.width, c.height, c.model, source.painted_on}
    outputs = [source.prepared, *errors, source.note, source.editor, source.mask, source.painted_on]
    outputs += [source.crop_frame, strip]
    # Queued, although quick: Gradio announces the change of a state only there.
    gr.on(changes, update, inputs, outputs, trigger_mode="always_last", **CONCURRENT, **options)
    source.crop_frame.move(crop_frame.moved, [source.upload], [source.focus], trigger_mode="always_last", **CONCURRENT)
    # One after the other, so that the last one stays.
    in_order = {**PRIVATE, "concurrency_limit": 1, "trigger_mode": "multiple"}
    stored = source.editor.mask(paint, [source.prepared], [source.mask], **in_order, **options)
    stored.then(None, None, None, js=_ANNOUNCE_MASK, **UNQUEUED)
    source.fit.change(
        lambda name: gr.Radio(info=geometry.FIT_MODES[name][1]) if name else gr.skip(),
        [source.fit],
        [source.fit],
        **UNQUEUED,
    )
    _wire_strength(form, source)


def _wire_strength(form: Form, source: Source) -> None:
    """A model that the user chooses brings its strength, and so do settings that are taken over."""
    page, taken, picked = form.page, form.page.taken_settings, form.page.picked_model
    taken.change(lambda value: taken_strength(page, value), [taken], [source.strength], **CONCURRENT)
    picked.change(lambda value: picked_strength(page, value), [picked], [source.strength], **CONCURRENT)
    # Not at a change: a model that a reload brings back comes with the strength that was kept.
    model = form.controls.model
    model.input(lambda name: own_strength(page, name), [model], [source.strength], **UNQUEUED)


def own_strength(page: PageContext, model: Any) -> Any:
    """The strength that a model begins with."""
    card = page.card(model)
    return gr.skip() if card is None else card.strength


def picked_strength(page: PageContext, picked: Any) -> Any:
    """The strength of a model that was chosen for this tab in the Models tab."""
    here = isinstance(picked, dict) and picked.get("tab") == page.tab.id
    return own_strength(page, picked.get("model")) if here else gr.skip()


def taken_strength(page: PageContext, taken: Any) -> Any:
    """The strength among settings that are taken over from an entry of the history, else that of their model."""
    fields = taken.get("fields") if isinstance(taken, dict) and taken.get("tab") == page.tab.id else None
    if not isinstance(fields, dict):
        return gr.skip()
    return fields["strength"] if "strength" in fields else own_strength(page, fields.get("model"))


def canvas_for(page: PageContext, prepared: PreparedImage | None) -> dict[str, Any] | None:
    """What the mask editor shows: the image with nothing painted on it; None in the other modes."""
    if prepared is None or prepared.mode != INPAINT:
        return None
    return mask_editor.editor_value(page.inputs.get(prepared.image), prepared.image)


def painted(page: PageContext, prepared: Any, key: Any, uri: Any) -> Any:
    """The id of the mask painted on image ``key``; None for an empty one, no update if another image is shown."""
    if not isinstance(prepared, PreparedImage) or key != prepared.image:
        return gr.skip()
    try:
        size = page.inputs.get(prepared.image).size
    except InvalidRequest:
        return None  # the run will say so
    try:
        return mask_editor.read_mask(uri, size, page.inputs)
    except InvalidRequest as problem:
        raise gr.Error(said(problem), print_exception=False) from None


def whole_image(prepared: Any) -> Any:
    """A prepared image as if all of it were to change."""
    return replace(prepared, mode=WHOLE, image=prepared.fitted) if isinstance(prepared, PreparedImage) else prepared
