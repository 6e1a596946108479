"""Loading models for the worker, with progress for the status bar and for the job that waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.events import COMPILING, SENTENCES, Loading
from pipelines.jobs.backend import BackendStatus
from pipelines.jobs.messages import NOT_LOADED, UNLOADED, explain_error
from pipelines.model import LoadStopped
from pipelines.system import malloc
from pipelines.system.building import BUILDING

if TYPE_CHECKING:
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.job import Job
    from pipelines.model import Model
    from pipelines.models.manager import PipelineManager

log = logging.getLogger(__name__)


class ModelLoader:
    """Leases models from the manager.  Leases are for the worker's thread, the rest is thread-safe.

    Args:
        manager: has the models.
        tasks: tells which job waits; its lock guards the status.
        threads: CPU threads of torch.
        resident: whether this process serves this backend alone until it ends (``malloc.freeze_garbage_collector``).
        worker: the number of the worker that it loads for.
    """

    def __init__(
        self, manager: PipelineManager, tasks: TaskQueue, threads: int, resident: bool, worker: int = 0
    ) -> None:
        self._manager, self._tasks, self._threads, self._worker = manager, tasks, threads, worker
        self._freeze_libraries = resident
        self._cancelled: set[str] = set()
        self._status = BackendStatus("cold", "", NOT_LOADED)
        self._loading: Loading | None = None

    @property
    def status(self) -> BackendStatus:
        """The state of the model; its ``queue`` is not set."""
        with self._tasks.changed:
            return self._status

    @property
    def loading(self) -> Loading | None:
        """The latest progress while a model is loaded."""
        with self._tasks.changed:
            return self._loading

    def set_status(self, state: str, model_id: str, text: str, loading: Loading | None = None) -> None:
        """Change the status; see ``BackendStatus``."""
        with self._tasks.changed:
            self._loading = loading
            self._status = BackendStatus(state, model_id, text)
            self._tasks.changed.notify_all()

    def lease(
        self, model_id: str, cancelled: Callable[[], bool] | None = None, fallbacks: Sequence[str] | None = None
    ) -> Any:
        """The manager's lease as a context manager; loads the model if need be.

        Args:
            model_id: of the model.
            cancelled: whether loading should stop; then ``LoadStopped`` is raised.
            fallbacks: of ``pipelines.models.oom_fallback``, to begin with.
        """
        import torch

        torch.set_num_threads(self._threads)
        self._freeze_once()
        return _ReportingLease(
            self, model_id, self._manager.lease(model_id, self._report(model_id), cancelled, fallbacks)
        )

    def has(self, model_id: str) -> bool:
        """Whether a model is the one that is loading or ready."""
        with self._tasks.changed:
            return self._status.model == model_id and self._status.state in ("loading", "ready")

    def request_warm_up(self, model_id: str) -> None:
        """Queue the loading of a model, unless it is queued, loading or ready."""
        with self._tasks.changed:
            if model_id in self._manager.cards and not self.has(model_id):
                self._cancelled.discard(model_id)
                self._tasks.add_warm_up(model_id)

    def stop_warm_up(self, model_id: str) -> None:
        """Take it out of the queue, or stop it."""
        with self._tasks.changed:
            self._cancelled.add(model_id)
            self._tasks.remove_warm_up(model_id)

    def warm_up(self, model_id: str) -> None:
        """Load a model that no job waits for; never raises."""
        try:
            failed = False
            with self.lease(model_id, lambda: self._tasks.closed or model_id in self._cancelled):
                pass
        except LoadStopped:
            self.stopped(model_id)
        except Exception as error:
            log.exception("Loading %s failed", model_id)
            self.set_status("failed", model_id, explain_error(error, model_id))
            failed = True
        # Outside of the except block: the exception's frames hold tensors.
        if failed:
            free_memory()

    def unload(self, model_id: str) -> None:
        """Drop a model from memory; raises ModelBusy."""
        self._manager.unload(model_id)
        with self._tasks.changed:
            if self._status.model == model_id:
                self._status = BackendStatus("cold", "", UNLOADED)

    def stopped(self, model_id: str) -> None:
        """Set the status after ``LoadStopped``."""
        self.set_status("cold", model_id, f"Loading {model_id} was stopped.")

    def _report(self, model_id: str) -> Callable[[str, int, int], None]:
        def report(part: str, done: int, total: int) -> None:
            event = Loading(model_id, part, done, total)
            text = part if part.startswith(SENTENCES) else f"Loading {model_id}: {done} of {total} parts"
            self.set_status("loading", model_id, text, event)
            if (job := self._tasks.current(self._worker)) is not None:
                job.emit(event)

        return report

    def _freeze_once(self) -> None:
        """Before the first model is loaded: models themselves must stay collectable."""
        if self._freeze_libraries:
            with BUILDING:
                import diffusers  # noqa: F401
                import transformers  # noqa: F401

            self._freeze_libraries = False
            malloc.freeze_garbage_collector()


class _ReportingLease:
    """The manager's lease; sets the status to ready.  Keeps no reference to the model, which may be replaced."""

    def __init__(self, loader: ModelLoader, model_id: str, lease: Any) -> None:
        self._loader, self._model_id, self._lease = loader, model_id, lease

    def __enter__(self) -> Any:
        model = self._lease.__enter__()
        self._loader.set_status("ready", self._model_id, f"{self._model_id} on {model.placement}, ready")
        return model

    def __exit__(self, *error: Any) -> Any:
        return self._lease.__exit__(*error)


def compile_for(job: Job, model: Model) -> None:
    """Compile what a run will call, before its first step: in the middle of it a failure would end the run.

    More pictures, another size, another prompt length or adapter are another graph than the one of the load.
    """
    from pipelines.models.compiling import is_compiled, try_compiled

    request = job.request
    if model.own_loop is None and not is_compiled(model, request):
        text = f"{COMPILING}{model.card.name} for this kind of run: that takes a minute or two, once"
        job.emit(Loading(request.model, text, 0, 1))
        try_compiled(model, request)


def free_memory() -> None:
    """Release unused device memory after a failure; never raises."""
    try:
        from pipelines.models.residency import release_memory

        release_memory()
    except Exception:
        log.exception("Memory could not be freed")
