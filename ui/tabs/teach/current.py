"""The owner's teaching: one at a time, in parts through the worker, found again after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.users import OWNER
from pipelines.request import InvalidRequest
from pipelines.system.building import BUILDING
from pipelines.training.fine_tuning.settings import TeachingSettings
from pipelines.training.fine_tuning.teaching import (
    DRAWING,
    FAILED,
    PAUSED,
    STOPPED,
    TRAINING,
    WAITING,
    CannotGoOn,
    Teaching,
    TeachingThread,
)

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.backend import Backend
    from pipelines.training.fine_tuning.checkpoints import RunFolder

FOLDER = "training"
ONE_AT_A_TIME = "Another word is being taught; stop it first."


class CurrentTeaching:
    """The teaching that the page shows: the latest.  Thread-safe.

    Args:
        data_dir: of the user's files.
        backend: its worker does the work, between pictures.
    """

    def __init__(self, data_dir: Path, backend: Backend) -> None:
        self.data_dir = data_dir
        self._backend = backend
        self._lock = threading.Lock()
        self._thread: TeachingThread | None = None
        self._looked = False

    @property
    def folder(self) -> Path:
        """Of all runs."""
        return self.data_dir / FOLDER

    @property
    def teaching(self) -> Teaching | None:
        """The latest, also of an earlier start of the program; None if there is none."""
        thread = self._found()
        return thread.teaching if thread else None

    @property
    def run(self) -> RunFolder | None:
        """Its folder."""
        teaching = self.teaching
        return teaching.run if teaching else None

    def begin(self, settings: TeachingSettings, pictures: Sequence[Image.Image]) -> None:
        """Begin another; raises InvalidRequest while one is going on."""
        from pipelines.training.fine_tuning.checkpoints import new_run

        self._found()
        with self._lock:
            before = self._thread.teaching if self._thread else None
            if before is not None and before.state in (WAITING, DRAWING, TRAINING):
                raise InvalidRequest("", ONE_AT_A_TIME)
            run = new_run(self.folder)
            try:
                run.begin(settings, pictures)
            except OSError:
                run.remove()
                raise
            self._thread = self._made(Teaching(run, settings))
            self._thread.start()

    def go_on(self) -> None:
        """Train again after a pause, a stop or a failure."""
        thread = self._found()
        if thread is not None and thread.teaching.state in (PAUSED, STOPPED, FAILED):
            thread.start()

    def pause(self) -> None:
        """Stop after the running step."""
        if teaching := self.teaching:
            teaching.pause()

    def stop(self) -> None:
        """End after the running step."""
        if teaching := self.teaching:
            teaching.stop()

    def _found(self) -> TeachingThread | None:
        with BUILDING:
            from pipelines.training.fine_tuning.checkpoints import latest_run

        with self._lock:
            if self._thread is None and not self._looked:
                self._looked = True
                run = latest_run(self.folder)
                if run is not None:
                    try:
                        self._thread = self._made(Teaching.restored(run))
                    except (OSError, ValueError, KeyError, TypeError):
                        self._thread = None
            return self._thread

    def _made(self, teaching: Teaching) -> TeachingThread:
        backend, model_id = self._backend, teaching.settings.model
        queries = backend.queries.of(OWNER)

        def ask(part: Callable[[Any], None]) -> None:
            def alone(model: Any) -> None:
                backend.adapters.remove(model)
                part(model)

            try:
                if teaching.holds_model and _gave_way(backend, model_id):
                    teaching.rest()
                queries.ask(model_id, alone, alone=True, patient=True)
            except QueryFailed as problem:
                raise CannotGoOn(str(problem)) from None

        return TeachingThread(teaching, ask)


def _gave_way(backend: Backend, model_id: str) -> bool:
    """Whether another model was loaded meanwhile or this one unloaded: then its memory is wanted for something else."""
    status = backend.status()
    # Of several workers each has models of its own.
    return status.workers == 1 and (status.state, status.model) != ("ready", model_id)
