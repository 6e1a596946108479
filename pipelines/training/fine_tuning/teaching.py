"""A fine-tuning that the user watches: in parts for the worker, and what the page is told."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.request import InvalidRequest
from pipelines.system.text import file_problem
from pipelines.training.fine_tuning import prompts
from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.model import Model
    from pipelines.training.fine_tuning.checkpoints import RunFolder
    from pipelines.training.fine_tuning.memory import MemoryForecast
    from pipelines.training.fine_tuning.preparation import ExamplePreparation
    from pipelines.training.fine_tuning.training import FineTuning, TeachingWay

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
        self.redraw_seconds, self.own_seconds = 0.0, 0.0
        self.knows_word = False
        self._way: TeachingWay | None = None
        self._training: FineTuning | None = None
        self._denoiser: Any = None
        self._ended = ""
        # Of steps, and of what is drawn between them.
        self._wanted, self._stop, self._halt = True, threading.Event(), threading.Event()
        self._preparation: ExamplePreparation | None = None
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
        found._read_numbers(run.numbers())
        if found._numbers.get("done") and run.picture(found.step, len(ROWS) - 1).exists():
            found._ended = DONE
        return found

    def _read_numbers(self, numbers: dict[str, Any]) -> None:
        self._numbers = numbers
        self.redraw_seconds = float(numbers.get("redraw_seconds", 0.0))
        self.own_seconds = float(numbers.get("own_seconds", 0.0))

    @property
    def state(self) -> str:
        """One of waiting, drawing (the model's own pictures), training, paused, stopped, done, failed."""
        if self._ended:
            return self._ended
        if not self._wanted:
            return PAUSED
        if self._training is not None:
            return TRAINING
        return DRAWING if self._preparation is not None and self._preparation.drawn else WAITING

    @property
    def rests(self) -> bool:
        """Whether there is nothing to do before ``go_on``."""
        return self.state in (PAUSED, *ENDED)

    @property
    def step(self) -> int:
        """Training steps that are done."""
        training = self._training  # the page asks while the worker lets go of it
        return training.step if training else int(self._numbers.get("step", 0))

    @property
    def holds_model(self) -> bool:
        """Whether it keeps the model's weights in memory, which ``rest`` leaves to others."""
        return self._denoiser is not None

    def pause(self) -> None:
        """Stop after the running step; safe from any thread."""
        self._wanted = False
        self._stop.set()
        self._halt.set()

    def go_on(self) -> None:
        """Train again, also after it was stopped or has failed; safe from any thread."""
        if self._ended in (STOPPED, FAILED):
            self._ended, self._stopping, self.problem = "", False, ""
        self._wanted = True
        self._stop.clear()
        self._halt.clear()

    def stop(self) -> None:
        """End after the running step, with a last checkpoint and its pictures; again: without these.

        Safe from any thread.
        """
        at_once = self._stopping or self._training is None or not self._wanted
        self._stopping = True
        self._stop.set()
        if at_once:
            self._halt.set()
            self._ended = self._ended or STOPPED

    def fail(self, problem: str) -> None:
        """End with a sentence for the user; it goes on from the latest checkpoint."""
        self._ended, self.problem = FAILED, problem
        self._stop.set()
        self._let_go()

    def part(self, model: Model) -> None:
        """Do the next piece of work with the loaded model: at most a picture or ``PART_SECONDS`` of steps."""
        if self.rests:
            self.rest()
        elif self._denoiser is not model.denoiser:
            self.rest()  # the model was loaded again meanwhile
            self._take(model)
        elif self._training is None:
            self._set_up(model)
        elif self._to_redraw is not None:
            self._redraw(self._to_redraw)
        elif self._stopping and (not self.step or self.run.has(self.step)):
            self._ended = self._ended or STOPPED
        elif self._stopping or self._training.done:
            self._checkpoint()
        else:
            self._train()

    def rest(self) -> None:
        """Write down what was learnt, and leave the model's memory to others; between two parts."""
        if self._training is not None and self.step and not self.run.has(self.step):
            self._keep()
        self._let_go()

    def _let_go(self) -> None:
        if self._training is not None:
            self._numbers = self._told()
        self._way = self._training = self._denoiser = self._to_redraw = None
        self._drawn = []

    def _take(self, model: Model) -> None:
        """Add to the model what learns, before anything is drawn: it may take too much memory."""
        from pipelines.training.fine_tuning.memory import foretell
        from pipelines.training.fine_tuning.ways import WAYS_TO_TEACH

        check(model)
        plan = self.plan = self.settings.plan(sum(weight.numel() for weight in model.denoiser.parameters()))
        way = WAYS_TO_TEACH[self.settings.way](model, self.settings, plan)
        self.forecast = foretell(model, way, plan.batch * (2 if plan.own else 1))
        if self.forecast.checkpointing:
            way.model.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        self.knows_word = knows_word(model, self.settings.word)
        self._denoiser, self._way = model.denoiser, way

    def _set_up(self, model: Model) -> None:
        """Make ready what is learnt from, a picture a part; then set the training up, from its latest checkpoint."""
        from pipelines.training.fine_tuning.preparation import ExamplePreparation
        from pipelines.training.fine_tuning.training import FineTuning

        way, plan = self._way, self.plan
        assert way is not None and plan is not None and self.forecast is not None
        if self._preparation is None:
            self._preparation = ExamplePreparation(self.run, self.settings)
        before = self._preparation.seconds
        examples = self._preparation.part(model, plan, self._halt.is_set)
        self.own_seconds += self._preparation.seconds - before
        if examples is None:
            return
        training = FineTuning(way, model, plan, *examples, self.forecast.rows)
        kept = self.run.state()
        if kept is not None:
            way.load(self.run.learnt(int(kept[1]["step"])))
            training.load_state(*kept)
            self._read_numbers(kept[1])
            # A kill may have come between a checkpoint and its pictures; a pause has none.
            regular = training.step % plan.every == 0 or training.done
            if regular and not self.run.picture(training.step, len(ROWS) - 1).exists():
                self._to_redraw = training.step
        self._training = training
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
        self._keep()
        self._to_redraw, self._drawn = training.step, []

    def _keep(self) -> None:
        training = self._training
        assert training is not None
        self.run.keep(training.step, training.way.tensors(), training.state()[0], self._told())

    def _told(self) -> dict[str, Any]:
        """The training in numbers, as a checkpoint keeps them."""
        training = self._training
        if training is None:
            return self._numbers
        seconds = {"redraw_seconds": self.redraw_seconds, "own_seconds": self.own_seconds}
        return {**training.numbers(), **seconds, "steps": training.plan.steps, "done": training.done}

    def _redraw(self, step: int) -> None:
        """Draw one of the rows after a step."""
        training = self._training
        assert training is not None
        began = time.perf_counter()
        model, row = training.way.model, len(self._drawn)
        picture = _picture(model, rows(self.settings, model.card)[row], row + 1, self._halt.is_set)
        self.redraw_seconds += time.perf_counter() - began
        if picture is None:
            return
        self._drawn.append(picture)
        if len(self._drawn) == len(ROWS):
            self.run.keep_pictures(step, self._drawn)
            self._to_redraw = None
            if training.done:
                self._ended = self._ended or DONE

    def report(self, card: Any) -> dict[str, Any]:
        """What the page is told, without pictures."""
        told, plan = self._told(), self.plan
        return {
            "run": self.run.name,
            "state": self.state,
            "stopping": self._stopping,
            "problem": self.problem,
            "way": self.settings.way,
            "word": self.settings.word,
            "knows_word": self.knows_word,
            "model": card.name,
            "step": self.step,
            "steps": plan.steps if plan else told.get("steps", 0),
            "own": [self._preparation.drawn if self._preparation else 0, plan.own if plan else 0],
            "seconds": [round(each, 1) for each in (
                told.get("seconds", 0.0), self.redraw_seconds, self.own_seconds)],
            "memory": [self.forecast.needed, self.forecast.free] if self.forecast else None,
            "curve": [round(value, 5) for value in _spread(told.get("curve", []))],
            "loss": [None if value is None else round(value, 5) for value in told.get("loss", [])],
            "held": sorted([int(step), value] for step, value in told.get("held", {}).items()),
            "early": bool(told.get("early")),
            "rows": [[name, prompt] for name, prompt in zip(ROWS, rows(self.settings, card), strict=True)],
        }  # fmt: skip


def rows(settings: TeachingSettings, card: ModelCard) -> tuple[str, str, str, str]:
    """The prompts that are drawn again and again."""
    return (f"a {settings.word}", settings.setting, *prompts.old_prompts(card))


def _picture(model: Model, prompt: str, seed: int, halted: Callable[[], bool]) -> Image.Image | None:
    """What a model draws by what it has learnt so far; None where it was halted."""
    from pipelines.training.fine_tuning.examples import drawn, request_for

    model.clear_prompt_cache()  # a word's vectors may have learnt
    found = drawn(model, request_for(model.card, prompt, seed), halted)
    return None if found is None else model.latents.decode(found)[0]


def knows_word(model: Model, word: str) -> bool:
    """Whether a word is in the vocabulary of a model's tokenizer, so that it means something already."""
    for text in model.texts:
        ids = text.tokenizer(word, add_special_tokens=False).input_ids
        if len(ids) == 1 and ids[0] != text.tokenizer.unk_token_id:
            return True
    return False


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
                if self.teaching.rests:
                    self.teaching.rest()
                else:
                    self._ask(self.teaching.part)
            except (CannotGoOn, InvalidRequest) as problem:
                self.teaching.fail(str(problem))
            except OSError as problem:
                self.teaching.fail(file_problem(problem))
            self.announce()
        self.announce()

    def _has_work(self) -> bool:
        """Whether there is a next part; if not, the thread ends, and ``start`` begins another."""
        with self._changed:
            if self.teaching.rests and not self.teaching.holds_model:
                self._thread = None
            return self._thread is not None
