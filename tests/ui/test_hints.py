"""Which word a model has not learned, and what is offered instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cards import ModelCard
from presets.catalogue import load
from ui import hints
from ui.hints import Hint, Learned

NOTHING = "nor anything near it. Try one of these, or a larger model."
PLAIN = "a an the on of with two and background emoji small next to very eyed one sitting mice"
LEARNED = Learned(
    ("magic wand", "owl", "elephant", "hot dog", "tree", "teal", "gone"),
    frozenset(["magic wand", "owl", "elephant", "hot dog", "tree", "leaf", "red", "sky blue", "teal", "t-shirt"]),
    frozenset(PLAIN.split()),
    frozenset(["mermaid", "boy"]),
    {"wizard": [0, 1, 6], "forest": [4], "berry": [4], "turquoise": [5], "knife": [0], "sky": [1]},
)


def plain(hint: Hint | None) -> tuple | None:
    """A hint without its place."""
    return hint and (hint.word, hint.near, hint.misspelt)


@pytest.mark.parametrize(
    ("prompt", "word", "near", "misspelt"),
    [
        ("a wizard on a red background", "wizard", ("magic wand", "owl"), False),
        ("two wizards next to the tree", "wizards", ("magic wand", "owl"), False),
        ("A WIZARD'S hot dog", "WIZARD'S", ("magic wand", "owl"), False),
        ("berries on red", "berries", ("tree",), False),
        ("knives", "knives", ("magic wand",), False),
        ("an elefant on a sky blue background", "elefant", ("elephant",), True),
        ("a wisard", "wisard", ("magic wand", "owl"), False),
        # One with a neighbour comes first, whatever its place.
        ("xyzzy, mermaid and a wizard", "wizard", ("magic wand", "owl"), False),
        ("the xyzzy", "xyzzy", (), False),
        ("a boy", "boy", (), False),
        ("(forest:1.3), owls", "forest", ("tree",), False),
        ("an owl on turquoise", "turquoise", ("teal",), False),
        # A part of a name is not the name.
        ("a hot owl", "hot", ("hot dog",), False),
        ("magic tree", "magic", ("magic wand",), False),
        ("sky, red", "sky", ("owl",), False),
        ("one-eyed wizard", "wizard", ("magic wand", "owl"), False),
    ],
)
def test_a_word_that_was_not_learned_is_named_with_what_is_near(
    prompt: str, word: str, near: tuple[str, ...], misspelt: bool
) -> None:
    hint = LEARNED.hint(prompt)
    assert plain(hint) == (word, near, misspelt)
    assert prompt[hint.at:].startswith(word)


@pytest.mark.parametrize(
    "prompt",
    ["", "an owl on a red background", "Elephants, trees.", "a small hot dog", "Hot  dogs", "owl's leaf", "(owl)1.5 ++",
     "7 x 9 %", "<lora:wizard:1> an owl", "é", "\u732b", "leaves", "a very small one-eyed owl", "a T-shirt", "mice",
     "owl juggling quickly", "a magic  wand on sky blue"],
)  # fmt: skip
def test_what_was_learned_gives_no_hint(prompt: str) -> None:
    assert LEARNED.hint(prompt) is None


def test_the_place_is_that_of_the_word_and_not_of_a_mark() -> None:
    assert LEARNED.hint("<lora:wizard:1> a wizard").at == 18


def test_a_very_long_prompt_is_looked_at_in_part() -> None:
    assert LEARNED.hint("owl " * 20_000 + "wizard") is None
    assert LEARNED.hint("wizard " + "owl " * 20_000).word == "wizard"
    assert LEARNED.hint("q" * 100_000).near == ()


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (None, ""),
        (Hint("wizard", ("owl",)), "Pocket has not learned \u201cwizard\u201d. Nearest it knows:"),
        (Hint("elefant", ("elephant",), True), "Pocket does not know \u201celefant\u201d. Did you mean:"),
        (Hint("xyzzy"), f"Pocket has not learned \u201cxyzzy\u201d, {NOTHING}"),
        (Hint("q" * 99), f"Pocket has not learned \u201c{'q' * 29}\u2026\u201d, {NOTHING}"),
    ],
)
def test_the_sentence(hint: Hint | None, text: str) -> None:
    assert hints.told(hint, "Pocket") == text


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return next(card for card in load() if card.id == "pocket")


@pytest.fixture(scope="module")
def learned(card: ModelCard) -> Learned:
    found = Learned.of(card)
    assert found
    return found


def test_models_without_a_limit_and_broken_files_give_no_hints(card: ModelCard, tmp_path: Path) -> None:
    assert Learned.of(None) is None and Learned.of(card.model_copy(update={"neighbours": ""})) is None
    for content in ("", "[]", '{"names": 3, "plain": "", "near": {}}'):
        (tmp_path / "broken.json").write_text(content)
        broken = card.model_copy(update={"neighbours": str(tmp_path / "broken.json")})
        assert hints.answer(broken, "a wizard") == {"text": "a wizard", "word": "", "near": [], "at": 0, "told": ""}
    assert hints.answer(None, ["no text"])["told"] == ""


def test_only_what_the_vocabulary_has_is_offered(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('[{"name": "ghost", "tags": []}]')
    older = Learned.of(card.model_copy(update={"vocabulary": str(tmp_path / "words.json")}))
    assert set(older.hint("a castle with a vampire").near) <= {"ghost", *older.known}


def test_the_place_counts_as_a_browser_does(card: ModelCard) -> None:
    assert hints.answer(card, "\U0001f431 wizard")["at"] == 3


def test_pocket_knows_all_of_its_own_words(card: ModelCard, learned: Learned) -> None:
    for entry in json.loads(Path(card.vocabulary).read_text()):
        for phrase in (entry["name"], *entry.get("synonyms", [])):
            assert learned.hint(f"a noto emoji of a {phrase} on a sky blue background") is None, phrase
    assert all(learned.hint(prompt) is None for prompt in card.prompts)


@pytest.mark.parametrize(
    "prompt",
    ["a small cat next to a large rocket on an orange background", "kittens on pink", "cars on white", "mice and geese",
     "please draw me a very cute cat that is sitting on a chair", "not a cat but two dogs without coats",
     "a happy dog running through it, twemoji style", "a beautiful old castle, made by them"],
)  # fmt: skip
def test_words_between_things_ask_for_nothing(learned: Learned, prompt: str) -> None:
    assert learned.hint(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "first"),
    [("a wizard", "magic wand"), ("a vampire on red", "ghost"), ("an elefant", "elephant"), ("a gray cat", "grey"),
     ("a turquoise fish", "teal"), ("a forest", "tree"), ("a submarine", "speedboat"), ("an ice", "ice cream")],
)  # fmt: skip
def test_pocket_offers_what_a_person_would(learned: Learned, prompt: str, first: str) -> None:
    assert learned.hint(prompt).near[0] == first


@pytest.mark.parametrize("word", ["african", "human", "woman", "boy", "immigrant", "genocide", "obama", "auschwitz"])
def test_people_and_names_are_likened_to_nothing(learned: Learned, word: str) -> None:
    assert plain(learned.hint(f"the {word}")) == (word, (), False)
