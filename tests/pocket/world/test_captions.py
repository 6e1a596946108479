"""Captions say what a picture shows, in many ways."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pocket.world.captions import caption, place
from pocket.world.samples import Sample
from pocket.world.scenes import SCENES
from tests.support.toy_artwork import THINGS


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (Sample(0, "green"), "a fox on a green background"),
        (Sample(1, "orange", style="noto"), "a noto emoji of a red apple on an orange background"),
        (
            Sample(0, "meadow", medium="watercolor", colour="purple", size="small"),
            "a watercolor painting of a small purple fox in a meadow",
        ),
        (Sample(0, "space", count=2), "two foxes in space"),
        (Sample(2, "beach", other=0, relation="in front of"), "a house in front of a fox on the beach"),
        (Sample(2, "sunset", medium="paper", count=3, colour="blue"), "a paper cut-out of three blue houses at sunset"),
    ],
)
def test_plain_captions(sample: Sample, expected: str) -> None:
    assert caption(sample, THINGS) == expected


def captions(sample: Sample, count: int = 300) -> Iterator[str]:
    rng = np.random.default_rng(0)
    return (caption(sample, THINGS, rng) for _ in range(count))


def share(found) -> float:
    return float(np.mean(list(found)))


def test_the_thing_is_always_named() -> None:
    sample = Sample(0, "meadow", medium="oil", colour="purple", size="large", style="noto")
    assert all(any(word in text for word in ("fox", "vixen", "sly")) for text in captions(sample))


def test_parts_are_seldom_left_out() -> None:
    sample = Sample(0, "meadow", medium="oil", colour="blue")
    texts = list(captions(sample))
    for words in (("meadow", "field", "grass"), ("oil",), ("blue",)):
        assert 0.85 < share(any(word in text for word in words) for text in texts) < 1


def test_the_order_is_free() -> None:
    texts = list(captions(Sample(0, "sunset", medium="watercolor")))
    assert any(text.startswith(("at sunset,", "in the sunset,")) for text in texts)
    assert share(text.startswith("a watercolor") for text in texts) > 0.2
    assert any(text.endswith("watercolor") for text in texts) and len(set(texts)) > 100


def test_synonyms_plurals_and_numbers() -> None:
    texts = list(captions(Sample(0, "white", count=2)))
    assert all(any(word in text for word in ("foxes", "vixens", "slies", "slys")) for text in texts)
    assert 0.05 < share("vixen" in text for text in texts) < 0.3
    assert share("two" in text for text in texts) > 0.5 and any("pair of" in text for text in texts)


def test_flat_and_the_first_style_are_seldom_said() -> None:
    texts = list(captions(Sample(0, "white")))
    assert share("fluent" in text for text in texts) < 0.15 and share("flat" in text for text in texts) < 0.15
    assert share("twemoji" in text for text in captions(Sample(0, "white", style="twemoji"))) == 1


def test_pairs_name_both_in_order() -> None:
    for text in captions(Sample(2, "white", other=0, relation="above")):
        other = next(text.index(word) for word in ("fox", "vixen", "sly") if word in text)
        assert text.index("house") < other and any(word in text for word in ("above", "over"))


def test_every_scene_has_phrases_of_its_own() -> None:
    phrases = [phrase for scene in SCENES.values() for phrase in scene.phrases]
    assert len(phrases) == len(set(phrases)) and all(len(scene.phrases) >= 3 for scene in SCENES.values())
    assert place("sky blue") == "on a sky blue background" and place("night") == "at night"
