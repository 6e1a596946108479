"""Which words a model has not learned, and what is near them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cards import ModelCard
from presets.catalogue import load
from ui.form.prompt.vocabulary import Vocabulary, WordHint

PLAIN = "a an the on of with two and background emoji small next to very eyed one sitting mice"
LEARNED = Vocabulary(
    ("magic wand", "owl", "elephant", "hot dog", "tree", "teal", "gone"),
    frozenset(["magic wand", "owl", "elephant", "hot dog", "tree", "leaf", "red", "sky blue", "teal", "t-shirt"]),
    frozenset(PLAIN.split()),
    frozenset(["mermaid", "boy"]),
    {"wizard": [0, 1, 6], "forest": [4], "berry": [4], "turquoise": [5], "knife": [0], "sky": [1]},
)


def plain(hints: tuple[WordHint, ...]) -> list[tuple]:
    """Hints without their places."""
    return [(hint.word, hint.near, hint.misspelt) for hint in hints]


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
    hints = LEARNED.unlearned(prompt)
    assert plain(hints) == [(word, near, misspelt)]
    assert prompt[hints[0].at :].startswith(word)


def test_every_word_that_was_not_learned_is_named_once_and_in_order() -> None:
    hints = LEARNED.unlearned("xyzzy, mermaid and a wizard, XYZZY")
    assert plain(hints) == [("xyzzy", (), False), ("mermaid", (), False), ("wizard", ("magic wand", "owl"), False)]


@pytest.mark.parametrize(
    "prompt",
    ["", "an owl on a red background", "Elephants, trees.", "a small hot dog", "Hot  dogs", "owl's leaf", "(owl)1.5 ++",
     "7 x 9 %", "<lora:wizard:1> an owl", "é", "\u732b", "leaves", "a very small one-eyed owl", "a T-shirt", "mice",
     "owl juggling quickly", "a magic  wand on sky blue"],
)  # fmt: skip
def test_what_was_learned_gives_no_hint(prompt: str) -> None:
    assert LEARNED.unlearned(prompt) == ()


def test_the_place_is_that_of_the_word_and_not_of_a_mark() -> None:
    assert LEARNED.unlearned("<lora:wizard:1> a wizard")[0].at == 18


def test_a_very_long_prompt_is_looked_at_in_part() -> None:
    assert LEARNED.unlearned("owl " * 20_000 + "wizard") == ()
    assert LEARNED.unlearned("wizard " + "owl " * 20_000)[0].word == "wizard"
    assert LEARNED.unlearned("q" * 100_000)[0].near == ()


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return next(card for card in load() if card.id == "pocket")


@pytest.fixture(scope="module")
def learned(card: ModelCard) -> Vocabulary:
    found = Vocabulary.of(card)
    assert found
    return found


def test_models_without_a_limit_and_broken_files_give_no_hints(card: ModelCard, tmp_path: Path) -> None:
    assert Vocabulary.of(None) is None and Vocabulary.of(card.model_copy(update={"neighbours": ""})) is None
    for content in ("", "[]", '{"names": 3, "plain": "", "near": {}}'):
        (tmp_path / "broken.json").write_text(content)
        broken = card.model_copy(update={"neighbours": str(tmp_path / "broken.json")})
        assert Vocabulary.of(broken) is None


def test_only_what_the_vocabulary_has_is_offered(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('[{"name": "ghost", "tags": []}]')
    older = Vocabulary.of(card.model_copy(update={"vocabulary": str(tmp_path / "words.json")}))
    assert {name for hint in older.unlearned("a castle with a vampire") for name in hint.near} <= {
        "ghost",
        *older.known,
    }


def test_pocket_knows_all_of_its_own_words(card: ModelCard, learned: Vocabulary) -> None:
    for entry in json.loads(Path(card.vocabulary).read_text()):
        for phrase in (entry["name"], *entry.get("synonyms", [])):
            assert learned.unlearned(f"a noto emoji of a {phrase} on a sky blue background") == (), phrase
    assert all(learned.unlearned(prompt) == () for prompt in card.prompts)


@pytest.mark.parametrize(
    "prompt",
    ["a small cat next to a large rocket on an orange background", "kittens on pink", "cars on white", "mice and geese",
     "please draw me a very cute cat that is sitting on a chair", "not a cat but two dogs without coats",
     "a happy dog running through it, twemoji style", "a beautiful old castle, made by them"],
)  # fmt: skip
def test_words_between_things_ask_for_nothing(learned: Vocabulary, prompt: str) -> None:
    assert learned.unlearned(prompt) == ()


@pytest.mark.parametrize(
    ("prompt", "first"),
    [("a wizard", "magic wand"), ("a vampire on red", "ghost"), ("an elefant", "elephant"), ("a gray cat", "grey"),
     ("a turquoise fish", "teal"), ("a forest", "tree"), ("a submarine", "speedboat"), ("an ice", "ice cream")],
)  # fmt: skip
def test_pocket_offers_what_a_person_would(learned: Vocabulary, prompt: str, first: str) -> None:
    assert learned.unlearned(prompt)[0].near[0] == first


@pytest.mark.parametrize("word", ["african", "human", "woman", "boy", "immigrant", "genocide", "obama", "auschwitz"])
def test_people_and_names_are_likened_to_nothing(learned: Vocabulary, word: str) -> None:
    assert plain(learned.unlearned(f"the {word}")) == [(word, (), False)]


def test_break_is_no_word_to_learn() -> None:
    assert LEARNED.unlearned("an owl BREAK a tree") == ()


def test_a_phrase_is_the_longest_that_is_known() -> None:
    found = [(phrase.text, phrase.known) for phrase in LEARNED.phrases("Hot dogs on sky blue")]
    assert found == [("Hot dogs", "hot dog"), ("on", ""), ("sky blue", "sky blue")]


def test_a_colour_is_a_learned_one_or_near_only_to_such(learned: Vocabulary) -> None:
    said = {word: learned.colour(next(learned.phrases(word))) for word in ("purple", "violet", "grey", "forest", "fox")}
    assert said == {"purple": "purple", "violet": "purple", "grey": "grey", "forest": "", "fox": ""}
