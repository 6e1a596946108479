"""Prompts of any length in chunks of the text window."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prompt.a1111 import parse
from pipelines.prompt.chunks import BACKTRACK, Chunk, lay_out

COMMA = ord(",")


def letters(text: str) -> list[int]:
    """A token a letter; an embedding has as many as its name."""
    return [ord(letter) for letter in text.removeprefix("<embedding:").rstrip(">") if not letter.isspace()]


def laid_out(prompt: str, size: int) -> list[str]:
    return ["".join(map(chr, chunk.tokens)) for chunk in lay_out(parse(prompt), letters, size, COMMA)]


def test_short_prompts_are_one_chunk() -> None:
    assert lay_out(parse(""), letters, 5) == [Chunk()]
    assert laid_out("abc de", 5) == ["abcde"]


def test_a_break_fills_a_chunk_up() -> None:
    assert laid_out("ab BREAK c", 5) == ["ab", "c"]
    assert laid_out("ab BREAK", 5) == ["ab"]
    assert laid_out("BREAK BREAK a", 5) == ["", "", "a"]


def test_long_prompts_go_on_in_the_next_chunk() -> None:
    assert laid_out("abcdefghijkl", 5) == ["abcde", "fghij", "kl"]


def test_a_full_chunk_ends_at_its_last_comma_if_that_is_near() -> None:
    assert laid_out("abc,def", 6) == ["abc,", "def"]
    assert laid_out("abcde,fg", 6) == ["abcde,", "fg"]
    # The comma itself opens the next chunk where the words before it fill one.
    assert laid_out("abcdef,g", 6) == ["abcdef", ",g"]
    far = "a," + "b" * (BACKTRACK + 2)
    assert laid_out(far, BACKTRACK + 2) == [far[: BACKTRACK + 2], "bb"]
    near = "ab," + "c" * BACKTRACK
    assert laid_out(near, BACKTRACK + 2) == ["ab,", "c" * BACKTRACK]


def test_the_vectors_of_an_embedding_stay_together() -> None:
    assert laid_out("abc <embedding:wxyz>", 6) == ["abc", "wxyz"]
    assert laid_out("ab <embedding:wxyz> c", 6) == ["abwxyz", "c"]
    # One that no chunk can hold is cut rather than lost.
    assert laid_out("a <embedding:stuvwxyz>", 5) == ["astuv", "wxyz"]


def test_weights_go_with_their_tokens() -> None:
    first, second = lay_out(parse("ab,(cd:1.5)e"), letters, 4, COMMA)
    assert (first.weights, second.weights) == ([1.0, 1.0, 1.0], [1.5, 1.5, 1.0])


@settings(max_examples=50, deadline=None)
@given(st.text("ab, ", max_size=200), st.integers(1, 30))
def test_no_token_is_lost_and_no_chunk_is_too_long(prompt: str, size: int) -> None:
    chunks = lay_out(parse(prompt), letters, size, COMMA)
    assert [token for chunk in chunks for token in chunk.tokens] == letters(prompt)
    assert all(len(chunk.tokens) == len(chunk.weights) <= size for chunk in chunks)
