"""The catalogue: cards by id that change while the program runs, and pins."""

from __future__ import annotations

import pytest

from pipelines.models.catalogue import Catalogue
from pipelines.request import InvalidRequest
from tests.support.tiny_model import tiny_card

A, B = (tiny_card("/nowhere/" + name, id=name) for name in "ab")


def test_a_view_of_the_cards_stays_as_it_was() -> None:
    catalogue = Catalogue([A])
    before = catalogue.cards
    catalogue.add(B)
    assert list(catalogue.cards) == ["a", "b"] and list(before) == ["a"]
    with pytest.raises(TypeError):
        catalogue.cards["c"] = A  # type: ignore[index]


def test_a_card_of_the_same_id_takes_the_old_ones_place() -> None:
    catalogue = Catalogue([A, B])
    catalogue.add(A.model_copy(update={"name": "Renamed"}))
    assert [(card.id, card.name) for card in catalogue.cards.values()] == [("a", "Renamed"), ("b", "Tiny")]


def test_a_removed_model_does_not_come_back_with_its_finished_download() -> None:
    catalogue = Catalogue([A])
    catalogue.remove("a")
    catalogue.replace(A.model_copy(update={"name": "Downloaded"}))
    assert not catalogue.cards
    catalogue.remove("a")


def test_an_unknown_id_is_refused_at_its_field() -> None:
    catalogue = Catalogue([A, B])
    for look_up in (catalogue.card, catalogue.pin):
        with pytest.raises(InvalidRequest, match=f"model is '{'x' * 64}'; allowed: a, b\\.") as refused:
            look_up("x" * 1000)
        assert refused.value.field == "model"


def test_pins_end_with_unpin_and_with_the_card() -> None:
    catalogue = Catalogue([A, B])
    for name in "ab":
        catalogue.pin(name)
    assert catalogue.pinned == {"a", "b"} and catalogue.pinned_cards() == [A, B]
    catalogue.unpin("b")
    catalogue.unpin("b")
    catalogue.remove("a")
    catalogue.add(A)  # the same model again: the pin was the removed one's
    assert catalogue.pinned == frozenset() and catalogue.pinned_cards() == []
