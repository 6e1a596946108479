"""A cluster without Ray: replicas in this process, of which one can be lost in the middle of a job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from pipelines.jobs.ray.cluster import ClusterSettings, ReplicaLost
from pipelines.jobs.ray.replica import Replica
from pipelines.jobs.ray.signals import Signals


class Sent:
    """A reference to bytes that can be awaited more than once."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __await__(self) -> Any:
        return asyncio.sleep(0, self.data).__await__()


class NearCluster:
    """What ``pipelines.jobs.ray.cluster.Cluster`` does, in one process.

    Args:
        replicas: how many.

    Attributes:
        lost: asked before each chunk of a job reaches the program; where it says yes, the replica is lost.
        sent: names of what was sent to replicas.
    """

    def __init__(self, replicas: int = 2) -> None:
        self.settings = ClusterSettings(replicas=(replicas, replicas))
        self.lost: Callable[[list[dict[str, Any]]], bool] = lambda chunk: False
        self.sent: list[str] = []
        self.messages: list[Mapping[str, Any]] = []
        self._refs: dict[str, Sent] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._signals = Signals()
        self.signals = SimpleNamespace(
            stopped=SimpleNamespace(remote=self._signals.stopped),
        )
        self.replicas = [Replica("cpu", 1) for _ in range(replicas)]
        self._turn = 0

    def start(self) -> None:
        pass

    def put(self, name: str, data: Callable[[], bytes]) -> Sent:
        if name not in self._refs:
            self.sent.append(name)
            self._refs[name] = Sent(data())
        return self._refs[name]

    def stop(self, job: str) -> None:
        self._soon(self._signals.stop(job))

    def forget(self, job: str) -> None:
        self._soon(self._signals.forget(job))

    def run(self, model_id: str, message: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        self.messages.append(message)
        self._turn += 1
        chunks = self.replicas[self._turn % len(self.replicas)].run(message)
        try:
            while True:
                try:
                    chunk = self._soon(anext(chunks)).result()  # type: ignore[arg-type]
                except StopAsyncIteration:
                    return
                if self.lost(chunk):
                    raise ReplicaLost("killed")
                yield chunk
        finally:
            self._soon(chunks.aclose()).result()  # type: ignore[attr-defined]

    def call(self, method: str, model_id: str, message: Mapping[str, Any]) -> Any:
        return self._soon(getattr(self.replicas[0], method)(message)).result()

    def unload(self, model_id: str) -> None:
        for replica in self.replicas:
            replica.unload(model_id)

    def close(self) -> None:
        for replica in self.replicas:
            replica.backend.close()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _soon(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop)
