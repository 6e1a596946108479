"""Variations and blends: their controls, and the strip below the stage that plays a blend."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines.request import MAX_IMAGES, MAX_PROMPT, MAX_SEED, GenerationRequest, InvalidRequest
from pipelines.trace.export import END_SECONDS, EXPORTS, INTERPOLATION_SECONDS, export_interpolation
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.message import message
from ui.form import controls
from ui.form.form import LABELS, FormSection, FormValues, Updates, error_of, shows_errors_beside
from ui.inspector import export
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext
    from ui.form.layout import FormLayout

OFF, VARY, BLEND = "off", "variations", "blend"
ABOUT: Mapping[str, str] = {
    OFF: "Off: each picture has noise of its own.",
    VARY: "More like the picture of the seed in Settings: the same noise, partly mixed with another one.",
    BLEND: "From the picture of the seed in Settings to another prompt, another seed, or both.",
}
COUNTED = "A blend has a number of pictures of its own; it is set under Variations and blends."
NO_END = "A blend needs somewhere to go; give another prompt, another seed, or both."
ERROR_FIELDS = frozenset({"variation", "interpolation"})
# States of the stage in which the strip changes; while a run goes on, it stays.
SETTLED = ("queued", "loading", "done", "stopped", "failed")
# A prompt is shown no longer than this.
SHOWN = 48
KINDS = ("webp", "gif", "mp4", "filmstrip")

_TEMPLATE = """
<section class="blend" aria-label="Variations and blends" hidden>
  <p class="sentence" data-part="about"></p>
  <div data-part="body" hidden>
    <div class="between" data-part="strip" role="group" aria-label="Pictures of the blend, in order"></div>
    <div class="line">
      <button type="button" class="quiet play" data-part="play">Play the blend</button>
      <p class="words" data-part="words"></p>
    </div>
    <div class="saves">{buttons}</div>
    <p class="sentence" data-part="state" role="status"></p>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p>
    <ul class="files" data-part="files"></ul>
  </div>
