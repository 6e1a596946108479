"""Go on differently: leave the opened run at a step, with another prompt, guidance, sampler or noise."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.events import Cancelled, Failed, Finished
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.request import MAX_GUIDANCE, MAX_PROMPT, GenerationRequest, InvalidRequest
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.trace.forks import fork_of
from ui.components import phrases
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.form.form import said
from ui.form.taken_settings import lora_tags
from ui.inspector.forks import decided
from ui.inspector.forks.strips import RunningStrip, Strips
from ui.inspector.forks.tree import small_picture, tree_value
from ui.inspector.panel import Panel, number_within, opened_trace
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.jobs.job import Job
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

OWN_LOOP = (
    "This model runs a loop of its own, which cannot be left at a step. Make a picture with Pocket or a Stable "
    "Diffusion model, and open it here."
)
GONE = "The steps of this run are no longer kept, so it cannot be left at one of them; make the picture again."
NO_CHANGE = "Write another prompt first: with the same words every picture would be this one."
MAX_NAME = 80

_TEMPLATE = """
<section class="fork-panel" data-state="empty" aria-label="Go on differently">
  <p class="lead">Leave this run at a step: what came before stays as it was, and what comes after follows other words,
    another guidance or another sampler.</p>
  <p class="sentence" data-part="why" hidden></p>
  <div class="two" data-part="body" hidden>
    <form class="fork-drawer" data-part="form">
      <h3 data-part="from"></h3>
      <p class="said" data-part="kept"></p>
      <label>Prompt<textarea data-part="prompt" rows="2"></textarea></label>
      <label>Negative prompt<textarea data-part="negative" rows="1"></textarea></label>
      <div class="row">
        <label>Guidance<input data-part="guidance" type="number" min="0" step="0.5" inputmode="decimal"></label>
        <label>Sampler<select data-part="scheduler"></select></label>
      </div>
      <label class="tick" data-part="noise-box" hidden><input data-part="noise" type="checkbox"> New noise from here
        on</label>
      <p class="said" data-part="samplers"></p>
      <button type="submit" class="primary-act" data-part="go"></button>
    </form>
    <form class="decided" data-part="decide">
      <h3>When was it decided?</h3>
      <p class="said">Leaves the run at each of its steps for another prompt. Early the new words win, late they come
        too late: thing, colours and outlines each have their own time.</p>
      <label>Other prompt<textarea data-part="other" rows="2"></textarea></label>
      <div class="swaps" data-part="swaps" role="group" aria-label="Other prompts"></div>
      <div class="trying"><button type="submit" class="quiet" data-part="try">Try it</button>
        <button type="button" class="quiet" data-part="stop" hidden>Stop</button></div>
      <p class="said" data-part="cost"></p>
      <ol class="outcomes" data-part="outcomes"></ol>
      <p class="verdict" data-part="verdict" role="status"></p>
    </form>
  </div>
  <div class="trying" data-part="elsewhere" hidden><p class="said" data-part="elsewhere-text"></p>
    <button type="button" class="quiet" data-part="stop-elsewhere">Stop it</button></div>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  <div class="branching" data-part="family" hidden><h3>Forks</h3>
    <p class="said">What a run left is on its left. Choose one to open it. <span data-part="more"></span></p>
    <div class="branches" data-part="branches" role="group" aria-label="Tree of forks"></div></div>
</section>
"""


def here() -> gr.HTML:
    """The button below the player that leads to the panel."""
    return gr.HTML(
        html_template='<button type="button" class="quiet fork-here" hidden>Go on differently from here</button>',
        js_on_load=asset("inspector/forks/here.js"),
        elem_id="fork-way",
        apply_default_css=False,
    )


def panel_value(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """The panel's value for a trace before the user asks for anything."""
    request, sampling, prompt = trace.request, trace.request.sampling, panel_prompt(trace)
    return {
        "run": trace.id,
        "picture": k,
        "total": trace.total,
        "noise": [round(1 - step.alpha_bar, 4) for step in trace.steps],
        "why": OWN_LOOP if trace.cond is None else "",
        "prompt": prompt,
        "negative": request.negative_prompt,
        "guidance": sampling.guidance_scale,
        "limits": {"prompt": MAX_PROMPT, "guidance": MAX_GUIDANCE},
        "scheduler": sampling.scheduler,
        "other": decided.other_colour(prompt) or decided.other_thing(prompt),
        "others": others(prompt),
        "tree": tree_value(page, trace),
        "tries": len(trace.steps),
        "cost": cost(page, trace),
    }


