"""The catalogue of a running program: the card of every model, and which models stay in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pipelines.cards import ModelCard
from pipelines.request import InvalidRequest


class Catalogue:
    """Cards by id, and the ids that are pinned.  Thread-safe.

    Args:
        cards: the models that are known at the start; more can be added.
    """

    def __init__(self, cards: Iterable[ModelCard] = ()) -> None:
        self._cards = {card.id: card for card in cards}
        self._pinned: frozenset[str] = frozenset()
        self._lock = threading.Lock()  # for writers; readers get a mapping that is never changed

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """Every card by id, as of now."""
        return MappingProxyType(self._cards)

    def card(self, model_id: str) -> ModelCard:
        """The card with this id; raises InvalidRequest if there is none."""
        cards = self._cards
        if model_id not in cards:
            raise InvalidRequest("model", f"model is {model_id[:64]!r}; allowed: {', '.join(cards)}.")
        return cards[model_id]

    def add(self, card: ModelCard) -> None:
        """Add a model, or replace the card with the same id."""
        with self._lock:
            self._cards = {**self._cards, card.id: card}

    def replace(self, card: ModelCard) -> None:
        """Replace the card with the same id; a model that was removed meanwhile does not come back."""
        with self._lock:
            if card.id in self._cards:
                self._cards = {**self._cards, card.id: card}

    def remove(self, model_id: str) -> None:
        """Remove a card and its pin; does nothing if there is no such card."""
        with self._lock:
            self._cards = {name: card for name, card in self._cards.items() if name != model_id}
            self._pinned -= {model_id}

    # -- pins --------------------------------------------------------------------------------------------------

    @property
    def pinned(self) -> frozenset[str]:
        """Ids of the models that stay in memory, from when they are next loaded."""
        return self._pinned

    def pin(self, model_id: str) -> None:
        """Keep a model in memory; raises InvalidRequest if no card has this id."""
        with self._lock:
            self.card(model_id)
            self._pinned |= {model_id}

    def unpin(self, model_id: str) -> None:
        """Let a model be evicted again; does nothing if it is not pinned."""
        with self._lock:
            self._pinned -= {model_id}

    def pinned_cards(self) -> list[ModelCard]:
        """The cards of the pinned models."""
        cards, pinned = self._cards, self._pinned
        return [card for name, card in cards.items() if name in pinned]
