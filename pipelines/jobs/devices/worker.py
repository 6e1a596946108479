"""A worker: the thread that runs jobs on one device."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.jobs.devices.batch_parts import BatchPart
from pipelines.jobs.job import Job
from pipelines.jobs.queue import ModelQuery
from pipelines.models.placement import NoSuchDevice, resolve
from pipelines.system import malloc

if TYPE_CHECKING:
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.loader import ModelLoader
    from pipelines.jobs.model_queries import LocalQueries
    from pipelines.jobs.runner import GenerationRunner
    from pipelines.models.manager import PipelineManager

log = logging.getLogger(__name__)
# Freed memory is given back to the system after a job, at most this often.
RELEASE_SECONDS = 10.0


@dataclass(eq=False)
class Worker:
    """Runs the tasks of a queue on one device, one after the other.

    Attributes:
        number: from 0.
        manager: the models of its device.
        tasks: what to do.
        loader, queries, runner: load models, answer queries and run jobs in its thread.
        problem: why it does nothing, one sentence; "" while it works.
    """

    number: int
    manager: PipelineManager
    tasks: TaskQueue
    loader: ModelLoader
    queries: LocalQueries
    runner: GenerationRunner
    problem: str = ""
    _released: float = 0.0
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._work, name=f"playground-worker-{self.number}", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait until the queue is closed and the running step is done."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=timeout)

    def _work(self) -> None:
        """One task after the other until closed; an error in a task ends only that task."""
        looked = self.tasks.homes.single  # a single worker says of each job what is wrong
        while (task := self.tasks.next(self.number)) is not None:
            if not looked:
                looked = True
                if (problem := self._device_problem()) and self.tasks.leave(self.number, task):
                    self.problem = problem
                    log.warning("%s", problem)
                    if isinstance(task, BatchPart):
                        task.end()
                    return
            self._do(task)

    def _do(self, task: Any) -> None:
        if isinstance(task, Job):
            started = time.perf_counter()
            self.runner.run(task)
            self.tasks.job_ended(task, time.perf_counter() - started)
            self._release_memory()
        elif isinstance(task, BatchPart):
            self.runner.run_part(task)
        elif isinstance(task, ModelQuery):
            self.queries.answer(task)
        else:
            self.loader.warm_up(task)

    def _device_problem(self) -> str:
        """Why its device cannot be used, one sentence; looks at it once."""
        try:
            resolve(self.manager.device, machine=self.manager.machine)
        except NoSuchDevice as problem:
            return str(problem)
        return ""

    def _release_memory(self) -> None:
        """Give freed memory back to the system now and then, unless a job waits."""
        now = time.monotonic()
        if now - self._released > RELEASE_SECONDS and not len(self.tasks.jobs):
            self._released = now
            malloc.release_free_memory()
