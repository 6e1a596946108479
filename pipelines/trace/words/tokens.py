"""The words of a prompt, and their places in the sequence of vectors that the denoiser attends to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal

from pipelines.prompt.compel import has_weights
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.models.text_encoder import TextEncoder

Kind = Literal["word", "mark", "start", "end"]
# Which of a model's text encoders write the sequence, one behind the other; elsewhere the first one does.
_ENCODERS_IN_SEQUENCE = {"stable_diffusion_3": (0, 2)}
BLENDED = (
    "This prompt blends several prompts, so each place in it holds a mix of words; take .blend() out to see its words."
)
# Of CLIP: what ends a word.  Of T5: what begins one.
_CLIP_END, _T5_BEGIN = "</w>", "\u2581"


@dataclass(frozen=True)
class PromptWord:
    """A word of a prompt.

    Attributes:
        text: as the tokenizer reads it (CLIP writes all letters small).
        kind: a word, a punctuation mark, the token before the text, or those behind it (the end and the padding).
        places: of its tokens in the sequence, from 0.
    """

    text: str
    kind: Kind
    places: tuple[int, ...]

    def moved(self, by: int) -> PromptWord:
        """The same word, further back in the sequence."""
        return replace(self, places=tuple(place + by for place in self.places))


def prompt_words(model: Model, prompt: str, chunks: int = 0) -> tuple[PromptWord, ...]:
    """The words of a prompt in the order of the text, then start and end; every place belongs to exactly one.

    Args:
        model: a loaded model whose loop is ours.
        prompt: as ``Model.encode_prompt`` gets it.
        chunks: text windows of a prompt in A1111's form, else 0.

    Raises:
        InvalidRequest: if the prompt blends several prompts.
    """
    found: list[PromptWord] = []
    offset = 0
    for number in _ENCODERS_IN_SEQUENCE.get(model.card.family, (0,)):
        if number >= len(model.texts):  # Stable Diffusion 3 without T5 has zeros there
            continue
        text = model.texts[number]
        windows = _windows(model, text, prompt, chunks)
        words = [word.moved(offset + k * text.window) for k, ids in enumerate(windows) for word in _words(text, ids)]
        found = _merged(found, words)
        offset += sum(map(len, windows))
    return tuple(_specials_last(found))


def _windows(model: Model, text: TextEncoder, prompt: str, chunks: int) -> list[list[int]]:
    """The token ids of each text window."""
    if chunks:
        from pipelines.models.prompt_weighting import ChunkEncoder

        return ChunkEncoder(text, lambda answer: answer[0]).ids(prompt, chunks)
    if model.supports_prompt_weights and has_weights(prompt):
        return [_weighted_ids(text, prompt)]
    return [text.tokens(prompt).input_ids[0].tolist()]


def _weighted_ids(text: TextEncoder, prompt: str) -> list[int]:
    """The ids of a prompt in compel's form: each part is tokenized by itself, without its weight."""
    from pipelines.models.prompt_weighting import parse_compel

    parts = parse_compel(prompt).prompts
    if len(parts) != 1 or not hasattr(parts[0], "children"):
        raise InvalidRequest("prompt", BLENDED)
    pieces = [text.expand(fragment.text) for fragment in parts[0].children]
    tokenizer, window = text.tokenizer, text.window
    ids = [one for piece in pieces for one in tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]]
    row = [tokenizer.bos_token_id, *ids[: window - 2], tokenizer.eos_token_id]
    return row + [tokenizer.eos_token_id] * (window - len(row))


def _words(text: TextEncoder, ids: Sequence[int]) -> Iterator[PromptWord]:
    """The words of one window, with the start and the end as words of their own kind."""
    tokenizer = text.tokenizer
    begin = 1 if ids and ids[0] == tokenizer.bos_token_id and ids[0] != tokenizer.eos_token_id else 0
    stop = next((k for k in range(begin, len(ids)) if ids[k] == tokenizer.eos_token_id), len(ids))
    if begin:
        yield PromptWord("start", "start", (0,))
    for places in _groups(tokenizer, ids, begin, stop):
        yield _word(tokenizer, [ids[place] for place in places], places)
    if stop < len(ids):
        yield PromptWord("end", "end", tuple(range(stop, len(ids))))


def _groups(tokenizer: Any, ids: Sequence[int], begin: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Places of tokens that are one word."""
    pieces = tokenizer.convert_ids_to_tokens(list(ids[begin:stop]))
    added, clip = tokenizer.get_added_vocab(), hasattr(tokenizer, "bos_token") and tokenizer.bos_token is not None
    group: list[int] = []
    for place, piece in enumerate(pieces, begin):
        if group and _begins(piece, pieces[place - begin - 1], added, clip):
            yield tuple(group)
            group = []
        group.append(place)
    if group:
        yield tuple(group)


def _begins(piece: str, before: str, added: Any, clip: bool) -> bool:
    """Whether a token begins a word, given the one before it; a word of several vectors stays together."""
    if piece in added or before in added:
        return not (piece in added and before in added and piece.rpartition("_")[0] == before.rpartition("_")[0])
    if clip:
        return before.endswith(_CLIP_END)
    return piece.startswith(_T5_BEGIN) or _is_mark(piece) != _is_mark(before.lstrip(_T5_BEGIN) or "a")


def _word(tokenizer: Any, ids: list[int], places: tuple[int, ...]) -> PromptWord:
    first = tokenizer.convert_ids_to_tokens(ids[:1])[0]
    if first in tokenizer.get_added_vocab():
        return PromptWord("added word", "word", places)
    shown = tokenizer.decode(ids).strip() or first.removesuffix(_CLIP_END).strip(_T5_BEGIN) or "\u00b7"
    return PromptWord(shown, "mark" if _is_mark(shown) else "word", places)


def _is_mark(text: str) -> bool:
    return not any(letter.isalnum() for letter in text)


def _merged(first: list[PromptWord], second: list[PromptWord]) -> list[PromptWord]:
    """Two readings of one text, in which equal words have the places of both; windows of one reading just follow."""
    if not first or not second:
        return [*first, *second]
    rows = [[f"{word.kind} {word.text.casefold()}" for word in words] for words in (first, second)]
    found, at = list(first), 0
    for block in SequenceMatcher(a=rows[0], b=rows[1], autojunk=False).get_matching_blocks():
        found += second[at : block.b]
        for k in range(block.size):
            mine, theirs = first[block.a + k], second[block.b + k]
            found[block.a + k] = replace(mine, places=(*mine.places, *theirs.places))
        at = block.b + block.size
    return found


def _specials_last(words: Sequence[PromptWord]) -> Iterator[PromptWord]:
    """The words, then one start and one end with the places of all."""
    yield from (word for word in words if word.kind not in ("start", "end"))
    for kind in ("start", "end"):
        same = [word for word in words if word.kind == kind]
        if same:
            yield replace(same[0], places=tuple(place for word in same for place in word.places))
