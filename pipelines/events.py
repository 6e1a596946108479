"""The events of a job: frozen records; only Step holds tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.request_errors import TRY_AGAIN, Remedy

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.request import GenerationRequest

# Prefix of Loading.part during a download: then ``part`` is a whole sentence, and done and total are bytes.
DOWNLOADING = "Downloading "
# The same, while a network is compiled.
COMPILING = "Compiling "
SENTENCES = (DOWNLOADING, COMPILING)


@dataclass(frozen=True)
class Queued:
    """The job waits; ``ahead`` jobs run before it (0 means it is next)."""

    ahead: int


@dataclass(frozen=True)
class Loading:
    """A model is being loaded: part ``done`` of ``total`` is finished, ``part`` is the next one."""

    model: str
    part: str
    done: int
    total: int


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the denoising loop, for a batch of n images.

    Attributes:
        index: from 0; ``total`` is the number of the scheduler's timesteps, not the requested steps.
        timestep: the scheduler's timestep, 0 to 999.
        sigma: noise level of ``x_t`` in the form x_t = alpha * x0 + sigma * eps (variance preserving, or a flow).
        alpha: signal level, sqrt(alpha_bar).
        x_t: the noisy latents before the step, (n, c, h, w), in the scheduler's own scale.
        x0: the predicted image, as latents (n, c, h, w).
        cond, uncond: the model's raw predictions (n, c, h, w); ``uncond`` is None without guidance.  For a pipeline
            that runs its own loop both are None, and x0 is the latents after the step.
        x_next: the latents after the step, (n, c, h, w).
        pictures: the finished images, in the last step of a pipeline that decodes by itself.
        scheduler: that made it, where it is not the request's: in the first steps of a fork.
    """

    index: int
    total: int
    timestep: float
    sigma: float
    alpha: float
    x_t: torch.Tensor
    x0: torch.Tensor
    cond: torch.Tensor | None
    uncond: torch.Tensor | None
    x_next: torch.Tensor
    pictures: tuple[Image.Image, ...] = ()
    scheduler: str = ""

    def with_pictures(self, pictures: Sequence[Image.Image]) -> Step:
        """The same step with the finished images."""
        return replace(self, pictures=tuple(pictures))


@dataclass(frozen=True)
class Preview:
    """What the page shows of a step; made by the worker.

    Attributes:
        frames: the model's guess, one JPEG an image; none for a draft.
        noisy: the noisy latents that the model was given, decoded, one JPEG an image; none for a draft.
        noise: the noise's share of them by power, 0 to 1.
        rough: which of "guess" and "noisy" are only the model's linear map from latents to colours; the decoded ones
            follow in another event.
    """

    index: int
    total: int
    timestep: float
    seconds_left: float
    frames: tuple[bytes, ...] = field(repr=False)
    noisy: tuple[bytes, ...] = field(default=(), repr=False)
    noise: float = 0.0
    rough: tuple[str, ...] = ()

    def with_withheld(self, withheld: Sequence[bool], black: bytes) -> Preview:
        """The same step with ``black`` in place of the images that are withheld."""
        frames, noisy = (
            tuple(black if hidden else frame for frame, hidden in zip(row, withheld, strict=False))
            for row in (self.frames, self.noisy)
        )
        return replace(self, frames=frames, noisy=noisy)


@dataclass(frozen=True)
class Decoding:
    """Denoising is done; the latents are being turned into pixels."""


@dataclass(frozen=True)
class Picture:
    """A finished image: stored at ``path`` before it is announced."""

    path: Path
    seed: int


@dataclass(frozen=True)
class Finished:
    """The job is done.

    Attributes:
        pictures: empty for a draft that the user has not saved, and where the disk took none.
        withheld: which images the model's safety checker has blackened, () for none.
        drafts: the images of such a run, each as PNG or JPEG; only those of a run that is no draft hold its settings.
    """

    request: GenerationRequest
    pictures: tuple[Picture, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    withheld: tuple[bool, ...] = ()
    drafts: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Announced:
    """The pictures are made and stored, and can be shown; frames of the steps may follow, then ``finished`` itself."""

    finished: Finished


@dataclass(frozen=True)
class Cancelled:
    """The job was stopped after ``steps_done`` model calls; nothing was decoded."""

    steps_done: int


@dataclass(frozen=True)
class Failed:
    """The job ended with an error.

    Attributes:
        message: one plain sentence that says what happened and what to do next.
        remedy: what does that with one press.
    """

    message: str
    remedy: Remedy = TRY_AGAIN


Event = Queued | Loading | Preview | Decoding | Announced | Finished | Cancelled | Failed
TERMINAL = (Finished, Cancelled, Failed)
