"""Attention maps as JSON: small, true to a step of 255, and with the words joined where there are many."""

from __future__ import annotations

import base64
import json

import numpy as np

from pipelines.trace.words.attention import AttentionMaps
from pipelines.trace.words.tokens import PromptWord
from ui.inspector.words.packing import MAX_BYTES, MAX_NUMBERS, MAX_WORDS, REST, as_numbers, packed


def maps_of(words: int, steps: int = 3, size: tuple[int, int] = (8, 8)) -> AttentionMaps:
    half = (size[0] // 2, size[1] // 2)
    draw = np.random.default_rng(0)
    shares = {at: draw.random((steps, words + 2, *at), np.float32) for at in (size, half)}
    shares = {at: each / each.sum(1, keepdims=True) for at, each in shares.items()}
    named = tuple(PromptWord(f"word{k}", "word", (k + 1,)) for k in range(words))
    ends = (PromptWord("start", "start", (0,)), PromptWord("end", "end", (words + 1,)))
    layers = (("down.attn2", size, 8), ("mid.attn2", half, 8))
    return AttentionMaps((*named, *ends), tuple(range(steps)), shares, {size: 8, half: 8}, layers)


def test_the_browser_gets_the_shares_back() -> None:
    found = maps_of(4)
    value = json.loads(json.dumps(packed(found)))
    assert [word["text"] for word in value["words"]] == [
        "word0", "word1", "word2", "word3", "start of the text", "end and padding",
    ]  # fmt: skip
    assert [level["label"] for level in value["levels"]] == ["All layers", "8 \u00d7 8", "4 \u00d7 4"]
    level = value["levels"][0]
    grey = np.frombuffer(base64.b64decode(level["data"]), np.uint8).reshape(3, 6, 8, 8)
    shares = grey / 255 * np.asarray(level["peak"])[None, :, None, None]
    assert np.abs(shares - found.combined()).max() < 0.003
    assert value["first"] < 4 and len(value["layers"]) == 2


def test_a_long_prompt_and_many_steps_stay_small() -> None:
    found = maps_of(300, steps=150, size=(32, 32))
    value = packed(found)
    assert len(json.dumps(value)) < 1.5 * MAX_BYTES
    assert len(value["words"]) == MAX_WORDS + 3 and value["words"][-1]["text"] == REST
    level = value["levels"][0]
    grey = np.frombuffer(base64.b64decode(level["data"]), np.uint8)
    side = level["height"]
    shares = grey.reshape(150, MAX_WORDS + 3, side, side) / 255 * np.asarray(level["peak"])[None, :, None, None]
    assert np.abs(shares.sum(1) - 1).max() < 0.05
    numbers = as_numbers(found)
    assert np.asarray(numbers["shares"]).size <= MAX_NUMBERS * 1.3
