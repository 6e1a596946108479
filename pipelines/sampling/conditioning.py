"""Conditioning: what the denoiser is given besides the noisy latents: prompts, an image prompt, control maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.prompt import A1111
from pipelines.prompt.editing import at_steps, is_edited
from pipelines.request import prompt_fields
from pipelines.sampling.initial_noise import mix_weights

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.request import GenerationRequest


class PromptEncoder(Protocol):
    """The part of ``pipelines.model.Model`` that encodes prompts."""

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        """Encode n prompts; ``negative`` ones are what guidance steers away from.

        Args:
            prompts: in compel's form, or in A1111's if there are ``chunks``.
            negative: whether they are what guidance steers away from.
            chunks: the number of text windows to fill, at least what each prompt takes (``count_chunks``).
        """
        ...

    def count_chunks(self, prompt: str) -> int:
        """Text windows that a prompt in A1111's form takes; 0 for models that do not read that form."""
        ...


@dataclass(frozen=True, eq=False)
class IPAdapterInput:
    """The image prompt of a run (IP-Adapter, Ye et al. 2023, arXiv:2308.06721), before its files are loaded.

    Attributes:
        path: file of the IP-Adapter.
        encoder: folder of its image encoder.
        key: id of the uploaded image; equal keys mean equal pixels.
        image: RGB, of any size.
        weight: scale of the image's cross-attention, 0 to 1.5.
    """

    path: Path
    encoder: Path
    key: str
    image: Image.Image
    weight: float


@dataclass(frozen=True, eq=False)
class ControlNetInput:
    """One ControlNet of a run (Zhang et al. 2023, arXiv:2302.05543), before its files are loaded.

    Attributes:
        path: diffusers folder or single file of the ControlNet.
        image: control map, RGB, of the request's width and height.
        weight: conditioning scale, 0 to 2.
        start, end: share of the steps in which it is active, 0 to 1.
    """

    path: Path
    image: Image.Image
    weight: float
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class ControlNetConditioning:
    """A loaded ControlNet with its control map, the same for every image of a run.

    Attributes:
        controlnet: a ``diffusers.ControlNetModel``.
        image: control map, (1, 3, height, width), 0 to 1.
        weight: conditioning scale, 0 to 2: its residuals are multiplied with it.
        start, end: share of the steps in which it is active, 0 to 1.
    """

    controlnet: Any
    image: torch.Tensor
    weight: float
    start: float
    end: float

    def is_active(self, index: int, total: int) -> bool:
        """index / total >= start and (index + 1) / total <= end: diffusers' rule for step ``index`` of ``total``."""
        return not (index / total < self.start or (index + 1) / total > self.end)


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A batch of n encoded prompts, and what else conditions the denoiser.

    Attributes:
        prompt_embeds: one vector a token, (n, tokens, dim): for cross-attention, or joint attention with the latents.
        pooled_prompt_embeds: one vector a prompt, (n, dim), or None for models that take none.
        aesthetic_score: (n, 1), the last of the SDXL refiner's ``time_ids``, or None.
        image_embeds: features of the image prompt, (n, 1, dim) or (n, 1, patches, dim), or None.
        controls: loaded ControlNets with their maps.
    """

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor | None = None
    aesthetic_score: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    controls: tuple[ControlNetConditioning, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_embeds)

    def repeat(self, n: int) -> Conditioning:
        """Each prompt n times in a row."""
        return self.map(lambda part: part.repeat_interleave(n, dim=0))

    def row(self, k: int) -> Conditioning:
        """Prompt k alone."""
        return self.map(lambda part: part[k : k + 1])

    def mix(self, other: Conditioning, weights: Sequence[float]) -> Conditioning:
        """(1 - w) * self + w * other, with one w from 0 to 1 a prompt; ``other`` may be a single prompt."""
        import torch

        def lerp(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            w = torch.tensor(weights).to(a.device, a.dtype).reshape(-1, *[1] * (a.ndim - 1))
            return torch.lerp(a, b.expand_as(a), w)

        return self._combine(other, lerp)

    def concat(self, other: Conditioning) -> Conditioning:
        """These prompts, followed by the others."""
        import torch

        return self._combine(other, lambda a, b: torch.cat([a, b]))

    def at_step(self, index: int, total: int) -> Conditioning:
        """The conditioning of step ``index`` (from 0) of ``total``: with the ControlNets that are active then."""
        return replace(self, controls=tuple(each for each in self.controls if each.is_active(index, total)))

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        """The same with each of its tensors changed."""
        return self._replaced({name: change(part) for name, part in self._tensors().items()})

    def _combine(self, other: Conditioning, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Conditioning:
        others = other._tensors()
        return self._replaced({name: join(part, others[name]) for name, part in self._tensors().items()})

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The tensors with one row a prompt that this model takes."""
        names = ("prompt_embeds", "pooled_prompt_embeds", "aesthetic_score", "image_embeds")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def _replaced(self, tensors: dict[str, Any]) -> Conditioning:
        return replace(self, **tensors)


