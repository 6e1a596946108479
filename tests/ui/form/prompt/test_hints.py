"""The answer below the prompt: what was understood, what was not, and what can be drawn instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cards import ModelCard
from presets.catalogue import load
from tests.support.site import tiny_card
from ui.form.prompt import hints
from ui.form.prompt.understanding import Understanding
from ui.form.prompt.vocabulary import WordHint

EMPTY = {"understood": [], "notes": [], "swaps": [], "rewrites": [], "read": ""}


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return next(card for card in load() if card.id == "pocket")


def test_the_answer_names_everything(card: ModelCard) -> None:
    said = hints.answer(card, "two purple dragons and a wizard, xyzzy, on turquoise")
    assert said["understood"] == ["dragon"]
    assert said["notes"] == [
        "turquoise is not a background here",
        "not learned: wizard, xyzzy",
        "it cannot recolour or count",
    ]
    assert {swap["word"]: swap["near"][0] for swap in said["swaps"]} == {"wizard": "magic wand", "turquoise": "teal"}
    assert said["rewrites"] == ["a dragon on a purple background"]


def test_two_things_come_with_what_to_expect_of_them(card: ModelCard) -> None:
    notes = hints.answer(card, "a cat next to a rocket on pink")["notes"]
    assert notes == ["of two things side by side it draws both right about one time in four"]


def test_a_colour_of_a_thing_is_no_word_to_learn(card: ModelCard) -> None:
    said = hints.answer(card, "a violet castle")
    assert (said["notes"], said["swaps"]) == (["it cannot recolour"], [])
    assert said["rewrites"] == ["a castle on a purple background"]


def test_with_nothing_near_a_larger_model_is_named(card: ModelCard) -> None:
    assert hints.answer(card, "xyzzy")["notes"] == [
        "not learned: xyzzy",
        "try one of these, or a larger model from Models",
    ]


def test_many_words_are_counted_and_long_ones_cut() -> None:
    words = [WordHint("q" * 99), *(WordHint(f"word{k}") for k in range(9))]
    (said, _) = hints.notes(Understanding(), words, "")
    assert said.startswith(f"not learned: {'q' * 29}\u2026, word0") and said.endswith("word6 and 2 more")


def test_models_without_a_limit_and_broken_files_get_no_answer(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[]")
    broken = card.model_copy(update={"neighbours": str(tmp_path / "broken.json")})
    assert hints.answer(broken, "a wizard") == {"text": "a wizard", **EMPTY}
    assert hints.answer(None, ["no text"]) == {"text": "", **EMPTY}


def test_a_model_without_a_guide_still_says_which_things_it_knows(card: ModelCard) -> None:
    said = hints.answer(card.model_copy(update={"prompt_guide": ""}), "three purple dragons")
    assert (said["understood"], said["notes"], said["rewrites"]) == (["dragon"], [], [])


def test_the_place_counts_as_a_browser_does(card: ModelCard) -> None:
    assert hints.answer(card, "\U0001f431 wizard")["swaps"][0]["at"] == 3


def test_the_line_about_marks_follows_the_form_and_the_model() -> None:
    card = tiny_card("x")
    assert "red \u00d7 1.3" in hints.answer(card, "a (red:1.3) fox", "", "a1111")["read"]
    assert "A1111's form" in hints.answer(card, "a fox", "(red:1.3)", "compel")["read"]
    flux = card.model_copy(update={"family": "flux"})
    assert "does not read" in hints.answer(flux, "a (red)1.3 fox")["read"]
    assert hints.answer(None, "a fox", None, ["x"])["read"] == ""


def test_every_shipped_prompt_is_understood(card: ModelCard) -> None:
    for one in (card for card in load() if card.vocabulary):
        for prompt in one.prompts:
            said = hints.answer(one, prompt)
            assert said["understood"] and not said["swaps"] + said["rewrites"], (prompt, said)
            assert json.dumps(said)


def test_words_that_a_wildcard_may_draw_are_understood_and_its_braces_are_no_unread_mark(card: ModelCard) -> None:
    said = hints.answer(card, "a {dragon|dragon} on {pink|pink}")
    assert said["text"] == "a {dragon|dragon} on {pink|pink}" and said["read"] == "" and said["swaps"] == []
    assert said["understood"][:1] == ["dragon"]
    assert "gives no weight" in hints.answer(tiny_card("x"), "a {fox}")["read"]
    assert hints.answer(card, "{" * 900)["swaps"] == []


def test_an_embedding_without_a_mark_is_named_in_a1111s_form() -> None:
    said = hints.answer(None, "a fox", "easynegative", "a1111", embeddings=["EasyNegative"])
    assert said["read"] == "Understood: embedding EasyNegative." and said["text"] == "a fox"
    assert hints.answer(None, "a fox", "easynegative", "compel", embeddings=["EasyNegative"])["read"] == ""
