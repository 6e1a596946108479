"""What a model learns from: the user's pictures as latents with their captions, and the model's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from pipelines.request import GenerationRequest, make_request
from pipelines.sampling.denoise import denoise
from pipelines.training.fine_tuning.gradients import with_gradients
from pipelines.training.fine_tuning.settings import HELD_OUT_FROM

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.model import Model

# One picture of so many is kept from the model.
HELD_OUT_SHARE = 6
# The model's own pictures have seeds from here on; those that show what was learnt have the first ones.
OWN_SEED = 1000
# Whether a run is to stop after its step.
Halted = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Examples:
    """Latents with their captions.

    Attributes:
        latents: float32 (n, c, h, w), scaled as the model was trained; on the CPU.
        captions: of each.
    """

    latents: torch.Tensor
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def split(self, seed: int) -> tuple[Examples, Examples]:
        """Those to learn from, and those that are held out; none are held out of a few."""
        n = len(self)
        held = n // HELD_OUT_SHARE if n >= HELD_OUT_FROM else 0
        order = np.random.default_rng(seed).permutation(n).tolist()
        return self.rows(order[held:]), self.rows(order[:held])

    def rows(self, places: Sequence[int]) -> Examples:
        """Some of them."""
        return Examples(self.latents[list(places)], tuple(self.captions[k] for k in places))


def fitted(picture: Image.Image, card: ModelCard) -> Image.Image:
    """The middle of a picture, in the model's size."""
    return ImageOps.fit(picture.convert("RGB"), (card.width, card.height), Image.Resampling.LANCZOS)


@with_gradients
def latents_of(model: Model, picture: Image.Image) -> torch.Tensor:
    """A picture as latents, float32 (1, c, h, w)."""
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    return model.latents.encode(pixels.to(model.placement.device)).cpu().clone()


@with_gradients
def own_latents(model: Model, prompt: str, number: int, halted: Halted) -> torch.Tensor | None:
    """The latents of a picture that the model draws itself, float32 (1, c, h, w); None where it was halted."""
    found = drawn(model, request_for(model.card, prompt, OWN_SEED + number), halted)
    return None if found is None else found.float().cpu().clone()


def drawn(model: Model, request: GenerationRequest, halted: Halted) -> torch.Tensor | None:
    """The last latents of a run; None where ``halted`` is true after a step."""
    found = None
    for step in denoise(model, request):
        if halted():
            return None
        found = step.x_next
    return found


def request_for(card: ModelCard, prompt: str, seed: int, quality: str = "draft") -> GenerationRequest:
    """A request in a model's own size, in few steps."""
    chosen = card.qualities.get(quality) or next(iter(card.qualities.values()))
    return make_request(
        model=card.id,
        prompt=prompt,
        prompt_syntax=card.prompt_syntax,
        width=card.width,
        height=card.height,
        scheduler=chosen.scheduler,
        num_inference_steps=chosen.num_inference_steps,
        guidance_scale=card.guidance_scale,
        seed=seed,
    )
