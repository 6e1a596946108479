"""One generation from request to saved pictures: initial latents, denoising, decoding, out-of-memory retries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pipelines.events import Announced, Cancelled, Decoding, Failed, Finished, Preview, Step
from pipelines.images.inpainting import load_source
from pipelines.images.png import png_bytes
from pipelines.jobs.devices.oom_retry import OomRetry, applicable, pixels_of
from pipelines.jobs.job import DenoisedSteps, DraftResult, StepClock, StepsAhead
from pipelines.jobs.loader import compile_for, free_memory
from pipelines.jobs.messages import UNCHANGED, OutOfFallbacks, explain_error, not_saved, notes, remedy_for
from pipelines.jobs.previews import LivePainter, StepWriter, StripPainter, black
from pipelines.jobs.results import PicturesNotSaved, file_facts, run_facts
from pipelines.model import LoadStopped
from pipelines.models.oom_fallback import ADAPT, DECODE, START, STEP
from pipelines.request import InvalidRequest
from pipelines.request_errors import TRY_AGAIN
from pipelines.sampling.schedulers import prediction_type_of
from pipelines.system.lru import LruDict
from pipelines.trace import forks
from pipelines.trace.recorder import Recorder
from pipelines.trace.step_frames import StepFrames, is_picture, noise_key, preview_jpeg, step_frames
from pipelines.trace.trace import signal_share

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.hub.versions import FileHashes
    from pipelines.images.inpainting import SourceImage
    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.devices.batch_parts import BatchPart
    from pipelines.jobs.devices.batches import BatchDivider
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.drafts import DraftKeeper
    from pipelines.jobs.job import Job
    from pipelines.jobs.loader import ModelLoader
    from pipelines.jobs.model_queries import InitLatentsCache, LocalQueries
    from pipelines.jobs.results import ResultStore
    from pipelines.jobs.users import User
    from pipelines.model import Model
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.models.manager import PipelineManager
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace

log = logging.getLogger(__name__)

# Bytes of frames of the noise that runs began with: the pictures of a comparison mostly share theirs.
NOISE_FRAMES = 2**20


@dataclass
class GenerationRunner:
    """Runs one job at a time, for the worker's thread.

    Attributes:
        batches: divides a batch among workers.
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
    batches: BatchDivider
    on_step: Callable[[Job, Step], None] | None = None
    guest_pictures: int = 0
    find_trace: Callable[[str, User], Trace | None] = lambda run, user: None
    _ahead: dict[str, tuple[StepsAhead, DenoisedSteps]] = field(default_factory=dict)
    _noise: LruDict[bytes, tuple[bytes, ...]] = field(default_factory=lambda: LruDict(None, NOISE_FRAMES, _length))
    # Of the jobs whose steps are made now, for those who look meanwhile.
    _under_way: WeakValueDictionary[str, DenoisedSteps] = field(default_factory=WeakValueDictionary)

    def run(self, job: Job) -> None:
        """Run a job to its last event; never raises."""
        model_id = job.request.model
        problem, remedy, exhausted = "", TRY_AGAIN, False
        try:
            with self.results.running(job):
                self._generate(job)
        except InvalidRequest as error:
            problem, remedy = explain_error(error, model_id, job.request), error.remedy
        except LoadStopped:
            job.emit(Cancelled(0))
            self.loader.stopped(model_id)
        except Exception as error:
            log.exception("Job %s failed", job.id)
            problem, remedy = explain_error(error, model_id, job.request), remedy_for(error, job.request)
            exhausted = isinstance(error, OutOfFallbacks)
        # Outside of the except block: the exception's frames hold tensors.
        if problem:
            job.emit(Failed(problem, remedy))
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
        fallbacks = applicable(request, self.manager.remembered_fallbacks(request.model, pixels_of(request)))
        with self.loader.lease(request.model, lambda: self._is_abandoned(job), fallbacks) as model:
            if not job.begin_denoising():
                return
            retry = OomRetry(self.manager, request, model, fallbacks)
            retry(ADAPT, lambda model: self.adapters.apply(model, request))
            retry(STEP, lambda model: compile_for(job, model))
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

    def _stop(self, job: Job, model: Model, run: DenoisedSteps, draft: bool, started: float) -> None:
        """End a job that was stopped; nothing is decoded, so its record has rough frames."""
        run.live.catch_up()
        job.emit(Cancelled(run.last.index + 1 if run.last else 0))
        seconds = time.perf_counter() - started + run.seconds_apart
        if not draft:
            self._paint_strip(job, model, run, None)
        self.results.save_trace(run.recorder, model, (), [], seconds, job.user.guest)

    def _finish(
        self, job: Job, model: Model, run: DenoisedSteps, result: DraftResult, decoded: Sequence[Image.Image]
    ) -> None:
        """Save and announce the pictures, make the frames that are missing, save the trace, and end the job."""
        finished = self._saved(job, result.images, result.facts, result.finished)
        self.guest_pictures += len(finished.pictures) * (not job.user.owner)
        job.emit(Announced(finished))
        shown = time.perf_counter()
        try:
            self._paint_strip(job, model, run, () if finished.withheld else decoded)
        except Exception:
            log.exception("The steps of job %s could not be painted", job.id)
        if not finished.withheld:  # the steps show what was withheld
            # Before the last event: a client may open the trace as soon as it gets that.
            run.recorder.frames_seconds = time.perf_counter() - shown
            made = (finished.pictures, result.images, finished.seconds)
            self.results.save_trace(run.recorder, model, *made, job.user.guest)
        job.emit(finished)

    def _paint_strip(self, job: Job, model: Model, run: DenoisedSteps, images: Sequence[Image.Image] | None) -> None:
        """Emit and record the steps of a run that are not yet.

        Without pictures the run was stopped: on a CPU nothing more is decoded.
        """
        steps, scheduler = run.unrecorded, job.request.sampling.scheduler
        if model.placement.kind != "cpu":
            for step in steps:
                frames = step_frames(model, step, scheduler)
                run.recorder.add(step, frames.guess, frames.noisy)
                job.emit(frames.preview(step))
            return
        strip = StripPainter(job.emit, lambda: job.watchers > 0, model, scheduler, run.live.frames)
        strip.rough(steps)
        if images is not None and steps:
            first, last = steps[0], steps[-1]
            key = noise_key(model, first, scheduler)
            # What was decoded before: the noise by a run that began with the same, the last guess as the picture.
            known = {("noisy", first.index): self._noise[key]} if key in self._noise else {}
            if images and is_picture(model, last, scheduler):
                known["guess", last.index] = tuple(preview_jpeg(image.copy()) for image in images)
            strip.decoded(steps, known, lambda: job.cancelled)
            if "noisy" not in (painted := strip.frames[first.index]).rough:
                self._noise[key] = painted.noisy
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

    def _denoise(self, job: Job, model: Model, init: Any, draft: bool) -> DenoisedSteps:
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

    def steps_so_far(self, job_id: str) -> Trace | None:
        """The steps of a job that are made by now, without frames; None if it is not made here."""
        run = self._under_way.get(job_id)
        return run.so_far() if run is not None else None

    def _begin(self, job: Job, model: Model) -> DenoisedSteps:
        live = LivePainter(job.emit, lambda: job.watchers > 0, model, job.request.sampling.scheduler)
        recorder = Recorder(job.id, job.request, job.created)
        run = DenoisedSteps(recorder, live, prediction_type_of(model.scheduler_config))
        self._under_way[job.id] = run
        return run

    def _bring_to(self, level: float, job: Job, model: Model, run: DenoisedSteps) -> None:
        """Make the steps of the jobs that run together with this one, down to a noise level."""
        for other in self.tasks.alongside(job):
            if other.id not in self._ahead:
                its = self._begin(other, model)
                self._ahead[other.id] = StepsAhead(other, self._before_its_turn(other, model, its)), its
            ahead, before = self._ahead[other.id][0], self._ahead[other.id][0].seconds
            ahead.advance(level)
            run.seconds_apart -= ahead.seconds - before

    def _before_its_turn(self, job: Job, model: Model, run: DenoisedSteps) -> Iterator[float]:
        source = load_source(job.request, self.inputs) if job.request.init else None
        init = self.init_latents.get(model, job.request, source) if source else None
        yield from self._loop(job, model, init, False, run)

    def _loop(self, job: Job, model: Model, init: Any, draft: bool, run: DenoisedSteps) -> Iterator[float]:
        """Make the steps of a job, and yield the noise's share of each.

        Frames of a GPU are made and recorded one step behind, where a page watches.  On a CPU they would take longer
        than the steps of a small model, so the decoded ones are made once the picture is there, and those of a draft
        when it is kept.
        """
        clock = StepClock()
        scheduler, looked_at = job.request.sampling.scheduler, partial(getattr, run, "looked_at")
        with StepWriter(job.emit, model, run.recorder, scheduler, looked_at) as writer, run.live:
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

    def _steps(self, job: Job, model: Model, init: Any, run: DenoisedSteps) -> Iterator[Step]:
        """The steps of a job; a fork takes those that were recorded over, or makes them again."""
        from pipelines.sampling.denoise import denoise

        request, fork = job.request, job.request.fork
        trace = forks.recorded(self.find_trace(fork.run, job.user), request) if fork else None
        if fork is None or trace is None:
            return self._divided(job, model, init)
        run.recording = forks.recording_of(trace, fork)
        run.recorder.begin_with(trace, fork.step)
        for i, step in enumerate(trace.steps[: fork.step]):
            noisy, noise = trace.noisy[i] if trace.noisy else (), 1 - signal_share(step.alpha, step.sigma)
            job.emit(Preview(i, trace.total, step.timestep, 0.0, trace.frames[i], noisy, noise))
        return denoise(model, request, init, recording=run.recording, cancelled=lambda: job.cancelled)

    def _divided(self, job: Job, model: Model, init: Any) -> Iterator[Step]:
        """The steps of a job; free workers make some of the pictures of a batch."""
        request, parts = (job.request, []) if model.own_loop is not None else self.batches.divide(job)

        def make(request: GenerationRequest) -> Iterator[Step]:
            return forks.fork_steps(model, request, init, self.adapters.apply, lambda: job.cancelled)

        return self.batches.join(make(request), parts, make) if parts else make(request)

    def run_part(self, part: BatchPart) -> None:
        """Make a part of another worker's batch; where that fails, the other one makes it.  Never raises."""
        try:
            source = load_source(part.request, self.inputs) if part.request.init else None
            with self.loader.lease(part.request.model, lambda: part.abandoned) as model:
                self.adapters.apply(model, part.request)
                init = self.init_latents.get(model, part.request, source) if source else None
                for step in forks.fork_steps(model, part.request, init, self.adapters.apply, lambda: part.abandoned):
                    if not part.put(step):
                        break
        except Exception as error:
            log.warning("A part of job %s is made by its own worker: %s", part.job.id, type(error).__name__)
        part.end()


def _length(frames: Sequence[bytes]) -> int:
    return sum(map(len, frames))


def _decode(model: Model, last: Step) -> list[Image.Image]:
    import torch

    if not torch.isfinite(last.x_next).all():
        raise FloatingPointError
    with torch.inference_mode():
        return model.latents.decode(last.x_next)
