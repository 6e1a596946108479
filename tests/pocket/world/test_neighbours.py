"""The file of neighbours agrees with the vocabulary that is shipped beside it."""

from __future__ import annotations

import json

import pytest

from pocket.world import plain
from pocket.world.neighbours import FILE, GRAVE, HUES, NEVER_OFFERED, PEOPLE, WAYS, released, singular
from pocket.world.vocabulary import Concept


@pytest.fixture(scope="module")
def found() -> dict:
    return json.loads(FILE.read_text())


def test_the_file_belongs_to_the_vocabulary(found: dict) -> None:
    assert found["names"] == [*(concept.name for concept in released()), *plain.COLOURS]
    assert found["colours"] == list(plain.COLOURS)
    assert FILE.stat().st_size < 300_000


def test_every_neighbour_is_a_name_and_none_is_offered_twice(found: dict) -> None:
    never = {found["names"].index(name) for name in NEVER_OFFERED}
    for word, near in found["near"].items():
        assert 1 <= len(near) <= 3 and len(set(near)) == len(near), word
        assert all(0 <= k < len(found["names"]) for k in near) and not never & set(near), word


def test_a_word_is_known_plain_strange_or_near_to_something(found: dict) -> None:
    kinds = [singular(released()), set(found["plain"].split()), set(found["strange"].split()), set(found["near"])]
    for i, one in enumerate(kinds):
        for other in kinds[i + 1 :]:
            assert not one & other


def test_people_and_horrors_are_likened_to_nothing(found: dict) -> None:
    assert not set(found["near"]) & {*PEOPLE.split(), *GRAVE.split(), *WAYS.split()}


def test_hues_are_likened_to_colours(found: dict) -> None:
    assert all({found["names"][k] for k in found["near"][hue]} <= set(plain.COLOURS) for hue in HUES)


def test_an_older_vocabulary_without_synonyms_is_read(tmp_path, monkeypatch) -> None:
    (tmp_path / "vocabulary.json").write_text('[{"name": "fox", "tags": ["sly"]}]')
    monkeypatch.setattr("pocket.world.neighbours.VOCABULARY", tmp_path / "vocabulary.json")
    assert released() == [Concept("fox", "fox", ("sly",))]
