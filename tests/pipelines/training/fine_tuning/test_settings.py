"""What the user chooses for a fine-tuning."""

from __future__ import annotations

import json

import pytest

from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning.settings import (
    DRAWER,
    PRESETS,
    SMALL_PARAMETERS,
    TEXTUAL_INVERSION,
    as_json,
    from_json,
    has_word,
    read_settings,
    read_word,
)


def test_settings_survive_the_run_s_file() -> None:
    sent = {"word": " Zorp  thing ", "changed": {"rank": 8, "rate": 0.001}, "licence": "CC0"}
    found = read_settings("pocket", sent, ["", "a zorp thing at night", None])
    assert found.word == "Zorp thing" and found.captions[0] == found.setting == "a Zorp thing"
    assert from_json(json.loads(json.dumps(as_json(found)))) == found
    plan = found.plan(1000)
    assert plan.rank == 8 and isinstance(plan.rank, int) and plan.rate == 0.001 and plan.steps == 120


@pytest.mark.parametrize("name", PRESETS)
def test_a_large_model_learns_slowly_and_a_word_needs_no_pictures_of_the_model(name: str) -> None:
    found = read_settings("sd15", {"word": "zorp", "preset": name}, [None] * 3)
    assert found.plan(SMALL_PARAMETERS).rate < found.plan(SMALL_PARAMETERS - 1).rate
    assert found.plan(SMALL_PARAMETERS).batch == 1 and not found.plan(SMALL_PARAMETERS).convolutions
    word = read_settings("sd15", {"word": "zorp", "preset": name, "way": TEXTUAL_INVERSION}, [None] * 3)
    assert word.plan(1000).own == 0


def test_every_number_of_the_drawer_can_be_chosen() -> None:
    for name, (_, _, values) in DRAWER.items():
        for value in values:
            found = read_settings("pocket", {"word": "zorp", "changed": {name: value}}, [None] * 3)
            assert getattr(found.plan(1000), name) == value


@pytest.mark.parametrize("word", (None, 5, "", "  ", "<zorp>", "(zorp:1.3)", "a" * 41, "[a|b]", "zorp,"))
def test_a_word_that_prompts_would_misread_is_refused(word: object) -> None:
    with pytest.raises(InvalidRequest):
        read_word(word)


def test_a_word_is_found_as_a_whole() -> None:
    assert has_word("A ZORP, at night", "zorp") and not has_word("a zorpling", "zorp")
