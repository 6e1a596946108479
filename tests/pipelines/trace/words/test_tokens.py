"""The words of a prompt and their places among the tokens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.models.prompt_weighting import ChunkEncoder, CompelEncoder
from pipelines.models.text_encoder import TextEncoder
from pipelines.request import InvalidRequest
from pipelines.system.paths import PROJECT
from pipelines.trace.words.tokens import prompt_words
from tests.support.pipeline_parity import load
from tests.support.tiny_families import make


def said(words: Any) -> list[tuple[str, str]]:
    return [(word.text, word.kind) for word in words]


def places(words: Any) -> list[int]:
    return sorted(place for word in words for place in word.places)


def test_tokens_of_a_word_are_joined_and_every_place_belongs_to_one_word(epsilon: Any) -> None:
    words = prompt_words(epsilon, "a Fox, red")
    kinds = [("a", "word"), ("fox", "word"), (",", "mark"), ("red", "word"), ("start", "start"), ("end", "end")]
    assert [(text.lower(), kind) for text, kind in said(words)] == kinds
    assert [word.places for word in words[:4]] == [(1,), (2, 3, 4), (5,), (6, 7, 8)]
    assert words[4].places == (0,) and words[5].places == tuple(range(9, 77))


def test_pocket_reads_whole_words() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(PROJECT / "pocket" / "weights" / "tokenizer", local_files_only=True)
    text = TextEncoder(tokenizer, SimpleNamespace(config=SimpleNamespace(max_position_embeddings=32)))
    model: Any = SimpleNamespace(
        texts=[text], card=SimpleNamespace(family="stable_diffusion"), supports_prompt_weights=True
    )
    words = prompt_words(model, "a watercolor painting of a hippopotamus, in a meadow")
    assert [word.text for word in words if word.kind == "word"] == [
        "a", "watercolor", "painting", "of", "a", "hippopotamus", "in", "a", "meadow",
    ]  # fmt: skip
    assert places(words) == list(range(32))


def test_weights_are_taken_off_as_compel_does(epsilon: Any) -> None:
    prompt = "a (red)1.4 fox (blurry)0.5"
    words = prompt_words(epsilon, prompt)
    assert [word.text for word in words if word.kind == "word"] == ["a", "red", "fox", "blurry"]
    encoder = CompelEncoder(epsilon.texts[0])
    provider = encoder._compel.conditioning_provider
    ids, *_ = provider.get_token_ids_and_expand_weights(["a ", "red", " fox ", "blurry"], [1, 1.4, 1, 0.5], "cpu")
    end = next(k for k in range(1, 77) if ids[k] == epsilon.texts[0].tokenizer.eos_token_id)
    assert words[-1].kind == "end" and words[-1].places[0] == end and places(words) == list(range(77))


def test_a_blend_has_no_words_of_its_own(epsilon: Any) -> None:
    with pytest.raises(InvalidRequest, match="blends several prompts"):
        prompt_words(epsilon, '("a (fox)1.2", "a red apple").blend(1, 1)')


def test_every_chunk_of_a_long_prompt_is_read(epsilon: Any) -> None:
    prompt = "abcdefghij " * 9 + "(red:1.3) BREAK fox"
    chunks = epsilon.count_chunks(prompt)
    words = prompt_words(epsilon, prompt, chunks)
    assert chunks == 3 and places(words) == list(range(3 * 77))
    assert len(words[-2].places) == 3 and words[-2].kind == "start"
    fox = words[-3]
    assert fox.text == "fox" and fox.places == (2 * 77 + 1, 2 * 77 + 2, 2 * 77 + 3)
    ids = ChunkEncoder(epsilon.texts[0], lambda answer: answer[0]).ids(prompt, 3)
    letters = epsilon.texts[0].tokenizer.convert_ids_to_tokens(ids[2][1:4])
    assert letters == ["f", "o", "x</w>"]


def test_both_readings_of_stable_diffusion_3_are_one_word(tmp_path: Path) -> None:
    model = load(make("stable_diffusion_3", tmp_path), "stable_diffusion_3")
    words = prompt_words(model, "a fox, red")
    assert [text for text, kind in said(words) if kind != "end"] == ["a", "fox", ",", "red", "start"]
    fox = words[1]
    assert len(fox.places) > 3 and min(fox.places) == 2 and max(fox.places) > 77
    assert places(words) == list(range(77 + 256))
