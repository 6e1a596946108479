"""The tiny model of dots, trained and sampled while the user watches; dots.js draws it.

The template is static: all choices in it come from the program's own tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, SCHEDULERS
from pipelines.training.toy import live, settings
from pipelines.training.toy.shapes import DRAWN, SHAPES
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.jobs.backend import Queries
    from pipelines.jobs.users import User
    from ui.context import PageContext

NOTHING_CHOSEN = "Choose a shape and press Train."
GONE = "This model is no longer kept; press Train to begin again."
LIMIT = "A guest's training ends after {seconds:.0f} s; what the model has learned stays."
# The page is told no more often than this.
REPORT_SECONDS = 0.1
# Sampling in so many steps, learned and in closed form, takes about as long as a slice.
USUAL_STEPS = 12


def _options(pairs: Iterable[tuple[Any, str]], chosen: Any) -> str:
    return "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{label}</option>' for value, label in pairs
    )


def _select(name: str, label: str, pairs: Iterable[tuple[Any, str]], chosen: Any, hidden: bool = False) -> str:
    return (
        f'<label data-part="{name}-label"{" hidden" if hidden else ""}>{label} '
        f'<select data-part="{name}">{_options(pairs, chosen)}</select></label>'
    )


_SHAPES = "".join(
    f'<button type="button" data-shape="{name}" aria-pressed="{str(name == "moons").lower()}">{label}</button>'
    for name, label in (*((name, spec.label) for name, spec in SHAPES.items()), (DRAWN, "Draw your own"))
)
_DEFAULT, _SAMPLED = settings.TrainingSettings(), settings.SamplingSettings()
DOTS_HTML = f"""
<section class="dots" data-state="empty" data-plane="{settings.PLANE:g}" aria-label="A tiny model that learns">
  <div class="choices" role="group" aria-label="What it learns">{_SHAPES}
    {_select("letter", "Letter", ((each, each) for each in settings.LETTERS), "D", hidden=True)}</div>
  <div class="sides">
    <figure class="plane"><canvas data-part="plane" width="640" height="640" role="img"
        aria-label="Dots in the plane"></canvas>
      <p class="hint" data-part="hint">Choose a shape and press Train.</p></figure>
    <div class="readings">
      <div class="acts"><button type="button" class="primary-act" data-do="train">Train</button>
        <button type="button" class="quiet" data-do="pause" hidden>Pause</button>
        <button type="button" class="quiet" data-do="on" hidden>Go on</button></div>
      <p class="progress" data-part="progress" role="status"></p>
      <div class="pickers">
        {_select("rate", "Learning rate", ((rate, f"{rate:g}") for rate in settings.LEARNING_RATES), 0.003)}
        {_select("steps", "Training steps", ((n, f"{n:,}") for n in settings.TRAINING_STEPS), _DEFAULT.steps)}
      </div>
      <figure class="loss"><canvas data-part="loss" width="560" height="240" role="img"
          aria-label="Error of the predicted noise at each noise level"></canvas>
        <figcaption><span>little noise</span><b>error at each noise level</b><span>much noise</span></figcaption>
      </figure>
      <p class="keys-of"><i class="bar" aria-hidden="true"></i>this model
        <i class="tick" aria-hidden="true"></i>best possible: no model gets below</p>
      <p class="verdict" data-part="verdict"></p>
    </div>
  </div>
  <div class="timeline">
    <div class="strip" data-part="strip" role="slider" tabindex="0" aria-label="From noise to the shape"
         aria-valuemin="0" aria-valuemax="0" aria-valuenow="0"></div>
    <svg class="curve" data-part="curve" preserveAspectRatio="none" viewBox="0 0 100 100" aria-hidden="true">
      <polyline class="rim"></polyline><polyline></polyline>
    </svg>
    <div class="ends"><span class="from">noise</span><span class="keys-hint"
      >drag, or &larr; &rarr; and space; arrows: where the model believes a dot came from</span><span
      class="to">shape</span></div>
  </div>
  <div class="acts samplers">
    <button type="button" class="quiet" data-do="play" disabled>Play</button>
    <div class="choices" role="group" aria-label="Who predicts">
      <button type="button" data-who="learned" aria-pressed="true">Learned</button>
      <button type="button" data-who="ideal" aria-pressed="false">Best possible</button></div>
    {_select("scheduler", "Sampler", ((n, SCHEDULERS[n].label) for n in DIFFUSION_SCHEDULERS), _SAMPLED.scheduler)}
    {_select("count", "Steps", ((n, str(n)) for n in settings.SAMPLING_STEPS), _SAMPLED.steps)}
    {_select("label", "Class", [(0, "both")], 0, hidden=True)}
    {_select("guidance", "Guidance", ((g, f"{g:g}") for g in settings.GUIDANCE), 1.0, hidden=True)}
    <button type="button" class="quiet" data-do="again" disabled>New noise</button>
  </div>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
