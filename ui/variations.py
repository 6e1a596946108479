"""Variations and blends: what asks for them, and the strip that plays a blend on the stage."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from pipelines.exports import BLEND_SECONDS, END_SECONDS, EXPORTS, export_blend
from pipelines.request import MAX_PICTURES, MAX_PROMPT, MAX_SEED, GenerationRequest, InvalidRequest
from ui import controls, keep
from ui.panel import carried, script
from ui.plain import sentence
from ui.visiting import visitor

if TYPE_CHECKING:
    from pipelines.trace import Trace
    from ui.controls import Controls
    from ui.making import Page

OFF, VARY, BLEND = "off", "variations", "blend"
ABOUT: Mapping[str, str] = {
    OFF: "Off: each picture has noise of its own.",
    VARY: "More like the picture of the seed in Settings: the same noise, partly mixed with another one.",
    BLEND: "From the picture of the seed in Settings to another prompt, another seed, or both.",
}
COUNTED = "A blend has a number of pictures of its own; it is set under Variations and blends."
# Settings whose errors belong beside these controls.
STARTS = ("variation", "interpolation", "The other seed", "A blend")
SETTLED = ("queued", "loading", "done", "stopped", "failed")
# A prompt is shown no longer than this.
SHOWN = 48
KINDS = ("webp", "gif", "mp4", "filmstrip")
QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
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
        strength, towards: of variations: how far, and the seed to go towards ("" draws one).
        prompt, seed, count: of a blend: the prompt and the seed at its end ("" keeps the first one), and its pictures.
        strip: what was made, below the stage; render it there.
        box, error: the accordion, and the sentence in it.
    """

    mode: gr.Radio
    strength: gr.Slider
    towards: gr.Textbox
    prompt: gr.Textbox
    seed: gr.Textbox
    count: gr.Slider
    strip: gr.HTML
    box: gr.Accordion
    error: gr.HTML

    def all(self) -> set[Component]:
        """Every component that asks, for an event's ``inputs``."""
        return {getattr(self, f.name) for f in fields(self)} - {self.strip, self.box, self.error}

    def outputs(self) -> list[Component]:
        """Every component that ``shown``, ``clear`` and ``explain`` update, for an event's ``outputs``."""
        return [self.strip, self.box, self.error]

    def fields(self, values: Mapping[Component, Any], *, new_seed: bool = False) -> dict[str, Any]:
        """Values keyed by component -> fields of the request by name; nothing while it is off.

        Both keep the seed that is there, since they start from its picture.

        Args:
            values: of all components, or more.
            new_seed: whether variations go towards a new seed whatever the field says.

        Raises:
            InvalidRequest: if a seed is none, or a blend goes nowhere.
        """
        mode = values[self.mode]
        if mode == VARY:
            return {"variation": self._variation(values, new_seed), "keep_seed": True}
        if mode == BLEND:
            return {"interpolation": self._blend(values), "num_images": values[self.count], "keep_seed": True}
        return {}

    def _variation(self, values: Mapping[Component, Any], new_seed: bool) -> dict[str, Any]:
        seed = None if new_seed else other_seed(values[self.towards], MAX_SEED - MAX_PICTURES)
        strength = values[self.strength]
        return {
            "seed": controls.draw_seed() if seed is None else seed,
            "strength": float(strength) if type(strength) is int else strength,
        }

    def _blend(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        prompt, seed = values[self.prompt] or "", other_seed(values[self.seed], MAX_SEED)
        # An empty box keeps the prompt; nobody blends towards no prompt at all.
        prompt = prompt if not isinstance(prompt, str) or prompt.strip() else None
        if prompt is None and seed is None:
            raise InvalidRequest("A blend needs somewhere to go; give another prompt, another seed, or both.")
        return {"prompt": prompt, "seed": seed}

    def request_of(
        self, asked: Controls, values: Mapping[Component, Any], *, new_seed: bool = False
    ) -> GenerationRequest:
        """The request of these and the shared controls; raises InvalidRequest with one sentence.

        "Again with a new seed" makes other variations of the same picture, but another blend from its first picture on.
        """
        mine = self.fields(values, new_seed=new_seed)
        return controls.request_of({**asked.named(values), **mine}, new_seed=new_seed and "variation" not in mine)

    def clear(self) -> dict[Component, Any]:
        """Updates that clear the error."""
        return {self.error: ""}

    def explain(self, text: str) -> dict[Component, Any] | None:
        """Updates that put an error beside what caused it, or None when it belongs elsewhere."""
        return {self.error: text, self.box: gr.Accordion(open=True)} if text.startswith(STARTS) else None

    def shown(self, request: GenerationRequest, film: Mapping[str, Any]) -> dict[Component, Any]:
        """What the strip shows beside a value of the film; nothing to change while a run goes on."""
        return {self.strip: strip_of(request, film)} if film["state"] in SETTLED else {}


def build(page: Page, num_images: gr.Radio) -> Variations:
    """The accordion, with its events; ``strip`` is left to be rendered below the stage.

    Args:
        page: what every tab is given.
        num_images: the control of the number of pictures, which a blend overrules.
    """
    with gr.Accordion("Variations and blends", open=False, elem_id="variations", elem_classes="fold") as box:
        error = sentence(elem_id="variations-error", alert=True)
        mode = gr.Radio(
            [("Off", OFF), ("Variations", VARY), ("Blend", BLEND)],
            value=OFF,
            label="How the pictures differ",
            info=ABOUT[OFF],
            elem_id="vary-mode",
            elem_classes="segments",
        )
        with gr.Column(visible=False, elem_id="vary") as vary:
            strength, towards, dice = vary_controls()
        with gr.Column(visible=False, elem_id="blend-to") as blend:
            prompt, seed, other, count = blend_controls()
    tab = Variations(mode, strength, towards, prompt, seed, count, strip(), box, error)
    plain = num_images.info

    def choose(mode: Any) -> tuple[Any, ...]:
        counted = gr.Radio(interactive=mode != BLEND, info=COUNTED if mode == BLEND else plain)
        info = gr.Radio(info=ABOUT.get(mode, ABOUT[OFF]) if isinstance(mode, str) else ABOUT[OFF])
        return info, gr.Column(visible=mode == VARY), gr.Column(visible=mode == BLEND), counted, ""

    mode.input(choose, [mode], [mode, vary, blend, num_images, error], **QUICK)
    for button, field in ((dice, towards), (other, seed)):
        button.click(lambda: str(controls.draw_seed()), None, [field], **QUICK)
    wire_saving(page, tab)
    return tab


def vary_controls() -> tuple[gr.Slider, gr.Textbox, gr.Button]:
    """How far and towards what."""
    strength = gr.Slider(
        0,
        1,
        value=0.3,
        step=0.05,
        label="How far away (variation strength)",
        info="0 is the same picture, 0.3 a sibling, 1 another picture.",
        elem_id="vary-strength",
    )
    seed = gr.Textbox(
        label="Seed to go towards",
        info="Leave it empty to have a new one each time.",
        max_length=24,
        elem_id="vary-seed",
    )
    return strength, seed, gr.Button("Draw a seed", size="sm", elem_id="vary-dice")


def blend_controls() -> tuple[gr.Textbox, gr.Textbox, gr.Button, gr.Slider]:
    """Where a blend ends, and in how many pictures."""
    prompt = gr.Textbox(
        label="Other prompt",
        info="What the last picture shows. Leave it empty to keep the prompt.",
        lines=2,
        max_lines=4,
        max_length=MAX_PROMPT,
        elem_id="blend-prompt",
    )
    seed = gr.Textbox(
        label="Other seed",
        info="The noise of the last picture. Leave it empty to keep the noise.",
        max_length=24,
        elem_id="blend-seed",
    )
    dice = gr.Button("Draw a seed", size="sm", elem_id="blend-dice")
    count = gr.Slider(
        2,
        MAX_PICTURES,
        value=5,
        step=1,
        label="Pictures",
        info="Both ends included. More pictures take longer and lie closer together.",
        elem_id="blend-count",
    )
    return prompt, seed, dice, count


def strip() -> gr.HTML:
    """The strip, not rendered yet."""
    buttons = "".join(_BUTTON.format(kind=kind, label=EXPORTS[kind].label) for kind in KINDS)
    return gr.HTML(
        None,
        html_template=_TEMPLATE.format(buttons=buttons),
        js_on_load=script("saving.js", "variations.js"),
        elem_id="blend",
        apply_default_css=False,
        render=False,
    )


def other_seed(text: Any, largest: int) -> int | None:
    """A second seed as someone typed it; None where nothing was typed.

    Raises:
        InvalidRequest: if it is no whole number up to ``largest``.
    """
    text = str("" if text is None else text).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > largest:
        shown = text if len(text) <= 30 else text[:27] + "..."
        raise InvalidRequest(f"The other seed is {shown!r}; allowed: a whole number from 0 to {largest}.")
    return int(text)


def strip_of(request: GenerationRequest, film: Mapping[str, Any]) -> dict[str, Any]:
    """The strip's value beside a value of the film: nothing but a run's name for plain pictures."""
    value = {"run": film["run"], "about": about(request), "pictures": []}
    if request.interpolation is None or film["state"] != "done":
        return value
    n = len(film["pictures"])
    return {
        **value,
        "pictures": [{"file": picture["file"]} for picture in film["pictures"]],
        "labels": [f"Picture {k + 1} of {n}: {between(k, n)}" for k in range(n)],
        "each": round(BLEND_SECONDS * 1000),
        "ends": round(END_SECONDS * 1000),
    }


def between(k: int, n: int) -> str:
    """Where picture k of n stands."""
    if k in (0, n - 1):
        return "where it starts" if k == 0 else "where it ends"
    return f"{k / (n - 1):.0%} of the way"


def about(request: GenerationRequest) -> str:
    """What the pictures of a run have to do with each other, in a sentence; "" for plain ones."""
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
    data = export_blend(kind, images, trace, f"A blend between {what} in {n} pictures", captions)
    return f"{keep.stem(trace, 0)}-blend{EXPORTS[kind].suffix}", data


def wire_saving(page: Page, tab: Variations) -> None:
    """Saving a blend as a file, which is downloaded and whose link stays."""

    def make(data: gr.EventData) -> dict[str, Any]:
        run, kind, ask = (str(carried(data, name, "")) for name in ("run", "kind", "ask"))
        known = {"run": run[:80], "ask": ask[:40]}
        trace = page.backend.trace(run, visitor())
        if trace is None or trace.request.interpolation is None or not trace.finals or kind not in KINDS:
            return {**known, "problem": "This blend is no longer kept; make it again to save it."}
        return {**known, **keep.saved(lambda: packed(trace, kind), f"the blend {trace.id}", kind)}

    saving: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 2}
    tab.strip.export(make, None, [tab.strip], **saving)
