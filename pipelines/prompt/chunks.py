"""Prompts of any length in chunks of the text window, laid out as AUTOMATIC1111's web UI does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelines.prompt.a1111 import Part
from pipelines.prompt.tags import split_embeddings

# A chunk that is full may give back up to so many tokens, to end at a comma: that program's default.
BACKTRACK = 20
Tokenize = Callable[[str], Sequence[int]]


@dataclass
class Chunk:
    """Tokens of one text window, without start, end and padding.

    Attributes:
        tokens: ids.
        weights: one a token.
        comma: how many tokens come before the end of the last comma; 0 without one.
    """

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    comma: int = 0

    def add(self, tokens: Sequence[int], weight: float) -> None:
        """Append tokens of one weight."""
        self.tokens += tokens
        self.weights += [weight] * len(tokens)

    def split(self, at: int) -> Chunk:
        """Cut this chunk and return the rest."""
        rest = Chunk(self.tokens[at:], self.weights[at:])
        del self.tokens[at:], self.weights[at:]
        return rest


def lay_out(parts: Sequence[Part], tokenize: Tokenize, size: int, comma: int | None = None) -> list[Chunk]:
    """Lay a prompt out in chunks, at least one.

    Each part begins a new chunk.  A chunk that is full ends at its last comma if that is at most ``BACKTRACK`` tokens
    back; the tokens of an embedding stay together where a chunk can hold them.

    Args:
        parts: of ``a1111.parse``.
        tokenize: text to ids, without start and end; an embedding's tag to as many ids as it has vectors.
        size: tokens that a chunk holds.
        comma: the id of a comma that ends a word, or None.
    """
    chunks: list[Chunk] = []
    for number, part in enumerate(parts, 1):
        chunk = Chunk()
        for fragment in part:
            for text, together in split_embeddings(fragment.text):
                ids = list(tokenize(text))
                groups = [ids] if together and len(ids) <= size else [[id] for id in ids]
                for group in groups:
                    chunk = _add(chunks, chunk, group, fragment.weight, size, comma)
        if chunk.tokens or number < len(parts) or not chunks:
            chunks.append(chunk)
    return chunks


def _add(chunks: list[Chunk], chunk: Chunk, group: list[int], weight: float, size: int, comma: int | None) -> Chunk:
    """Append tokens that stay together; full chunks go to ``chunks``, and the one that is open is returned."""
    if len(chunk.tokens) + len(group) > size:
        full = len(chunk.tokens) == size
        backtrack = full and chunk.comma and size - chunk.comma < BACKTRACK and group != [comma]
        rest = chunk.split(chunk.comma) if backtrack else Chunk()
        chunks.append(chunk)
        chunk = rest
        if len(chunk.tokens) + len(group) > size:
            chunks.append(chunk)
            chunk = Chunk()
    chunk.add(group, weight)
    if group == [comma]:
        chunk.comma = len(chunk.tokens)
    return chunk
