"""The backend of this machine: one worker thread a device, so that no device ever runs two jobs at once.

Nothing here imports torch before the worker first needs it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.hub.versions import FileHashes
from pipelines.images.inpainting import load_source
from pipelines.images.uploads import UploadStore
from pipelines.jobs.backend import BackendStatus, QueueFull
from pipelines.jobs.devices.task_queue import TaskQueue
from pipelines.jobs.devices.workers import SharedParts, card_problem, make_workers, status_of
from pipelines.jobs.guest_writes import GuestWrites, uploads_of
from pipelines.jobs.job import Job
from pipelines.jobs.messages import listed
from pipelines.jobs.prompt_blocklist import BlockList
from pipelines.jobs.queue import GuestShare
from pipelines.jobs.results import PictureFolder, ResultStore
from pipelines.jobs.users import OWNER, User
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.models.families import family_of
from pipelines.models.manager import ModelBusy
from pipelines.models.model_files import NOT_HERE
from pipelines.prompt import A1111, PromptError
from pipelines.prompt.compel import has_weights
from pipelines.prompt.editing import is_edited
from pipelines.request import GenerationRequest, InvalidRequest, prompt_fields
from pipelines.request_errors import OTHER_MODEL, Remedy
from pipelines.sampling import schedulers
from pipelines.system.guest_bytes import GuestBytes
from pipelines.system.text import shorten
from pipelines.trace.forks import recording_with
from pipelines.trace.store import TraceStore
from pipelines.trace.summary import TraceSummary
from pipelines.trace.trace import Trace
from pipelines.training_sample.library import TrainingSamples

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.events import Loading, Step
    from pipelines.jobs.backend import PictureStore
    from pipelines.jobs.devices.worker import Worker
    from pipelines.models.manager import PipelineManager
    from pipelines.trace.store import TraceArchive

ANOTHER = Remedy(OTHER_MODEL)
# Previews of finished jobs stay in memory for pages that come back; beyond this, of the owner or of all guests, the
# oldest jobs are forgotten.
KEEP_BYTES = 64 * 1024 * 1024
# Guests' jobs whose owner is known: their traces are on disk for longer than the jobs are in memory.
KEEP_NAMES = 10_000
# Finished drafts that can still be kept: one on each of a few pages.
KEEP_DRAFTS = 4
# Bytes of guests' traces: in memory, on the disk, and written in an hour for one guest and for all.
GUEST_TRACE_MEMORY, GUEST_TRACE_BYTES, GUEST_TRACE_BYTES_AN_HOUR = 8 * 2**20, 512 * 2**20, (2**30, 4 * 2**30)
# ``close`` waits so long for the running step: Ctrl+C should end the program within ten seconds.
CLOSE_SECONDS = 4.0
# Opening a run whose picture is there waits so long for its last frames.
RECORDING_SECONDS = 60.0


class LocalBackend:
    """One worker thread on each of this machine's devices; see ``Backend``.

    Args:
        manager: has the models of the first device.
        pictures_dir: finished PNGs are saved here.
        on_step: called by the worker after each step's preview; tests hold the sampler here.
        queue_limit: guests' jobs that may wait, and as many of the owner.
        keep: finished jobs that are remembered.
        threads: CPU threads of each worker; None means ``default_threads()`` for one, and 1 for several on a CPU.
        traces: has the recorded steps of each run; None makes a store in ``traces`` next to the pictures' folder.
        inputs: has the uploaded pictures; None makes a store in ``inputs`` next to the pictures' folder.
        adapter_dirs: where LoRAs, embeddings, IP-Adapters, ControlNets and preprocessors are searched.
        share: what a guest may ask for.
        blocked: words that prompts may not contain; None makes a list in ``blocked.txt`` next to the pictures' folder.
        resident: whether this process serves this backend alone until it ends (``malloc.freeze_garbage_collector``).
        pictures: where pictures are saved; None writes PNGs to ``pictures_dir``.
        archive: is told of traces that are dropped for lack of room; see ``TraceArchive``.
        others: have the models of further devices; each gets a worker of its own.
    """

    def __init__(
        self,
        manager: PipelineManager,
        pictures_dir: Path,
        on_step: Callable[[Job, Step], None] | None = None,
        queue_limit: int = 32,
        keep: int = 200,
        threads: int | None = None,
        traces: TraceStore | None = None,
        inputs: UploadStore | None = None,
        adapter_dirs: Sequence[Path] = (),
        share: GuestShare | None = None,
        blocked: BlockList | None = None,
        resident: bool = False,
        pictures: PictureStore | None = None,
        archive: TraceArchive | None = None,
        others: Sequence[PipelineManager] = (),
    ) -> None:
        data_dir = Path(pictures_dir).parent
        self._manager = manager
        self._traces = traces or TraceStore(data_dir / "traces", archive=archive)
        # Apart, so that guests cannot push the owner's traces out.
        self._guest_traces = TraceStore(self._traces.folder / "guests", GUEST_TRACE_MEMORY, GUEST_TRACE_BYTES, archive)
        self.guest_bytes = GuestBytes(data_dir)
        self.inputs = inputs or UploadStore(data_dir / "inputs", self.guest_bytes)
        self._guest_writes = GuestWrites(self.guest_bytes, self.inputs)
        self.blocked = blocked or BlockList(data_dir / "blocked.txt")
        self.adapters = AdapterResolver(adapter_dirs, self.inputs)
        self._jobs = JobStore(keep)
        managers = (manager, *others)
        self._tasks = TaskQueue(queue_limit, share, [partial(getattr, each, "loaded") for each in managers])
        self.training_samples = TrainingSamples(
            manager.cards, data_dir / "training_samples", lambda: not self._tasks.active()
        )
        trace_bytes = GuestBytes(data_dir, *GUEST_TRACE_BYTES_AN_HOUR)
        results = ResultStore(pictures or PictureFolder(pictures_dir), self._traces, self._guest_traces, trace_bytes)
        shared = SharedParts(
            self._tasks, self.inputs, self.adapters, self._check, self.blocked, results,
            FileHashes(data_dir / "memory" / "hashes.json"), on_step,
            # A fork may also leave a run that comes with a model.
            lambda run, user: self.trace(run, user) or recording_with([*manager.cards.values()], run),
        )  # fmt: skip
        threads = threads or (1 if others and manager.device == "cpu" else default_threads())
        self._workers = self._make_workers(managers, shared, adapter_dirs, threads, resident)
        self.queries, self._runner = self._workers[0].queries, self._workers[0].runner
        self._drafts = self._runner.drafts
        for each in self._workers:
            each.start()

    def _make_workers(
        self,
        managers: Sequence[PipelineManager],
        shared: SharedParts,
        adapter_dirs: Sequence[Path],
        threads: int,
        resident: bool,
    ) -> list[Worker]:
        """One worker for each manager; see ``make_workers``."""
        return make_workers(managers, shared, adapter_dirs, threads, resident)

    @property
    def guest_pictures(self) -> int:
        """Number of pictures made for guests since the start."""
        return sum(worker.runner.guest_pictures for worker in self._workers)

    def submit(
        self,
        request: GenerationRequest,
        user: User = OWNER,
        draft: bool = False,
        replaces: Sequence[Job] = (),
        watched: bool = True,
        together: str = "",
    ) -> Job:
        """Check a request and queue it as a job; see ``Backend``."""
        with self.inputs.of(user.guest).slot():
            self._check(request, user)
        job = Job(request, self._tasks.job_cancelled, user, draft, watched, together)
        charge = self._guest_writes.admit(request, user)
        with self._tasks.changed:
            try:
                self._tasks.add(job, replaces)
            except QueueFull:
                self._guest_writes.refund(charge)
                raise
            self._guest_writes.watch(job, charge)
            self._jobs.add(job)
            if (loading := self._loading_for(job)) is not None:
                job.emit(loading)
        return job

    def keep(self, job: Job) -> None:
        """Save a draft; see ``Backend``."""
        self._drafts.keep(job)

    def find(self, job_id: str, user: User = OWNER) -> Job | None:
        """The job with this id, or None if it is unknown, forgotten, or another user's."""
        with self._tasks.changed:
            return self._jobs.get(job_id, user)

    def warm_up(self, model_id: str) -> None:
        """Load a model in the background; does nothing if it is queued, loading or ready."""
        with self._tasks.changed:
            if not any(worker.loader.has(model_id) for worker in self._workers):
                for worker in self._workers:
                    worker.loader.request_warm_up(model_id)

    def unload(self, model_id: str) -> None:
        """Drop a model from memory, pinned or not; raises ModelBusy while a job uses it."""
        busy: ModelBusy | None = None
        for worker in self._workers:
            try:
                worker.loader.unload(model_id)
            except ModelBusy as problem:
                busy = problem
        if busy is not None:
            raise busy

    def stop_loading(self, model_id: str) -> None:
        """Stop loading a model, unless a job waits for it."""
        for worker in self._workers:
            worker.loader.stop_warm_up(model_id)

    def status(self) -> BackendStatus:
        """The state of the model, and the length of the queue."""
        with self._tasks.changed:
            status = status_of([worker.loader.status for worker in self._workers])
            workers, problem = len(self._tasks.homes.loaded), card_problem(self._workers)
            return replace(status, queue=self._tasks.active(), card_problem=problem, workers=workers)

    def _loading_for(self, job: Job) -> Loading | None:
        """What is being loaded while a job is the next to run."""
        if self._tasks.jobs.first() is not job:
            return None
        return next((worker.loader.loading for worker in self._workers if worker.loader.loading), None)

    def trace(self, trace_id: str, user: User = OWNER) -> Trace | None:
        """The recorded steps of a job, also after a restart; guests find those of their own jobs, until the restart."""
        with self._tasks.changed:
            allowed, job = self._jobs.may_see(trace_id, user), self._jobs.get(trace_id, user)
        if job is not None:
            job.wait_until_recorded(RECORDING_SECONDS)
        return (self._traces.get(trace_id) or self._guest_traces.get(trace_id)) if allowed else None

    def steps_so_far(self, job_ids: Sequence[str], user: User = OWNER) -> list[Trace | None]:
        """The steps of running jobs by now; see ``Backend``.  A worker reads them between two of its own."""
        with self._tasks.changed:
            jobs = [self._jobs.get(name, user) for name in job_ids]
        named = [job.id if job is not None and job.progress and not job.done else "" for job in jobs]
        if not any(named):
            return [None] * len(named)
        return self.queries.of(user).ask(None, lambda _: [self._made_by_now(name) for name in named])

    def _made_by_now(self, job_id: str) -> Trace | None:
        found = (worker.runner.steps_so_far(job_id) for worker in self._workers)
        return next((trace for trace in found if trace is not None), None)

    def runs(self, count: int, user: User = OWNER) -> list[TraceSummary]:
        """The user's latest runs that have a trace; see ``Backend``."""

        def allowed(name: str) -> bool:
            with self._tasks.changed:
                return self._jobs.may_see(name, user)

        return (self._guest_traces if user.guest else self._traces).recent(allowed, count)

    def close(self) -> None:
        """Cancel every job and stop the worker; waits a little for the running step."""
        with self._tasks.changed:
            jobs = self._jobs.all()
            self._tasks.close()
        for job in jobs:
            job.cancel()
        for worker in self._workers:
            worker.join(CLOSE_SECONDS / len(self._workers))

    def _check(self, request: GenerationRequest, user: User) -> None:
        """Raise InvalidRequest if the request can never run here for this user."""
        if request.fork:
            self._check(request.fork.original, user)
        card = self._manager.cards.get(request.model)
        if card is None:
            known = listed(self._manager.cards)
            raise InvalidRequest(
                "model", f"model {shorten(request.model)!r} is unknown; allowed: {known}.", remedy=ANOTHER
            )
        check_scheduler(request)
        request.check_size(card.size_factor)
        self.blocked.check(request)
        check_prompts(card, request)
        check_task(card, request)
        if not self._manager.at_hand(card.id):
            raise InvalidRequest("model", NOT_HERE.format(name=card.name))
        check_scheduler_of(card, request)
        self.adapters.check(card, request)
        self.inputs.check_own(uploads_of(request), user.guest)
        if request.init:
            load_source(request, self.inputs)


