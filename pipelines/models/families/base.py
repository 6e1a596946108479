"""What the families have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipelines.cards import ModelCard
from pipelines.model import OwnLoop, Placement
from pipelines.models.adapters.controlnet import ControlNets
from pipelines.models.adapters.ip_adapter import IPAdapterSlot
from pipelines.models.adapters.lora import AppliedLoras, LoraSpec
from pipelines.models.adapters.textual_inversion import LoadedEmbeddings
from pipelines.models.components import module_bytes
from pipelines.models.safety_checker import ON, PART, SafetyChecker, state_of
from pipelines.models.text_encoder import TextEncoder
from pipelines.prompt import PromptError
from pipelines.prompt.compel import has_weights, without_weights
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import Conditioning, ControlNetInput, IPAdapterInput
from pipelines.sampling.latents import latent_format
from pipelines.system.paths import PROJECT

if TYPE_CHECKING:
    from PIL import Image

# Prompts whose embeddings are kept: a run has two, and people go back and forth between a few.
REMEMBERED_PROMPTS = 32


class Base:
    """A loaded model (``pipelines.model.Model``).  A family says how it reads a prompt and how it predicts.

    Args:
        card, placement: what it is and where it runs.
        parts: of ``pipelines.models.components.load_components``.
        small: a tiny autoencoder for previews, or None.
    """

    pipeline_class = ""
    is_inpainting = False
    guidance_embedded = False
    supports_prompt_weights = False
    own_loop: OwnLoop | None = None
    # None: a family that cannot be fine-tuned here.
    training_copy: Callable[[], Any] | None = None

    def __init__(self, card: ModelCard, placement: Placement, parts: dict[str, Any], small: Any = None) -> None:
        self._checker: SafetyChecker | None = parts.pop(PART, None)
        self.safety = ON if self._checker else state_of(PROJECT / card.source, placement.checks)
        self.card, self.placement, self.parts = card, placement, parts
        self.latents = latent_format(parts["vae"], small)
        self.scheduler_config: dict[str, Any] = {**parts["scheduler"], **card.scheduler_options}
        self.size_factor = self.latents.factor
        self.texts = self.text_encoders()
        self._loras, self._embeddings = AppliedLoras(parts), LoadedEmbeddings(parts)
        self._ip_adapter = IPAdapterSlot(parts["unet"]) if "unet" in parts else None
        self._controlnets = ControlNets(parts["unet"]) if "unet" in parts else None
        self._encode_cached = lru_cache(maxsize=REMEMBERED_PROMPTS)(self._encode)

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Every network, by the name of its part."""
        found = {name: part for name, part in self.parts.items() if isinstance(part, torch.nn.Module)}
        found |= self._loras.modules
        found |= self._controlnets.modules if self._controlnets else {}
        found |= {PART: self._checker.network} if self._checker else {}
        return found | ({"preview": self.latents.preview_vae} if self.latents.preview_vae is not None else {})

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is called at every step."""
        return self.parts["unet"] if "unet" in self.parts else self.parts["transformer"]

    @property
    def quick(self) -> bool:
        """Whether its steps are too fast for previews between them to be seen."""
        return False

    @property
    def use_engine(self) -> Callable[[Any], None] | None:
        """None: the networks of this family run in PyTorch only."""
        return None

    @property
    def size_bytes(self) -> int:
        """Memory that the weights take."""
        return sum(module_bytes(module) for module in self.modules.values())

    def withheld_by_checker(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Whether the model's own safety checker would withhold each of these finished pictures."""
        return self._checker(images) if self._checker else (False,) * len(images)

    def text_encoders(self) -> list[TextEncoder]:
        """The text encoders, the one that reads most first."""
        return [TextEncoder(self.parts["tokenizer"], self.parts["text_encoder"])]

    @property
    def window(self) -> int:
        """Length of the text window in tokens, start and end included."""
        return max(text.window for text in self.texts)

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        """Encode n prompts; without chunks, words beyond the window are dropped.

        Args:
            prompts: may be empty texts.
            negative: whether they are what guidance steers away from.
            chunks: text windows to fill with prompts in A1111's form, or 0 for the other form.

        Raises:
            InvalidRequest: if a prompt cannot be read.
        """
        try:
            first, *rest = (self._encode_cached(prompt, negative, chunks) for prompt in prompts)
        except PromptError as problem:
            field = "negative_prompt" if negative else "prompt"
            raise InvalidRequest(field, f"{field} {problem}.") from None
        for conditioning in rest:
            first = first.concat(conditioning)
        return replace(first, controls=self._controlnets.controls) if self._controlnets else first

    def count_chunks(self, prompt: str) -> int:
        """0: this family does not read A1111's form."""
        return 0

    def set_loras(self, loras: Sequence[LoraSpec]) -> None:
        """Apply the card's own LoRAs and these, and remove all others.

        Raises:
            InvalidRequest: if one is not for this kind of model.
        """
        own = [(addition.source, addition.file, addition.weight) for addition in self.card.additions]
        if self._loras.set([*own, *loras], self.placement, self.card.name):
            self.clear_prompt_cache()

    def load_embeddings(self, words: Mapping[str, Path]) -> None:
        """Have the text encoders know exactly these textual inversion embeddings, name -> file.

        Those that came with the LoRAs that are applied are known too.

        Raises:
            InvalidRequest: if one is not for this kind of model.
        """
        if self._embeddings.set(words, self._loras.words):
            for text in self.texts:
                text.expand = partial(self._embeddings.expand, tokenizer=text.tokenizer)
            self.clear_prompt_cache()

    def set_ip_adapter(self, picture: IPAdapterInput | None) -> None:
        """Apply an IP-Adapter with its image prompt, or remove it.

        Raises:
            InvalidRequest: if this model, or the file, cannot.
        """
        if self._ip_adapter is None:
            if picture is not None:
                name = self.card.name
                raise InvalidRequest(
                    "reference", f"{name} cannot follow a picture; leave it out, or choose another model."
                )
        elif self._ip_adapter.set(picture, self.placement, self.card.name):
            self.clear_prompt_cache()

    def set_controlnets(self, controls: Sequence[ControlNetInput]) -> None:
        """Apply exactly these ControlNets with their maps in the next run.

        Raises:
            InvalidRequest: if this model, or one of the files, cannot.
        """
        if self._controlnets is not None:
            self._controlnets.set(controls, self.placement, self.card.name)
        elif controls:
            name = self.card.name
            raise InvalidRequest(
                "controls", f"{name} takes no ControlNets; leave the map out, or choose another model."
            )

    def clear_prompt_cache(self) -> None:
        """Encode every prompt again: the text encoders have changed or moved."""
        self._encode_cached.cache_clear()

    def _encode(self, prompt: str, negative: bool, chunks: int) -> Conditioning:
        if chunks or (self.supports_prompt_weights and has_weights(prompt)):
            conditioning = self.encode_weighted(prompt, negative, chunks)
        else:
            conditioning = self.encode(prompt, negative)
        if self._ip_adapter is None:
            return conditioning
        return replace(conditioning, image_embeds=self._ip_adapter.features(negative))

    def encode(self, prompt: str, negative: bool) -> Conditioning:
        """One prompt as this family's encoders read it."""
        raise NotImplementedError

    def encode_weighted(self, prompt: str, negative: bool, chunks: int) -> Conditioning:
        """One prompt with weights, in A1111's form in so many text windows, else in compel's form.

        Only where ``supports_prompt_weights``.
        """
        raise NotImplementedError

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """Further arguments of the scheduler's ``set_timesteps`` besides the number of steps."""
        return {}

    def truncated_text(self, prompt: str) -> str:
        """The words of a prompt beyond the longest text window."""
        words = without_weights(prompt) if self.supports_prompt_weights else prompt
        return max(self.texts, key=lambda text: text.window).truncated_text(words)

    def for_card(self, card: ModelCard) -> Base:
        """The same weights under another card."""
        other = copy.copy(self)
        other.card = card
        other.scheduler_config = {**self.parts["scheduler"], **card.scheduler_options}
        return other
