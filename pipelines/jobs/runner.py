"""One generation from request to saved pictures: initial latents, denoising, decoding, out-of-memory retries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.events import Announced, Cancelled, Decoding, Failed, Finished, Preview, Step
from pipelines.images.inpainting import load_source
from pipelines.images.png import png_bytes
from pipelines.jobs.job import DraftResult, StepClock, StepsAhead
from pipelines.jobs.loader import free_memory
from pipelines.jobs.messages import UNCHANGED, OutOfFallbacks, explain_error, not_saved, notes
from pipelines.jobs.previews import LivePainter, StepFrames, StepWriter, StripPainter, black, preview_jpeg, step_frames
from pipelines.jobs.results import PicturesNotSaved, file_facts, run_facts
from pipelines.model import LoadStopped
from pipelines.models import oom_fallback
from pipelines.models.oom_fallback import ADAPT, DECODE, OVERFLOW, START, STEP, out_of_memory
from pipelines.request import InvalidRequest
from pipelines.trace import forks
from pipelines.trace.recorder import Recorder
from pipelines.trace.trace import signal_share

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.hub.versions import FileHashes
    from pipelines.images.inpainting import SourceImage
    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.drafts import DraftKeeper
    from pipelines.jobs.job import Job
    from pipelines.jobs.loader import ModelLoader
    from pipelines.jobs.model_queries import InitLatentsCache, LocalQueries
    from pipelines.jobs.queue import TaskQueue
    from pipelines.jobs.results import ResultStore
    from pipelines.jobs.users import User
    from pipelines.model import Model
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.models.manager import PipelineManager
    from pipelines.request import GenerationRequest
    from pipelines.sampling.forks import Recording
    from pipelines.trace.trace import Trace

log = logging.getLogger(__name__)
T = TypeVar("T")

# The last frame of a quick model's run of so few steps is its picture, which need not be decoded twice.
QUICK_STEPS = 8
# Where the last x0 and the final latents differ by no more than this, they decode to the same picture.
SAME_LATENTS = 1e-3


@dataclass
class _Denoised:
    """What the loop has left.

    Attributes:
        recorder: has the steps whose frames were made.
        live: has painted what a page has seen.
        last: the last step; None if there was none.
        unrecorded: the other steps, whose frames are made after the run: all of a CPU, those of a draft, and those of a
            GPU that no page watched.
        recording: what a fork began with; None for other runs, and where that was made again.
        seconds_apart: of steps that were made before the job's turn, less those that it made of other jobs.
    """

    recorder: Recorder
    live: LivePainter
    last: Step | None = None
    unrecorded: list[Step] = field(default_factory=list)
    recording: Recording | None = None
    seconds_apart: float = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told about a fork."""
        if self.recorder.request.fork is None or not self.recorder.request.fork.step:
            return ()
        if self.recording is None:
            return (forks.MADE_AGAIN,)
        return () if self.recording.exact else (forks.NOT_EXACT,)


