"""The right column of image to image: noise levels, mask editor, result, and a comparison; one is shown at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines.images import geometry
from pipelines.request import GenerationRequest, InvalidRequest
from ui.components.gradio_events import UNQUEUED
from ui.components.mask_editor import mask_editor
from ui.components.message import message
from ui.components.stage import stage
from ui.form.form import FormSection, Updates, shows_errors_of
from ui.tabs.image_to_image.prepared_image import INPAINT, OUTPAINT, WHOLE, enlarged
from ui.tabs.image_to_image.source import ABOUT, ERROR_FIELDS, Source
from ui.tabs.image_to_image.source_history import source_history
from ui.tabs.image_to_image.strength_strip import strength_strip

if TYPE_CHECKING:
    from ui.context import PageContext
    from ui.form.controls import Controls

LEVELS, MASK, RESULT, COMPARISON = "begin", "mark", "result", "compare"
COMPARED = "Left: the image that the run started from. Right: the result. Drag the line between them."
EMPTY = "Compare the image that a run started from with its result here."
NO_START = "This picture was made from noise alone, so there is nothing to compare it with."
OTHER_NOISE = "The seed is not locked in Settings, so the run will use other noise than you see here."
# On a phone the views stand below the form.
_INTO_VIEW = """() => {
  const views = document.getElementById('views');
  const { top, bottom } = views.getBoundingClientRect();
  const away = top > window.innerHeight * 0.25 || bottom < 80;
  if (window.innerWidth <= 800 && away) views.scrollIntoView({ block: 'start' });
}"""


@dataclass(frozen=True)
class Views:
    """The components.

    Attributes:
        tabs: the row of views.
        target: the view to turn to, and when that was asked for.
        mask_tab: the tab of the mask editor.
        strength_strip: the noise levels.
        noise_note: says that the run will draw other noise than the noise levels show.
        editor: the mask editor.
        stage: the result.
        history: the images that runs started from.
        comparison, comparison_note: two images side by side, and which ones.
    """

    tabs: gr.Tabs
    target: gr.State
    mask_tab: gr.Tab
    strength_strip: gr.HTML
    noise_note: gr.HTML
    editor: gr.HTML
    stage: gr.HTML
    history: gr.HTML
    comparison: gr.ImageSlider
    comparison_note: gr.HTML


def lay_out() -> Views:
    """The right column."""
    with gr.Tabs(selected=LEVELS, elem_id="views", elem_classes="views", overflow_behavior="wrap") as tabs:
        with gr.Tab("Where it starts", id=LEVELS):
            strip = strength_strip()
            noise_note = message(elem_id="noise-note")
        with gr.Tab("Mark the part", id=MASK, visible=False) as mask_tab:
            editor = mask_editor()
        with gr.Tab("Result", id=RESULT):
            shown = stage(prefix="image-")
        with gr.Tab("Before and after", id=COMPARISON):
            comparison = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                type="filepath",
                format="png",
                interactive=False,
                # What it would download is enlarged and holds no settings; the stage has a download button.
                buttons=["fullscreen"],
                elem_id="before-after",
            )
            comparison_note = message(EMPTY, elem_id="before-after-note")
    history = source_history()
    return Views(tabs, gr.State(None), mask_tab, strip, noise_note, editor, shown, history, comparison, comparison_note)


def turn_to(view: str) -> dict[str, Any]:
    """A value of ``Views.target``; the time, so that the same view can be asked for twice."""
    return {"to": view, "at": time.time()}


def source_section(page: PageContext, source: Source, views: Views) -> FormSection:
    """The source image as a section of the form; it turns to the view that a run or an error is about."""
    show_in_place = shows_errors_of(ERROR_FIELDS, source.error)

    def show_error(problem: InvalidRequest) -> Updates | None:
        shown = show_in_place(problem)
        unmarked = shown is not None and problem.field.endswith("mask")
        return {**(shown or {}), views.target: turn_to(MASK)} if unmarked else shown

    def updates(request: GenerationRequest, stage_value: Mapping[str, Any]) -> Updates:
        if stage_value["state"] != "done":
            return {}
        # Never the pair of another run than the result's.
        if request.init is None:
            return {views.comparison: None, views.comparison_note: NO_START}
        try:
            before = page.inputs.get(request.init.image)
        except InvalidRequest as problem:
            return {views.comparison: None, views.comparison_note: str(problem)}
        with Image.open(stage_value["pictures"][0]["file"]["path"]) as after:
            pair = (enlarged(before), enlarged(after.convert("RGB")))
        return {views.comparison: pair, views.comparison_note: COMPARED}

    def brought_back(values: Mapping[Component, Any]) -> dict[Any, Any]:
        mode, fit, padding = (values.get(one, one.value) for one in (source.mode, source.fit, source.padding))
        only_masked = bool(values.get(source.only_masked))
        return {
            **mode_updates(source, views, mode, only_masked),
            source.mode: gr.Radio(value=mode, info=ABOUT[mode]),
            source.fit: gr.Radio(value=fit, info=geometry.FIT_MODES[fit][1]),
            source.padding: gr.Slider(value=padding, visible=only_masked),
        }

    return FormSection(
        source.inputs,
        source.fields,
        (source.error,),
        show_error,
        updates,
        outputs=(views.comparison, views.comparison_note, views.target),
        started=lambda: {views.target: turn_to(RESULT)},
        kept=source.kept,
        brought_back=brought_back,
        follows=follows(source, views),
    )


def wire(page: PageContext, source: Source, views: Views, shared: Controls) -> None:
    """Controls come and go with the mode, and the views turn to what is asked for."""

    def choose_mode(mode: Any, only_masked: Any) -> dict[Any, Any]:
        return mode_updates(source, views, mode, only_masked)

    options = {**UNQUEUED, "show_progress_on": [source.error]}
    inputs = [source.mode, source.only_masked]
    outputs = [source.mode, *follows(source, views)]
    gr.on([source.mode.input, source.only_masked.input], choose_mode, inputs, outputs, **options)
    # Not by the runs themselves: a component that a generator changes is asked for its value ever after.
    turned = views.target.change(selected_view, [views.target], [views.tabs], **options)
    turned.then(None, None, None, js=_INTO_VIEW, **UNQUEUED)
    page.sent_image.change(lambda: gr.Tabs(selected=LEVELS), None, [views.tabs], **options)
    shared.keep_seed.change(noise_note, [shared.keep_seed], [views.noise_note], **UNQUEUED)


def mode_updates(source: Source, views: Views, mode: Any, only_masked: Any) -> dict[Any, Any]:
    """Updates for what is changed in the image: its controls and its view."""
    known = mode if isinstance(mode, str) and mode in ABOUT else WHOLE
    inpaint = known == INPAINT
    return {
        source.mode: gr.Radio(info=ABOUT[known]),
        source.inpaint_group: gr.Column(visible=inpaint),
        source.outpaint_group: gr.Column(visible=known == OUTPAINT),
        source.padding: gr.Slider(visible=bool(only_masked)),
        views.mask_tab: gr.Tab(visible=inpaint),
        views.tabs: gr.Tabs(selected=MASK if inpaint else LEVELS),
    }


def follows(source: Source, views: Views) -> tuple[Any, ...]:
    """What ``mode_updates`` updates besides the mode."""
    return (source.inpaint_group, source.outpaint_group, source.padding, views.mask_tab, views.tabs)


def selected_view(target: Any) -> Any:
    """The view that was asked for last."""
    return gr.Tabs(selected=target["to"]) if isinstance(target, dict) else gr.skip()


def noise_note(locked: Any) -> str:
    """What the noise levels cannot show: without a locked seed, the run's noise is not known before."""
    return "" if locked else OTHER_NOISE