class JobStore:
    """Jobs by id, for pages that come back.  Not thread-safe.

    Args:
        keep: finished jobs that are remembered, drafts not counted: of the owner, and of all guests.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._jobs: dict[str, Job] = {}
        self._guests: dict[str, str] = {}  # id of a guest's job -> id of the guest

    def add(self, job: Job) -> None:
        """Remember a job, and forget old ones."""
        self._forget()
        self._jobs[job.id] = job
        if not job.user.owner:
            self._guests[job.id] = job.user.id
            while len(self._guests) > KEEP_NAMES:
                del self._guests[next(iter(self._guests))]

    def get(self, job_id: str, user: User) -> Job | None:
        """The job with this id, if the user may see it."""
        return self._jobs.get(job_id) if self.may_see(job_id, user) else None

    def may_see(self, job_id: str, user: User) -> bool:
        """Whether the job is the user's; the owner may see all."""
        return user.owner or self._guests.get(job_id) == user.id

    def all(self) -> list[Job]:
        """Every remembered job."""
        return list(self._jobs.values())

    def _forget(self) -> None:
        """Forget the oldest finished jobs beyond ``keep`` jobs or ``KEEP_BYTES`` of previews, and drafts sooner."""
        for old in [job for job in self._jobs.values() if job.done and job.draft][:-KEEP_DRAFTS]:
            del self._jobs[old.id]
        kept = [job for job in self._jobs.values() if job.done and not job.draft]
        # Apart, so that guests cannot push the owner's jobs out.
        for ended in ([job for job in kept if not job.user.guest], [job for job in kept if job.user.guest]):
            size = sum(job.preview_bytes for job in ended)
            while ended and (len(ended) > self._keep or size > KEEP_BYTES):
                oldest = ended.pop(0)
                size -= oldest.preview_bytes
                del self._jobs[oldest.id]


