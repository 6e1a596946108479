"""What the families have in common."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.cards import ModelCard
from pipelines.conditioning import Conditioning, Controlled, Followed
from pipelines.device import Placement
from pipelines.families.adapting import Wardrobe, Wish
from pipelines.families.checking import ON, PART, Checker, state_of
from pipelines.families.control import Controller
from pipelines.families.following import Follower
from pipelines.families.loading import PROJECT, module_bytes
from pipelines.families.text import TextEncoder
from pipelines.families.weighting import plain, weighted
from pipelines.latents import latent_format
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

# Prompts whose embeddings are kept: a run has two, and people go back and forth between a few.
REMEMBERED_PROMPTS = 32


class Base:
    """A loaded model; see ``pipelines.families.Model``.  A family says how it reads a prompt and how it predicts.

    Args:
        card, placement: what it is and where it runs.
        parts: of ``pipelines.families.loading.load_parts``.
        small: a tiny autoencoder for previews, or None.
    """

    pipeline_class = ""
    inpaints = False
    guides_itself = False
    weighs = False

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        self._checker: Checker | None = parts.pop(PART, None)
        self.safety = ON if self._checker else state_of(PROJECT / card.source, placement.checks)
        self.card, self.placement, self.parts = card, placement, parts
        self.latents = latent_format(parts["vae"], small)
        self.scheduler_config: dict[str, Any] = {**parts["scheduler"], **card.scheduler_options}
        self.size_factor = self.latents.factor
        self.texts = self.text_encoders()
        self._wardrobe = Wardrobe(self.pipeline_class, parts, self.scheduler_config)
        self._follower = Follower(parts["unet"]) if "unet" in parts else None
        self._controller = Controller(parts["unet"]) if "unet" in parts else None
        self._embed = lru_cache(maxsize=REMEMBERED_PROMPTS)(self._embed_one)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network, by the name of its part."""
        found = {name: part for name, part in self.parts.items() if isinstance(part, torch.nn.Module)}
        found |= self._controller.modules if self._controller else {}
        found |= {PART: self._checker.network} if self._checker else {}
        return found | ({"preview": self.latents.small} if self.latents.small is not None else {})

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is asked at every step."""
        return self.parts["unet"] if "unet" in self.parts else self.parts["transformer"]

    @property
    def size_bytes(self) -> int:
        """Memory that the weights take."""
        return sum(module_bytes(module) for module in self.modules.values())

    def unsafe(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Whether the model's own safety checker would withhold each of these finished pictures."""
        return self._checker(images) if self._checker else (False,) * len(images)

    def text_encoders(self) -> list[TextEncoder]:
        """The text encoders, the one that reads most first."""
        return [TextEncoder(self.parts["tokenizer"], self.parts["text_encoder"])]

    @property
    def window(self) -> int:
        """Length of the text window in tokens, start and end included."""
        return max(text.window for text in self.texts)

    def encode_prompt(self, prompts: list[str], negative: bool = False) -> Conditioning:
        """n texts as what the model is told; words beyond the window are dropped.

        Args:
            prompts: may be empty texts.
            negative: whether they are what guidance pushes away from.
        """
        first, *rest = (self._embed(prompt, negative) for prompt in prompts)
        for told in rest:
            first = first.then(told)
        return replace(first, hints=self._controller.hints) if self._controller else first

    def wear(self, loras: Sequence[Wish]) -> None:
        """Put on the card's own LoRAs and these, and take all others off.

        Raises:
            InvalidRequest: if one is not for this kind of model.
        """
        own = [(addition.source, addition.file, addition.weight) for addition in self.card.additions]
        if self._wardrobe.wear([*own, *loras], self.card.name):
            self.forget_prompts()

    def learn(self, words: Mapping[str, Path]) -> None:
        """Teach the text encoders new words (textual inversion), name -> file.

        Raises:
            InvalidRequest: if one is not for this kind of model.
        """
        if self._wardrobe.learn(words):
            for text in self.texts:
                text.spell = lambda prompt, text=text: self._wardrobe.spelt_out(prompt, text.tokenizer)
            self.forget_prompts()

    def follow(self, picture: Followed | None) -> None:
        """Follow a picture beside the prompt (IP-Adapter), or none.

        Raises:
            InvalidRequest: if this model, or the file, cannot.
        """
        if self._follower is None:
            if picture is not None:
                name = self.card.name
                raise InvalidRequest(f"{name} cannot follow a picture; leave it out, or choose another model.")
        elif self._follower.follow(picture, self.placement, self.card.name):
            self.forget_prompts()

    def control(self, controls: Sequence[Controlled]) -> None:
        """Have maps shown to ControlNets in the next run, exactly these.

        Raises:
            InvalidRequest: if this model, or one of the files, cannot.
        """
        if self._controller is not None:
            self._controller.control(controls, self.placement, self.card.name)
        elif controls:
            name = self.card.name
            raise InvalidRequest(f"{name} takes no ControlNets; leave the map out, or choose another model.")

    def forget_prompts(self) -> None:
        """Read every prompt anew: the text encoders have changed."""
        self._embed.cache_clear()

    def _embed_one(self, prompt: str, negative: bool) -> Conditioning:
        heavy = self.weighs and weighted(prompt)
        told = (self.read_weighted if heavy else self.read)(prompt, negative)
        if self._follower is None:
            return told
        return replace(told, picture=self._follower.features(negative))

    def read(self, prompt: str, negative: bool) -> Conditioning:
        """One prompt as this family's encoders read it."""
        raise NotImplementedError

    def read_weighted(self, prompt: str, negative: bool) -> Conditioning:
        """One prompt with weights on some of its words; only where ``weighs``."""
        raise NotImplementedError

    def timing(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """What the scheduler's ``set_timesteps`` is told besides the number of steps."""
        return {}

    def unread(self, prompt: str) -> str:
        """The words of a prompt beyond the longest text window."""
        words = plain(prompt) if self.weighs else prompt
        return max(self.texts, key=lambda text: text.window).unread(words)

    def for_card(self, card: ModelCard) -> Base:
        """The same weights under another card."""
        other = copy.copy(self)
        other.card = card
        other.scheduler_config = {**self.parts["scheduler"], **card.scheduler_options}
        return other
