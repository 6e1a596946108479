"""What the text encoder makes of a prompt: pictures from the prompt cut off after each of its layers, and with each
word left out.

Cut off after layer l, the final norm is applied to what layer l gives (Diffusion Lens, Toker et al. 2024,
arXiv:2403.05846): the model's own reading of an encoder that has no more than l layers.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.cards import ModelCard
from pipelines.models.safety_checker import black_out
from pipelines.prompt.compel import has_weights
from pipelines.request import InvalidRequest, fields_of_picture
from pipelines.system.paths import PROJECT

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.model import Model
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace

# Families whose text encoders are CLIP's alone, and how many layers the longest has at most: 12 of Stable Diffusion 1,
# 23 of 2 and 32 of XL.
FAMILIES = {"stable_diffusion": 23, "stable_diffusion_xl": 32}
# Pictures at most, of each kind: one for each layer and one before the first; the last words are not left out.
MAX_LAYERS, MAX_WORDS = max(FAMILIES.values()) + 1, 16
NOT_CLIP = "Only for models that read prompts with CLIP alone: Pocket, Stable Diffusion 1, 2 and XL."
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_MARKS = re.compile(r"[<>\[\]{}|\\]")


@dataclass(frozen=True)
class Variant:
    """One picture of the lens.

    Attributes:
        left_out: number of the word that the prompt lacks, from 0, or None for the whole prompt.
        share: of the text encoder's layers that are run, 0 to 1.
    """

    left_out: int | None = None
    share: float = 1.0


def words_to_leave_out(request: GenerationRequest, k: int) -> list[tuple[int, int]]:
    """Where the words of picture k's prompt are, (start, end); none in a prompt with weights or marks."""
    prompt = request.prompt_of(k)
    if has_weights(prompt) or _MARKS.search(prompt) or "(" in prompt:
        return []
    return [match.span() for match in _WORD.finditer(prompt)][:MAX_WORDS]


def without_word(prompt: str, span: tuple[int, int]) -> str:
    """A prompt without one of its words, and without the space that then stands there twice."""
    return re.sub(r"\s+", " ", prompt[: span[0]] + prompt[span[1] :]).strip()


def quick_card(cards: Sequence[ModelCard], own: ModelCard, request: GenerationRequest) -> ModelCard:
    """The model that draws the pictures: the distilled one with the same text encoder, if there is one, else the run's.

    Add-ons of a run were made for its own model, which therefore draws them.
    """
    added = request.loras or request.controls or request.reference
    shared = {PROJECT / folder for folder in (own.source, own.rest) if folder}
    turbo = (card for card in cards if card.live and card.rest and PROJECT / card.rest in shared)
    return own if added or own.live else next(turbo, own)


def base_request(card: ModelCard, request: GenerationRequest, k: int) -> GenerationRequest:
    """Picture k of a run once more from noise alone: its prompt and seed, by the card's quickest settings.

    A distilled model gets the steps that it is best with.
    """
    quality = card.qualities["fine" if card.live else "draft"] if card.qualities else None
    sampling = request.sampling
    steps = quality.num_inference_steps if quality else min(8, sampling.num_inference_steps)
    same, variation = card.id == request.model, request.variation
    changed: dict[str, Any] = {
        "num_inference_steps": steps,
        "seed": request.seeds[k],
        "scheduler": quality.scheduler if quality else sampling.scheduler,
        "guidance_scale": sampling.guidance_scale if same else card.guidance_scale,
    }
    return request.model_copy(
        update={
            **fields_of_picture(request, k),
            "model": card.id,
            "typed": None,
            "init": None,
            "interpolation": None,
            "variation": variation and variation.model_copy(update={"seed": variation.seed + k}),
            "sampling": sampling.model_copy(update=changed),
        }
    )


def variants(trace: Trace, k: int, depth: int) -> tuple[list[Variant], list[Variant]]:
    """The pictures after each layer, the last of which is the whole encoder, and those without each word."""
    count = min(depth + 1, MAX_LAYERS)
    layers = [Variant(share=place / (count - 1)) for place in range(count)] if count > 1 else []
    return layers, [Variant(left_out=number) for number in range(len(words_to_leave_out(trace.request, k)))]


def depth_of(model: Model) -> int:
    """How many layers the longest of a model's text encoders has; 0 where they are not CLIP's."""
    if model.card.family not in FAMILIES or model.own_loop is not None:
        return 0
    return max(len(_stack(text.encoder).layers) for text in model.texts)


def layers_run(model: Model, share: float) -> int:
    """Layers of the longest text encoder that a share of them is."""
    return round(share * depth_of(model))


@contextmanager
def cut_off(model: Model, share: float) -> Iterator[None]:
    """Have the model's text encoders run only the first layers of each, a share of them from 0 to 1.

    Raises:
        InvalidRequest: if the model's text encoders are not CLIP's alone.
    """
    from torch import nn

    if not depth_of(model):
        raise InvalidRequest("model", NOT_CLIP)
    least = 1 if model.card.family == "stable_diffusion_xl" else 0  # it reads the layer before the last
    with ExitStack() as undo:
        undo.callback(model.clear_prompt_cache)
        for text in model.texts:
            stack = _stack(text.encoder)
            layers = stack.layers
            undo.callback(setattr, stack, "layers", layers)
            stack.layers = nn.ModuleList(list(layers)[: max(least, round(share * len(layers)))])
        model.clear_prompt_cache()
        yield


def draw(model: Model, request: GenerationRequest, share: float) -> Generator[None, None, Image.Image]:
    """The picture of a request by a text encoder that is cut off; the whole encoder for a share of 1.

    Drawn a step at a time; returned at the end.

    Raises:
        InvalidRequest: if the model cannot do that.
    """
    from pipelines.sampling.denoise import denoise

    with cut_off(model, share):
        last = None
        for step in denoise(model, request):
            last = step
            yield
    assert last is not None
    return black_out(model, model.latents.decode(last.x_next))[0]


def _stack(encoder: Any) -> Any:
    """The module that holds a CLIP text encoder's layers."""
    return getattr(encoder, "text_model", encoder).encoder
