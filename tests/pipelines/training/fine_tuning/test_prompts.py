"""Which pictures a model draws of its own while it is taught."""

from __future__ import annotations

import pytest

from pipelines.training.fine_tuning.prompts import new_setting, old_prompts, own_prompts
from presets.catalogue import load
from tests.support.tiny_model import tiny_card

CARDS = {card.id: card for card in load()}


def test_a_small_model_draws_each_thing_that_it_knows_before_one_comes_again() -> None:
    found = own_prompts(CARDS["pocket"], 96, "fox")
    assert len(set(found)) == 96 and not any(" fox " in prompt for prompt in found)
    assert found == own_prompts(CARDS["pocket"], 96, "fox") and all(" background" in prompt for prompt in found)


@pytest.mark.parametrize("name", ("sd15", "sdxl"))
def test_other_models_draw_their_own_prompts(name: str) -> None:
    card = CARDS[name]
    assert set(own_prompts(card, 32, "zorp")) == set(card.prompts)
    assert set(old_prompts(card)) <= set(card.prompts)


def test_a_model_without_prompts_or_whose_prompts_have_the_word_draws_something() -> None:
    assert len(own_prompts(tiny_card("x", prompts=()), 8, "zorp")) == 8
    assert own_prompts(tiny_card("x", prompts=("a fox",)), 2, "Fox") == ["", ""]


def test_the_new_setting_is_one_that_the_model_knows() -> None:
    assert new_setting(CARDS["pocket"], "zorp") == "a zorp on a pink background"
    assert new_setting(CARDS["sd15"], "zorp") == "a zorp in the snow"