def others(prompt: str) -> list[dict[str, str]]:
    """Prompts to choose from, each with what its button says."""
    found = {"Another colour": decided.other_colour(prompt), "Another thing": decided.other_thing(prompt)}
    return [{"label": label, "prompt": text} for label, text in found.items() if text]


def cost(page: PageContext, trace: Trace) -> str:
    """What a strip of all steps makes, and how long it takes if a run took its time here; each fork makes the rest."""
    pictures = len(trace.steps) * trace.request.num_images
    text = f"{pictures} picture{'s' * (pictures != 1)}, a few steps first and then those between them"
    if trace is page.bundled_trace or trace.seconds <= 0:
        return f"{text}."
    rest = sum(trace.total - step for step in range(len(trace.steps)))
    seconds = rest * (trace.seconds_a_step + trace.frames_seconds / max(trace.total, 1))
    return f"{text}: about {phrases.seconds(seconds)} in all."


def samplers(page: PageContext, trace: Trace, step: int) -> list[dict[str, Any]]:
    """The samplers that can go on from a step, the run's own first."""
    at, facts = trace.request.at_step(step), trace.steps[step]
    own = trace.request.sampling.scheduler
    asked = trace.request.model_copy(update={"sampling": at.sampling})
    found = page.queries.fork_samplers(asked, facts.alpha, facts.sigma)
    names = dict.fromkeys((own, at.sampling.scheduler, *found))
    return [
        {"id": name, "label": SCHEDULERS[name].label, "stochastic": SCHEDULERS[name].stochastic}
        for name in names
        if name in SCHEDULERS
    ]


