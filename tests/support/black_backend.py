"""The smallest backend there can be, to show what a second one must do: every picture is black and done at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.events import Finished, Picture
from pipelines.images.uploads import UploadStore
from pipelines.jobs.backend import BackendStatus, ForwardProcess, KeepFailed, PictureFacts, QueryFailed
from pipelines.jobs.job import Job
from pipelines.jobs.prompt_blocklist import BlockList
from pipelines.jobs.results import PictureFolder
from pipelines.jobs.users import OWNER, User
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.prompt import COMPEL
from pipelines.request import Control, GenerationRequest
from pipelines.system.guest_bytes import GuestBytes
from pipelines.trace.summary import TraceSummary
from pipelines.trace.trace import Trace
from pipelines.training_sample.library import TrainingSamples


class NoQueries:
    """Queries that never have an answer."""

    def of(self, user: User) -> NoQueries:
        return self

    def decode(self, model_id: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        raise QueryFailed("There is no model.")

    def encode(self, model_id: str, picture: Image.Image) -> np.ndarray:
        raise QueryFailed("There is no model.")

    def predict_x0(
        self, model_id: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str, syntax: str = COMPEL
    ) -> np.ndarray:
        raise QueryFailed("There is no model.")

    def forward_process(self, model_id: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> ForwardProcess:
        raise QueryFailed("There is no model.")

    def starting_latents(self, request: GenerationRequest) -> ForwardProcess:
        raise QueryFailed("There is no model.")

    def control_map(self, control: Control, width: int, height: int) -> Image.Image:
        raise QueryFailed("There is no model.")

    def ask(self, model_id: str | None, ask: Any, work: int = 0) -> Any:
        raise QueryFailed("There is no model.")


class BlackBackend:
    """Black pictures, without a queue, a model or a worker."""

    def __init__(self, manager: Any, pictures_dir: Path, **options: Any) -> None:
        self.inputs = UploadStore(pictures_dir.parent / "inputs")
        self.blocked = BlockList(pictures_dir.parent / "blocked.txt")
        self.adapters = AdapterResolver((), self.inputs)
        self.guest_bytes = GuestBytes(pictures_dir.parent)
        self.queries = NoQueries()
        self.training_samples = TrainingSamples({}, pictures_dir.parent / "training_samples", lambda: True)
        self.guest_pictures = 0
        self._pictures = PictureFolder(pictures_dir)
        self._jobs: dict[str, Job] = {}

    def submit(
        self,
        request: GenerationRequest,
        user: User = OWNER,
        draft: bool = False,
        replaces: Sequence[Job] = (),
        watched: bool = True,
        together: str = "",
    ) -> Job:
        job = Job(request, user=user, draft=draft)
        image = Image.new("RGB", (request.width, request.height))
        pictures = tuple(
            Picture(self._pictures.path(self._pictures.keep(image, request, PictureFacts(seed))), seed)
            for seed in request.seeds
        )
        job.emit(Finished(request, pictures, 0.0))
        self._jobs[job.id] = job
        return job

    def keep(self, job: Job) -> None:
        raise KeepFailed("There are no drafts.")

    def find(self, job_id: str, user: User = OWNER) -> Job | None:
        return self._jobs.get(job_id)

    def warm_up(self, model_id: str) -> None:
        pass

    def unload(self, model_id: str) -> None:
        pass

    def stop_loading(self, model_id: str) -> None:
        pass

    def status(self) -> BackendStatus:
        return BackendStatus("ready", "", "Black paint is ready.")

    def trace(self, trace_id: str, user: User = OWNER) -> Trace | None:
        return None

    def steps_so_far(self, job_ids: Sequence[str], user: User = OWNER) -> list[Trace | None]:
        return [None] * len(job_ids)

    def runs(self, count: int, user: User = OWNER) -> list[TraceSummary]:
        return []

    def close(self) -> None:
        pass
