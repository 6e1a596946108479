"""The training samples of models: encoded in the background at first use, kept on the disk, asked about.

The worker encodes a few pictures at a time, and only when no job has run or waited for a moment.  What was encoded is
kept every now and then, so that a preparation that is stopped or cut off goes on from there.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipelines.cards import ModelCard
from pipelines.training_sample import latents, posterior
from pipelines.training_sample.latents import SampleLatents
from pipelines.training_sample.nearest import NearestPicture, NearestPictures
from pipelines.training_sample.pictures import SampleError, SamplePictures
from pipelines.training_sample.recipe import SampleRecipe, Wanted

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.trace.trace import Trace

log = logging.getLogger(__name__)
# Pictures that the worker encodes at once: a job that comes meanwhile waits for them.
BATCH = 4
# Seconds between two looks whether a job runs, and for how long none must have run.
WAIT_SECONDS, QUIET_SECONDS = 0.1, 1.0
# Pictures that are kept on the disk at a time.
PART = 256
UNREADABLE = "The training pictures could not be prepared; try again."


class Ask(Protocol):
    """Has the worker call ``ask`` with a model, or with None, and waits (``Queries.ask``)."""

    def __call__(self, model_id: str | None, ask: Callable[[Any], Any], work: int = 0) -> Any: ...


@dataclass(frozen=True)
class SampleProgress:
    """How far a sample is: pictures encoded and all of them, whether it is being made, and what went wrong."""

    done: int
    total: int
    running: bool = False
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Whether questions can be answered."""
        return self.done == self.total


@dataclass(frozen=True, eq=False)
class BestGuess:
    """What the best denoiser for the sample believes at each of s steps.

    Attributes:
        alone: E[x0 | x_t] over all pictures of the sample.
        given: the same over those that show what the prompt names, None if there are none.
        wanted: what the prompt names.
        shows: how much of it these show.
        count: how many they are.
        before: steps of a fork that followed the other run's prompt, and are given what that one names.
    """

    alone: posterior.Posterior
    given: posterior.Posterior | None
    wanted: Wanted
    shows: Wanted
    count: int
    before: int = 0


@dataclass
class _Sample:
    """The state of one model's sample."""

    file: Path
    pictures: SamplePictures
    nearest: NearestPictures
    found: SampleLatents | None = None
    # What was encoded so far; a preparation that was cut off goes on from there.
    rows: list[np.ndarray] = field(default_factory=list)
    facts: list[list[int]] = field(default_factory=list)
    # How many of them are on the disk.
    kept: int = 0
    running: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)
    problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def progress(self) -> SampleProgress:
        """How far it is; the last picture counts when all of them are written."""
        total = self.pictures.recipe.count
        done = total if self.found is not None else min(len(self.facts), total - 1)
        return SampleProgress(done, total, self.running, self.problem)