@dataclass
class GenerationRunner:
    """Runs one job at a time, for the worker's thread.

    Attributes:
        on_step: called after each step's preview; tests hold the sampler here.
        guest_pictures: number of pictures made for guests.
        find_trace: the trace of a run, if the user may see it.
    """

    manager: PipelineManager
    loader: ModelLoader
    tasks: TaskQueue
    queries: LocalQueries
    adapters: AdapterResolver
    inputs: UploadStore
    init_latents: InitLatentsCache
    results: ResultStore
    drafts: DraftKeeper
    hashes: FileHashes
    on_step: Callable[[Job, Step], None] | None = None
    guest_pictures: int = 0
    find_trace: Callable[[str, User], Trace | None] = lambda run, user: None
    _ahead: dict[str, tuple[StepsAhead, _Denoised]] = field(default_factory=dict)

    def run(self, job: Job) -> None:
        """Run a job to its last event; never raises."""
        model_id = job.request.model
        problem, exhausted = "", False
        try:
            with self.results.running(job):
                self._generate(job)
        except InvalidRequest as error:
            problem = explain_error(error, model_id, job.request)
        except LoadStopped:
            job.emit(Cancelled(0))
            self.loader.stopped(model_id)
        except Exception as error:
            log.exception("Job %s failed", job.id)
            problem = explain_error(error, model_id, job.request)
            exhausted = isinstance(error, OutOfFallbacks)
        # Outside of the except block: the exception's frames hold tensors.
        if problem:
            job.emit(Failed(problem))
            if self.loader.status.state == "loading":
                self.loader.set_status("failed", model_id, problem)
            if exhausted:
                self.manager.reset_fallbacks(model_id)
            free_memory()
        job.end_recording()
        # Steps of jobs that were cancelled meanwhile hold the model in memory.
        self._ahead = {name: each for name, each in self._ahead.items() if not each[0].job.done}

    def _generate(self, job: Job) -> None:
        started = time.perf_counter()
        request = job.request
        if not request.steps_run:
            self._return_source(job, started)
            return
        source = load_source(request, self.inputs) if request.init else None
        fallbacks = _applicable(request, self.manager.remembered_fallbacks(request.model, _pixels(request)))
        with self.loader.lease(request.model, lambda: self._is_abandoned(job), fallbacks) as model:
            if not job.begin_denoising():
                return
            retry = OomRetry(self.manager, request, model, fallbacks)
            retry(ADAPT, lambda model: self.adapters.apply(model, request))
            self._sample(job, retry, source, started)

    def _is_abandoned(self, job: Job) -> bool:
        """Whether no job waits any more for the model that is loaded for this one."""
        return job.cancelled and not self.tasks.waits_for(job.request.model)

    def _return_source(self, job: Job, started: float) -> None:
        """Without a step the source picture is the result; the model is not even loaded."""
        if not job.begin_denoising():
            return
        image = load_source(job.request, self.inputs).original
        finished = Finished(job.request, (), time.perf_counter() - started, (UNCHANGED,))
        job.emit(self._saved(job, [image] * job.request.num_images, {"seconds": 0.0}, finished))

    def _sample(self, job: Job, retry: OomRetry, source: SourceImage | None, started: float) -> None:
        """Denoise and decode, each with the fallbacks that it needs to fit into memory."""
        request = job.request
        init = retry(START, lambda model: self.init_latents.get(model, request, source)) if source else None
        draft = job.draft  # one that is kept while it runs is saved as drafts are all the same
        run = retry(STEP, lambda model: self._denoise(job, model, init, draft))
        last = run.last
        if job.cancelled or last is None:
            self._stop(job, retry.model, run, draft, started)
            return
        job.emit(Decoding())
        decoded = list(last.pictures) or retry(DECODE, lambda model: _decode(model, last))
        withheld = retry(DECODE, lambda model: model.withheld_by_checker(decoded))
        retry.remember()
        images = [source.paste_back(image) for image in decoded] if source else decoded
        images = [black(image) if hidden else image for image, hidden in zip(images, withheld, strict=True)]
        seconds = time.perf_counter() - started + run.seconds_apart
        told = (
            *notes(retry.model, request, withheld, retry.activated), *self.adapters.notes(request), *run.notes
        )  # fmt: skip
        finished = Finished(request, (), seconds, told, withheld if any(withheld) else ())
        facts = {**self._run_facts(request, retry.model), "seconds": round(seconds, 3)}
        if draft:
            steps = () if any(withheld) else tuple(run.unrecorded)
            self.drafts.finish(job, DraftResult(images, facts, steps, finished), retry.model)
        else:
            self._finish(job, retry.model, run, DraftResult(images, facts, (), finished), decoded)

    def _stop(self, job: Job, model: Model, run: _Denoised, draft: bool, started: float) -> None:
        """End a job that was stopped; nothing is decoded, so its record has rough frames."""
        run.live.catch_up()
        job.emit(Cancelled(run.last.index + 1 if run.last else 0))
        seconds = time.perf_counter() - started + run.seconds_apart
        if not draft:
            self._paint_strip(job, model, run, None)
        self.results.save_trace(run.recorder, model, (), [], seconds, job.user.guest)

    def _finish(
        self, job: Job, model: Model, run: _Denoised, result: DraftResult, decoded: Sequence[Image.Image]
    ) -> None:
        """Save and announce the pictures, make the frames that are missing, save the trace, and end the job."""
        finished = self._saved(job, result.images, result.facts, result.finished)
        self.guest_pictures += len(finished.pictures) * (not job.user.owner)
        job.emit(Announced(finished))
        try:
            self._paint_strip(job, model, run, () if finished.withheld else decoded)
        except Exception:
            log.exception("The steps of job %s could not be painted", job.id)
        if not finished.withheld:  # the steps show what was withheld
            # Before the last event: a client may open the trace as soon as it gets that.
            made = (finished.pictures, result.images, finished.seconds)
            self.results.save_trace(run.recorder, model, *made, job.user.guest)
        job.emit(finished)

    @staticmethod
    def _paint_strip(job: Job, model: Model, run: _Denoised, images: Sequence[Image.Image] | None) -> None:
        """Emit and record the steps of a run that are not yet; a quick run's last guess is its finished pictures.

        Without pictures the run was stopped: on a CPU nothing more is decoded.
        """
        steps, last, known, scheduler = run.unrecorded, run.last, {}, job.request.sampling.scheduler
        if model.placement.kind != "cpu":
            for step in steps:
                frames = step_frames(model, step, scheduler)
                run.recorder.add(step, frames.guess, frames.noisy)
                job.emit(frames.preview(step))
            return
        short = last is not None and model.quick and last.total <= QUICK_STEPS
        if short and images and last is not None and (last.x_next - last.x0).abs().max() <= SAME_LATENTS:
            known[last.index] = tuple(preview_jpeg(image.copy()) for image in images)
        strip = StripPainter(job.emit, lambda: job.watchers > 0, model, scheduler, run.live.frames)
        strip.rough(steps)
        if images is not None:
            strip.decoded(steps, known, lambda: job.cancelled)
        for step in steps:
            painted = strip.frames[step.index]
            run.recorder.add(step, painted.guess, painted.noisy, bool(painted.rough))

    def _saved(self, job: Job, images: Sequence[Image.Image], made: dict[str, Any], finished: Finished) -> Finished:
        """The last event of a job with its pictures saved; in the event itself where the disk does not take them."""
        try:
            pictures = self.results.save_pictures(job, images, made, finished.notes)
            self._complete_later(job, made)
            return replace(finished, pictures=pictures, notes=(*self.results.notes, *finished.notes))
        except PicturesNotSaved as error:
            log.exception("The pictures of job %s could not be saved", job.id)
            unsaved = tuple(
                png_bytes(image, job.request, seed, {**made, "picture": k})
                for k, (image, seed) in enumerate(zip(images, job.request.seeds, strict=True))
            )
            return replace(finished, drafts=unsaved, notes=(not_saved(error, error.saved), *finished.notes))

    def _complete_later(self, job: Job, made: dict[str, Any]) -> None:
        """Add the hashes of large files to the pictures of a job, once they are read."""
        request = job.request

        def complete() -> None:
            source, folder = self.manager.cards[request.model].source, self.manager.local_files(request.model)
            facts = file_facts(source, folder, self.adapters.paths(request), self.hashes)
            # The last one may have been read after the facts were collected and before the pictures were saved.
            if any(made.get(name) != value for name, value in facts.items()):
                self.results.complete(job.id, facts)

        if not self.hashes.after_reading(complete):
            complete()

    def _run_facts(self, request: GenerationRequest, model: Model) -> dict[str, Any]:
        card = self.manager.cards[request.model]
        folder, files = self.manager.local_files(card.id), self.adapters.paths(request)
        return run_facts(model, card.source, folder, files, self.hashes)

    def _denoise(self, job: Job, model: Model, init: Any, draft: bool) -> _Denoised:
        """Run the loop; keep each step.

        Between two steps of the lane of a race, the others are brought to the same noise level.
        """
        ahead, run = self._ahead.pop(job.id, (None, None))
        if ahead is not None and run is not None and ahead.whole and run.last is not None:
            run.seconds_apart = ahead.seconds
            return run
        # Others begin again: the model may be another one since, as after memory ran out.
        self._ahead = {name: each for name, each in self._ahead.items() if each[0].whole}
        run = self._begin(job, model)
        for level in self._loop(job, model, init, draft, run):
            self._bring_to(level, job, model, run)
        if not job.cancelled:
            self._bring_to(-1.0, job, model, run)
        return run

    @staticmethod
    def _begin(job: Job, model: Model) -> _Denoised:
        live = LivePainter(job.emit, lambda: job.watchers > 0, model, job.request.sampling.scheduler)
        return _Denoised(Recorder(job.id, job.request, job.created), live)

    def _bring_to(self, level: float, job: Job, model: Model, run: _Denoised) -> None:
        """Make the steps of the jobs that run together with this one, down to a noise level."""
        for other in self.tasks.alongside(job):
            if other.id not in self._ahead:
                its = self._begin(other, model)
                self._ahead[other.id] = StepsAhead(other, self._before_its_turn(other, model, its)), its
            ahead, before = self._ahead[other.id][0], self._ahead[other.id][0].seconds
            ahead.advance(level)
            run.seconds_apart -= ahead.seconds - before

    def _before_its_turn(self, job: Job, model: Model, run: _Denoised) -> Iterator[float]:
        source = load_source(job.request, self.inputs) if job.request.init else None
        init = self.init_latents.get(model, job.request, source) if source else None
        yield from self._loop(job, model, init, False, run)

    def _loop(self, job: Job, model: Model, init: Any, draft: bool, run: _Denoised) -> Iterator[float]:
        """Make the steps of a job, and yield the noise's share of each.

        Frames of a GPU are made and recorded one step behind, where a page watches.  On a CPU they would take longer
        than the steps of a small model, so the decoded ones are made once the picture is there, and those of a draft
        when it is kept.
        """
        clock = StepClock()
        with StepWriter(job.emit, model, run.recorder, job.request.sampling.scheduler) as writer, run.live:
            for step in self._steps(job, model, init, run):
                run.last, job.at = step, (step.index + 1, step.total)
                left, on_cpu = clock.seconds_left(step), step.x_t.device.type == "cpu"
                if draft or not (on_cpu or job.watched):
                    writer.keep(step, run.unrecorded)
                    job.emit(StepFrames().preview(step, left))
                elif on_cpu:
                    run.unrecorded.append(step)
                    run.live.add(step, left)
                else:
                    writer.add(step, left)
                if self.on_step is not None:
                    self.on_step(job, step)
                self.queries.answer_one(model, job.request.model, job.user)
                if job.cancelled:
                    break
                yield 1 - signal_share(step.alpha, step.sigma)

    def _steps(self, job: Job, model: Model, init: Any, run: _Denoised) -> Iterator[Step]:
        """The steps of a job; a fork takes those that were recorded over, or makes them again."""
        from pipelines.sampling.denoise import denoise

        request, fork = job.request, job.request.fork
        trace = forks.recorded(self.find_trace(fork.run, job.user), request) if fork else None
        if fork is None or trace is None:
            return forks.fork_steps(model, request, init, self.adapters.apply, lambda: job.cancelled)
        run.recording = forks.recording_of(trace, fork)
        run.recorder.begin_with(trace, fork.step)
        for i, step in enumerate(trace.steps[: fork.step]):
            noisy, noise = trace.noisy[i] if trace.noisy else (), 1 - signal_share(step.alpha, step.sigma)
            job.emit(Preview(i, trace.total, step.timestep, 0.0, trace.frames[i], noisy, noise))
        return denoise(model, request, init, recording=run.recording, cancelled=lambda: job.cancelled)


