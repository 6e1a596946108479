"""Encoding prompts whose words count more or less: compel's form by its own library, A1111's in chunks as it does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any

from pipelines.prompt import PromptError, a1111, compel
from pipelines.prompt.chunks import Chunk, lay_out
from pipelines.prompt.tags import split_embeddings
from pipelines.system.text import shorten

if TYPE_CHECKING:
    import torch

    from pipelines.models.text_encoder import TextEncoder

# What the parser may try before it gives up, some seconds of work; no prompt of 2,000 characters that was tried takes
# half of it.
MAX_ATTEMPTS = 250_000
MAX_WEIGHT = 1000.0
# Characters without a meaning, which stand for embeddings while a prompt is parsed.
_PRIVATE = range(0xE000, 0xF900)


class _TooMuchWork(Exception):
    """The parser has tried more than ``MAX_ATTEMPTS`` times."""


@lru_cache(maxsize=64)
def parse_compel(prompt: str) -> Any:
    """Read a prompt in compel's form, in bounded time: a ``Conjunction`` of that library; not to be changed.

    Raises:
        PromptError: if it cannot be read.
    """
    compel.check_depth(prompt)
    stand_ins: dict[str, str] = {}
    free = (chr(code) for code in _PRIVATE if chr(code) not in prompt)
    pieces = []
    for piece, is_tag in split_embeddings(prompt):
        # The grammar would cut an embedding's name at a full stop or a bracket.
        name = next(free) if is_tag else piece
        pieces.append(name)
        stand_ins |= {name: piece} if is_tag else {}
    found = _parsed("".join(pieces))
    for part in _flat_parts(found):
        for fragment in part.children:
            for name, tag in stand_ins.items():
                fragment.text = fragment.text.replace(name, tag)
    return found


def _parsed(prompt: str) -> Any:
    import pyparsing
    from compel.prompt_parser import PromptParser

    # Without its memory this grammar takes exponential time; other libraries may have switched a small one on.
    pyparsing.ParserElement.enable_packrat(None, force=True)
    parser, attempts = PromptParser(), count()

    def limit(*args: Any, **options: Any) -> None:
        if next(attempts) > MAX_ATTEMPTS:
            raise _TooMuchWork

    for element in parser.conjunction.visit_all():
        element.set_debug_actions(limit, _nothing, _nothing)
    try:
        found = parser.parse_conjunction(prompt)
    except (_TooMuchWork, RecursionError):
        raise PromptError("has too many brackets and quotation marks to be read; write it more simply") from None
    except Exception as error:
        near = _place(error, prompt)
        raise PromptError(
            f"has weights that cannot be read{near}; close each bracket, and put its weight right behind it: (word)1.3"
        ) from None
    _check(found)
    return found


def _nothing(*args: Any, **options: Any) -> None:
    """Replaces pyparsing's printing."""


def _place(error: Exception, prompt: str) -> str:
    at = getattr(error, "loc", None)
    return f" at {shorten(prompt[at:].strip(), 30)!r}" if isinstance(at, int) and prompt[at:].strip() else ""


def _check(found: Any) -> None:
    """Raise PromptError for what compel reads and cannot encode."""
    parts = _flat_parts(found)
    if not parts or not all(part.children for part in parts):
        raise PromptError("gives a weight to brackets with nothing in them; write a word in them, or take them out")
    if len(found.prompts) > 1:
        raise PromptError("joins prompts by .and(), which is not done here; write one prompt, or use .blend()")
    for part in parts:
        for fragment in part.children:
            if not hasattr(fragment, "weight"):
                raise PromptError("swaps words by .swap(), which is not done here; write the new word alone")
            if abs(fragment.weight) > MAX_WEIGHT:
                raise PromptError(f"gives {shorten(fragment.text, 30)!r} a weight beyond {MAX_WEIGHT:g}; write less")


def _flat_parts(found: Any) -> list[Any]:
    """The flattened prompts of a conjunction, those inside of a blend too."""
    return [part for prompt in found.prompts for part in getattr(prompt, "prompts", [prompt])]