</section>
"""
_BUTTON = '<button type="button" class="quiet" data-kind="{kind}">Save {label}</button>'


@dataclass(frozen=True)
class Variations:
    """The components.

    Attributes:
        mode: OFF, VARY or BLEND.
        strength, variation_seed: of variations: how far, and the seed to go towards ("" draws one).
        prompt, seed, count: of a blend: prompt and seed at its end ("" keeps those of its start), and its pictures.
        num_images: the form's number of pictures, which a blend overrules.
        variation_group, blend_group: the controls of the two modes.
        strip: plays a finished blend; rendered below the stage.
        accordion, error: the accordion, and the sentence about it as a whole.
        errors: the sentences about one field, by field of the request.
    """

    mode: gr.Radio
    strength: gr.Slider
    variation_seed: gr.Textbox
    prompt: gr.Textbox
    seed: gr.Textbox
    count: gr.Slider
    num_images: gr.Radio
    variation_group: gr.Column
    blend_group: gr.Column
    strip: gr.HTML
    accordion: gr.Accordion
    error: gr.HTML
    errors: Mapping[str, gr.HTML]

    def section(self) -> FormSection:
        """These components as a section of a form."""
        return FormSection(
            frozenset({self.mode, self.strength, self.variation_seed, self.prompt, self.seed, self.count}),
            self.fields,
            (self.error, *self.errors.values()),
            shows_errors_beside(self.errors, self.error, ERROR_FIELDS, self.accordion),
            self.updates,
            outputs=(self.strip, self.accordion),
            below_stage=(self.strip,),
            kept=(self.mode, self.strength, self.variation_seed, self.prompt, self.seed, self.count),
            brought_back=self.brought_back,
            follows=(self.variation_group, self.blend_group, self.num_images),
            fixes=dict.fromkeys(("variation", "interpolation", "interpolation.prompt"), self.off),
        )

    def off(self, _: FormValues) -> dict[Any, Any]:
        """Updates that switch it off."""
        return {**self.turned(OFF), self.mode: gr.Radio(value=OFF, info=about_mode(OFF))}

    def brought_back(self, values: Mapping[Component, Any]) -> dict[Any, Any]:
        """Updates for a mode that a reload brings back."""
        if self.mode not in values:
            return {}
        mode = values[self.mode]
        return {**self.turned(mode), self.mode: gr.Radio(value=mode, info=about_mode(mode))}

    def turned(self, mode: Any) -> dict[Any, Any]:
        """Updates for a mode: its controls, what it is, and the number of pictures."""
        info = COUNTED if mode == BLEND else self.num_images.info
        return {
            self.mode: gr.Radio(info=about_mode(mode)),
            self.variation_group: gr.Column(visible=mode == VARY),
            self.blend_group: gr.Column(visible=mode == BLEND),
            self.num_images: gr.Radio(interactive=mode != BLEND, info=info),
        }

    def fields(self, values: FormValues) -> dict[str, Any]:
        """Fields of the request; none while it is off.

        Both modes start from the picture of the seed in the form, so they keep it.  With a new seed there are other
        variations of the same picture, but another blend from its first picture on.

        Raises:
            InvalidRequest: if a seed is none, or a blend goes nowhere.
        """
        mode = values[self.mode]
        if mode == VARY:
            return {"variation": self._variation(values), "keep_seed": True}
        if mode == BLEND:
            blend, count = self._blend(values), values[self.count]
            return {"interpolation": blend, "num_images": count, "keep_seed": not values.new_seed}
        return {}

    def _variation(self, values: FormValues) -> dict[str, Any]:
        typed = None if values.new_seed else values[self.variation_seed]
        seed = controls.parse_seed(typed, "variation.seed", LABELS["variation.seed"], MAX_SEED - MAX_IMAGES)
        return {"seed": controls.draw_seed() if seed is None else seed, "strength": values[self.strength]}

    def _blend(self, values: FormValues) -> dict[str, Any]:
        prompt = values[self.prompt] or ""
        # An empty box keeps the prompt: a blend towards no prompt at all is not offered.
        prompt = prompt if not isinstance(prompt, str) or prompt.strip() else None
        seed = controls.parse_seed(values[self.seed], "interpolation.seed", LABELS["interpolation.seed"])
        if prompt is None and seed is None:
            raise InvalidRequest("interpolation.prompt", NO_END)
        return {"prompt": prompt, "seed": seed}

    def updates(self, request: GenerationRequest, stage_value: Mapping[str, Any]) -> Updates:
        """What the strip shows along with a value of the stage."""
        return {self.strip: strip_value(request, stage_value)} if stage_value["state"] in SETTLED else {}


def about_mode(mode: Any) -> str:
    """What a mode does."""
    return ABOUT.get(mode, ABOUT[OFF]) if isinstance(mode, str) else ABOUT[OFF]


def build(layout: FormLayout) -> FormSection:
    """Lay out the accordion and attach its events."""
    variations = lay_out(layout.named["num_images"])
    wire_saving(layout.page, variations.strip)
    return variations.section()


def lay_out(num_images: gr.Radio) -> Variations:
    """The components.

    Args:
        num_images: the form's number of pictures, which a blend overrules.
    """
    with gr.Accordion("Variations and blends", open=False, elem_id="variations", elem_classes="drawer") as accordion:
        error = message(elem_id="variations-error", alert=True)
        mode = gr.Radio(
            [("Off", OFF), ("Variations", VARY), ("Blend", BLEND)],
            value=OFF,
            label="How the pictures differ",
            info=ABOUT[OFF],
            elem_id="variation-mode",
            elem_classes="segments",
        )
        with gr.Column(visible=False, elem_id="variation") as variation_group:
            strength, variation_seed, variation_dice, errors = variation_controls()
        with gr.Column(visible=False, elem_id="blend-to") as blend_group:
            prompt, seed, blend_dice, count, more = blend_controls()
    groups, strip = (num_images, variation_group, blend_group), blend_strip()
    made = Variations(mode, strength, variation_seed, prompt, seed, count, *groups, strip, accordion, error,
                      {**errors, **more})  # fmt: skip
    clean = dict.fromkeys((error, *made.errors.values()), "")
    mode.change(lambda chosen: {**made.turned(chosen), **clean}, [mode], [mode, *groups, *clean], **UNQUEUED)
    for button, box in ((variation_dice, variation_seed), (blend_dice, seed)):
        button.click(lambda: str(controls.draw_seed()), None, [box], **UNQUEUED)
    return made


def variation_controls() -> tuple[gr.Slider, gr.Textbox, gr.Button, dict[str, gr.HTML]]:
    """How far and towards what, and what is wrong with each."""
    strength = gr.Slider(
        0,
        1,
        value=0.3,
        step=0.05,
        label="Variation strength: how far away",
        info="0 is the same picture, 0.3 is close to it, 1 is another picture.",
        elem_id="variation-strength",
    )
    errors = {"variation.strength": error_of("variation-strength")}
    seed = gr.Textbox(
        label="Seed to go towards",
        info="Leave it empty to have a new one each time.",
        max_length=24,
        elem_id="variation-seed",
    )
    errors["variation.seed"] = error_of("variation-seed")
    return strength, seed, gr.Button("Draw a seed", size="sm", elem_id="variation-random-seed"), errors


def blend_controls() -> tuple[gr.Textbox, gr.Textbox, gr.Button, gr.Slider, dict[str, gr.HTML]]:
    """Where a blend ends, in how many pictures, and what is wrong with each end."""
    prompt = gr.Textbox(
        label="Other prompt",
        info="What the last picture shows. Leave it empty to keep the prompt.",
        lines=2,
        max_lines=4,
        max_length=MAX_PROMPT,
        elem_id="blend-prompt",
    )
    errors = {"interpolation.prompt": error_of("blend-prompt")}
    seed = gr.Textbox(
        label="Other seed",
        info="The noise of the last picture. Leave it empty to keep the noise.",
        max_length=24,
        elem_id="blend-seed",
    )
    errors["interpolation.seed"] = error_of("blend-seed")
    dice = gr.Button("Draw a seed", size="sm", elem_id="blend-random-seed")
    count = gr.Slider(
        2,
        MAX_IMAGES,
        value=5,
        step=1,
        label="Pictures",
        info="Both ends included. More pictures take longer and lie closer together.",
        elem_id="blend-count",
    )
    return prompt, seed, dice, count, errors


def blend_strip() -> gr.HTML:
    """The strip, not rendered yet."""
    buttons = "".join(_BUTTON.format(kind=kind, label=EXPORTS[kind].label) for kind in KINDS)
    return gr.HTML(
        None,
        html_template=_TEMPLATE.format(buttons=buttons),
        js_on_load=asset("components/saving.js", "form/variations.js"),
        elem_id="blend",
        apply_default_css=False,
        render=False,
    )


def strip_value(request: GenerationRequest, stage_value: Mapping[str, Any]) -> dict[str, Any]:
    """The strip's value along with a value of the stage; without pictures unless it is a finished blend."""
    value = {"run": stage_value["run"], "about": about(request), "pictures": []}
    if request.interpolation is None or stage_value["state"] != "done":
        return value
    n = len(stage_value["pictures"])
    return {
        **value,
        "pictures": [{"file": picture["file"]} for picture in stage_value["pictures"]],
        "labels": [f"Picture {k + 1} of {n}: {between(k, n)}" for k in range(n)],
        "each": round(INTERPOLATION_SECONDS * 1000),
        "ends": round(END_SECONDS * 1000),
    }


