"""What training never showed, and the figures in words."""

from __future__ import annotations

from pipelines.training_sample.memorisation import Pull
from pipelines.training_sample.recipe import Wanted, held_out
from tests.support.toy_sample import toy_recipe
from ui.inspector.origins.nearest import likeness, never_shown, verdict


def test_a_badge_names_the_pair_that_training_never_showed() -> None:
    recipe = toy_recipe(things={f"thing {chr(97 + k)}": f"a thing {chr(97 + k)}" for k in range(26)})
    apart = next(name for name in recipe.names if held_out([name], "green"))
    shown = next(name for name in recipe.names if not held_out([name], "green"))
    said = never_shown(recipe.read(f"a {apart} on a green background"), recipe)
    assert said.startswith("This pair of thing and colour was never shown") and f"a {apart} on a green" in said
    assert never_shown(Wanted((shown,), "green"), recipe) == ""
    assert never_shown(Wanted((apart,)), recipe) == ""  # no colour, so no pair
    assert never_shown(Wanted(), recipe) == ""


def test_two_things_were_never_together_only_if_both_orders_are_held_out() -> None:
    recipe = toy_recipe(things={f"thing {chr(97 + k)}": f"a thing {chr(97 + k)}" for k in range(26)})
    pairs = [(a, b) for a in recipe.names for b in recipe.names if a != b]
    kinds = {(held_out(pair), held_out(pair[::-1])): pair for pair in pairs}
    assert len(kinds) == 4
    assert "never shown together" in never_shown(Wanted(kinds[True, True]), recipe)
    said = never_shown(Wanted(kinds[True, False]), recipe)
    assert "together" not in said and "never shown in this order" in said
    assert never_shown(Wanted(kinds[False, True]), recipe) == "" == never_shown(Wanted(kinds[False, False]), recipe)


def test_the_verdict_holds_its_figures() -> None:
    said = verdict(Pull(3.0, (1.0, 2.0, 4.0, 2.0)))
    assert "1.50 times" in said and "75%" in said and "no sign of" in said
    assert "a sign of" in verdict(Pull(9.0, (1.0, 2.0)))


def test_a_distance_is_told_in_words() -> None:
    assert len({likeness(d) for d in (0.02, 0.1, 0.5)}) == 3
