"""The strips of forks that are being made, by an unguessable name, so that each can be stopped."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.jobs.job import Job


@dataclass(eq=False)
class RunningStrip:
    """One strip: its forks are made one after another.

    Attributes:
        stopped: whether no further fork is to be made.
    """

    stopped: bool = False
    _job: Job | None = None

    def follow(self, job: Job) -> Job:
        """Note the fork that is made now; it is cancelled if the strip was stopped meanwhile."""
        self._job = job
        if self.stopped:
            job.cancel()
        return job

    def stop(self) -> None:
        """Cancel the fork that is made now, and make no more."""
        self.stopped = True
        if self._job is not None:
            self._job.cancel()


@dataclass
class Strips:
    """All that are being made."""

    _running: dict[str, RunningStrip] = field(default_factory=dict)

    def begin(self) -> tuple[str, RunningStrip]:
        """A new one and its name."""
        name, strip = secrets.token_urlsafe(12), RunningStrip()
        self._running[name] = strip
        return name, strip

    def stop(self, name: str) -> None:
        """Stop one; nothing happens if there is none."""
        if strip := self._running.get(name):
            strip.stop()

    def end(self, name: str) -> None:
        """Stop one if it still runs, and forget it."""
        if strip := self._running.pop(name, None):
            strip.stop()