def between(k: int, n: int) -> str:
    """Where picture k of n stands."""
    if k in (0, n - 1):
        return "where it starts" if k == 0 else "where it ends"
    return f"{k / (n - 1):.0%} of the way"


def about(request: GenerationRequest) -> str:
    """How the pictures of a variation or a blend relate to each other, in a sentence; "" for other runs."""
    if request.variation is not None:
        first, last = request.variation.seed, request.variation.seed + request.num_images - 1
        far = f"{request.variation.strength:.0%} of the way to the noise of"
        ends = f"seed {first}" if first == last else f"seeds {first} to {last}, one each"
        return f"Near the picture of seed {request.sampling.seed}: {far} {ends}."
    if request.interpolation is not None:
        return f"A blend of {request.num_images} pictures: {way(request)}."
    return ""


def way(request: GenerationRequest) -> str:
    """From where to where a blend goes."""
    blend, first = request.interpolation, request.sampling.seed
    assert blend is not None
    seeds = f"from seed {first} to seed {blend.seed}"
    if blend.prompt is None:
        return seeds
    prompts = f"from {quoted(request.prompt)} to {quoted(blend.prompt)}"
    return f"{prompts}, seed {first}" if blend.seed is None else f"{prompts}, {seeds}"


def quoted(prompt: str) -> str:
    """A prompt within a sentence."""
    text = " ".join(prompt.split())
    short = text if len(text) <= SHOWN else text[: SHOWN - 1] + "\u2026"
    return f"\u201c{short}\u201d" if short else "no prompt"


def packed(trace: Trace, kind: str) -> tuple[str, bytes]:
    """A blend as a file: its name and its bytes.

    Raises:
        KeyError: if there is no such kind.
        ValueError: if the run has no finished pictures.
    """
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in trace.finals]
    n, blend = len(images), trace.request.interpolation
    # Written on the filmstrip, whose font lacks many letters: no prompts.
    what = "two prompts" if blend is not None and blend.prompt is not None else "two seeds"
    captions = [f"{k + 1}   {k / max(n - 1, 1):.0%}" for k in range(n)]
    data = export_interpolation(kind, images, trace, f"A blend between {what} in {n} pictures", captions)
    return f"{export.file_stem(trace, 0)}-blend{EXPORTS[kind].suffix}", data


def wire_saving(page: PageContext, strip: gr.HTML) -> None:
    """Save a blend as a file, which is downloaded and whose link stays."""

    def save(data: gr.EventData) -> dict[str, Any]:
        run, kind, ask = (str(event_value(data, name, "")) for name in ("run", "kind", "ask"))
        known = {"run": run[:80], "ask": ask[:40]}
        trace = page.backend.trace(run, current_user())
        if trace is None or trace.request.interpolation is None or not trace.finals or kind not in KINDS:
            return {**known, "problem": "This blend is no longer in memory. Make it again to save it."}
        return {**known, **export.save_answer(lambda: packed(trace, kind), f"the blend {trace.id}", kind, page)}

    strip.export(save, None, [strip], **CONCURRENT)
