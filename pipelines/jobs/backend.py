"""The protocol of a place to run jobs, and the table of such places.

To add one: write a class with the members of ``Backend`` in a module of its own and enter it in ``BACKENDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.jobs.users import OWNER, User
from pipelines.prompt import COMPEL

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.job import Job
    from pipelines.jobs.prompt_blocklist import BlockList
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.request import Control, GenerationRequest
    from pipelines.system.guest_bytes import GuestBytes
    from pipelines.trace.seed_runs import SeedRun
    from pipelines.trace.summary import TraceSummary
    from pipelines.trace.trace import Trace
    from pipelines.trace.words.queries import WordQueries
    from pipelines.training_sample.library import TrainingSamples

# Name -> "module:Class".  A class is called as Class(manager, pictures_dir, **options).
BACKENDS = {"local": "pipelines.jobs.local:LocalBackend", "ray": "pipelines.jobs.ray.backend:RayBackend"}


class QueueFull(RuntimeError):
    """A job cannot wait here now; the message is one sentence for the user.

    Attributes:
        soon: whether there is room as soon as one of the jobs that wait is over.
    """

    def __init__(self, message: str, soon: bool = False) -> None:
        super().__init__(message)
        self.soon = soon


class QueryFailed(RuntimeError):
    """A model query has no answer; the message is one sentence for the user."""


class KeepFailed(RuntimeError):
    """A draft could not be saved; the message is one sentence for the user."""


@dataclass(frozen=True)
class BackendStatus:
    """What the status bar shows.

    Attributes:
        state: cold, loading, ready or failed.
        model: id of the model that the state is about.
        text: the state in words.
        queue: jobs that run or wait, drafts not counted.
        card_problem: why the graphics card is not used and what to do, as one sentence; "" if it is used or there is
            none, None before that is known.
        workers: jobs that run at the same time.
    """

    state: str
    model: str
    text: str
    queue: int = 0
    card_problem: str | None = None
    workers: int = 1


@dataclass(frozen=True)
class ForwardProcess:
    """One picture at every noise level of a run (the forward process, Ho et al. 2020, arXiv:2006.11239, equation 4).

    Attributes:
        timesteps, alpha, sigma: of each of the m levels, alpha^2 + sigma^2 = 1 (flow matching: alpha + sigma = 1).
        x_t: alpha * x0 + sigma * eps with one eps for all, float32 (m, 1, c, h, w).
        clean: x0, float32 (1, c, h, w).
    """

    timesteps: list[float]
    alpha: list[float]
    sigma: list[float]
    x_t: np.ndarray
    clean: np.ndarray


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a finished picture besides its request.

    Attributes:
        seed: of this picture.
        number: of this picture in its run, from 0.
        run: id of its job and its trace; "" for none.
        user: who made it.
        made: how the model ran, JSON values that are written into the file: device, versions, seconds.
        notes: what the user was told about the run, one sentence each.
    """

    seed: int
    number: int = 0
    run: str = ""
    user: User = OWNER
    made: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class PictureStore(Protocol):
    """Where finished pictures are kept."""

    def keep(self, picture: Image.Image, request: GenerationRequest, facts: PictureFacts) -> str:
        """Keep one picture; the id of its entry.  It is on the disk, whole, when this returns.

        Args:
            picture: as the user gets it.
            request: what was asked for.
            facts: more about the picture.

        Raises:
            OSError: if it cannot be written; then nothing of it is left.
        """

    def path(self, entry_id: str) -> Path:
        """The file of a picture that was kept; raises KeyError if there is no such entry."""

    @property
    def problem(self) -> str:
        """What is wrong with the picture that was kept last, one sentence; "" if nothing is."""

    def started(self, run: str, request: GenerationRequest, user: User) -> None:
        """A run begins; one that never ends was cut off by a crash.  Never raises."""

    def ended(self, run: str) -> None:
        """A run is over, however it ended.  Never raises."""

    def complete(self, run: str, facts: Mapping[str, Any]) -> None:
        """What became known of a run's files after its pictures were kept: hashes of large files.  Never raises."""


