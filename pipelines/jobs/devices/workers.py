"""The workers of a backend: made from what they share, and their states as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.jobs.backend import BackendStatus
from pipelines.jobs.devices.batches import BatchDivider
from pipelines.jobs.devices.worker import Worker
from pipelines.jobs.drafts import DraftKeeper
from pipelines.jobs.loader import ModelLoader
from pipelines.jobs.model_queries import InitLatentsCache, LocalQueries
from pipelines.jobs.runner import GenerationRunner
from pipelines.models.adapters.resolver import AdapterResolver

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.events import Step
    from pipelines.hub.versions import FileHashes
    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.job import Job
    from pipelines.jobs.prompt_blocklist import BlockList
    from pipelines.jobs.results import ResultStore
    from pipelines.jobs.users import User
    from pipelines.models.manager import PipelineManager
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace


@dataclass(frozen=True)
class SharedParts:
    """What all workers of a backend use; for each see ``LocalQueries`` and ``GenerationRunner``."""

    tasks: TaskQueue
    inputs: UploadStore
    adapters: AdapterResolver
    check: Callable[[GenerationRequest, User], None]
    blocked: BlockList
    results: ResultStore
    hashes: FileHashes
    on_step: Callable[[Job, Step], None] | None
    find_trace: Callable[[str, User], Trace | None]


@dataclass(frozen=True)
class WorkerKinds:
    """The classes that a worker is made of; another backend has others."""

    loader: Callable[..., ModelLoader] = ModelLoader
    queries: Callable[..., LocalQueries] = LocalQueries
    runner: Callable[..., GenerationRunner] = GenerationRunner
    drafts: Callable[..., DraftKeeper] = DraftKeeper


def make_workers(
    managers: Sequence[PipelineManager],
    shared: SharedParts,
    adapter_dirs: Sequence[Path],
    threads: int,
    resident: bool,
    kinds: WorkerKinds | None = None,
) -> list[Worker]:
    """One worker for each manager, not yet started; the arguments are those of ``LocalBackend``."""
    kinds = kinds or WorkerKinds()
    made: list[Worker] = []
    for number, manager in enumerate(managers):
        # Apart, as what is read of adapters goes to a device.
        adapters = AdapterResolver(adapter_dirs, shared.inputs) if made else shared.adapters
        loader = kinds.loader(manager, shared.tasks, threads, resident and not made, number)
        init_latents = InitLatentsCache()
        queries = kinds.queries(
            manager, shared.tasks, loader, adapters, shared.inputs, init_latents, shared.check, shared.blocked
        )
        runner = kinds.runner(
            manager, loader, shared.tasks, queries, adapters, shared.inputs, init_latents, shared.results,
            made[0].runner.drafts if made else kinds.drafts(queries, shared.results), shared.hashes,
            BatchDivider(shared.tasks), shared.on_step, find_trace=shared.find_trace,
        )  # fmt: skip
        made.append(Worker(number, manager, shared.tasks, loader, queries, runner))
    return made


def status_of(statuses: Sequence[BackendStatus]) -> BackendStatus:
    """The states of all workers as one: what is being loaded, else what failed last, else what is ready."""
    if len(statuses) == 1:
        return statuses[0]
    for state in ("loading", "failed"):
        for status in statuses:
            if status.state == state:
                return status
    ready = [status for status in statuses if status.state == "ready"]
    if not ready:
        return statuses[0]
    return replace(ready[0], text="; ".join(dict.fromkeys(status.text for status in ready)))


def card_problem(workers: Sequence[Worker]) -> str | None:
    """Why graphics cards are not used, None before that is known; see ``BackendStatus``."""
    found = [worker.problem or worker.manager.machine.card_problem() for worker in workers]
    if all(problem is None for problem in found):
        return None
    return " ".join(dict.fromkeys(filter(None, found)))
