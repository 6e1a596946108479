"""What a program tells the replicas of its running jobs: an actor that ends with the program."""

from __future__ import annotations

import asyncio

# How long a question waits for an answer at most.
WAIT_SECONDS = 20.0


class Signals:
    """Which jobs are to stop.  Replicas ask, and wait for the answer."""

    def __init__(self) -> None:
        self._stopped: dict[str, asyncio.Event] = {}

    async def stopped(self, job: str) -> bool:
        """Wait until a job is to stop; False after a while."""
        try:
            await asyncio.wait_for(self._event(job).wait(), WAIT_SECONDS)
        except TimeoutError:
            return False
        return True

    async def stop(self, job: str) -> None:
        """A job is to stop; safe to call twice, and before its replica asks."""
        self._event(job).set()

    async def forget(self, job: str) -> None:
        """A job is over."""
        self._stopped.pop(job, None)

    def _event(self, job: str) -> asyncio.Event:
        return self._stopped.setdefault(job, asyncio.Event())
