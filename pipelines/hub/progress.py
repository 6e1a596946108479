"""Progress and cancellation of downloads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.hub.selection import DownloadPlan

# Called about ten times a second while a download waits or runs; raises DownloadStopped to end it.
Check = Callable[[], None]

# Seconds between two calls of a Check.
POLL_SECONDS = 0.1
# Seconds over which the speed is averaged.
SPEED_WINDOW = 5.0


class DownloadStopped(Exception):
    """A download was cancelled; what has arrived is kept."""


@dataclass(frozen=True)
class Progress:
    """How far a download is.

    Attributes:
        file: name of the file that is arriving; "" at the end.
        done, total: bytes, of all files together.
        bytes_per_second: over the last seconds.
        seconds_left: None while nothing arrives.
    """

    file: str
    done: int
    total: int
    bytes_per_second: float
    seconds_left: float | None


class ProgressMeter:
    """Counts the bytes of all files of a download, measures their speed and reports both.

    Args:
        plan: what is downloaded.
        report: receives the progress; None for no reports.
    """

    def __init__(self, plan: DownloadPlan, report: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.file = plan.total, plan.arrived, ""
        self._report = report
        self._last_time, self._last_file = -1.0, ""
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), self.done)])

    def set(self, done: int) -> None:
        """Set the bytes that have arrived."""
        if done < self.done:
            self._samples.clear()
        self.done = done

    def add(self, count: int) -> None:
        """Add to the bytes that have arrived; a negative count takes off."""
        self.set(self.done + count)

    def update(self) -> None:
        """Report the progress, at most five times a second and whenever another file begins."""
        now = time.monotonic()
        if self._report is None or (now - self._last_time < 2 * POLL_SECONDS and self._last_file == self.file):
            return
        self._last_time, self._last_file = now, self.file
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= SPEED_WINDOW:
            self._samples.popleft()
        (then, before) = self._samples[0]
        speed = (self.done - before) / (now - then) if now > then else 0.0
        left = (self.total - self.done) / speed if speed > 0 else None
        self._report(Progress(self.file, self.done, self.total, speed, left))

    def finish(self) -> None:
        """Report that everything has arrived."""
        self.set(self.total)
        self.file, self._last_time, self._last_file = "", -1.0, ""
        self.update()


def raise_if_stopped(cancelled: Callable[[], bool] | None) -> None:
    """Raise DownloadStopped if ``cancelled`` says so."""
    if cancelled is not None and cancelled():
        raise DownloadStopped


def raise_after(deadline: float) -> None:
    """Raise DownloadStopped after a time of ``time.monotonic``."""
    if time.monotonic() > deadline:
        raise DownloadStopped


def never_stop() -> None:
    """A check that never raises."""