class CompelEncoder:
    """A text encoder that reads weights: each word's vector is moved from or towards that of the text without it.

    Args:
        text: the encoder.
        penultimate: whether the model reads the layer before the last (SDXL).
        pooled: whether the pooled vector is wanted too.
        device: where it works; None for where its weights are, which may wait somewhere else.
    """

    def __init__(
        self, text: TextEncoder, penultimate: bool = False, pooled: bool = False, device: str | None = None
    ) -> None:
        from compel import Compel, ReturnedEmbeddingsType

        kind, self._text, self._pooled = ReturnedEmbeddingsType, text, pooled
        self._device = device or text.encoder.device
        self._compel = Compel(
            tokenizer=text.tokenizer,
            text_encoder=text.encoder,
            returned_embeddings_type=kind.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            if penultimate
            else kind.LAST_HIDDEN_STATES_NORMALIZED,
            requires_pooled=pooled,
            dtype_for_device_getter=lambda device: text.encoder.dtype,
            model_max_length=text.window,
            device=device,
        )

    def __call__(self, prompt: str) -> Any:
        """Vectors (1, tokens, dim), with ``pooled`` also (1, dim).

        Raises:
            PromptError: if the prompt cannot be read.
        """
        import torch

        found = copy.deepcopy(parse_compel(prompt))
        for part in _flat_parts(found):
            for fragment in part.children:
                fragment.text = self._text.expand(fragment.text)
        with torch.inference_mode():
            tokens, _ = self._compel.build_conditioning_tensor_for_conjunction(found)
            tokens = tokens.to(self._device)  # compel puts it where the weights are
            if not self._pooled:
                return tokens
            # As compel does: from the text with its weights.
            provider, text = self._compel.conditioning_provider, self._text.expand(prompt)
            return tokens, provider.get_pooled_embeddings([text], device=self._compel.device).to(self._device)


# What of an answer of the network is read: (n, tokens, dim).
Features = Callable[[Any], "torch.Tensor"]


class ChunkEncoder:
    """A text encoder that reads prompts of any length in A1111's form.

    Each chunk is encoded by itself.  A token's vector is multiplied by its weight, then the whole chunk by one number
    that brings its mean back to what it was, as A1111 does with its setting Emphasis: Original.

    Args:
        text: the encoder.
        features: picks the layer that the model reads from an answer of the network.
    """

    def __init__(self, text: TextEncoder, features: Features) -> None:
        self._text, self._features = text, features

    def chunks(self, prompt: str) -> list[Chunk]:
        """The chunks of a prompt, at least one."""
        tokenizer = self._text.tokenizer
        comma = tokenizer.get_vocab().get(",</w>")
        return lay_out(a1111.parse(prompt), self._ids, self._text.window - 2, comma)

    def __call__(self, prompt: str, n: int, **options: Any) -> tuple[torch.Tensor, Any]:
        """Encode a prompt in n chunks; those beyond its own are empty, as with A1111's padding of a short prompt.

        Returns:
            Vectors (1, n * window, dim), and the network's answer (its first row is the first chunk's).
        """
        import torch

        chunks = self._filled(prompt, n)
        answer = self._text.encode(*self._padded(chunks), **options)
        with torch.inference_mode():
            vectors = self._features(answer)
            weights = torch.tensor([self._weights(chunk) for chunk in chunks])
            weighted = _emphasize(vectors, weights.to(vectors.device))
        return weighted.reshape(1, -1, vectors.shape[-1]), answer

    def ids(self, prompt: str, n: int) -> list[list[int]]:
        """The token ids of a prompt in n chunks, start, end and padding included, window each."""
        return self._padded(self._filled(prompt, n))[0].tolist()

    def _filled(self, prompt: str, n: int) -> list[Chunk]:
        chunks = self.chunks(prompt)
        return chunks + [Chunk() for _ in range(n - len(chunks))]

    def _ids(self, text: str) -> list[int]:
        return self._text.tokenizer(self._text.expand(text), add_special_tokens=False, verbose=False)["input_ids"]

    def _padded(self, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and their mask, (chunks, window) each."""
        import torch

        tokenizer, window = self._text.tokenizer, self._text.window
        rows = [[tokenizer.bos_token_id, *chunk.tokens, tokenizer.eos_token_id] for chunk in chunks]
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (window - len(row)) for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (window - len(row)) for row in rows])

    def _weights(self, chunk: Chunk) -> list[float]:
        return [1.0, *chunk.weights, *[1.0] * (self._text.window - 1 - len(chunk.weights))]


def _emphasize(vectors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Multiply vectors (n, tokens, dim) by weights (n, tokens); the mean of each chunk stays."""
    import torch

    before = vectors.float()
    after = before * weights[..., None]
    scale = before.mean((1, 2), keepdim=True) / after.mean((1, 2), keepdim=True)
    changed = (weights != 1).any(1)[:, None, None]
    return torch.where(changed & scale.isfinite(), after * scale, after).to(vectors.dtype)
