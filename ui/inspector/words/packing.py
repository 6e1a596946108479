"""Attention maps as a small JSON value: whole numbers from 0 to 255, a word's own peak beside them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.trace.words.attention import AttentionMaps, Size, scaled
from pipelines.trace.words.tokens import PromptWord

# Bytes of all maps together, the longest side of one, and the words that have maps of their own.
MAX_BYTES, MAX_SIDE, LEAST_SIDE, MAX_WORDS = 1_500_000, 32, 6, 64
# The numbers of one API call.
MAX_NUMBERS = 250_000
NAMES = {"start": "start of the text", "end": "end and padding"}
REST = "all other words"
CHANGED = (
    "The prediction computed now differs from the recorded one by {share:.0%}: the model or an add-on is not the "
    "run's any more, and these maps are those of what is here now."
)


def packed(found: AttentionMaps) -> dict[str, Any]:
    """Words, steps and maps for the browser: all layers together first, then each size of the layers' maps."""
    words, maps = kept_words(found)
    levels = [("All layers", sum(found.heads.values()), maps(found.combined()))]
    for size, each in found.maps.items():
        if len(found.maps) > 1:
            levels.append((f"{size[1]} \u00d7 {size[0]}", found.heads[size], maps(each)))
    side = _side(len(found.steps), len(words), len(levels))
    return {
        "words": [{"text": word_name(word), "kind": word.kind} for word in words],
        "steps": len(found.steps),
        "first": _first(words, levels[0][2]),
        "joint": found.joint,
        "absent": absent(found),
        "levels": [{"label": label, "heads": heads, **_pack(_within(each, side))} for label, heads, each in levels],
        "layers": [
            {"name": name, "label": f"Layer {place}: {size[1]} \u00d7 {size[0]}, {heads} heads"}
            for place, (name, size, heads) in enumerate(found.layers, 1)
        ],
        "note": CHANGED.format(share=min(found.difference, 9.99)) if found.difference > 0.02 else "",
    }


def packed_heads(maps: np.ndarray) -> dict[str, Any]:
    """The maps of one word in each head, (heads, h, w)."""
    return {"heads": len(maps), **_pack(_within(maps[None], MAX_SIDE))}


def kept_words(found: AttentionMaps) -> tuple[tuple[PromptWord, ...], Any]:
    """The words that get maps of their own, and a function that gives their maps: very many words share one."""
    named = [k for k, word in enumerate(found.words) if word.kind not in NAMES]
    special = [k for k, word in enumerate(found.words) if word.kind in NAMES]
    kept, rest = named[:MAX_WORDS], named[MAX_WORDS:]
    words = [found.words[k] for k in (*kept, *special)]
    if rest:
        places = tuple(place for k in rest for place in found.words[k].places)
        words.append(PromptWord(REST, "mark", places))

    def maps(each: np.ndarray) -> np.ndarray:
        rows = each[:, [*kept, *special]]
        return np.concatenate([rows, each[:, rest].sum(1, keepdims=True)], axis=1) if rest else rows

    return tuple(words), maps


def absent(found: AttentionMaps) -> list[list[int]]:
    """Of each step, the places in ``kept_words`` whose words its prompt did not have; [] where all steps have all."""
    words, read = found.words, found.read
    if all(len(each) == len(words) for each in read):
        return []
    named = [k for k, word in enumerate(words) if word.kind not in NAMES][:MAX_WORDS]
    special = [k for k, word in enumerate(words) if word.kind in NAMES]
    return [[place for place, k in enumerate((*named, *special)) if k not in each] for each in read]


def word_name(word: PromptWord) -> str:
    """A word as the page and the API say it."""
    return NAMES.get(word.kind, word.text)


def as_numbers(found: AttentionMaps) -> dict[str, Any]:
    """The maps as JSON for programs: shares of the attention, in rounded numbers, [step][word][row][column]."""
    words, maps = kept_words(found)
    shares = maps(found.combined())
    most = int((MAX_NUMBERS / max(1, shares.shape[0] * shares.shape[1])) ** 0.5)
    shares = _within(shares, max(2, most))
    return {
        "words": [{"word": word_name(word), "kind": word.kind, "tokens": list(word.places)} for word in words],
        "steps": list(found.steps),
        "height": shares.shape[-2],
        "width": shares.shape[-1],
        "shares": np.round(shares.astype(np.float64), 5).tolist(),
        "difference": round(found.difference, 6) if np.isfinite(found.difference) else None,
    }


def _first(words: Sequence[PromptWord], maps: np.ndarray) -> int:
    """The word to begin with: of the longer ones the one whose attention is most gathered in one place."""
    mean = maps.mean(0).reshape(len(words), -1)
    gathered = mean.std(1) / np.maximum(mean.mean(1), 1e-9)
    own = [k for k, word in enumerate(words) if word.kind == "word" and word.text != REST]
    # Small words such as "on" often carry what stands before them.
    return max(own, key=lambda k: (len(words[k].text) > 3, gathered[k]), default=0)


def _side(steps: int, words: int, levels: int) -> int:
    most = int((MAX_BYTES / max(1, steps * words * levels)) ** 0.5)
    return max(LEAST_SIDE, min(MAX_SIDE, most))


def _within(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps (..., h, w) scaled down until no side is longer."""
    height, width = maps.shape[-2:]
    if max(height, width) <= side:
        return maps
    share = side / max(height, width)
    size: Size = (max(1, round(height * share)), max(1, round(width * share)))
    return scaled(maps, size)


def _pack(maps: np.ndarray) -> dict[str, Any]:
    """Maps (s, m, h, w) as bytes, with the peak of each of the m words over all steps."""
    maps = np.nan_to_num(maps)
    peak = maps.max(axis=(0, 2, 3))
    grey = np.rint(maps / np.maximum(peak, 1e-12)[None, :, None, None] * 255).astype(np.uint8)
    return {
        "height": maps.shape[-2],
        "width": maps.shape[-1],
        "peak": [float(f"{value:.6g}") for value in peak],
        "data": base64.b64encode(grey.tobytes()).decode("ascii"),
    }
