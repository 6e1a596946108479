"""A backend on a toy model that makes no real pictures: no files are read, and a gate holds the sampler at a step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.cards import ModelCard, Quality
from pipelines.events import Step
from pipelines.jobs.job import Job
from pipelines.model import Placement
from pipelines.models.machine import Machine
from pipelines.request import GenerationRequest, make_request

WAIT = 20.0
CARD = ModelCard(
    id="toy",
    name="Toy",
    source="/nowhere",
    licence="none",
    about="",
    prediction_type="epsilon",
    qualities={"balanced": Quality(scheduler="ddim", num_inference_steps=4)},
)


class ToyLatents:
    decoded = 0
    preview_is_linear = False

    def rough_preview(self, latents: torch.Tensor) -> list[Image.Image]:
        return [Image.new("RGB", (2, 2), "red") for _ in latents]

    def preview(self, latents: torch.Tensor) -> list[Image.Image]:
        return [Image.new("RGB", (300, 400), "red") for _ in latents]

    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        self.decoded += 1
        return [Image.new("RGB", (16, 16), "blue") for _ in latents]

    def to_rgb(self) -> np.ndarray:
        return np.zeros((5, 3), np.float32)


class ToyModel:
    def __init__(self) -> None:
        self.card, self.placement, self.latents = CARD, Placement("cpu", "float32", "sdpa"), ToyLatents()
        self.scheduler_config = {"prediction_type": "epsilon"}
        self.guidance_embedded = self.supports_prompt_weights = self.quick = False
        self.own_loop = None
        self.safety = "none"

    def withheld_by_checker(self, images: list[Image.Image]) -> tuple[bool, ...]:
        return (False,) * len(images)

    def set_loras(self, loras: object) -> None:
        pass

    def set_ip_adapter(self, picture: object) -> None:
        pass

    def set_controlnets(self, controls: object) -> None:
        pass

    def load_embeddings(self, words: object) -> None:
        pass

    def truncated_text(self, prompt: str) -> str:
        return " ".join(prompt.split()[3:])


class ToyManager:
    """Loads in two parts, the first time; ``gate`` holds the loading."""

    placement = None

    def __init__(self) -> None:
        self.cards = {"toy": CARD, "broken": CARD.model_copy(update={"id": "broken"})}
        self.machine = Machine("cpu")
        self.model: ToyModel | None = None
        self.loading = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def at_hand(self, model_id: str) -> bool:
        return True

    def local_files(self, model_id: str) -> None:
        return None

    def remembered_fallbacks(self, model_id: str, pixels: int) -> tuple[str, ...]:
        return ()

    def apply_next_fallback(self, model_id: str, stage: str, rows: int) -> None:
        return None

    def reset_fallbacks(self, model_id: str) -> None:
        pass

    @contextmanager
    def lease(
        self, model_id: str, report: Callable[[str, int, int], None] | None = None, *more: Any
    ) -> Iterator[ToyModel]:
        if model_id == "broken":
            raise OSError(2, "No such file or directory")
        if self.model is None:
            for done, part in enumerate(("unet", "vae")):
                if report:
                    report(part, done, 2)
                self.loading.set()
                assert self.gate.wait(WAIT)
            self.model = ToyModel()
        yield self.model


def toy_denoise(
    model: Any, request: GenerationRequest, start: Any = None, *, cancelled: Callable[[], bool] = bool
) -> Iterator[Step]:
    """The steps of a request; some prompts make it fail."""
    x = torch.zeros(request.num_images, 4, 2, 2)
    total = request.sampling.num_inference_steps
    for index in range(total):
        if cancelled():
            return
        if request.prompt == "crash" and index == 1:
            raise ValueError("secret /path/to/things")
        if request.prompt == "memory" and index == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        after = x * torch.nan if request.prompt == "nan" else x
        yield Step(index, total, 999.0 - index, 0.5, 0.5, x, x, x, None, after)


class Gate:
    """Holds every job at a step until it is opened, and says when a job is there."""

    def __init__(self, at: int) -> None:
        self.at_step, self.reached, self.open = at, threading.Semaphore(0), threading.Event()

    def __call__(self, job: Job, step: Step) -> None:
        if step.index == self.at_step and not self.open.is_set():
            self.reached.release()
            assert self.open.wait(WAIT)


def ask(prompt: str = "a fox", **changes: Any) -> GenerationRequest:
    values = {
        "model": "toy",
        "prompt": prompt,
        "width": 16,
        "height": 16,
        "scheduler": "ddim",
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
    }
    return make_request(**{**values, **changes})


def finish(job: Job) -> list[Any]:
    """All events of a job that must end by itself."""
    start = 0
    while not job.done:
        assert job.wait_for_event(start, WAIT), "the job does not go on"
        start = len(job.poll())
    return list(job.events())
