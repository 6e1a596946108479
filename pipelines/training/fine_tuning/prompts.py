"""Which pictures a model draws of its own while it is taught; free of torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pipelines.system.paths import PROJECT
from pipelines.training.fine_tuning.settings import has_word

if TYPE_CHECKING:
    from pipelines.cards import ModelCard

# What cards without prompts are asked for.
PLAIN = ("a photograph of a cat", "a photograph of a house", "a drawing of a tree", "a portrait")
# A setting for models that say none in their own prompts.
SETTING = "in the snow"


def own_prompts(card: ModelCard, count: int, word: str, seed: int = 0) -> list[str]:
    """Prompts of the model's own pictures, without the word; each thing that it knows once before one comes again."""
    known = _known(card) or list(card.prompts) or list(PLAIN)
    draw = np.random.default_rng(seed)
    found = [prompt for prompt in known if not has_word(prompt, word)] or [""]
    order: list[int] = []
    while len(order) < count:
        order += draw.permutation(len(found)).tolist()
    return [found[k] for k in order[:count]]


def old_prompts(card: ModelCard) -> tuple[str, str]:
    """Two prompts that show what the model forgets."""
    known = (*card.prompts, *PLAIN)
    return known[0], known[1]


def new_setting(card: ModelCard, word: str) -> str:
    """The word in a setting that the model knows."""
    for prompt in reversed(card.prompts):
        _, on, place = prompt.partition(" on a")
        if on and place.endswith("background") and "white" not in place:
            return f"a {word} on a{place}"
    return f"a {word} {SETTING}"


def is_known(card: ModelCard, word: str) -> bool:
    """Whether a small model's vocabulary has a word; of other models that is known once they are loaded."""
    if not card.vocabulary:
        return False
    words = json.loads((PROJECT / card.vocabulary).read_text(encoding="utf-8"))
    names = {name.casefold() for each in words for name in (each["name"], *each.get("synonyms", ()))}
    return word.casefold() in names


def _known(card: ModelCard) -> list[str]:
    """A prompt for each thing that a small model knows, in places that it knows; none for models without a limit."""
    if not card.vocabulary or not card.prompt_guide:
        return []
    words = json.loads((PROJECT / card.vocabulary).read_text(encoding="utf-8"))
    guide = json.loads((PROJECT / card.prompt_guide).read_text(encoding="utf-8"))
    places = [place["phrase"] for place in guide["places"]]
    draw = np.random.default_rng(0)
    return [f"{_article(each['name'])} {places[draw.integers(len(places))]}" for each in words]


def _article(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
