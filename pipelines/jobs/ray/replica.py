"""What runs on the cluster: a replica with one device, which is a local backend that sends what it makes."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.events import TERMINAL, Announced, Finished
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.jobs.messages import explain_error
from pipelines.jobs.ray import protocol
from pipelines.jobs.ray.closures import read_query
from pipelines.models.manager import ModelBusy, PipelineManager
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.backend import PictureFacts
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User
    from pipelines.request import GenerationRequest

log = logging.getLogger(__name__)
# Events that come within this time of one another are sent together: streams are slow at many messages.
CHUNK_SECONDS = 0.05
# How long a replica sends nothing at most, so that it notices when its stream is not read any more.
SILENCE_SECONDS = 2.0
# Models that a replica names as its own; its memory decides how many it has.
MODELS = 4


class SentPictures:
    """A ``PictureStore`` that keeps the pictures of a run until they are sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, list[dict[str, Any]]] = {}

    def keep(self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts) -> str:
        """Keep the pixels, losslessly."""
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        with self._lock:
            rows = self._runs.setdefault(facts.run, [])
            rows.append({"png": file.getvalue(), "made": dict(facts.made)})
        return f"{facts.run}-{facts.number}"

    def path(self, entry_id: str) -> Path:
        """A name: nothing is on a disk here."""
        return Path(entry_id)

    @property
    def problem(self) -> str:
        """Nothing can be wrong here."""
        return ""

    def take(self, run: str) -> list[dict[str, Any]]:
        """The pictures of a run; they are forgotten here."""
        with self._lock:
            return self._runs.pop(run, [])

    def started(self, run: str, request: GenerationRequest, user: User) -> None:
        """Does nothing: the history is where the page is."""

    def ended(self, run: str) -> None:
        """Does nothing; see ``started``."""

    def complete(self, run: str, facts: Mapping[str, Any]) -> None:
        """Does nothing; see ``started``."""


