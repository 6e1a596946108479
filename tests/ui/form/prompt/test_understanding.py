"""What a model with a small vocabulary makes of a prompt."""

from __future__ import annotations

import pytest

from presets.catalogue import load
from ui.form.prompt.guide import COMBINE, COUNT, RECOLOUR, PromptGuide, PromptPlace
from ui.form.prompt.understanding import ACT, understand
from ui.form.prompt.vocabulary import Vocabulary

CARD = next(card for card in load() if card.id == "pocket")
GUIDE, LEARNED = PromptGuide.of(CARD), Vocabulary.of(CARD)
assert GUIDE and LEARNED


@pytest.mark.parametrize(
    ("prompt", "parts", "cannot", "rewrites"),
    [
        ("a red apple on a yellow background", ("red apple", "yellow background"), (), ()),
        ("kittens on pink", ("cat", "pink background"), (), ()),
        ("a noto emoji of a tiny fox on teal", ("small fox", "teal background", "noto style"), (), ()),
        ("a fox next to a rocket", ("fox", "rocket"), (), ()),
        # A thing's own colours ask for nothing new.
        ("a red rose", ("rose",), (), ()),
        ("a purple dragon", ("dragon",), (RECOLOUR,), ("a dragon on a purple background",)),
        ("a green fox on red", ("fox", "red background"), (RECOLOUR,), ("a fox on a red background",)),
        ("black cat, fluent", ("cat", "fluent style"), (RECOLOUR,), ("a cat on a black background",)),
        ("three foxes on a green background", ("fox", "green background"), (COUNT,), ("a fox on a green background",)),
        ("2 cats on pink", ("cat", "pink background"), (COUNT,), ("a cat on a pink background",)),
        ("a couple of owls", ("owl",), (COUNT,), ("an owl",)),
        ("a pair of jeans", ("jeans",), (), ()),
        ("a cat on a horse", ("cat", "horse"), (COMBINE,), ("a cat next to a horse", "a cat", "a horse")),
        ("a cat and a dog next to a house", ("cat", "dog", "house"), (COMBINE,),
         ("a cat next to a dog", "a cat", "a dog")),
        ("an owl juggling quickly", ("owl",), (ACT,), ("an owl",)),
        ("a cat that is flying", ("cat",), (ACT,), ("a cat",)),
        ("a cat riding two horses", ("cat", "horse"), (COUNT, COMBINE, ACT),
         ("a cat next to a horse", "a cat", "a horse")),
        ("", (), (), ()),
    ],
)  # fmt: skip
def test_a_prompt_is_read_as_the_model_will(prompt: str, parts: tuple, cannot: tuple, rewrites: tuple) -> None:
    found = understand(prompt, LEARNED, GUIDE)
    assert (found.parts, found.cannot, found.rewrites) == (parts, cannot, rewrites)


def test_a_colour_without_a_background_is_told_from_one_of_a_thing() -> None:
    found = understand("a violet castle on turquoise", LEARNED, GUIDE)
    assert (found.meant, found.no_backgrounds) == ({2, 9}, {19})


def test_what_is_offered_instead_asks_for_nothing_in_vain() -> None:
    for prompt in ("five green dragons flying over a purple castle", "a cat with a top hat in a car on blue"):
        for rewrite in understand(prompt, LEARNED, GUIDE).rewrites:
            assert understand(rewrite, LEARNED, GUIDE).cannot == ()


def test_another_model_may_know_scenes_and_do_more() -> None:
    able = GUIDE.model_copy(
        update={"can": (RECOLOUR, COUNT, COMBINE), "places": (PromptPlace(name="tree", phrase="in front of a tree"),)}
    )
    found = understand("two purple dragons in front of a tree", LEARNED, able)
    assert (found.parts, found.cannot) == (("dragon", "tree"), ())
    assert able.prompt(["dragon"], "small", "noto", able.places[0]) == (
        "a noto emoji of a small dragon in front of a tree"
    )
