"""A fine-tuning that the user watches: in parts for the worker, and what the page is told."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning import prompts
from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.model import Model
    from pipelines.training.fine_tuning.checkpoints import RunFolder
    from pipelines.training.fine_tuning.memory import MemoryForecast
    from pipelines.training.fine_tuning.training import FineTuning

# Seconds of training in one part: the worker may do something else after each.
PART_SECONDS = 0.5
CURVE_POINTS = 200
# Of the processors; above it the machine is busy with more than the training.
BUSY = 1.25
ROWS = ("the new thing", "in a setting it was not shown in", "an old thing", "another old thing")

WAITING, DRAWING, TRAINING, PAUSED, STOPPED, DONE, FAILED = (
    "waiting", "drawing", "training", "paused", "stopped", "done", "failed",
)  # fmt: skip
ENDED = (STOPPED, DONE, FAILED)


class Teaching:
    """One run of teaching; ``part`` is for the worker's thread.

    Args:
        run: its folder, in which ``RunFolder.begin`` has written down what is taught.
        settings: what is taught.
    """

    def __init__(self, run: RunFolder, settings: TeachingSettings) -> None:
        self.run, self.settings = run, settings
        self.problem = ""
        self.forecast: MemoryForecast | None = None
        self.plan: TrainingPlan | None = None
        self.own_drawn, self.redraw_seconds, self.own_seconds = 0, 0.0, 0.0
        self._training: FineTuning | None = None
        self._denoiser: Any = None
        self._ended = ""
        self._wanted, self._stop = True, threading.Event()
        self._own: list[Any] = []
        self._given: list[Any] = []
        self._to_redraw: int | None = None
        self._drawn: list[Image.Image] = []
        self._stopping, self._numbers = False, dict[str, Any]()

    @classmethod
    def restored(cls, run: RunFolder) -> Teaching:
        """A run of an earlier start of the program, as its latest checkpoint left it: paused, or done.

        Raises:
            OSError, ValueError, KeyError: if its files cannot be read.
        """
        found = cls(run, run.settings())
        found.pause()
        found._numbers = run.numbers()
        if found._numbers.get("done") and run.picture(found.step, len(ROWS) - 1).exists():
            found._ended = DONE
        return found

    @property
    def state(self) -> str:
        """One of waiting, drawing (the model's own pictures), training, paused, stopped, done, failed."""
        if self._ended:
            return self._ended
        if not self._wanted:
            return PAUSED
        if self._training is not None:
            return TRAINING
        return DRAWING if self._own else WAITING

    @property
    def step(self) -> int:
        """Training steps that are done."""
        return self._training.step if self._training else int(self._numbers.get("step", 0))

    def pause(self) -> None:
        """Stop after the running step; safe from any thread."""
        self._wanted = False
        self._stop.set()

    def go_on(self) -> None:
        """Train again, also after it was stopped or has failed; safe from any thread."""
        if self._ended in (STOPPED, FAILED):
            self._ended, self._stopping, self.problem = "", False, ""
        self._wanted = True
        self._stop.clear()

    def stop(self) -> None:
        """End after the running step, with a last checkpoint; safe from any thread."""
        self._stopping = True
        self._stop.set()
        if self._training is None or not self._wanted:
            self._ended = self._ended or STOPPED

    def fail(self, problem: str) -> None:
        """End with a sentence for the user."""
        self._ended, self.problem = FAILED, problem
        self._stop.set()

    def part(self, model: Model) -> None:
        """Do the next piece of work with the loaded model: at most a picture or ``PART_SECONDS`` of steps."""
        if self.state in ENDED or not self._wanted:
            return
        if self._training is None or self._denoiser is not model.denoiser:
            self._prepare(model)
        elif self._to_redraw is not None:
            self._redraw(self._to_redraw)
        elif self._stopping:
            self._end()
        else:
            self._train()

    def _end(self) -> None:
        """After the user has stopped it: keep what was learnt since the last checkpoint."""
        if self.step and not self.run.has(self.step):
            self._checkpoint()
        else:
            self._ended = self._ended or STOPPED

    def _prepare(self, model: Model) -> None:
        """Draw the model's own pictures, one a part; then set the training up, from its latest checkpoint."""
        from pipelines.training.fine_tuning.examples import Examples, own_latents

        check(model)
        plan = self.plan = self.settings.plan(sum(weight.numel() for weight in model.denoiser.parameters()))
        if self.run.examples() is None:
            self._encode(model)
            return
        own = self.run.own()
        if own is None:
            began = time.perf_counter()
            texts = prompts.own_prompts(model.card, plan.own, self.settings.word, plan.seed)
            if len(self._own) < plan.own:
                self._own.append(own_latents(model, texts[len(self._own)], len(self._own)))
                self.own_drawn, self.own_seconds = len(self._own), self.own_seconds + time.perf_counter() - began
                return
            import torch

            none = torch.zeros(model.latents.shape(0, model.card.width, model.card.height))
            own = Examples(torch.cat(self._own) if self._own else none, tuple(texts))
            self.run.keep_own(own)
        self._set_up(model, plan, own)

    def _encode(self, model: Model) -> None:
        """Encode one of the user's pictures, and keep them once all are."""
        import torch
        from PIL import Image

        from pipelines.training.fine_tuning.examples import Examples, fitted, latents_of

        with Image.open(self.run.given(len(self._given))) as picture:
            self._given.append(latents_of(model, fitted(picture, model.card)))
        if len(self._given) == len(self.settings.captions):
            self.run.keep_examples(Examples(torch.cat(self._given), self.settings.captions))

    def _set_up(self, model: Model, plan: TrainingPlan, own: Any) -> None:
        from pipelines.training.fine_tuning.memory import foretell
        from pipelines.training.fine_tuning.training import FineTuning
        from pipelines.training.fine_tuning.ways import WAYS_TO_TEACH

        way = WAYS_TO_TEACH[self.settings.way](model, self.settings, plan)
        self.forecast = foretell(model, way, plan.batch * (2 if len(own) else 1))
        if self.forecast.checkpointing:
            way.model.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        examples = self.run.examples()
        assert examples is not None
        training = FineTuning(way, model, plan, examples, own, self.forecast.rows)
        kept = self.run.state()
        if kept is not None:
            way.load(self.run.learnt(int(kept[1]["step"])))
            training.load_state(*kept)
            self.redraw_seconds = float(kept[1].get("redraw_seconds", 0.0))
            # A kill may have come between a checkpoint and its pictures.
            if not self.run.picture(training.step, len(ROWS) - 1).exists():
                self._to_redraw = training.step
        self._denoiser, self._training = model.denoiser, training
        if kept is None:
            self._checkpoint()

    def _train(self) -> None:
        training = self._training
        assert training is not None and self.plan is not None
        began = time.monotonic()
        with fewer_threads():
            while not self._stop.is_set():
                training.take_step()
                if training.step % self.plan.every == 0 or training.step >= self.plan.steps:
                    self._checkpoint()
                    return
                if time.monotonic() - began >= PART_SECONDS:
                    return

    def _checkpoint(self) -> None:
        """Write down what was learnt; its pictures are drawn in the next parts."""
        training = self._training
        assert training is not None
        training.measure_held_out()
        tensors, numbers = training.state()
        more = {**numbers, "redraw_seconds": self.redraw_seconds, "steps": training.plan.steps, "done": training.done}
        self.run.keep(training.step, training.way.tensors(), tensors, more)
        self._to_redraw, self._drawn = training.step, []

    def _redraw(self, step: int) -> None:
        """Draw one of the rows after a step."""
        training = self._training
        assert training is not None
        began = time.perf_counter()
        self._drawn.append(self.draw(training.way.model, len(self._drawn)))
        self.redraw_seconds += time.perf_counter() - began
        if len(self._drawn) == len(ROWS):
            self.run.keep_pictures(step, self._drawn)
            self._to_redraw = None
            if training.done:
                self._ended = self._ended or DONE

    def draw(self, model: Model, row: int) -> Image.Image:
        """A row's picture by what was learnt so far, always of the same seed."""
        from pipelines.sampling.denoise import denoise
        from pipelines.training.fine_tuning.examples import request_for

        model.clear_prompt_cache()  # a word's vectors may have learnt
        *_, last = denoise(model, request_for(model.card, self.rows(model.card)[row], row + 1))
        return model.latents.decode(last.x_next)[0]

    def rows(self, card: Any) -> tuple[str, str, str, str]:
        """The prompts that are redrawn."""
        return (f"a {self.settings.word}", self.settings.setting, *prompts.old_prompts(card))

    def report(self, card: Any) -> dict[str, Any]:
        """What the page is told, without pictures."""
        training, plan, kept = self._training, self.plan, self._numbers
        curve = training.curve if training else kept.get("curve", [])
        held = training.held.items() if training else ((int(step), x) for step, x in kept.get("held", {}).items())
        return {
            "run": self.run.name,
            "state": self.state,
            "problem": self.problem,
            "way": self.settings.way,
            "word": self.settings.word,
            "model": card.name,
            "step": self.step,
            "steps": plan.steps if plan else kept.get("steps", 0),
            "own": [self.own_drawn, plan.own if plan else 0],
            "seconds": [round(each, 1) for each in (
                training.seconds if training else 0.0, self.redraw_seconds, self.own_seconds)],
            "memory": [self.forecast.needed, self.forecast.free] if self.forecast else None,
            "curve": [round(value, 5) for value in _spread(curve)],
            "loss": [None if value is None else round(value, 5) for value in training.loss()] if training else [],
            "held": [list(pair) for pair in sorted(held)],
            "early": bool(training and training.ended_early),
            "rows": [[name, prompt] for name, prompt in zip(ROWS, self.rows(card), strict=True)],
        }  # fmt: skip


def check(model: Model) -> None:
    """Raise InvalidRequest for a model that cannot be taught as it is loaded."""
    name = model.card.name
    if model.training_copy is None or model.is_inpainting or model.guidance_embedded:
        raise InvalidRequest("model", f"{name} is of a kind that cannot be taught here; choose a Stable Diffusion one.")
    if model.placement.fallbacks or model.placement.quantize:
        raise InvalidRequest(
            "model", f"{name} runs in a way that saves memory and cannot learn like that; choose a smaller model."
        )


@contextmanager
def fewer_threads() -> Iterator[None]:
    """One thread while other programs keep the processors busy: two that wait for each other take longer."""
    import torch

    before = torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY * (os.cpu_count() or 1):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _spread(values: Sequence[float]) -> list[float]:
    """At most so many of the values, evenly spread, with both ends."""
    n = len(values)
    return (
        list(values) if n <= CURVE_POINTS else [values[k * (n - 1) // (CURVE_POINTS - 1)] for k in range(CURVE_POINTS)]
    )


# ask(part): have the worker call ``part`` with the loaded model when no picture is made, and wait until it has.
Ask = Callable[[Callable[[Any], None]], None]


class CannotGoOn(RuntimeError):
    """The worker cannot go on with a training; the message is one sentence for the user."""


class TeachingThread:
    """Has the worker do one part of a teaching after the other, so that it goes on when the page goes away.

    Args:
        teaching: what is done.
        ask: see ``Ask``; raises CannotGoOn.
    """

    def __init__(self, teaching: Teaching, ask: Ask) -> None:
        self.teaching, self._ask = teaching, ask
        self._changed = threading.Condition()
        self._version = 0
        self._thread: threading.Thread | None = None

    @property
    def version(self) -> int:
        """Grows with every part."""
        return self._version

    def start(self) -> None:
        """Begin, or go on."""
        with self._changed:
            self.teaching.go_on()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="playground-teaching", daemon=True)
                self._thread.start()

    def announce(self) -> None:
        """Tell those who wait that something has changed."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def wait(self, version: int, seconds: float) -> int:
        """Wait until something changes after a version, at most so long; the version then."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, seconds)
            return self._version

    def join(self, seconds: float | None = None) -> None:
        """Wait until it pauses or ends."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while self._has_work():
            try:
                self._ask(self.teaching.part)
            except (CannotGoOn, InvalidRequest) as problem:
                self.teaching.fail(str(problem))
            self.announce()
        self.announce()

    def _has_work(self) -> bool:
        """Whether there is a next part; if not, the thread ends, and ``start`` begins another."""
        with self._changed:
            if self.teaching.state in (PAUSED, *ENDED):
                self._thread = None
            return self._thread is not None