class TrainingSamples:
    """The training samples of all models that have one.

    Args:
        cards: every known model, by id.
        folder: of the encoded pictures.
        idle: whether no job runs or waits.
    """

    def __init__(self, cards: Mapping[str, ModelCard], folder: Path, idle: Callable[[], bool]) -> None:
        self._cards, self._folder, self._idle = cards, folder, idle
        # By revision; the revision of each model as this process found it.
        self._samples: dict[str, _Sample] = {}
        self._revisions: dict[str, str] = {}
        self._lock = threading.Lock()

    def offered(self, model_id: str) -> bool:
        """Whether a model's card names a training sample."""
        card = self._cards.get(model_id)
        return card is not None and bool(card.training_sample)

    def recipe(self, model_id: str) -> SampleRecipe:
        """How the model's training pictures were drawn; raises SampleError."""
        return self._sample(model_id).pictures.recipe

    def progress(self, model_id: str) -> SampleProgress:
        """How far the model's sample is; raises SampleError."""
        return self._sample(model_id).progress

    def prepare(self, model_id: str, ask: Ask, charge: Callable[[int], object] = lambda size: None) -> None:
        """Encode the sample in the background unless that is done or under way.

        Args:
            model_id: of the model.
            ask: has the worker encode a few pictures.
            charge: is called with the bytes before they are written, and with 0 before the work
                (``GuestBytes.charge``).

        Raises:
            SampleError: if the model has none.
            NoBytesLeft: of ``charge``.
        """
        sample = self._sample(model_id)
        if sample.found is None:
            charge(0)
        with sample.lock:
            if sample.running or sample.found is not None:
                return
            sample.running, sample.problem = True, ""
            sample.stopping.clear()
        given = (model_id, sample, ask, charge)
        threading.Thread(target=self._encode, args=given, name="training-sample", daemon=True).start()

    def stop(self, model_id: str) -> None:
        """Stop the preparation, if there is one; what was encoded stays.  Raises SampleError."""
        self._sample(model_id).stopping.set()

    def best_guess(self, trace: Trace, k: int, ask: Ask) -> BestGuess:
        """What the best denoiser for the sample believes at each step of picture k of a run.

        Raises:
            SampleError: if the sample is not ready, or its pictures are of another size.
        """
        sample = self._sample(trace.request.model)
        found, recipe = sample.found, sample.pictures.recipe
        if found is None:
            raise SampleError("The training pictures are not prepared yet.")
        if found.latents.shape[1:] != trace.x_t.shape[2:]:
            raise SampleError(
                f"The training pictures have {recipe.pixels} x {recipe.pixels} pixels, so only runs of this size can "
                "be compared with them."
            )
        own = trace.request.prompt_of(k)
        wanted = recipe.read(own)
        rows, shows = found.showing(wanted, recipe)
        asked = [trace.request.at_step(i).prompt_of(k) for i in range(len(trace.steps))]
        x_t = np.stack([trace.variance_preserving(i)[k].ravel() for i in range(len(trace.steps))])
        alpha, sigma = (np.array([getattr(step, level) for step in trace.steps]) for level in ("alpha", "sigma"))

        def compute(_: Any) -> BestGuess:
            parts, start = [], 0
            for prompt, steps in groupby(asked):
                part = slice(start, start + len(list(steps)))
                its = rows if prompt == own else found.showing(recipe.read(prompt), recipe)[0]
                pictures = found.flat[its] if len(its) else found.flat
                parts.append(posterior.posterior(x_t[part], alpha[part], sigma[part], pictures))
                start = part.stop
            given = posterior.joined(parts) if len(rows) else None
            alone = posterior.posterior(x_t, alpha, sigma, found.flat)
            return BestGuess(alone, given, wanted, shows, len(rows), sum(prompt != own for prompt in asked))

        return ask(None, compute, len(x_t) * recipe.pixels**2)

    def picture(self, model_id: str, number: int) -> np.ndarray:
        """A picture of the sample, uint8 (h, w, 3); raises SampleError."""
        return self._sample(model_id).pictures.draw(number)[1]

    def nearest(self, model_id: str, pixels: np.ndarray, count: int, ask: Ask) -> list[NearestPicture]:
        """The renders of the artwork that are nearest to a picture (uint8 (h, w, 3)); raises SampleError."""
        # No lock: a guest's parts wait for their turn, and the owner's must not wait for them.
        nearest = self._sample(model_id).nearest
        return nearest.find(pixels, count, lambda work, size: ask(None, lambda _: work(), size))

    def _sample(self, model_id: str) -> _Sample:
        """The sample of a model, its files read at the first call."""
        card = self._cards.get(model_id)
        if card is None or not card.training_sample:
            raise SampleError("This model does not come with training pictures.")
        with self._lock:
            if model_id not in self._revisions:
                self._revisions[model_id] = latents.revision(card)
            key = self._revisions[model_id]
            if key not in self._samples:
                self._samples[key] = _open(Path(card.training_sample), self._folder / f"{key}.safetensors")
            return self._samples[key]

    def _encode(self, model_id: str, sample: _Sample, ask: Ask, charge: Callable[[int], object]) -> None:
        try:
            self._encode_rest(model_id, sample, ask)
            if len(sample.facts) == sample.pictures.recipe.count:
                found = SampleLatents(np.concatenate(sample.rows), np.array(sample.facts, np.int16))
                charge(found.latents.nbytes + found.facts.nbytes)
                latents.save(sample.file, found)
                latents.remove_parts(sample.file)
                sample.found, sample.rows = found, []
        except RuntimeError as problem:  # QueryFailed, NoBytesLeft and SampleError say what happened
            sample.problem = str(problem)
        except Exception:
            log.exception("The training sample of %s could not be encoded", model_id)
            sample.problem = UNREADABLE
        sample.running = False

    def _encode_rest(self, model_id: str, sample: _Sample, ask: Ask) -> None:
        """Draw and encode the pictures that are missing, a few at a time, until all are there or it is stopped."""
        recipe = sample.pictures.recipe
        try:
            while (first := len(sample.facts)) < recipe.count and self._quiet(sample.stopping):
                drawn = [sample.pictures.draw(k) for k in range(first, min(first + BATCH, recipe.count))]
                pixels = np.stack([picture for _, picture in drawn])
                sample.rows.append(ask(model_id, partial(_latents, pixels=pixels), pixels[..., 0].size))
                sample.facts += [latents.facts_of(shown, recipe) for shown, _ in drawn]
                if len(sample.facts) - sample.kept >= PART:
                    _keep(sample)
        finally:
            _keep(sample)

    def _quiet(self, stopping: threading.Event) -> bool:
        """Wait until no job runs; where one did, until none has for a moment.  False if it is stopped."""
        quiet_from = -QUIET_SECONDS if self._idle() else math.inf
        while not stopping.is_set():
            now = time.monotonic()
            if not self._idle():
                quiet_from = math.inf
            elif quiet_from == math.inf:
                quiet_from = now
            if now - quiet_from >= QUIET_SECONDS:
                return True
            stopping.wait(WAIT_SECONDS)
        return False


def _keep(sample: _Sample) -> None:
    """Write what was encoded since the last time into a part of its own; raises OSError."""
    count, start = len(sample.facts), sample.kept
    if start < count < sample.pictures.recipe.count:
        fresh = SampleLatents(np.concatenate(sample.rows)[start:], np.array(sample.facts[start:], np.int16))
        latents.save(latents.part_file(sample.file, start), fresh)
        sample.kept = count


def _open(file: Path, encoded: Path) -> _Sample:
    """A sample from its file, with the pictures that were encoded before."""
    pictures = SamplePictures.open(file)
    count = pictures.recipe.count
    sample = _Sample(encoded, pictures, NearestPictures(pictures), latents.load(encoded, count))
    for part in [] if sample.found else latents.load_parts(encoded, count - 1):
        sample.rows.append(part.latents)
        sample.facts += part.facts.tolist()
    sample.kept = len(sample.facts)
    return sample


def _latents(model: Model, pixels: np.ndarray) -> np.ndarray:
    """Pictures uint8 (n, h, w, 3) to scaled latents, float16 (n, c, h, w)."""
    import torch

    # The pixels stay in their order: channels last is the faster layout for small convolutions on a CPU.
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return model.latents.encode(x).cpu().numpy().astype(np.float16)
