"""Model families, by name; each is imported when a model of it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.conditioning import Conditioning, Controlled, Followed
    from pipelines.device import Placement
    from pipelines.latents import LatentFormat

# report(part, done, total): ``done`` of ``total`` parts are there, ``part`` is the next one ("" at the end).
Report = Callable[[str, int, int], None]


class CannotLoad(RuntimeError):
    """A model that cannot be loaded; the message is one plain sentence for the person who asked."""


class Model(Protocol):
    """What ``denoise`` needs of a loaded model.

    A model that can only run a loop of its own has ``own_loop(request, cancelled)``, an iterator of steps, instead of
    ``encode_prompt`` and ``predict``.

    Attributes:
        card, placement: what it is and where it runs.
        latents: its latent space.
        scheduler_config: the saved scheduler configuration.
        size_bytes: memory that its weights take.
        size_factor: width and height are multiples of this many pixels.
        inpaints: whether its UNet also takes a mask and the picture around it.
        guides_itself: whether the guidance scale is an input of the network (or nothing), so that one call is enough.
        weighs: whether it reads weights of words.
        safety: state of its own safety checker (``pipelines.families.checking``).
        modules: every network by the name of its part; ``denoiser`` is the one that is asked at every step.
    """

    card: ModelCard
    placement: Placement
    latents: LatentFormat
    scheduler_config: dict[str, Any]
    size_bytes: int
    size_factor: int
    inpaints: bool
    guides_itself: bool
    weighs: bool
    safety: str
    modules: dict[str, torch.nn.Module]
    denoiser: torch.nn.Module

    def encode_prompt(self, prompts: list[str], negative: bool = False) -> Conditioning:
        """n texts as what the model is told; ``negative`` texts are what guidance pushes away from."""
        ...

    def predict(self, x: torch.Tensor, t: torch.Tensor, told: Conditioning, guidance: float = 0.0) -> torch.Tensor:
        """Scaled latents (n, c, h, w), timestep, prompts and guidance scale to a prediction (n, c, h, w)."""
        ...

    def timing(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """What the scheduler's ``set_timesteps`` is told besides the number of steps."""
        ...

    def wear(self, loras: Sequence[tuple[str, str, float]]) -> None:
        """Put on these LoRAs (folder, file, weight) and take all others off; raises InvalidRequest."""
        ...

    def control(self, controls: Sequence[Controlled]) -> None:
        """Have maps shown to ControlNets in the next run; raises InvalidRequest if it cannot."""

    def follow(self, picture: Followed | None) -> None:
        """Follow a picture beside the prompt, or none; raises InvalidRequest if it cannot."""

    def learn(self, words: Mapping[str, Path]) -> None:
        """Teach the text encoders new words, name -> file; raises InvalidRequest."""
        ...

    def unsafe(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Whether its own safety checker would withhold each of these finished pictures."""
        ...

    def unread(self, prompt: str) -> str:
        """The words of a prompt beyond the text window, "" if none."""
        ...

    def for_card(self, card: ModelCard) -> Model:
        """The same weights under another card."""
        ...


FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "stable_diffusion": "pipelines.families.stable_diffusion:load",
        "stable_diffusion_xl": "pipelines.families.stable_diffusion_xl:load",
        "stable_diffusion_3": "pipelines.families.stable_diffusion_3:load",
        "flux": "pipelines.families.flux:load",
        "any": "pipelines.families.any:load",
    }
)


def loader(family: str) -> Callable[[ModelCard, Placement, Report], Model]:
    """The function that loads models of a family.

    Raises:
        CannotLoad: if no family has this name.
    """
    if family not in FAMILIES:
        raise CannotLoad(f"The model family is {family!r}; allowed: {', '.join(FAMILIES)}.")
    module, function = FAMILIES[family].split(":")
    return getattr(import_module(module), function)
