"""What the best possible denoiser for the training pictures would believe at each step, next to the model's guess.

It is worked out once for all steps of a run when the panel is first looked at; then the panel follows the player.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from pipelines.jobs.backend import QueryFailed
from pipelines.request_errors import TRY_AGAIN
from pipelines.system.guest_bytes import NoBytesLeft
from pipelines.trace.trace import TraceError
from pipelines.training_sample.pictures import SampleError
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT
from ui.components.next_steps import next_step
from ui.inspector import lens_frames
from ui.inspector.origins import lens
from ui.inspector.origins.nearest import gauge_value, nearest_value, never_shown
from ui.inspector.panel import Panel, opened_trace
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from pipelines.training_sample.library import BestGuess, SampleProgress
    from pipelines.training_sample.posterior import Posterior
    from pipelines.training_sample.recipe import SampleRecipe
    from ui.context import PageContext

SIDE, POLL_SECONDS = 384, 0.5
# Seconds after which a page stops waiting for the preparation; the preparation goes on.
MAX_WAIT = 1800.0
PROBLEMS = (QueryFailed, SampleError, TraceError)
NO_SAMPLE = (
    "This model's training pictures are not here, so its guesses cannot be compared with them. "
    "Make a picture with Pocket and open it here."
)
OWN_LOOP = "This model runs its own loop, so its guesses were not recorded."

_TEMPLATE = """
<section class="origins" data-state="empty" aria-label="The best possible guess">
  <p class="lead">The best denoiser that there can be for a set of pictures is known exactly: it averages them, each
    weighted by how well it explains the noisy latent. It can only copy what it was shown; what the model's guess has
    beyond that, the network made up.
    <span class="term">The posterior mean over training pictures:
      <a href="https://arxiv.org/abs/2412.20292" target="_blank" rel="noopener noreferrer">Kamb and Ganguli 2024</a>,
      <a href="https://arxiv.org/abs/2310.12395" target="_blank" rel="noopener noreferrer">Scarvelis et al.
      2023</a></span></p>
  <p class="badge" data-part="badge" hidden></p>
  <p class="sentence" data-part="why" role="status"></p>
  <button type="button" class="quiet next-step" data-part="again" hidden></button>
  <div class="ask" data-part="ask" hidden>
    <button type="button" class="quiet second" data-part="prepare">Prepare the training pictures</button>
    <span class="said" data-part="cost"></span>
  </div>
  <div class="ask" data-part="making" hidden>
    <progress data-part="progress" aria-label="Training pictures that are prepared"></progress>
    <button type="button" class="quiet" data-part="stop">Stop</button></div>
  <div data-part="guesses" hidden>
    <div class="bar"><p class="state" data-part="state" role="status"></p>
      <button type="button" class="quiet" data-part="timeline">Show both on the timeline</button></div>
    <div class="three-views" data-part="cells"></div>
    <p class="said" data-part="sample"></p>
  </div>
  <div data-part="nearest" hidden>
    <h3>The nearest training pictures</h3>
    <p class="said">Every drawing of the training, mirrored too, cut out and laid over the result where it fits best.
      The figure is the root mean square difference of the pixels: 0 is the same drawing.</p>
    <ol class="renders" data-part="renders"></ol>
    <p data-part="likeness"></p>
  </div>
  <div data-part="gauge" hidden>
    <h3>Does it remember a picture?</h3>
    <p data-part="verdict"></p>
    <div class="gauge" data-part="dots" role="img" hidden></div>
    <p class="said" data-part="gauge-about">The difference that the prompt makes to the predicted noise at the first
      step; a line for each prompt of the training, this prompt's is thick. A prompt whose picture is memorised moves
      it far more than others.
      <a href="https://arxiv.org/abs/2407.21720" target="_blank" rel="noopener noreferrer">Wen et al. 2024</a></p>
  </div>
