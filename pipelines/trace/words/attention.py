"""Which word drew what: the prompt's share of the attention at each place of the picture, recomputed from a trace.

For word w, place p and step t: the share of p's attention that goes to w's tokens, softmax(Q K^T / sqrt(d)), averaged
over layers and heads, coarse layers scaled up (DAAM, Tang et al. 2022, arXiv:2210.04885).  The conditional half of
the run is computed once more from its recorded latents; a run itself records no attention.  The first steps of a fork
read the prompt of the run that it left, so words may come and go: a word has no attention where it was not read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.prompt import A1111
from pipelines.prompt.editing import is_edited
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import Conditioning, chunks_of, encode_prompts
from pipelines.trace.words.tokens import PromptWord, prompt_words

if TYPE_CHECKING:
    import torch

    from pipelines.model import Model
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from pipelines.trace.words.probe import AttentionLayer

# Height and width of a layer's map, in its own cells.
Size = tuple[int, int]
# The recomputed prediction may be off by so much of the recorded one (root mean square) before the page says so.
SAME_PREDICTION = 0.02
OWN_LOOP = "This model runs a loop of its own, so its attention cannot be read here. Pocket and Stable Diffusion can."
INPAINTING = "The attention of inpainting models is not computed here: they are given the masked picture as well."
NO_LAYERS = "This model has no attention to a prompt that can be read here. Pocket and Stable Diffusion have."
MIXED = "This picture blends two prompts, so each place in the prompt holds a mix of two words. Open another picture."
EDITED = "The prompt of this run changes over its steps, so no word has one place in all of them. Open another picture."


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """The attention of some steps of one picture.

    Attributes:
        words: of the prompt, m of them, with start and end; those that only the first steps of a fork read come after
            its own, and a word that was not read at a step has zeros there.
        steps: indices of the s steps.
        maps: (s, m, h, w) for each size of the layers' maps, the finest first: the mean over its layers and heads.
        heads: number of heads, over all layers of a size.
        layers: name, size and number of heads of each layer, in the order of the network.
        joint: whether the picture attends to itself too, so that the shares add up to less than 1.
        difference: of the recomputed predictions to the run's own, as a share of these (root mean square).
        unread: the end of the prompt that did not fit into the model's text window.
        read: of each step, the places in ``words`` that its prompt has.
    """

    words: tuple[PromptWord, ...]
    steps: tuple[int, ...]
    maps: Mapping[Size, np.ndarray]
    heads: Mapping[Size, int]
    layers: tuple[tuple[str, Size, int], ...]
    joint: bool = False
    difference: float = 0.0
    unread: str = ""
    read: tuple[frozenset[int], ...] = ()

    @property
    def size(self) -> Size:
        """Of the finest maps."""
        return next(iter(self.maps))

    def combined(self) -> np.ndarray:
        """The mean over all heads of all layers, coarse maps scaled up to the finest: (s, m, h, w)."""
        total = sum(self.heads.values())
        parts = [scaled(found, self.size) * np.float32(self.heads[size] / total) for size, found in self.maps.items()]
        return np.sum(parts, axis=0)

    def followed_by(self, later: AttentionMaps) -> AttentionMaps:
        """These steps and later ones of the same picture."""
        words = joined_words(self.words, later.words)
        before, after = self.among(words), later.among(words)
        maps = {size: np.concatenate([found, after.maps[size]]) for size, found in before.maps.items()}
        worst = max(self.difference, later.difference)
        return replace(
            later, words=words, steps=self.steps + later.steps, maps=maps, difference=worst,
            read=before.read + after.read,
        )  # fmt: skip

    def among(self, words: Sequence[PromptWord]) -> AttentionMaps:
        """The same maps for these words, which are these and others."""
        if tuple(words) == self.words:
            return self
        places = [list(names(words)).index(name) for name in names(self.words)]
        maps = {}
        for size, found in self.maps.items():
            maps[size] = np.zeros((len(found), len(words), *size), found.dtype)
            maps[size][:, places] = found
        read = tuple(frozenset(places[k] for k in each) for each in self.read)
        return replace(self, words=tuple(words), maps=maps, read=read)


def names(words: Sequence[PromptWord]) -> list[tuple[str, str, int]]:
    """What tells each word from the others: kind, text, and which of those with the same text it is, from 0."""
    alike = [(word.kind, word.text) for word in words]
    return [(*one, alike[:k].count(one)) for k, one in enumerate(alike)]


def joined_words(earlier: Sequence[PromptWord], later: Sequence[PromptWord]) -> tuple[PromptWord, ...]:
    """The words of the later steps, then those that only the earlier steps read, then start and end."""
    known = set(names(later))
    gone = [word for word, name in zip(earlier, names(earlier), strict=True) if name not in known]
    both = (*later, *gone)
    return tuple(sorted(both, key=lambda word: word.kind in ("start", "end")))


def scaled(maps: np.ndarray, size: Size) -> np.ndarray:
    """Maps (..., h, w) at another size, linear and not bicubic as in DAAM, so that shares still add up."""
    if maps.shape[-2:] == size:
        return maps
    rows = maps.reshape(-1, *maps.shape[-2:]).astype(np.float32)
    found = [np.asarray(Image.fromarray(row).resize(size[::-1], Image.Resampling.BILINEAR)) for row in rows]
    return np.stack(found).reshape(*maps.shape[:-2], *size)


def unavailable(trace: Trace, k: int) -> str:
    """Why there are no maps of a recorded picture, as far as the trace alone tells; "" where there are."""
    if trace.cond is None:
        return OWN_LOOP
    for request in {id(one): one for one in map(trace.request.at_step, range(len(trace.steps)))}.values():
        if request.prompt_syntax == A1111 and is_edited(request.prompt_of(k)):
            return EDITED
        if _prompt_of(request, k) is None:
            return MIXED
    return ""


def _prompt_of(request: GenerationRequest, k: int) -> str | None:
    """The one prompt of picture k; None if it mixes two."""
    blend = request.interpolation
    if blend is None or blend.prompt is None or k == 0:
        return request.prompt_of(k)
    return blend.prompt if k == request.num_images - 1 else None


def words_of(model: Model, trace: Trace, k: int, step: int) -> tuple[PromptWord, ...]:
    """The words that picture k's prompt has at a step, and their places in the sequence; raises InvalidRequest."""
    request = trace.request.at_step(step)
    prompt = _prompt_of(request, k)
    if prompt is None or unavailable(trace, k):
        raise InvalidRequest("prompt", unavailable(trace, k))
    return prompt_words(model, prompt, chunks_of(model, request, is_guided(trace, request)))


