"""Model families, by name; each is imported when a model of it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from pipelines.cards import ModelCard
    from pipelines.device import Placement
    from pipelines.latents import LatentFormat

# report(part, done, total): ``done`` of ``total`` parts are there, ``part`` is the next one ("" at the end).
Report = Callable[[str, int, int], None]


class CannotLoad(RuntimeError):
    """A model that cannot be loaded; the message is one plain sentence for the person who asked."""


class Model(Protocol):
    """What ``denoise`` needs of a loaded model.

    Attributes:
        card, placement: what it is and where it runs.
        latents: its latent space.
        scheduler_config: the saved scheduler configuration.
        size_bytes: memory that its weights take.
        size_factor: width and height are multiples of this many pixels.
        inpaints: whether its UNet also takes a mask and the picture around it.
    """

    card: ModelCard
    placement: Placement
    latents: LatentFormat
    scheduler_config: dict[str, Any]
    size_bytes: int
    size_factor: int
    inpaints: bool

    def encode_prompt(self, prompts: list[str]) -> torch.Tensor:
        """n texts to embeddings (n, tokens, dim)."""
        ...

    def predict(self, x: torch.Tensor, t: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Scaled latents (n, c, h, w), timestep and embeddings (n, tokens, dim) to a prediction (n, c, h, w)."""
        ...

    def unread(self, prompt: str) -> str:
        """The words of a prompt beyond the text window, "" if none."""
        ...

    def for_card(self, card: ModelCard) -> Model:
        """The same weights under another card."""
        ...


FAMILIES: Mapping[str, str] = MappingProxyType({"stable_diffusion": "pipelines.families.stable_diffusion:load"})


def loader(family: str) -> Callable[[ModelCard, Placement, Report], Model]:
    """The function that loads models of a family.

    Raises:
        CannotLoad: if no family has this name.
    """
    if family not in FAMILIES:
        raise CannotLoad(f"The model family is {family!r}; allowed: {', '.join(FAMILIES)}.")
    module, function = FAMILIES[family].split(":")
    return getattr(import_module(module), function)