</section>
"""


def key_of(trace: Trace, k: int) -> dict[str, Any]:
    """What tells one picture's values from another's."""
    return {"key": lens_frames.run_key(trace, k)}


def closed_value(page: PageContext, trace: Trace, k: int) -> dict[str, Any]:
    """The value of a run that nobody has looked at here."""
    if not page.backend.training_samples.offered(trace.request.model):
        return {**key_of(trace, k), "state": "none", "why": NO_SAMPLE}
    if trace.cond is None:
        return {**key_of(trace, k), "state": "none", "why": OWN_LOOP}
    return {**key_of(trace, k), "state": "closed"}


def values(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The panel's values one after the other; each repeats the former ones, so that a lost one does no harm."""
    told: dict[str, Any] = {}
    for fresh in _parts(page, trace, k):
        told |= fresh
        yield dict(told)


def _parts(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """What is new in each value."""
    samples, model = page.backend.training_samples, trace.request.model
    head = key_of(trace, k)
    try:
        recipe = samples.recipe(model)
        wanted = recipe.read(trace.request.prompt_of(k))
        yield {**head, "state": "busy", "badge": never_shown(wanted, recipe), "why": "Looking for training pictures"}
        yield {**head, "state": "busy", "nearest": nearest_value(page, trace, k)}
        yield {**head, "state": "busy", "gauge": gauge_value(page, trace, k)}
        yield from preparation(page, trace, k)
        if samples.progress(model).ready:
            yield {**head, "state": "busy", "why": "Weighing the training pictures"}
            found = samples.best_guess(trace, k, page.queries.ask)
            yield {**head, "state": "open", "why": "", "guesses": guesses(page, trace, k, found, recipe)}
    except PROBLEMS as problem:
        yield {**head, "state": "failed", "why": str(problem), "next": next_step(TRY_AGAIN)}


def preparation(page: PageContext, trace: Trace, k: int) -> Iterator[dict[str, Any]]:
    """The progress of the preparation while it runs; what it would cost where it was not begun."""
    samples, model, head = page.backend.training_samples, trace.request.model, key_of(trace, k)
    end = time.monotonic() + MAX_WAIT
    while (now := samples.progress(model)).running and time.monotonic() < end:
        how_far = {"why": counted(now), "done": now.done, "total": now.total}
        yield {**head, "state": "preparing", **how_far, "may_stop": current_user().owner}
        time.sleep(POLL_SECONDS)
    if not now.ready:
        yield {**head, "state": "unprepared", "why": now.problem, "cost": cost(now), "begun": now.done > 0}


def counted(now: SampleProgress) -> str:
    """How far the preparation is."""
    return f"Preparing the training pictures: {now.done:,} of {now.total:,}. You can go on meanwhile."


def cost(now: SampleProgress) -> str:
    """What the preparation takes, before it is begun; how much of it is left where it was begun before."""
    if now.done:
        return f"{now.done:,} of {now.total:,} pictures are prepared; the others follow while nothing else runs."
    return (
        f"{now.total:,} pictures are drawn as training drew them and encoded, once, in the background while nothing "
        "else runs; that can take ten minutes or more."
    )


def guesses(page: PageContext, trace: Trace, k: int, found: BestGuess, recipe: SampleRecipe) -> dict[str, Any]:
    """The three guesses of every step, as pictures and words; raises QueryFailed."""
    steps, shape = len(trace.steps), trace.x_t.shape[2:]
    frames, _ = lens_frames.lens_frames(trace, k, "x0", page.decode(trace), page.frame_cache)
    columns = [column(page, trace, one, shape) for one in (found.given, found.alone) if one is not None]
    best = found.given or found.alone
    page.frame_cache.put(trace, k, lens.NAME, columns[0])
    own = np.stack([trace.guess(i)[k].ravel() for i in range(steps)])
    apart = np.sqrt(np.mean(np.square(own - best.mean), axis=1))
    cells = [["The model's guess", "given the prompt, without guidance",
              [f"{distance:.2f} away from the best possible guess" for distance in apart]]]  # fmt: skip
    if found.given is not None:
        cells.append(["The best possible guess", f"given {named(recipe, found)}", spread_words(found.given)])
    title = "The best possible guess" if found.given is None else "The best without the prompt"
    cells.append([title, "over every picture of the sample", spread_words(found.alone)])
    return {
        "frames": [frames["frames"], *columns],
        "cells": cells,
        "steps": [f"Step {i + 1} of {steps}" for i in range(steps)],
        "sample": sample_words(recipe, found),
        "lens": lens.ABOUT,
    }


def column(page: PageContext, trace: Trace, one: Posterior, shape: tuple[int, ...]) -> list[str]:
    """The guesses of all steps, decoded."""
    images = page.queries.decode(trace.request.model, one.mean.reshape(-1, *shape))
    return [thumbnail_uri(image, SIDE) for image in images]


def named(recipe: SampleRecipe, found: BestGuess) -> str:
    """What the pictures show: "a noto emoji of a small fox on a green background"."""
    shows = found.shows
    things = " next to ".join(recipe.things[name] for name in shows.things)
    if shows.size:
        things = f"a {shows.size} {shows.things[0]}"
    opening = f"a {shows.style} emoji of" if shows.style else ""
    return " ".join(word for word in (opening, things, recipe.backgrounds.get(shows.colour, "")) if word)


def spread_words(one: Posterior) -> list[str]:
    """For each step, how many pictures share the weight."""
    return [_spread(share, many) for share, many in zip(one.weight, one.effective, strict=True)]


def _spread(share: float, many: float) -> str:
    if share > 0.9:
        return f"A copy of one picture, which has {share:.0%} of the weight"
    return f"An average of about {many:,.0f} pictures"


def sample_words(recipe: SampleRecipe, found: BestGuess) -> str:
    """Which pictures were compared, in one or two sentences."""
    alone = (
        f"The sample: {recipe.count:,} pictures drawn as training drew its own; distances are root mean squares of the "
        "latents."
    )
    if found.given is None:
        return f"{alone} The prompt names nothing that it shows, so only all pictures together are compared."
    pictures = "picture shows" if found.count == 1 else "pictures show"
    less = "" if found.shows == found.wanted else " None shows all that the prompt names."
    first = f"The first {found.before} steps" if found.before > 1 else "The first step"
    before = f" {first} followed another prompt: there its pictures are weighed." if found.before else ""
    return f"{alone} {found.count:,} {pictures} {named(recipe, found)}.{less}{before}"


def build(page: PageContext) -> Panel:
    """The panel; its script asks when it comes into view."""
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("inspector/origins/best_guess.js"),
        elem_id="best-guess",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        return (closed_value(page, *found) if found else None,)

    def look(value: Any) -> Iterator[Any]:
        found = opened_trace(page, value)
        if found is None or closed_value(page, *found)["state"] != "closed":
            yield gr.skip()
            return
        yield from values(page, *found)

    def prepare(value: Any) -> Iterator[Any]:
        found = opened_trace(page, value)
        if found is None or closed_value(page, *found)["state"] != "closed":
            yield gr.skip()
            return
        try:
            # Bound now: it is called in a thread that has no current user.
            charge = partial(page.backend.guest_bytes.charge, current_user().guest)
            page.backend.training_samples.prepare(found[0].request.model, page.queries.ask, charge)
        except (*PROBLEMS, NoBytesLeft) as problem:
            again = {} if isinstance(problem, NoBytesLeft) else {"next": next_step(TRY_AGAIN)}
            yield {**key_of(*found), "state": "failed", "why": str(problem), **again}
            return
        yield from values(page, *found)

    def stop(value: Any) -> None:
        found = opened_trace(page, value)
        if found is not None and current_user().owner and page.backend.training_samples.offered(found[0].request.model):
            page.backend.training_samples.stop(found[0].request.model)

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    panel.open(look, [page.opened], [panel], **several)
    panel.prepare(prepare, [page.opened], [panel], **several)
    panel.stop(stop, [page.opened], None, **{**several, "queue": False})
    return Panel(refresh, [panel])