def is_guided(trace: Trace, request: GenerationRequest) -> bool:
    """Whether the steps that followed this request, the run's or one that it forked from, had two halves."""
    return trace.uncond is not None and request.sampling.guidance_scale > 1


def _unread(model: Model, trace: Trace, k: int, step: int) -> str:
    request = trace.request.at_step(step)
    chunks = chunks_of(model, request, is_guided(trace, request))
    return "" if chunks else model.truncated_text(_prompt_of(request, k) or "")


def batches(trace: Trace, steps: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """Steps that may be computed together: those of one prompt, and one at a time with ControlNets, which may begin
    and end between two."""
    batch: list[int] = []
    for step in steps:
        request = trace.request.at_step(step)
        full = len(batch) >= (1 if request.controls else max(1, most))
        if batch and (full or trace.request.at_step(batch[-1]) is not request):
            yield tuple(batch)
            batch = []
        batch.append(step)
    if batch:
        yield tuple(batch)


def attention_maps(model: Model, trace: Trace, k: int, steps: Sequence[int]) -> AttentionMaps:
    """The attention of one batch of steps, computed together.

    Args:
        model: the run's, with the run's adapters.
        trace: the run; ``k`` is the picture, from 0.
        steps: indices, at least one; see ``batches``.

    Raises:
        InvalidRequest: if this model or this prompt cannot be read.
    """
    words = words_of(model, trace, k, steps[0])
    sums = _Sums(trace.x_t.shape[-2:])
    difference = _run(model, trace, k, steps, words, sums.take)
    if not sums.layers:
        raise InvalidRequest("model", NO_LAYERS)
    sizes = sorted(sums.maps, reverse=True)
    maps = {size: (sums.maps[size] / sums.heads[size]).transpose(0, 3, 1, 2) for size in sizes}
    heads = {size: sums.heads[size] for size in sizes}
    unread, read = _unread(model, trace, k, steps[0]), (frozenset(range(len(words))),) * len(steps)
    return AttentionMaps(words, tuple(steps), maps, heads, tuple(sums.layers), sums.joint, difference, unread, read)


def head_maps(model: Model, trace: Trace, k: int, step: int, layer: str) -> tuple[tuple[PromptWord, ...], np.ndarray]:
    """The m words of a step, and their attention in one layer, by heads, (heads, m, h, w); raises InvalidRequest."""
    found: list[np.ndarray] = []

    def take(each: AttentionLayer, shares: torch.Tensor) -> None:
        if each.name == layer:
            size = grid(shares.shape[2], trace.x_t.shape[-2:])
            found.append(shares[0].unflatten(1, size).permute(0, 3, 1, 2).cpu().numpy())

    words = words_of(model, trace, k, step)
    _run(model, trace, k, [step], words, take)
    if not found:
        raise InvalidRequest("layer", "This model has no such layer; choose one of the list.")
    return words, found[0]


@dataclass
class _Sums:
    """Adds up the heads of all layers of one size.

    Attributes:
        latent: height and width of the latents.
        maps: (s, h, w, words), the sum over heads, by size.
    """

    latent: tuple[int, ...]
    maps: dict[Size, Any] = field(default_factory=dict)
    heads: dict[Size, int] = field(default_factory=lambda: defaultdict(int))
    layers: list[tuple[str, Size, int]] = field(default_factory=list)
    joint: bool = False

    def take(self, layer: AttentionLayer, shares: torch.Tensor) -> None:
        """Add a layer's shares, (s, heads, positions, words)."""
        size, count = grid(shares.shape[2], self.latent), shares.shape[1]
        summed = shares.sum(1).unflatten(1, size).cpu().numpy()
        self.maps[size] = self.maps[size] + summed if size in self.maps else summed
        self.heads[size] += count
        self.layers.append((layer.name, size, count))
        self.joint = self.joint or layer.joint


def grid(positions: int, latent: Sequence[int]) -> Size:
    """Height and width of a layer's map by its number of positions: the latents halved some times, rounded up."""
    height, width = latent[-2], latent[-1]
    while height * width > positions:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != positions:
        raise InvalidRequest("model", NO_LAYERS)
    return height, width


def _run(model: Model, trace: Trace, k: int, steps: Sequence[int], words: Sequence[PromptWord], take: Any) -> float:
    """Call the denoiser for some steps under a probe; how far its predictions are from the recorded ones."""
    import torch

    from pipelines.trace.words.probe import probing

    if model.own_loop is not None or trace.cond is None:
        raise InvalidRequest("model", OWN_LOOP)
    if model.is_inpainting:
        raise InvalidRequest("model", INPAINTING)
    conditioning = _conditioning(model, trace, k, steps)
    groups = torch.zeros(conditioning.prompt_embeds.shape[1], len(words))
    for column, word in enumerate(words):
        groups[list(word.places), column] = 1
    device = model.placement.device
    x = torch.from_numpy(np.stack([trace.variance_preserving(i)[k] for i in steps])).to(device)
    t = torch.tensor([trace.steps[i].timestep for i in steps], device=device)
    with probing(model.denoiser, groups, take):
        guidance = trace.request.at_step(steps[0]).sampling.guidance_scale
        prediction = model.predict(x, t, conditioning, guidance).cpu().numpy()
    recorded = np.stack([trace.cond[i][k] for i in steps])
    return _relative(prediction - recorded, recorded)


def _relative(away: np.ndarray, whole: np.ndarray) -> float:
    """Root mean square of a difference as a share of that of the whole; infinite if a number is not finite."""
    found = float(
        np.sqrt(np.square(away, dtype=np.float64).mean() / max(np.square(whole, dtype=np.float64).mean(), 1e-12))
    )
    return found if math.isfinite(found) else math.inf


def _conditioning(model: Model, trace: Trace, k: int, steps: Sequence[int]) -> Conditioning:
    """The conditional half of the run's conditioning for picture k, one row a step."""
    request = trace.request.at_step(steps[0])
    guided = is_guided(trace, request)
    # The negative prompt and other pictures' prompts may change over the steps; this picture's row does not.
    both = encode_prompts(model, request, guided).at_step(steps[0], trace.total)
    return both.row(k + (request.num_images if guided else 0)).repeat(len(steps))
