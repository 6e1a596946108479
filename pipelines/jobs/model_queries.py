"""Short questions to a loaded model: predicted x0, decoded latents, a picture at every noise level."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.images.inpainting import load_source
from pipelines.jobs.backend import ForwardProcess, QueryFailed
from pipelines.jobs.messages import explain_error
from pipelines.jobs.queue import ModelQuery
from pipelines.jobs.users import OWNER
from pipelines.prompt import A1111, COMPEL, PromptError
from pipelines.prompt.editing import at_steps
from pipelines.request import MAX_STEPS, GenerationRequest, InvalidRequest
from pipelines.sampling import schedulers
from pipelines.system.lru import LruDict
from pipelines.system.text import shorten
from pipelines.trace import seed_runs
from pipelines.trace.words.queries import WordQueries

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.images.inpainting import SourceImage
    from pipelines.images.uploads import UploadStore
    from pipelines.jobs.devices.task_queue import TaskQueue
    from pipelines.jobs.loader import ModelLoader
    from pipelines.jobs.prompt_blocklist import BlockList
    from pipelines.jobs.users import User
    from pipelines.model import Model
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.models.manager import PipelineManager
    from pipelines.request import Control
    from pipelines.sampling.image_to_image import InitLatents
    from pipelines.trace.seed_runs import SeedRun

log = logging.getLogger(__name__)
# Rows that a query gives to the model at once, and pixels of their pictures together: the worker may go on with a job
# between two batches.
QUERY_ROWS, QUERY_PIXELS = 8, 2 * 2**20
# What each question counts at least: the model may have to be loaded for it.
LEAST_WORK = 128 * 128
# Pixels of the pictures that one question may ask for together; the level strips draw fewer levels of large pictures.
MAX_QUERY_PIXELS = 128 * 2**20
TOO_MANY_PIXELS = "This is too much to draw at once; look at a smaller picture, or at one with fewer steps."
# Going over a picture with the cheap preview costs about this share of a denoising step.
PREVIEW_SHARE = 4
# Pixels of the picture for each of the latents, across and down, in all families.
LATENT_SCALE = 8
# Pictures whose latents stay in memory: users go back and forth between a few.
KEEP_INIT_LATENTS = 8


class InitLatentsCache:
    """The latents of source images: each is encoded once.  For the worker's thread."""

    def __init__(self) -> None:
        self._encoded: LruDict[tuple[Any, ...], InitLatents] = LruDict(KEEP_INIT_LATENTS)

    def get(self, model: Model, request: GenerationRequest, source: SourceImage) -> InitLatents:
        """The latents of the request's source image, encoded by the model's VAE."""
        from pipelines.sampling.image_to_image import encode_init_image

        init = request.init
        assert init is not None
        key = (request.model, request.width, request.height, init.image, init.mask, init.only_masked, init.padding)
        if key not in self._encoded:
            self._encoded[key] = encode_init_image(model, source.model_image, source.model_mask)
        return self._encoded[key]


