"""What this program's workers do where the models are on a cluster: each sends its tasks to a replica."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.events import Announced, Cancelled, Decoding, Failed, Finished, Loading, Preview, Queued
from pipelines.jobs.backend import QueryFailed
from pipelines.jobs.guest_writes import uploads_of
from pipelines.jobs.job import DraftResult
from pipelines.jobs.loader import ModelLoader
from pipelines.jobs.messages import explain_error
from pipelines.jobs.model_queries import LocalQueries
from pipelines.jobs.ray import protocol
from pipelines.jobs.ray.closures import NotSendable, write_query
from pipelines.jobs.ray.cluster import Cluster, ClusterProblem, ReplicaLost
from pipelines.jobs.runner import GenerationRunner
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.job import Job
    from pipelines.jobs.queue import ModelQuery
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.request import GenerationRequest

log = logging.getLogger(__name__)
MADE_AGAIN = "The machine that made this picture was lost, so it was made again on another one."
NO_FRAMES = "The machine that made this picture was lost before it had sent the record of its steps."
LOST_TWICE = "The machines that made this picture were lost twice; look at the cluster, then try again."
LOST = "The machine that was asked is gone; ask again."
NOT_ON_CLUSTER = "This cannot be asked of a model on a cluster; start the program without --backend ray for it."
# How often a watcher looks whether its job is over.
LOOK_SECONDS = 0.5


class RemoteLoader(ModelLoader):
    """Has replicas load models; the status is that of the last one."""

    def __init__(self, *parts: Any, cluster: Cluster) -> None:
        super().__init__(*parts)
        self.cluster = cluster

    def warm_up(self, model_id: str) -> None:
        """Have a replica load a model; never raises."""
        self.set_status("loading", model_id, f"Loading {model_id} on the cluster")
        try:
            self.cluster.start()
            card = protocol.write_card(self._manager.cards[model_id])
            message = {"protocol": protocol.PROTOCOL, "model": model_id, "card": card}
            problem = self.cluster.call("load", model_id, message)
        except (ClusterProblem, ReplicaLost) as error:
            problem = str(error) if isinstance(error, ClusterProblem) else LOST
        except Exception as error:
            log.exception("Loading %s failed", model_id)
            problem = explain_error(error, model_id)
        self.set_status("failed" if problem else "ready", model_id, problem or f"{model_id} on the cluster, ready")


class RemoteQueries(LocalQueries):
    """Sends model queries to replicas; what needs no model is answered here."""

    def __init__(self, *parts: Any, cluster: Cluster) -> None:
        super().__init__(*parts)
        self.cluster = cluster

    def answer(self, query: ModelQuery) -> None:
        """Answer a query; never raises."""
        if query.model_id is None:
            super().answer(query)
            return
        try:
            query.answer.set_result(self._sent(query, query.model_id))
        except (InvalidRequest, QueryFailed) as problem:
            query.answer.set_exception(problem)
        except ClusterProblem as problem:
            query.answer.set_exception(QueryFailed(str(problem)))
        except ReplicaLost:
            query.answer.set_exception(QueryFailed(LOST))
        except Exception as error:
            log.exception("A query to %s failed", query.model_id)
            query.answer.set_exception(QueryFailed(explain_error(error, query.model_id)))

    def _sent(self, query: ModelQuery, model_id: str) -> Any:
        try:
            ask = write_query(query.ask)
        except NotSendable as error:
            log.warning("A query cannot be sent: %s", error)
            raise QueryFailed(NOT_ON_CLUSTER) from None
        self.cluster.start()
        card = protocol.write_card(self._manager.cards[model_id])
        message = {"protocol": protocol.PROTOCOL, "model": model_id, "card": card, "ask": ask, "alone": query.alone}
        answer = self.cluster.call("query", model_id, message)
        if "field" in answer:
            raise InvalidRequest(answer["field"], answer["problem"])
        if "problem" in answer:
            raise QueryFailed(answer["problem"])
        return answer["value"]


@dataclass
class _Shown:
    """What a job has shown, so that a second try shows nothing twice.

    Attributes:
        frames: of which steps; decoded ones count apart from rough ones.
        finished: with the pictures that are saved, None before.
        notes: more for the last event.
        started: seconds of the clock.
    """

    frames: set[tuple[int, bool]] = field(default_factory=set)
    finished: Finished | None = None
    notes: tuple[str, ...] = ()
    started: float = field(default_factory=time.perf_counter)
    draft: DraftResult | None = None


@dataclass
class RemoteRunner(GenerationRunner):
    """Runs a job on a replica; pictures, history and traces are kept here.

    Attributes:
        cluster: has the replicas.
        replica: that runs its job or has run the last one, "" before.
    """

    cluster: Cluster = None  # type: ignore[assignment]
    replica: str = ""

    def _generate(self, job: Job) -> None:
        if not job.request.steps_run:
            self._return_source(job, time.perf_counter())
            return
        try:
            self.cluster.start()
        except ClusterProblem as problem:
            job.emit(Failed(str(problem)))
            return
        if job.cancelled:
            job.emit(Cancelled(0))
            return
        shown = _Shown()
        over = threading.Event()
        watcher = threading.Thread(target=self._pass_on_stop, args=(job, over), daemon=True)
        watcher.start()
        try:
            self._try_twice(job, shown)
        finally:
            over.set()
            self.cluster.forget(job.id)

    def _pass_on_stop(self, job: Job, over: threading.Event) -> None:
        """Tell the replica when the job is cancelled."""
        while not over.is_set():
            if job.wait_cancelled(LOOK_SECONDS):
                self.cluster.stop(job.id)
                return

    def _try_twice(self, job: Job, shown: _Shown) -> None:
        for second in (False, True):
            try:
                self._stream(job, shown)
                return
            except ReplicaLost:
                if job.cancelled:
                    job.emit(Cancelled(job.at[0]))
                    return
                if shown.finished is not None:  # the pictures are saved: nothing is made twice
                    job.emit(replace(shown.finished, notes=(*shown.finished.notes, NO_FRAMES)))
                    return
                if second:
                    job.emit(Failed(LOST_TWICE))
                shown.notes = (MADE_AGAIN,)

    def _stream(self, job: Job, shown: _Shown) -> None:
        for chunk in self.cluster.run(job.request.model, self._message(job)):
            for message in chunk:
                self._take(job, message, shown)
            # Of those that need no model: the others wait for a replica.
            self.queries.answer_one(None, "", job.user)  # type: ignore[arg-type]
            if job.done and not job.draft:
                return

    def _message(self, job: Job) -> dict[str, Any]:
        request, fork = job.request, job.request.fork
        trace = self.find_trace(fork.run, job.user) if fork else None
        uploads = {name: self.cluster.put(name, lambda name=name: self._png(name)) for name in uploads_of(request)}
        files = files_of(self.adapters, request)
        return {
            "protocol": protocol.PROTOCOL,
            "job": job.id,
            "request": protocol.write_request(request),
            "card": protocol.write_card(self.manager.cards[request.model]),
            "watched": job.watched and not job.draft,
            "uploads": uploads,
            "adapters": {name: self.cluster.put(key, path.read_bytes) for name, key, path in files},
            "fork": protocol.write_trace(trace) if trace is not None else None,
            "signals": self.cluster.signals,
        }

    def _png(self, name: str) -> bytes:
        file = io.BytesIO()
        self.inputs.get(name).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def _take(self, job: Job, message: Mapping[str, Any], shown: _Shown) -> None:
        """One message of a replica."""
        if message["kind"] == "begun":
            self.replica = message["replica"]
            log.info("Job %s runs on %s", job.id, self.replica)
            return
        if message["kind"] == "trace":
            if job.draft:
                return
            self.results.put_trace(
                replace(protocol.read_trace(message), id=job.id, request=job.request, created=job.created,
                        pictures=shown.finished.pictures if shown.finished else ()),
                job.user.guest,
            )  # fmt: skip
            return
        event = protocol.read_event(message, job.request)
        if isinstance(event, Preview | Decoding) and not job.running_seconds and not job.begin_denoising():
            return
        if isinstance(event, Preview):
            self._show(job, event, shown)
        elif isinstance(event, Announced | Finished):
            self._end(job, event, message["pictures"], shown)
        elif isinstance(event, Loading):
            self.loader.set_status("loading", job.request.model, f"Loading {event.model} on the cluster", event)
            job.emit(event)
        elif not isinstance(event, Queued):
            job.emit(event)

    def _show(self, job: Job, event: Preview, shown: _Shown) -> None:
        key = (event.index, bool(event.frames) and not event.rough)
        if key in shown.frames:
            return
        shown.frames.add(key)
        job.at = (max(job.at[0], event.index + 1), event.total)
        if job.at[0] == 1:
            self.loader.set_status("ready", job.request.model, f"{job.request.model} on the cluster, ready")
        job.emit(replace(event, frames=(), noisy=(), rough=()) if job.draft else event)

    def _end(self, job: Job, event: Announced | Finished, pictures: Any, shown: _Shown) -> None:
        """Save the pictures once, with what was sent of them."""
        told = event.finished if isinstance(event, Announced) else event
        if shown.finished is None:
            images, made = [_image(one["png"]) for one in pictures], pictures[0]["made"] if pictures else {}
            seconds = time.perf_counter() - shown.started
            told = replace(told, seconds=seconds, notes=(*shown.notes, *told.notes))
            if job.draft:
                self.drafts.finish(job, DraftResult(images, made, (), told), None)  # type: ignore[arg-type]
                shown.finished = told
                self.cluster.stop(job.id)  # its frames are not needed
                return
            shown.finished = self._saved(job, images, made, told)
            self.guest_pictures += len(shown.finished.pictures) * (not job.user.owner)
        job.emit(Announced(shown.finished) if isinstance(event, Announced) else shown.finished)


def files_of(adapters: AdapterResolver, request: GenerationRequest) -> list[tuple[str, str, Path]]:
    """The single files that a request adds to its model: name of the file, what tells its versions apart, its path.

    Adapters that are folders must be on each machine already.
    """
    found = []
    for path in adapters.files(request):
        if path.is_file():
            facts = path.stat()
            found.append((path.name, f"{path} {facts.st_size} {facts.st_mtime_ns}", path))
    return found


def _image(data: bytes) -> Image.Image:
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    return image
