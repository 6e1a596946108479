"""Finished runs on disk: the pictures and the recorded steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.events import Picture
from pipelines.hub.versions import FileHashes, adapter_versions, library_versions, model_version
from pipelines.images.png import save_png
from pipelines.images.provenance import xmp_packet
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.previews import final_bytes
from pipelines.models.safety_checker import NONE
from pipelines.system.guest_bytes import NoBytesLeft

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.jobs.backend import PictureStore
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User
    from pipelines.model import Model
    from pipelines.request import GenerationRequest
    from pipelines.system.guest_bytes import GuestBytes
    from pipelines.trace.recorder import Recorder
    from pipelines.trace.store import TraceStore
    from pipelines.trace.trace import Trace

log = logging.getLogger(__name__)
# The steps of a guest's run are not kept beyond so many bytes: opening them takes as much memory.
MAX_GUEST_TRACE = 128 * 2**20


class PictureFolder:
    """A ``PictureStore`` that writes one PNG a picture into a folder, and knows nothing else of it.

    Args:
        folder: created with the first picture.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)

    def keep(self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts) -> str:
        """Write the PNG; its id is the file's name without the ending.  Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return save_png(picture, self._folder, request, facts.seed, made_facts(facts)).stem

    def path(self, entry_id: str) -> Path:
        """The PNG of this id; raises KeyError."""
        path = self._folder / f"{entry_id}.png"
        if path.parent != self._folder or not path.is_file():
            raise KeyError(entry_id)
        return path

    @property
    def problem(self) -> str:
        """Nothing: a picture in the folder is all there is."""
        return ""

    def started(self, run: str, request: GenerationRequest, user: User) -> None:
        """Does nothing: a folder of pictures has no place for a run without one."""

    def ended(self, run: str) -> None:
        """Does nothing; see ``started``."""

    def complete(self, run: str, facts: Mapping[str, Any]) -> None:
        """Does nothing; see ``started``."""


class PicturesNotSaved(OSError):
    """A picture of a run could not be written.

    Attributes:
        saved: how many of the run's pictures were before.
    """

    def __init__(self, error: OSError, saved: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.saved = saved


class ResultStore:
    """Saves the pictures and the trace of a run.

    Args:
        pictures: where pictures are saved.
        traces, guest_traces: of the owner, and of guests.
        trace_bytes: counts what is written of guests' traces.
    """

    def __init__(
        self, pictures: PictureStore, traces: TraceStore, guest_traces: TraceStore, trace_bytes: GuestBytes
    ) -> None:
        self._pictures, self._traces, self._guest_traces = pictures, traces, guest_traces
        self._trace_bytes = trace_bytes

    @contextmanager
    def running(self, job: Job) -> Iterator[None]:
        """Have the run of a job known while the context lasts, so that a crash is noticed; drafts are not missed."""
        if job.draft:
            yield
            return
        self._pictures.started(job.id, job.request, job.user)
        try:
            yield
        finally:
            self._pictures.ended(job.id)

    def save_pictures(
        self, job: Job, images: Sequence[Image.Image], made: Mapping[str, Any], notes: tuple[str, ...] = ()
    ) -> tuple[Picture, ...]:
        """Save the pictures of a job.

        Args:
            job: whose request made them.
            images: one for each seed.
            made: how the model ran.
            notes: what the user is told about the run.

        Raises:
            PicturesNotSaved: if one cannot be written.
        """
        kept = list[Picture]()
        for k, (image, seed) in enumerate(zip(images, job.request.seeds, strict=True)):
            facts = PictureFacts(seed, k, job.id, job.user, made, notes)
            try:
                kept.append(Picture(self._pictures.path(self._pictures.keep(image, job.request, facts)), seed))
            except OSError as error:
                raise PicturesNotSaved(error, len(kept)) from error
        return tuple(kept)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told of the pictures that were saved last, besides."""
        return tuple(filter(None, [self._pictures.problem]))

    def complete(self, run: str, facts: Mapping[str, Any]) -> None:
        """Add to the pictures of a run what became known of its files."""
        self._pictures.complete(run, facts)

    def save_trace(
        self,
        recorder: Recorder,
        model: Model,
        pictures: tuple[Picture, ...],
        images: Sequence[Image.Image],
        seconds: float,
        guest: str | None = None,
    ) -> None:
        """Save the recorded steps, if there are any; an error is only logged, for the pictures matter more.

        Args:
            guest: whose run it was; None for the owner.
        """
        try:
            if recorder.steps:
                finals = tuple(final_bytes(image, xmp_packet(recorder.request)) for image in images)
                self.put_trace(recorder.finish(model, pictures, finals, seconds), guest)
        except Exception:
            log.exception("The trace of a run could not be saved")

    def put_trace(self, trace: Trace, guest: str | None = None) -> None:
        """Save the trace of a run; of a guest's, as far as its share goes."""
        if guest is None:
            self._traces.put(trace)
        elif trace.nbytes <= MAX_GUEST_TRACE:
            self._guest_traces.put(trace, self._may_write(trace, guest))
        else:
            self._guest_traces.drop(trace)

    def _may_write(self, trace: Trace, guest: str) -> bool:
        """Whether a guest's trace goes to the disk, too; else it is in memory for a while."""
        try:
            self._trace_bytes.charge(guest, trace.nbytes)
        except NoBytesLeft as problem:
            log.info("The steps of a guest's run are not written: %s", problem)
            return False
        return True


def made_facts(facts: PictureFacts) -> dict[str, Any]:
    """What a picture's own file tells of how it was made; nothing that tells who made it, or names a job."""
    return {**facts.made, "picture": facts.number}


def run_facts(
    model: Model, source: str, folder: Path | None, adapters: Mapping[str, Path], hashes: FileHashes
) -> dict[str, Any]:
    """How a model ran and in which versions, for the metadata of its pictures.

    Args:
        model: that ran.
        source: of its card in the catalogue.
        folder: where its files are, or None.
        adapters: the files of the request's adapters, by name.
        hashes: of files.
    """
    import torch

    placement, safety = model.placement, model.safety
    return {
        "name": model.card.name,
        "device": placement.device,
        "dtype": placement.dtype,
        "attention": placement.attention,
        "engine": placement.engine,
        # Sums of many numbers on a processor are rounded by how its threads share them.
        **({"threads": torch.get_num_threads()} if placement.device == "cpu" else {}),
        **file_facts(source, folder, adapters, hashes),
        "libraries": library_versions(),
        **({"safety_checker": safety} if safety != NONE else {}),
        **({"quantize": placement.quantize} if placement.quantize else {}),
        **({"compile": True} if placement.compile else {}),
        **({"ladder": list(placement.fallbacks)} if placement.fallbacks else {}),
    }


def file_facts(source: str, folder: Path | None, adapters: Mapping[str, Path], hashes: FileHashes) -> dict[str, Any]:
    """The versions of the files of a run, as far as they are known; the arguments are those of ``run_facts``."""
    added = adapter_versions(adapters, hashes)
    return {"model": model_version(source, folder, hashes), **({"adapters": added} if added else {})}
