"""A step as small JPEGs: what the page shows while a run goes on, and what its record keeps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from pipelines.events import Preview, Step
from pipelines.trace.trace import signal_share

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.model import Model

PREVIEW_SIDE = 256
# What the stage shows large comes first.
VIEWS = ("noisy", "guess")
# Where a guess and the finished latents differ by no more than this, they decode to the same picture.
SAME_LATENTS = 1e-3


@dataclass(frozen=True)
class StepFrames:
    """A step as pictures: small JPEGs, one an image.

    Attributes:
        guess: the model's guess for the prompt; see ``pipelines.sampling.schedulers.guess_of``.
        noisy: the noisy latents, decoded.
        rough: which of them are only a linear map of the latents.
    """

    guess: tuple[bytes, ...] = ()
    noisy: tuple[bytes, ...] = ()
    rough: tuple[str, ...] = ()

    def preview(self, step: Step, seconds_left: float = 0.0) -> Preview:
        """The event that carries them."""
        noise = 1 - signal_share(step.alpha, step.sigma)
        facts = (step.index, step.total, float(step.timestep), seconds_left)
        return Preview(*facts, self.guess, self.noisy, noise, self.rough)


def step_frames(model: Model, step: Step, scheduler: str) -> StepFrames:
    """The guess and the noisy latents of a step that ``scheduler`` made."""
    import torch

    if model.placement.kind != "cpu":
        small = small_frames(model, _moved(step, model.placement.device), scheduler)
        return StepFrames() if small is None else small.jpegs(small.planes.cpu())
    with torch.inference_mode():
        rows = [model.latents.preview(latents) for latents in shown_latents(model, step, scheduler)]
    guess, noisy = (tuple(preview_jpeg(image) for image in row) for row in rows)
    return StepFrames(guess, noisy)


def rough_frames(model: Model, steps: Sequence[Step], scheduler: str) -> list[StepFrames]:
    """The guesses and the noisy latents of steps on the CPU by the linear map: a fraction of a millisecond each."""
    import torch

    with torch.inference_mode():
        shown = [shown_latents(model, step, scheduler) for step in steps]
        guesses, noisy = (
            [preview_jpeg(image) for image in model.latents.rough_preview(torch.cat(row))]
            for row in zip(*shown, strict=True)
        )
    n = len(steps[0].x_t)
    rough = () if model.latents.preview_is_linear else VIEWS
    return [StepFrames(tuple(guesses[k : k + n]), tuple(noisy[k : k + n]), rough) for k in range(0, n * len(steps), n)]


@dataclass(frozen=True)
class SmallFrames:
    """A step as pictures of at most 256 px where its latents are: see ``pipelines.sampling.planes``.

    Attributes:
        planes: the guesses and then the noisy latents, (2 n, bytes).
        size: width and height of each.
    """

    planes: torch.Tensor
    size: tuple[int, int]

    def jpegs(self, planes: torch.Tensor) -> StepFrames:
        """The frames, once the planes are on the CPU."""
        from pipelines.sampling.planes import unpack

        made = [preview_jpeg(unpack(one, *self.size)) for one in planes.numpy()]
        return StepFrames(tuple(made[: len(made) // 2]), tuple(made[len(made) // 2 :]))


def small_frames(model: Model, step: Step, scheduler: str) -> SmallFrames | None:
    """The guess and the noisy latents on the step's device; None where they form no image."""
    import torch

    from pipelines.sampling.planes import pack

    with torch.inference_mode():
        views = [model.latents.small_preview(one, PREVIEW_SIDE) for one in shown_latents(model, step, scheduler)]
        seen = [view for view in views if view is not None]
        if len(seen) < len(views):
            return None
        return SmallFrames(pack(torch.cat(seen)), (seen[0].shape[2], seen[0].shape[1]))


def _moved(step: Step, device: str) -> Step:
    """A step with the latents that its frames show on a device."""
    cond = None if step.cond is None else step.cond.to(device)
    return replace(step, x_t=step.x_t.to(device), x0=step.x0.to(device), cond=cond)


def shown_latents(model: Model, step: Step, scheduler: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The guess for the prompt, and the noisy latents in the scale of the model's pictures."""
    from pipelines.sampling.schedulers import SCHEDULERS, guess_of, prediction_type_of

    noisy = step.x_t
    if step.cond is not None and SCHEDULERS[step.scheduler or scheduler].variance_exploding:
        noisy = step.alpha * noisy
    return guess_of(step, noisy, prediction_type_of(model.scheduler_config)), noisy


def is_picture(model: Model, step: Step, scheduler: str) -> bool:
    """Whether a step's guess is the latents after it, so that both decode to the same picture."""
    guess, _ = shown_latents(model, step, scheduler)
    return bool((guess - step.x_next).abs().max() <= SAME_LATENTS)


def noise_key(model: Model, step: Step, scheduler: str) -> bytes:
    """What the frame of a step's noisy latents depends on."""
    _, noisy = shown_latents(model, step, scheduler)
    of = f"{model.card.id} {model.placement.dtype} {tuple(noisy.shape)}".encode()
    return blake2b(of + noisy.contiguous().numpy().tobytes()).digest()


def preview_jpeg(image: Image.Image) -> bytes:
    """A picture as JPEG of at most 256 px; scales ``image`` itself."""
    if max(image.size) > PREVIEW_SIDE:
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()
