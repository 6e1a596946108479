"""Where models have their homes: which worker has which in memory, and which free worker a task suits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence


class Homes:
    """The models that each worker has in memory.  Not thread-safe: the lock of ``TaskQueue`` guards it.

    Args:
        loaded: for each worker, the ids of the models that it has in memory.

    Attributes:
        loaded: by the worker's number; those that have left are missing.
        free: the workers that wait for a task.
    """

    def __init__(self, loaded: Sequence[Callable[[], Collection[str]]]) -> None:
        self.loaded = dict(enumerate(loaded))
        self.free: set[int] = set()

    @property
    def single(self) -> bool:
        """Whether there is one worker only, so that nothing has to be chosen."""
        return len(self.loaded) == 1

    def has(self, worker: int, model_id: str) -> bool:
        """Whether a worker has a model in memory."""
        return model_id in self.loaded[worker]()

    def of(self, model_id: str) -> list[int]:
        """The workers that have a model in memory."""
        return [worker for worker in self.loaded if self.has(worker, model_id)]

    def suits(self, worker: int, model_id: str | None) -> bool:
        """Whether no other free worker should take a task of this model: one that has it, else the emptiest."""
        if model_id is None or len(self.free) == 1:
            return True
        homes = self.free.intersection(self.of(model_id))
        return worker in homes if homes else self.may_load(worker)

    def may_load(self, worker: int) -> bool:
        """Whether no other free worker has fewer models in memory."""
        if len(self.free) == 1:
            return True
        return worker == min(sorted(self.free & self.loaded.keys()), key=lambda each: len(self.loaded[each]()))