def request_of(trace: Trace, step: int, data: gr.EventData) -> GenerationRequest:
    """The fork that the drawer asks for; raises InvalidRequest."""
    texts = {name: event_value(data, name, None) for name in ("prompt", "negative_prompt", "scheduler")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidRequest("prompt", "Prompts and sampler are texts; write them.")
    guidance = number_within(event_value(data, "guidance", None), 0, MAX_GUIDANCE)
    if guidance is None:
        raise InvalidRequest("guidance_scale", f"Guidance is a number from 0 to {MAX_GUIDANCE:g}; write one.")
    if texts["prompt"].strip() == panel_prompt(trace):
        texts["prompt"] = None  # typed texts, drawn words and each picture's own prompt stay
    seed = secrets.randbelow(2**32) if event_value(data, "noise", False) is True else None
    return fork_of(trace, step, seed, **texts, guidance_scale=guidance)


def panel_prompt(trace: Trace) -> str:
    """The prompt as the drawer shows it, with its LoRAs."""
    loras = lora_tags((lora.name, lora.weight) for lora in trace.request.loras)
    return f"{trace.request.prompt} {loras}".strip()


def try_steps(page: PageContext, trace: Trace, k: int, prompt: str, strip: RunningStrip) -> Iterator[dict[str, Any]]:
    """Leave a run at each step for another prompt: the strip as it grows, then with a sentence.

    Raises:
        InvalidRequest, QueueFull: if the first fork cannot be made.
    """
    user, order = current_user(), decided.steps_to_try(len(trace.steps))
    cells: list[dict[str, Any]] = [{"step": step} for step in sorted(order)]
    outcomes: list[decided.Outcome] = []
    other: Trace | None = None  # the other prompt's own run, which is made first
    problem = ""
    for number, step in enumerate(order):
        so_far = f" {_verdict(outcomes)}" if number >= decided.FIRST else ""
        yield {"cells": cells, "text": f"{number} of {len(cells)} done.{so_far}"}
        if strip.stopped:
            break
        # One after the other: a strip does not fill the queue, and ends with the page that shows it.
        try:
            job = strip.follow(page.backend.submit(fork_of(trace, step, prompt=prompt), user))
        except QueueFull as full:
            if not number:
                raise
            problem = said(full)
            break
        wrong = _wait(job)
        made = page.trace({"id": job.id})
        if wrong or made is None or k >= len(made.finals):
            cells[step]["problem"] = wrong or GONE
            continue
        cells[step] |= {"run": job.id, "picture": small_picture(made.finals[k])}
        if (other := other or (made if step == 0 else None)) is not None:
            outcomes.append(decided.outcome(step, made, trace, other, k))
    yield {"cells": cells, "text": _verdict(outcomes), "problem": problem, "done": True}


def _verdict(outcomes: Sequence[decided.Outcome]) -> str:
    if len(outcomes) < 2:
        return "Not enough of the pictures were made to say when it was decided."
    return decided.sentence(sorted(outcomes, key=lambda one: one.step))


def _wait(job: Job) -> str:
    """Wait for the end of a job; what went wrong, or ""."""
    for event in job.events():
        match event:
            case Finished():
                return ""
            case Failed(message):
                return message
            case Cancelled():
                return "This one was stopped."
    return "This one was not finished."


def look(page: PageContext, value: Any, data: gr.EventData) -> Any:
    """The samplers for the step that the player shows."""
    found = opened_trace(page, value)
    step = _step(found[0], data) if found else None
    if found is None or step is None or found[0].cond is None:
        return gr.skip()
    try:
        answer: dict[str, Any] = {"step": step, "samplers": samplers(page, found[0], step)}
    except QueryFailed as problem:
        answer = {"step": step, "samplers": [], "problem": str(problem)}
    return {**panel_value(page, *found), "found": answer}


def fork(page: PageContext, value: Any, data: gr.EventData) -> tuple[Any, Any]:
    """Begin a fork and open it, or say why it cannot be."""
    found = opened_trace(page, value)
    if found is None:
        return gr.skip(), {"problem": GONE}
    trace, k = found
    try:
        step = _step(trace, data)
        job = page.backend.submit(request_of(trace, -1 if step is None else step, data), current_user())
    except (InvalidRequest, QueueFull) as problem:
        return gr.skip(), {**panel_value(page, *found), "problem": said(problem)}
    return {"id": job.id, "picture": k}, gr.skip()


def decide(page: PageContext, value: Any, data: gr.EventData, strips: Strips) -> Iterator[Any]:
    """The panel's values while a run is left at several steps."""
    found, prompt = opened_trace(page, value), event_value(data, "prompt", "")
    if found is None:
        yield {"problem": GONE}
        return
    sheet = panel_value(page, *found)
    if not isinstance(prompt, str) or not prompt.strip() or prompt.strip() == panel_prompt(found[0]):
        yield {**sheet, "problem": NO_CHANGE}
        return
    name, strip = strips.begin()
    try:
        for answer in try_steps(page, *found, prompt, strip):
            yield {**sheet, "decided": {**answer, "name": name}}
        last = {**answer, "name": name}
        yield {**panel_value(page, *found), "decided": last, "problem": answer["problem"]}
    except (InvalidRequest, QueueFull) as problem:
        yield {**sheet, "problem": said(problem)}
    finally:
        # A page that is closed leaves its generator.
        strips.end(name)


def build(page: PageContext) -> Panel:
    """The panel: a drawer for one fork, a strip of several, and the tree of forks."""
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("components/family.js", "inspector/forks/fork.js"),
        elem_id="fork-panel",
        apply_default_css=False,
    )

    strips = Strips()

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (panel_value(page, *found) if found else None,)

    def choose(data: gr.EventData) -> Any:
        run = event_value(data, "run", None)
        return {"id": run[:MAX_NAME], "picture": 0} if isinstance(run, str) else gr.skip()

    def ask(value: Any, data: gr.EventData) -> Any:
        return look(page, value, data)

    def leave(value: Any, data: gr.EventData) -> tuple[Any, Any]:
        return fork(page, value, data)

    def try_all(value: Any, data: gr.EventData) -> Iterator[Any]:
        yield from decide(page, value, data, strips)

    def stop(data: gr.EventData) -> None:
        name = event_value(data, "name", "")
        strips.stop(name if isinstance(name, str) else "")

    hidden = {"show_progress": "hidden", "trigger_mode": "multiple", **CONCURRENT}
    panel.look(ask, [page.opened], [panel], **hidden)
    panel.fork(leave, [page.opened], [page.opened, panel], **hidden)
    panel.decide(try_all, [page.opened], [panel], **hidden)
    panel.stop(stop, None, None, **UNQUEUED)
    panel.choose(choose, None, [page.opened], **hidden)
    return Panel(refresh, [panel])


def _step(trace: Trace, data: gr.EventData) -> int | None:
    step = number_within(event_value(data, "step", None), 0, len(trace.steps) - 1)
    return None if step is None else int(step)