class Replica:
    """One device of the cluster.  Ray calls its methods; each works in threads, so that Ray's loop is never held.

    Args:
        device: cpu or cuda; Ray shows a replica only the card that is its own.
        threads: CPU threads.
        offline: whether nothing may be downloaded.
    """

    def __init__(self, device: str, threads: int, offline: bool = False) -> None:
        from pipelines.hub.hub import Hub
        from pipelines.jobs.local import LocalBackend

        if offline:
            os.environ["HF_HUB_OFFLINE"] = "1"
        self._folder = Path(tempfile.mkdtemp(prefix="playground-replica-"))
        self._adapters, self._sent = self._folder / "adapters", SentPictures()
        self._adapters.mkdir()
        self._manager = PipelineManager((), device, hub=Hub(), memory_dir=self._folder / "memory")
        self.backend = LocalBackend(
            self._manager,
            self._folder / "pictures",
            threads=threads,
            pictures=self._sent,
            adapter_dirs=[self._adapters],
        )

    def __del__(self) -> None:
        if hasattr(self, "backend"):
            self.backend.close()
        shutil.rmtree(getattr(self, "_folder", "/nonexistent"), ignore_errors=True)

    async def run(self, message: Mapping[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """Run a job and send its events in chunks; a reader that goes away stops the job."""
        try:
            protocol.checked(message)
            await self._fetch(message)
            job = await asyncio.to_thread(self._submit, message)
        except (InvalidRequest, QueueFull, protocol.OtherProtocol, OSError) as problem:
            yield [{"kind": "failed", "message": explain_problem(problem)}]
            return
        yield [{"kind": "begun", "replica": f"{socket.gethostname()}:{os.getpid()}"}]
        stop = asyncio.create_task(self._stop_when_told(job, message["signals"], message["job"]))
        start, sent = 0, 0.0
        try:
            with job.watching() if message["watched"] else _nothing():
                while True:
                    await asyncio.to_thread(job.wait_for_event, start, SILENCE_SECONDS)
                    if not job.done:
                        await asyncio.sleep(max(0.0, sent + CHUNK_SECONDS - time.monotonic()))
                    events = job.poll(start)
                    start += len(events)
                    yield await asyncio.to_thread(self._chunk, job, events)
                    sent = time.monotonic()
                    if events and isinstance(events[-1], TERMINAL):
                        return
        finally:
            stop.cancel()
            job.cancel()

    @staticmethod
    async def _stop_when_told(job: Job, signals: Any, name: str) -> None:
        """Cancel the job when this is asked for, or when the program that asked for it is gone."""
        try:
            while not await signals.stopped.remote(name):
                pass
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("Job %s has lost its program: %s", name, type(error).__name__)
        job.cancel()

    async def _fetch(self, message: Mapping[str, Any]) -> None:
        """Store what the request names and is not here: uploads by the hash of their pixels, adapters by name."""
        from PIL import Image

        for name, ref in message["uploads"].items():
            if not self.backend.inputs.path(name).exists():
                data = await ref
                await asyncio.to_thread(self.backend.inputs.put, Image.open(io.BytesIO(data)))
        for name, ref in message["adapters"].items():
            if not (path := self._adapters / Path(name).name).exists():
                data = await ref
                await asyncio.to_thread(path.write_bytes, data)

    def _submit(self, message: Mapping[str, Any]) -> Job:
        self._know(message["card"])
        if message["fork"] is not None:
            self.backend._traces.put(protocol.read_trace(message["fork"]))
        return self.backend.submit(protocol.read_request(message["request"]), watched=message["watched"])

    def _know(self, text: str) -> None:
        card = protocol.read_card(text)
        if self._manager.cards.get(card.id) != card:
            self._manager.catalogue.add(card)

    def _chunk(self, job: Job, events: list[Any]) -> list[dict[str, Any]]:
        chunk = []
        for event in events:
            if isinstance(event, TERMINAL) and (trace := self.backend.trace(job.id)) is not None:
                chunk.append(protocol.write_trace(trace))
            pictures = self._sent.take(job.id) if isinstance(event, Announced | Finished) else ()
            chunk.append(protocol.write_event(event, pictures))
        return chunk

    async def query(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a model query: its value, or why there is none."""
        return await asyncio.to_thread(self._answer, message)

    def _answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            protocol.checked(message)
            self._know(message["card"])
            backend, queries = self.backend, self.backend.queries
            parts = {"adapters": backend.adapters, "inputs": backend.inputs, "init_latents": queries.init_latents}
            parts |= {"queries": queries, "backend": backend}
            ask = read_query(message["ask"], parts)
            return {"value": queries.ask(message["model"], ask, alone=message["alone"])}
        except InvalidRequest as problem:
            return {"field": problem.field, "problem": str(problem)}
        except (QueryFailed, protocol.OtherProtocol) as problem:
            return {"problem": str(problem)}
        except Exception as error:
            log.exception("A query failed")
            return {"problem": explain_error(error, str(message.get("model")))}

    async def load(self, message: Mapping[str, Any]) -> str:
        """Load a model; why it could not be, or ""."""
        return await asyncio.to_thread(self._load, message)

    def _load(self, message: Mapping[str, Any]) -> str:
        try:
            protocol.checked(message)
            self._know(message["card"])
            self.backend.queries.ask(message["model"], lambda model: None)
        except (QueryFailed, protocol.OtherProtocol) as problem:
            return str(problem)
        return ""

    def unload(self, model_id: str) -> bool:
        """Drop a model from memory; False while it is in use."""
        try:
            if model_id in self._manager.cards:
                self.backend.unload(model_id)
        except ModelBusy:
            return False
        return True


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def explain_problem(problem: Exception) -> str:
    """The sentence of a refusal, or what kept a replica from beginning."""
    if isinstance(problem, OSError):
        return f"The replica could not store what the picture needs ({problem.strerror}); make room on its disk."
    return str(problem)
