"""The models that people added themselves: a small JSON file of what they named; it is never lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.files import appearing
from presets import catalogue
from presets.reading import CatalogueError

VERSION = 1
MAX_MODELS = 500
MAX_BYTES = 1 << 20


class Shelf:
    """Models that people added, in the order in which they did.

    The file holds names and places only; cards are told anew from the models' own files, so that they are never stale.

    Args:
        path: the JSON file; it and its folder are made when a model is first added.
        known: the catalogue's cards, whose ids are taken.
        cache_dir: where the configuration of single files is put; see ``presets.configs.folder``.
        peek: fetches the configuration files of a hub id; see ``presets.catalogue.card_for``.
    """

    def __init__(
        self,
        path: Path | str,
        known: Sequence[ModelCard] = (),
        cache_dir: Path | None = None,
        peek: catalogue.Peek | None = None,
    ) -> None:
        self.path = Path(path)
        self._known, self._cache_dir, self._peek = tuple(known), cache_dir, peek
        self._lock = threading.RLock()
        self._notes: list[str] = []

    def add(self, text: str, files: bool = True) -> ModelCard:
        """Put a model on the shelf: a hub id or the address of its page, a diffusers folder, a .safetensors file.

        Args:
            text: what a person typed or pasted; quotes and spaces around it are dropped.
            files: whether folders and files may be named; not for visitors, who would learn what this disk holds.

        Raises:
            CatalogueError: if it is no model that can be run, is there already, or the file cannot be written.
        """
        named = text.strip().strip("\"'").strip()
        with self._lock:
            entries = self._entries()
            cards = [*self._known, *self._cards(entries)[0]]
            if any(named == card.id for card in cards):
                raise CatalogueError(f"The model {named[:200]} is already there; choose it from the list.")
            card = catalogue.card_for(named, cards, self._cache_dir, self._peek, files)
            if any(card.source == other.source for other in cards):
                raise CatalogueError(f"The model {card.name} is already there; choose it from the list.")
            if len(entries) >= MAX_MODELS:
                raise CatalogueError(f"You have added {MAX_MODELS} models, which is the most; remove one first.")
            self._write([*entries, {"id": card.id, "source": card.source}])
        return card

    def remove(self, id: str) -> bool:
        """Take a model off the shelf; its files stay where they are.

        Returns:
            Whether it was there.

        Raises:
            CatalogueError: if the file cannot be written.
        """
        with self._lock:
            entries = self._entries()
            kept = [entry for entry in entries if entry["id"] != id]
            if len(kept) < len(entries):
                self._write(kept)
        return len(kept) < len(entries)

    def ids(self) -> set[str]:
        """Ids of the models on the shelf, whether they can be used now or not; none if its file cannot be read."""
        with self._lock:
            try:
                return {entry["id"] for entry in self._entries()}
            except CatalogueError:
                return set()

    def cards(self) -> list[ModelCard]:
        """The models that can be used now."""
        return self.look()[0]

    def look(self) -> tuple[list[ModelCard], list[str]]:
        """The models that can be used now, and a sentence for each that cannot; never raises."""
        with self._lock:
            try:
                entries = self._entries()
            except CatalogueError as error:
                return [], [*self._notes, str(error)]
            cards, problems = self._cards(entries)
            return cards, [*self._notes, *problems]

    def _cards(self, entries: Sequence[dict[str, str]]) -> tuple[list[ModelCard], list[str]]:
        """Cards with the ids that they were given; a disk that is not plugged in leaves its models on the shelf."""
        cards: list[ModelCard] = []
        problems = []
        for entry in entries:
            try:
                is_place = Path(entry["source"]).is_absolute()
                card = catalogue.card_for(entry["source"], (), self._cache_dir, files=is_place)
            except CatalogueError as error:
                problems.append(f"Your model {entry['id'][:200]} cannot be used: {error}")
            else:
                cards.append(card.model_copy(update={"id": entry["id"]}))
        return cards, problems

    def _entries(self) -> list[dict[str, str]]:
        """What the file holds; a broken file is put aside under another name, and a new list begins."""
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} cannot be read ({error.strerror}); check who may read it."
            ) from None
        entries = _parsed(text)
        if entries is None:
            self._put_aside()
            return []
        return entries

    def _put_aside(self) -> None:
        numbers = (f"{self.path.name}.broken-{n}" for n in range(1, 1000))
        kept = next(self.path.with_name(name) for name in numbers if not self.path.with_name(name).exists())
        try:
            os.replace(self.path, kept)
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} is broken and cannot be put aside ({error.strerror}); move it."
            ) from None
        self._notes.append(f"The list of your models was broken and is kept as {kept}; a new list begins.")

    def _write(self, entries: Sequence[dict[str, str]]) -> None:
        text = json.dumps({"version": VERSION, "models": list(entries)}, indent=2, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with appearing(self.path) as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} cannot be written ({error.strerror}); free some space or choose "
                "another data folder."
            ) from None


def _parsed(text: bytes) -> list[dict[str, str]] | None:
    """The entries of a shelf's file, or None if it is not one."""
    try:
        found: Any = json.loads(text.decode("utf-8", "surrogateescape")) if len(text) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("models"), list):
        return None
    entries = [entry for entry in found["models"] if isinstance(entry, dict)]
    if not all(isinstance(entry.get(name), str) and entry[name] for entry in entries for name in ("id", "source")):
        return None
    return entries if len(entries) == len(found["models"]) else None
