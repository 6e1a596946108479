"""The file of neighbours agrees with the vocabulary that is shipped beside it."""

from __future__ import annotations

import json

from pocket import data
from pocket.neighbours import FILE, PEOPLE, known_words


def test_the_file_belongs_to_the_vocabulary() -> None:
    found = json.loads(FILE.read_text())
    shipped = json.loads((data.ROOT / "vocabulary.json").read_text())
    concepts = [data.Concept(w["name"], w["name"], tuple(w["tags"]), tuple(w["synonyms"])) for w in shipped]
    assert found["names"] == [concept.name for concept in concepts]
    assert found["known"] == known_words(concepts)
    assert not set(found["near"]) & {*found["known"], *PEOPLE.split()}
    assert all(0 <= k < len(concepts) for near in found["near"].values() for k in near)
    assert all(1 <= len(near) <= 3 for near in found["near"].values())
    assert FILE.stat().st_size < 300_000