</section>
"""


def build(page: PageContext) -> gr.HTML:
    """The component with its events."""
    component = gr.HTML(
        None,
        html_template=DOTS_HTML,
        js_on_load=script(),
        elem_id="learn-dots",
        apply_default_css=False,
    )
    wire(page, component, Trainings())
    return component


def script() -> str:
    """Its script."""
    return asset("components/timeline.js", "tabs/learn/state.js", "tabs/learn/dots.js")


class Trainings:
    """The trainings of the current user; guests' are apart, so that they cannot push the owner's out."""

    def __init__(self) -> None:
        self._own, self._guests = live.LiveTrainings(), live.LiveTrainings()

    def begin(self, chosen: settings.TrainingSettings) -> live.LiveTraining:
        """A new one; a guest's is short."""
        user = current_user()
        return self._of(user).begin(user.id, chosen, settings.GUEST_SECONDS if user.guest else None)

    def get(self, name: object) -> live.LiveTraining | None:
        """The one of this name, while it is the user's latest."""
        user = current_user()
        return self._of(user).get(user.id, name)

    def _of(self, user: User) -> live.LiveTrainings:
        return self._guests if user.guest else self._own


def wire(page: PageContext, component: gr.HTML, trainings: Trainings) -> None:
    """Train, pause, go on, sample."""

    def train(data: gr.EventData) -> Iterator[dict[str, Any]]:
        sent = _sent(data)
        if not sent:  # a call of another program, not of the page
            yield {"state": "refused", "problem": NOTHING_CHOSEN}
            return
        try:
            chosen = settings.read_training(sent)
        except InvalidRequest as problem:
            yield {"state": "refused", "problem": problem.message}
            return
        found = trainings.begin(chosen)
        yield {"run": found.name, "state": "waiting"}
        yield from watch(page.queries, found)

    def go_on(data: gr.EventData) -> Iterator[dict[str, Any]]:
        found = trainings.get(event_value(data, "run"))
        if found is None:
            yield {"state": "refused", "problem": GONE}
        elif not found.running:
            found.go_on()
            yield from watch(page.queries, found)

    def pause(data: gr.EventData) -> None:
        if found := trainings.get(event_value(data, "run")):
            found.pause()

    def sample(data: gr.EventData) -> Any:
        found = trainings.get(event_value(data, "run"))
        if found is None:
            return {"state": "refused", "problem": GONE}
        try:
            found.sampling = settings.read_sampling(_sent(data), found.classes)
            # A training that runs draws it after its next slice.
            return gr.skip() if found.running else asked(page.queries, found, trains=False)
        except InvalidRequest as problem:
            return {"state": "refused", "problem": problem.message}
        except QueryFailed as problem:
            return {"state": "refused", "problem": str(problem)}

    several = {**CONCURRENT, "trigger_mode": "multiple"}
    component.train(train, None, [component], **several)
    component.resume(go_on, None, [component], **several)
    component.pause(pause, None, None, **UNQUEUED)
    component.sample(sample, None, [component], **{**CONCURRENT, "trigger_mode": "always_last"})


def watch(queries: Queries, found: live.LiveTraining) -> Iterator[dict[str, Any]]:
    """What the page is told while a training runs, slice by slice; each slice waits in the user's turn."""
    report: dict[str, Any] = {"run": found.name, "state": "waiting"}
    if not found.watch():  # another call of the page does
        return
    shown = 0.0
    try:
        while True:
            report = asked(queries, found, trains=True)
            if report["state"] != "training":
                break
            if time.monotonic() - shown >= REPORT_SECONDS:
                shown = time.monotonic()
                yield report
    except QueryFailed as problem:
        found.pause()
        report = {**report, "state": "paused", "problem": str(problem)}
    finally:
        # Also where the page has gone away: its training ends with it.
        found.unwatch()
    if report["state"] == "limit":
        report = {**report, "problem": LIMIT.format(seconds=settings.GUEST_SECONDS)}
    yield report


def asked(queries: Queries, found: live.LiveTraining, trains: bool) -> dict[str, Any]:
    """Have the worker do a part of a training when no picture is made; it counts towards a guest's hour."""
    work, part = int(found.seconds(trains) * settings.WORK_A_SECOND), found.slice if trains else found.sample
    report: dict[str, Any] = queries.ask(None, lambda _: part(), work, alone=True)
    return report


def _sent(data: gr.EventData) -> dict[str, Any]:
    """The settings that an event carries."""
    names = (
        "shape",
        "letter",
        "drawn",
        "learning_rate",
        "steps",
        "scheduler",
        "sampling_steps",
        "guidance",
        "label",
        "seed",
    )
    fields = {name: event_value(data, name) for name in names}
    return {name: value for name, value in fields.items() if value is not None}