def check_scheduler(request: GenerationRequest) -> None:
    """Raise InvalidRequest if there is no scheduler of this name."""
    name = request.sampling.scheduler
    if name not in schedulers.SCHEDULERS:
        known = listed(schedulers.SCHEDULERS)
        raise InvalidRequest("scheduler", f"scheduler {shorten(name)!r} is unknown; allowed: {known}.")


def check_prompts(card: ModelCard, request: GenerationRequest) -> None:
    """Raise InvalidRequest for weights that cannot be read; here, so that no job waits for the parser."""
    if request.prompt_syntax == A1111 and family_of(card).own_loop:
        refuse_editing(card, request)
    if request.prompt_syntax == A1111 or not family_of(card).prompt_weights:
        return
    for field, text in prompt_fields(request):
        if not has_weights(text):
            continue
        from pipelines.models.prompt_weighting import parse_compel

        try:
            parse_compel(text)
        except PromptError as problem:
            raise InvalidRequest(field, f"{field} {problem}.") from None


def refuse_editing(card: ModelCard, request: GenerationRequest) -> None:
    """Raise InvalidRequest for a prompt that changes over the steps of a loop that is not the program's."""
    if any(is_edited(text) for text in (request.prompt, *request.prompts, request.negative_prompt)):
        raise InvalidRequest(
            "prompt", f"{card.name} runs a loop of its own, in which no prompt changes; write one of the words."
        )