@dataclass(frozen=True)
class PromptSchedule:
    """The conditioning of a run whose prompts change over its steps.

    Attributes:
        parts: of each step of the request, from the first that is run; steps that read the same texts share one.
    """

    parts: Sequence[Conditioning]

    def at_step(self, index: int, total: int) -> Conditioning:
        """The conditioning of model call ``index`` (from 0) of ``total``; some samplers call twice a step."""
        return self.parts[index * len(self.parts) // total].at_step(index, total)


def encode_prompts(model: PromptEncoder, request: GenerationRequest, guided: bool) -> Conditioning | PromptSchedule:
    """Encode the prompts of a request; each set of texts that prompt editing makes of them once.

    Args:
        model: encodes the prompts.
        request: has the prompts and the number of images, n.
        guided: whether classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) needs the negative prompt.

    Returns:
        For each step n prompts, or 2 n when guided: the negative prompt's half comes first.
    """
    chunks, steps = chunks_of(model, request, guided), request.steps_run
    texts = Texts([request.prompt_of(k) for k in range(request.num_images)], request.negative_prompt)
    if request.interpolation is not None:
        texts = replace(texts, end=request.interpolation.prompt)
    if request.prompt_syntax != A1111 or not any(map(is_edited, texts.all)):
        return _encode(model, request, texts, guided, chunks)
    known: dict[tuple[str, ...], Conditioning] = {}
    parts = []
    for now in texts.at_each(steps):
        if tuple(now.all) not in known:
            known[tuple(now.all)] = _encode(model, request, now, guided, chunks)
        parts.append(known[tuple(now.all)])
    return PromptSchedule(parts)


@dataclass(frozen=True)
class Texts:
    """What the text encoder reads at a step: a prompt an image, the negative prompt, the interpolation's end."""

    prompts: Sequence[str]
    negative: str
    end: str | None = None

    @property
    def all(self) -> Sequence[str]:
        """Every text."""
        return [*self.prompts, self.negative, *([] if self.end is None else [self.end])]

    def at_each(self, steps: int) -> list[Texts]:
        """The texts of each step, with prompt editing resolved."""
        plain = {text: at_steps(text, steps) for text in self.all}

        def now(text: str, step: int) -> str:
            return plain[text][step % len(plain[text])]

        return [
            Texts(
                [now(text, step) for text in self.prompts],
                now(self.negative, step),
                None if self.end is None else now(self.end, step),
            )
            for step in range(steps)
        ]


def _encode(model: PromptEncoder, request: GenerationRequest, texts: Texts, guided: bool, chunks: int) -> Conditioning:
    """c_k = (1 - w) c(prompt) + w c(interpolation.prompt), w = k / (n - 1), for image k of n; c(prompt_k) without one.

    Prompts are mixed along a straight line and not along an arc: the text encoder ends with a layer norm, so each
    token's vector has its own centre and length, and the denoiser reads them through linear maps (the keys and values
    of its cross-attention), which turn a mix of two embeddings into the same mix of their keys and values.
    """
    n = request.num_images
    cond = model.encode_prompt(list(texts.prompts), chunks=chunks)
    if texts.end is not None:
        cond = cond.mix(model.encode_prompt([texts.end], chunks=chunks), mix_weights(request))
    if not guided:
        return cond
    return model.encode_prompt([texts.negative], negative=True, chunks=chunks).repeat(n).concat(cond)


def chunks_of(model: PromptEncoder, request: GenerationRequest, guided: bool) -> int:
    """Text windows of a request in A1111's form, as many for each prompt so that they fit into one batch; else 0.

    A shorter prompt is filled up with empty chunks, as with A1111's setting "Pad prompt/negative prompt".
    """
    if request.prompt_syntax != A1111:
        return 0
    texts = [text for field, text in prompt_fields(request) if guided or field != "negative_prompt"]
    return max(map(model.count_chunks, texts))