class LocalQueries:
    """The ``Queries`` of the local backend: the worker answers while the caller waits.

    ``answer`` and ``answer_one`` are for the worker's thread.

    Args:
        manager: has the models.
        tasks: what the worker does next.
        loader: loads the models.
        adapters: makes control maps, and takes adapters off a model before it is asked.
        inputs: the uploaded pictures.
        init_latents: of the latest source images.
        check: raises InvalidRequest for a request that can never run for a user.
        blocked: words that no text may contain.
    """

    def __init__(
        self,
        manager: PipelineManager,
        tasks: TaskQueue,
        loader: ModelLoader,
        adapters: AdapterResolver,
        inputs: UploadStore,
        init_latents: InitLatentsCache,
        check: Callable[[GenerationRequest, User], None],
        blocked: BlockList,
    ) -> None:
        self._manager, self._tasks, self._loader, self._check, self._blocked = manager, tasks, loader, check, blocked
        self._adapters, self._inputs, self.init_latents = adapters, inputs, init_latents
        self._user = OWNER

    def of(self, user: User) -> LocalQueries:
        """The same queries, asked by a user: they wait in the user's turn and count towards the user's share."""
        found = copy(self)
        found._user = user
        return found

    def decode(self, model_id: str, latents: np.ndarray, full: bool = False) -> list[Image.Image]:
        """Latents (n, c, h, w) to pictures: by the cheap preview, or by the VAE if ``full``."""

        def ask(rows: np.ndarray) -> Callable[[Model], Any]:
            return lambda model: (model.latents.decode if full else model.latents.preview)(tensor(model, rows))

        share = 1 if full else PREVIEW_SHARE
        batches = _batches(latents)
        return [image for rows in batches for image in self.ask(model_id, ask(rows), _pixels(rows) // share)]

    def encode(self, model_id: str, picture: Image.Image) -> np.ndarray:
        """An RGB picture to latents, float32 (1, c, h, w)."""
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        work = picture.width * picture.height
        return self.ask(model_id, lambda model: model.latents.encode(tensor(model, pixels)).cpu().numpy(), work)

    def predict_x0(
        self, model_id: str, x_t: np.ndarray, timesteps: Sequence[float], prompt: str, syntax: str = COMPEL
    ) -> np.ndarray:
        """One model call without guidance; see ``Queries``."""
        self._check_words(prompt, syntax)

        def ask(rows: np.ndarray, at: Sequence[float]) -> Callable[[Model], Any]:
            return lambda model: predict_x0(model, rows, at, prompt, syntax)

        found, start = [], 0
        for rows in _batches(x_t):
            at = timesteps[start : start + len(rows)]
            found.append(self.ask(model_id, ask(rows, at), _pixels(rows)))
            start += len(rows)
        return np.concatenate(found)

    def forward_process(self, model_id: str, request: GenerationRequest, x0: np.ndarray, seed: int) -> ForwardProcess:
        """Latents at each noise level of the request's scheduler; see ``Queries``."""
        work = _pixels(x0) // PREVIEW_SHARE
        return self.ask(model_id, lambda model: forward_process(model, request, x0, seed), work)

    def starting_latents(self, request: GenerationRequest) -> ForwardProcess:
        """The latents that a run from the request's picture begins with; see ``Queries``."""
        with self._inputs.of(self._user.guest).slot():
            self._check(request, self._user)
            source = load_source(request, self._inputs)
        return self.ask(
            request.model,
            lambda model: starting_latents(model, request, self.init_latents.get(model, request, source)),
            request.width * request.height,
        )

    def fork_samplers(self, request: GenerationRequest, alpha: float, sigma: float) -> list[str]:
        """The samplers that can go on from a step of a run; see ``Queries``."""
        from pipelines.sampling.forks import followers

        return self.ask(request.model, lambda model: followers(model, request, alpha, sigma))

    def seed_runs(self, request: GenerationRequest) -> list[SeedRun]:
        """The ways of all seeds of a request; see ``Queries``."""
        try:
            self._check(request, self._user)
        except InvalidRequest as problem:
            raise QueryFailed(str(problem)) from None
        return self.ask(request.model, seed_runs.runs_of(request), seed_runs.work(request))

    def _check_words(self, prompt: str, syntax: str) -> None:
        """Raise QueryFailed if the text that ``predict_x0`` reads has a blocked word: a run may read less of it."""
        try:
            self._blocked.check_text(_last_text(prompt, syntax), syntax)
        except InvalidRequest as problem:
            raise QueryFailed(str(problem)) from None
        except PromptError as problem:
            raise QueryFailed(f"The prompt {problem}.") from None

    def control_map(self, control: Control, width: int, height: int) -> Image.Image:
        """The map that a ControlNet gets, RGB of this size, made by the worker; raises InvalidRequest."""
        self._inputs.check_own([control.image], self._user.guest)

        def make(_: Any) -> Image.Image:
            placement = self._manager.placement
            return self._adapters.control_map(control, width, height, placement.device if placement else "cpu")

        return self.ask(None, make, width * height)

    @property
    def words(self) -> WordQueries:
        """Questions about the words of a prompt; see ``Queries``."""

        def ask(model_id: str, what: Callable[[Any], Any], work: int) -> Any:
            return self.ask(model_id, what, work, alone=True)

        return WordQueries(ask, self._adapters.apply, lambda request: self._check(request, self._user))

    def ask(
        self,
        model_id: str | None,
        ask: Callable[[Any], Any],
        work: int = 0,
        alone: bool = False,
        patient: bool = False,
    ) -> Any:
        """Have the worker call ``ask``, and wait for what it returns.

        Args:
            model_id: of the model that ``ask`` is called with; None for work that needs none.
            ask: what to do; of what it raises, InvalidRequest reaches the caller.
            work: pixels that it goes over; no question is for nothing.
            alone: whether it waits until no job runs, such as one that puts adapters on the model.
            patient: whether it also waits until no job waits; for the owner.
        """
        if model_id is not None and model_id not in self._manager.cards:
            raise QueryFailed(f"The model {shorten(model_id)!r} is not here any more; choose another picture.")
        query = ModelQuery(model_id, ask, self._user, max(work, LEAST_WORK), alone, patient)
        self._tasks.add_query(query)
        return query.answer.result()

    def _in_parts(self, query: ModelQuery, found: Any) -> Any:
        """The answer of a query, which stops between two parts when the owner waits."""
        if not isinstance(found, Generator):
            return found
        with closing(found):
            while True:
                try:
                    next(found)
                except StopIteration as end:
                    return end.value
                if self._tasks.gives_way(query):
                    raise _GivesWay

    def answer(self, query: ModelQuery) -> None:
        """Answer while no job runs; loads the model if need be, and never raises."""
        if query.model_id is None:
            self._answer(query, None)
            return
        try:
            with self._loader.lease(query.model_id) as model:
                if not query.alone:  # else it puts on what it needs
                    self._adapters.remove(model)
                self._answer(query, model)
        except Exception as error:
            log.exception("Loading %s failed", query.model_id)
            problem = explain_error(error, query.model_id)
            self._loader.set_status("failed", query.model_id, problem)
            query.answer.set_exception(QueryFailed(problem))

    def answer_one(self, model: Model, model_id: str, user: User) -> None:
        """Answer one query to the model of a user's running job: a job is slowed by little."""
        if (query := self._tasks.take_query(model_id, user)) is not None:
            self._answer(query, None if query.model_id is None else model)

    def _answer(self, query: ModelQuery, model: Model | None) -> None:
        import torch

        try:
            with torch.inference_mode():
                query.answer.set_result(self._in_parts(query, query.ask(model)))
        except _GivesWay:
            self._tasks.put_back(query)
        except InvalidRequest as problem:
            query.answer.set_exception(
                problem if query.model_id is None else QueryFailed(explain_error(problem, query.model_id))
            )
        except Exception as error:
            log.exception("A query to %s failed", query.model_id)
            query.answer.set_exception(QueryFailed(explain_error(error, query.model_id or "this picture")))


class _GivesWay(Exception):
    """A long answer has stopped for a task of the owner."""


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    """Rows for the model, as many at once as are quick; raises QueryFailed where there are too many in all."""
    if _pixels(rows) > MAX_QUERY_PIXELS:
        raise QueryFailed(TOO_MANY_PIXELS)
    most = max(1, min(QUERY_ROWS, QUERY_PIXELS // max(1, _pixels(rows[:1]))))
    return [rows[k : k + most] for k in range(0, len(rows), most)]


def _pixels(latents: np.ndarray) -> int:
    """Pixels of the pictures of latents (n, c, h, w)."""
    return len(latents) * latents.shape[-2] * latents.shape[-1] * LATENT_SCALE**2


def predict_x0(
    model: Model, x_t: np.ndarray, timesteps: Sequence[float], prompt: str, syntax: str = COMPEL
) -> np.ndarray:
    """x0 of one model call without guidance; between two training timesteps alpha_bar is interpolated.

    Args:
        model: what ``PipelineManager.lease`` yields.
        x_t: (m, c, h, w) as alpha * x0 + sigma * eps.
        timesteps: of each row, 0 to 999.
        prompt: may be empty.
        syntax: its form, as in the request.

    Returns:
        x0, float32 (m, c, h, w).
    """
    if model.is_inpainting:
        raise InvalidRequest(
            "model", f"{model.card.name} is an inpainting model: it cannot predict an image without a mask."
        )
    kind = schedulers.prediction_type_of(model.scheduler_config)
    alpha, sigma = _levels_at(kind, model.scheduler_config, np.asarray(timesteps, np.float32)[:, None, None, None])
    prompt = _last_text(prompt, syntax)
    # The control maps of the running job have its size and do not belong to these latents.
    chunks = model.count_chunks(prompt) if syntax == A1111 else 0
    conditioning = replace(model.encode_prompt([prompt], chunks=chunks).repeat(len(x_t)), controls=())
    t = tensor(model, np.asarray(timesteps))
    prediction = model.predict(tensor(model, x_t), t, conditioning, model.card.guidance_scale).cpu().numpy()
    return schedulers.x0_from_prediction(kind, prediction, x_t, alpha, sigma)


def _last_text(prompt: str, syntax: str) -> str:
    """A prompt as its last step reads it, if it changes over the steps."""
    return at_steps(prompt, MAX_STEPS)[-1] if syntax == A1111 else prompt


def _levels_at(kind: str, config: Mapping[str, Any], timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise level of timesteps; for flow matching t / 1000 is sigma."""
    if kind == schedulers.FLOW_PREDICTION:
        sigma = timesteps / config.get("num_train_timesteps", 1000)
        return 1 - sigma, sigma
    alpha_bar = schedulers.build_scheduler("ddpm", config).alphas_cumprod.numpy()
    at = np.interp(timesteps, np.arange(len(alpha_bar)), alpha_bar).astype(np.float32)
    return np.sqrt(at), np.sqrt(1 - at)


def forward_process(model: Model, request: GenerationRequest, x0: np.ndarray, seed: int) -> ForwardProcess:
    """Latents (1, c, h, w) at each noise level of the request's scheduler, with the noise of a seed."""
    import torch

    scheduler = _scheduler(model, request)
    clean = torch.from_numpy(np.ascontiguousarray(x0, dtype=np.float32))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return _levels(scheduler, clean, noise, range(len(scheduler.timesteps)))


def starting_latents(model: Model, request: GenerationRequest, init: InitLatents) -> ForwardProcess:
    """The latents that a run begins with, for each number of steps that its strength may skip (0, 1, ...).

    The random draws are those of ``pipelines.sampling.image_to_image.initial_latents`` for the first picture.
    """
    from pipelines.sampling import initial_noise

    scheduler = _scheduler(model, request)
    generators = initial_noise.make_generators(request)[:1]
    clean = init.sample(init.clean, generators)
    one = request.model_copy(update={"num_images": 1, "interpolation": None})
    noise = initial_noise.draw_initial_noise(one, clean.shape, generators).to(clean)
    steps = request.sampling.num_inference_steps
    return _levels(scheduler, clean, noise, range(0, steps * scheduler.order, scheduler.order))


def _levels(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, positions: Iterable[int]) -> ForwardProcess:
    """alpha and sigma are measured with ``add_noise`` itself, since schedulers differ in scale."""
    one, zero = clean.new_ones(1, 1, 1, 1), clean.new_zeros(1, 1, 1, 1)
    found: list[tuple[float, float, float, np.ndarray]] = []
    for position in positions:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(position)
        t = scheduler.timesteps[position : position + 1]
        alpha, sigma = (float(schedulers.add_noise(scheduler, *pair, t)) for pair in ((one, zero), (zero, one)))
        # Flow matching: alpha + sigma = 1 already.
        scale = 1.0 if schedulers.is_flow(scheduler) else math.hypot(alpha, sigma)
        x_t = schedulers.add_noise(scheduler, clean, noise, t) / scale
        found.append((float(t), alpha / scale, sigma / scale, x_t.cpu().numpy()))
    timesteps, alphas, sigmas, rows = zip(*found, strict=True)
    return ForwardProcess(list(timesteps), list(alphas), list(sigmas), np.stack(rows), clean.cpu().numpy())


def _scheduler(model: Model, request: GenerationRequest) -> Any:
    scheduler = schedulers.build_scheduler(request.sampling.scheduler, model.scheduler_config)
    schedulers.set_timesteps(scheduler, model, request)
    return scheduler


def tensor(model: Model, array: np.ndarray) -> torch.Tensor:
    """An array as a float32 tensor on the model's device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(model.placement.device)