def check_scheduler_of(card: ModelCard, request: GenerationRequest) -> None:
    """Raise InvalidRequest if the scheduler does not fit the model or the number of steps."""
    schedulers.check_scheduler(request.sampling, card.prediction_type, card.terminal_snr_zero)


def check_task(card: ModelCard, request: GenerationRequest) -> None:
    """Raise InvalidRequest if this kind of model cannot do what the request asks for."""
    if request.init is None and "text-to-image" not in card.tasks:
        raise InvalidRequest(
            "model",
            f"{card.name} only refines existing images: use it in Image to image, or choose another model.",
            remedy=ANOTHER,
        )
    if request.init is not None and (family_of(card).own_loop or "image-to-image" not in card.tasks):
        raise InvalidRequest("model", f"{card.name} cannot start from a picture; choose another model.", remedy=ANOTHER)
    if request.fork is not None and family_of(card).own_loop:
        raise InvalidRequest(
            "model", f"{card.name} runs a loop of its own, which cannot be left at a step.", remedy=ANOTHER
        )


def default_threads() -> int:
    """CPU threads of the worker: physical cores that this process may use, at most 4.

    More threads than physical cores spin against each other, and small UNets gain little beyond four.
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or math.ceil((os.cpu_count() or 1) / 2)
    return max(1, min(physical, allowed, 4))
