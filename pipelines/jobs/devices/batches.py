"""Batches divided among the free workers, and the steps of their parts joined again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines.jobs.devices.batch_parts import BatchPart, is_divisible, joined, pictures_of

if TYPE_CHECKING:
    from pipelines.events import Step
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.job import Job
    from pipelines.request import GenerationRequest


class BatchDivider:
    """Divides batches among free workers that have the model in memory.

    Args:
        tasks: knows them.
    """

    def __init__(self, tasks: TaskQueue) -> None:
        self._tasks = tasks

    def divide(self, job: Job) -> tuple[GenerationRequest, list[BatchPart]]:
        """The pictures that the job's own worker makes, and the parts of others; none while other jobs wait."""
        request = job.request
        if job.draft or not is_divisible(request):
            return request, []
        with self._tasks.changed:
            count = min(self._helpers(request.model) + 1, request.num_images)
            ends = [request.num_images * k // count for k in range(count + 1)]
            parts = [BatchPart(job, pictures_of(request, *ends[k : k + 2])) for k in range(1, count)]
            self._tasks.parts.extend(parts)
            self._tasks.changed.notify_all()
        return (pictures_of(request, 0, ends[1]) if parts else request), parts

    def _helpers(self, model_id: str) -> int:
        """The number of free workers that have a model; one that has none at all loads it for the next batch."""
        homes = self._tasks.homes
        if len(self._tasks.jobs) or self._tasks.parts:
            return 0
        if any(not homes.loaded[worker]() for worker in homes.free):
            self._tasks.add_warm_up(model_id)
        return sum(homes.has(worker, model_id) for worker in homes.free)

    def join(
        self, own: Iterator[Step], parts: Sequence[BatchPart], make: Callable[[GenerationRequest], Iterator[Step]]
    ) -> Iterator[Step]:
        """The steps of the whole batch.

        Args:
            own: the steps of the pictures that are made here.
            parts: the others.
            make: makes the steps of a part here, where no other worker has taken it or it cannot go on.
        """
        here: dict[BatchPart, Iterator[Step]] = {}
        try:
            for number, step in enumerate(own):
                rows = [step]
                for part in parts:
                    found = None if part in here else self._step_of(part)
                    if found is None:
                        if part not in here:
                            here[part] = _after(make(part.request), number)
                        found = next(here[part], None)
                    if found is None:  # the job was stopped between two rows
                        return
                    rows.append(found)
                yield joined(rows)
        finally:
            for part in parts:
                part.end()

    def _step_of(self, part: BatchPart) -> Step | None:
        """The next step of a part; None if no other worker has taken it, or that one cannot go on."""
        with self._tasks.changed:
            if part in self._tasks.parts:
                self._tasks.parts.remove(part)
                return None
        return part.get()


def _after(steps: Iterator[Step], count: int) -> Iterator[Step]:
    """The steps after the first ones."""
    for number, step in enumerate(steps):
        if number >= count:
            yield step