class OomRetry:
    """A leased model; work that runs out of memory is repeated with the next fallback.

    Attributes:
        model: with the fallbacks that are active now.
        activated: names of the fallbacks that this run has activated.
    """

    def __init__(
        self, manager: PipelineManager, request: GenerationRequest, model: Model, fallbacks: Sequence[str]
    ) -> None:
        self._manager, self._request, self._initial = manager, request, fallbacks
        self.model = model
        self.activated: list[str] = []

    def __call__(self, stage: str, work: Callable[[Model], T]) -> T:
        """What ``work`` returns for the model, with a wider autoencoder if that overflows; raises OutOfFallbacks."""
        from pipelines.sampling.latents import AutoencoderOverflow

        while True:
            done, overflowed = None, False
            try:
                done = _unless_out_of_memory(work, self.model)
            except AutoencoderOverflow:
                overflowed = True
            if done is not None:
                return done[0]
            if overflowed and (wider := _unless_out_of_memory(self._widen, self.model)) is not None:
                if wider[0] is None:
                    raise AutoencoderOverflow
                self.model = wider[0]
                continue
            # Only here, outside of the attempt, are its tensors without references.
            free_memory()
            self._activate_next(stage)

    def _widen(self, model: Model) -> Model | None:
        """The model with an autoencoder in float32; None if it was."""
        found = self._manager.apply_next_fallback(self._request.model, OVERFLOW, 1)
        return found[0] if found else None

    def remember(self) -> None:
        """Have the next run of this size begin with these fallbacks."""
        if self.activated:
            self._manager.remember_fallbacks(
                self._request.model, _pixels(self._request), (*self._initial, *self.activated)
            )

    def _activate_next(self, stage: str) -> None:
        found = self._manager.apply_next_fallback(self._request.model, stage, _rows(self.model, self._request))
        if found is None:
            raise OutOfFallbacks(", ".join(oom_fallback.words(self.model.placement.fallbacks)))
        self.model, name = found
        if not name:
            return  # idle models were on the card
        self.activated.append(name)
        log.warning("Memory ran out (%s); going on with %s", stage, name)


def _unless_out_of_memory(work: Callable[[Model], T], model: Model) -> tuple[T] | None:
    """What the work returns, in a tuple; None if memory ran out."""
    try:
        return (work(model),)
    except Exception as error:
        if not out_of_memory(error):
            raise
    return None


def _pixels(request: GenerationRequest) -> int:
    return request.width * request.height * request.num_images


def _rows(model: Model, request: GenerationRequest) -> int:
    """Batch size of the denoiser: guidance doubles it."""
    return request.num_images * (1 if model.guidance_embedded or request.sampling.guidance_scale <= 1 else 2)


def _applicable(request: GenerationRequest, fallbacks: Sequence[str]) -> tuple[str, ...]:
    """Without those that change nothing for this request."""
    single = request.num_images == 1 and request.sampling.guidance_scale <= 1
    return tuple(name for name in fallbacks if not (single and name == "one"))


def _decode(model: Model, last: Step) -> list[Image.Image]:
    import torch

    if not torch.isfinite(last.x_next).all():
        raise FloatingPointError
    with torch.inference_mode():
        return model.latents.decode(last.x_next)