class Queries(Protocol):
    """Short questions to a model, answered while the caller waits.  All raise QueryFailed.

    A guest's questions wait in turn with the jobs, never interrupt the owner's run, and count towards its share.
    """

    def of(self, user: User) -> Queries:
        """The same questions, asked by a user; without it, the owner asks."""

    @property
    def words(self) -> WordQueries:
        """Questions about the words of a prompt; they wait for the end of a running job."""

    def decode(self, model_id: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        """Latents (n, c, h, w) to pictures: by the cheap preview, or by the VAE if ``full``."""

    def encode(self, model_id: str, picture: Image.Image) -> np.ndarray:
        """An RGB picture to latents, float32 (1, c, h, w)."""

    def predict_x0(
        self, model_id: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str, syntax: str = COMPEL
    ) -> np.ndarray:
        """One model call without guidance.

        Args:
            model_id: the model.
            x_t: (m, c, h, w) as alpha * x0 + sigma * eps.
            timesteps: of each row, 0 to 999.
            prompt: may be empty.
            syntax: its form, as in the request.

        Returns:
            x0, float32 (m, c, h, w).
        """

    def forward_process(self, model_id: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> ForwardProcess:
        """Latents (1, c, h, w) at each noise level that the request's scheduler visits, by its ``add_noise``.

        The noise is the seed's: with the seed of a run, the noise that the run began with.
        """

    def starting_latents(self, request: GenerationRequest) -> ForwardProcess:
        """The latents that a run from the request's picture begins with, for every strength; first seed's noise.

        Raises:
            InvalidRequest: if the picture is gone or does not fit.
        """

    def fork_samplers(self, request: GenerationRequest, alpha: float, sigma: float) -> list[str]:
        """The samplers besides the request's own that pass a noise level of its run, so that a fork can use them."""

    def seed_runs(self, request: GenerationRequest) -> list[SeedRun]:
        """Run a request for the ways of its seeds alone, one for each; a guest's gives way to the owner's tasks."""

    def control_map(self, control: Control, width: int, height: int) -> Image.Image:
        """The map that a ControlNet gets, RGB of this size; raises InvalidRequest, too."""

    def ask(
        self,
        model_id: str | None,
        ask: Callable[[Any], Any],
        work: int = 0,
        alone: bool = False,
        patient: bool = False,
    ) -> Any:
        """Have the worker call ``ask`` with a model, or with None, and wait for what it returns.

        Args:
            model_id: of the model; None for work that needs none.
            ask: what to do, quickly; it runs between two jobs or two steps.  What takes longer returns a generator,
                whose parts are quick (``pipelines.jobs.queue.ModelQuery``).
            work: pixels that it goes over.
            alone: whether it waits until no job runs.
            patient: whether it also waits until no job waits; for the owner.
        """


class Backend(Protocol):
    """A place to run jobs.  The page and the API use these members and no others.

    Attributes:
        inputs: uploaded pictures; a request names its pictures by their id in this store.
        blocked: words that prompts may not contain.
        adapters: the LoRA, IP-Adapter and ControlNet files that requests may name.
        guest_bytes: what is written for guests.
        training_samples: what models were trained on.
    """

    inputs: UploadStore
    blocked: BlockList
    adapters: AdapterResolver
    guest_bytes: GuestBytes
    training_samples: TrainingSamples

    @property
    def queries(self) -> Queries:
        """Short questions to a model; ``of`` says who asks."""
        ...

    @property
    def guest_pictures(self) -> int:
        """Number of pictures made for guests since the start."""
        ...

    def submit(
        self,
        request: GenerationRequest,
        user: User = OWNER,
        draft: bool = False,
        replaces: Sequence[Job] = (),
        watched: bool = True,
        together: str = "",
    ) -> Job:
        """Check a request and queue it as a job.

        A draft waits for all other jobs, is cancelled when another job comes, and is saved only by ``keep``.

        Args:
            request: what to generate.
            user: who asks; drafts are for the owner only.
            draft: whether the job is a draft.
            replaces: jobs that are cancelled as this one is queued.
            watched: whether previews are made while it runs, before anybody is ``Job.watching``; the frames of its
                trace are made in any case.
            together: a name; steps of waiting jobs of the same user and name, whose requests differ in their sampling
                alone, may be made in turn, by noise level, as the lanes of a race.

        Raises:
            InvalidRequest: if this request can never run here.
            QueueFull: if too many jobs wait, a guest has used its share or asks for a draft, or the backend is closed.
        """

    def keep(self, job: Job) -> None:
        """Save a draft like any other picture: now, or when it is done.  Safe to call twice.  Raises KeepFailed."""

    def find(self, job_id: str, user: User = OWNER) -> Job | None:
        """The job with this id while it is remembered; a guest finds only its own jobs."""

    def warm_up(self, model_id: str) -> None:
        """Load a model in the background; returns at once."""

    def unload(self, model_id: str) -> None:
        """Drop a model from memory; raises ``pipelines.models.manager.ModelBusy`` while a job uses it."""

    def stop_loading(self, model_id: str) -> None:
        """Stop loading a model that no job waits for."""

    def status(self) -> BackendStatus:
        """The state of the model, and the length of the queue."""

    def trace(self, trace_id: str, user: User = OWNER) -> Trace | None:
        """The recorded steps of the job with this id, also after a restart; None if there are none.

        Of a job whose picture is announced, or that has ended, it waits for the last frames.
        A guest finds only the traces of its own jobs.
        """

    def steps_so_far(self, job_ids: Sequence[str], user: User = OWNER) -> list[Trace | None]:
        """The steps of running jobs that are made by now, without frames and pictures, for those who look meanwhile.

        None for a job that has made none yet, or is done: ``trace`` has those.  Raises QueryFailed.
        """

    def runs(self, count: int, user: User = OWNER) -> list[TraceSummary]:
        """The user's latest runs that have a trace, newest first, at most so many; guests' are not the owner's."""

    def close(self) -> None:
        """Cancel every job and stop."""


def backend_class(name: str) -> Any:
    """The class of a backend by its name in ``BACKENDS``; imports its module."""
    module, _, attribute = BACKENDS[name].partition(":")
    return getattr(import_module(module), attribute)
