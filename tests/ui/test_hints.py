"""Which word a model has not learned, and what is offered instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cards import ModelCard
from presets.catalogue import load
from ui import hints
from ui.hints import Hint, Learned

KNOWN = """a an the on with of two and background emoji small red sky blue magic wand wands owl owls elephant elephants
hot dog dogs tree trees leaf next to"""
LEARNED = Learned(
    ("magic wand", "owl", "elephant", "hot dog", "tree"),
    frozenset(KNOWN.split()),
    {"wizard": [0, 1], "forest": [4], "berry": [4]},
)


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("a wizard on a red background", Hint("wizard", ("magic wand", "owl"))),
        ("two wizards next to the tree", Hint("wizards", ("magic wand", "owl"))),
        ("A WIZARD'S hot dog", Hint("WIZARD'S", ("magic wand", "owl"))),
        ("berries on red", Hint("berries", ("tree",))),
        ("an elefant on a sky blue background", Hint("elefant", ("elephant",), misspelt=True)),
        ("a wisard", Hint("wisard", ("magic wand", "owl"))),
        ("xyzzy and a wizard", Hint("wizard", ("magic wand", "owl"))),
        ("the xyzzy", Hint("xyzzy")),
        ("(forest:1.3), owls", Hint("forest", ("tree",))),
    ],
)
def test_a_word_that_was_not_learned_is_named_with_what_is_near(prompt: str, hint: Hint) -> None:
    assert LEARNED.hint(prompt) == hint


@pytest.mark.parametrize(
    "prompt",
    ["", "an owl on a red background", "Elephants, trees.", "a small hot dog", "owl's leaf", "(owl)1.5 ++", "7 x 9 %",
     "<lora:wizard:1> an owl", "é", "\u732b"],
)  # fmt: skip
def test_what_was_learned_gives_no_hint(prompt: str) -> None:
    assert LEARNED.hint(prompt) is None


def test_a_very_long_prompt_is_looked_at_in_part() -> None:
    assert LEARNED.hint("owl " * 20_000 + "wizard") is None


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (None, ""),
        (Hint("wizard", ("owl",)), "Pocket has not learned \u201cwizard\u201d. Nearest to it that it can draw:"),
        (Hint("elefant", ("elephant",), True), "Pocket does not know \u201celefant\u201d. Did you mean:"),
        (Hint("xyzzy"), "Pocket has not learned \u201cxyzzy\u201d, nor anything near it. Its words are listed below."),
    ],
)
def test_the_sentence(hint: Hint | None, text: str) -> None:
    assert hints.told(hint, "Pocket") == text


def test_models_without_a_limit_and_broken_files_give_no_hints(tmp_path: Path) -> None:
    pocket = next(card for card in load() if card.id == "pocket")
    assert Learned.of(None) is None and Learned.of(pocket.model_copy(update={"neighbours": ""})) is None
    for content in ("", "[]", '{"names": 3, "known": [], "near": {}}'):
        (tmp_path / "broken.json").write_text(content)
        broken = pocket.model_copy(update={"neighbours": str(tmp_path / "broken.json")})
        assert hints.answer(broken, "a wizard") == {"text": "a wizard", "word": "", "near": [], "told": ""}
    assert hints.answer(None, ["no text"])["told"] == ""


@pytest.fixture(scope="module")
def pocket() -> ModelCard:
    return next(card for card in load() if card.id == "pocket")


def test_pocket_knows_all_of_its_own_words(pocket: ModelCard) -> None:
    found = Learned.of(pocket)
    assert found
    for entry in json.loads(Path(pocket.vocabulary).read_text()):
        for phrase in (entry["name"], *entry.get("synonyms", [])):
            assert found.hint(f"a noto emoji of a {phrase} on a sky blue background") is None, phrase
    assert all(found.hint(prompt) is None for prompt in pocket.prompts)
    for words in ("a small cat next to a large rocket on an orange background", "kittens on pink", "cars on white"):
        assert found.hint(words) is None
    assert found.hint("a witch on a red background") == Hint("witch", ("ghost",))


def test_people_are_likened_to_no_animals(pocket: ModelCard) -> None:
    found = Learned.of(pocket)
    assert found and not {"african", "human", "woman", "immigrant"} & set(found.near)
