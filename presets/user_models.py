"""The models that the user added, in a small JSON file; a broken file is set aside, never overwritten."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import parse_json
from presets import catalogue
from presets.json_files import CatalogueError

VERSION = 1
MAX_MODELS = 500
MAX_BYTES = 1 << 20


class UserModels:
    """Models that the user added, in that order.  Thread-safe.

    The file holds ids and sources only; cards are read from the models' own files, so that they are never stale.

    Args:
        path: the JSON file; it and its folder are made when a model is first added.
        known: the catalogue's cards, whose ids are taken.
        cache_dir: where the configuration of single files is put; see ``presets.configs.write_folder``.
        download_configs: fetches the configuration files of a hub id; see ``presets.catalogue.card_for``.
    """

    def __init__(
        self,
        path: Path | str,
        known: Sequence[ModelCard] = (),
        cache_dir: Path | None = None,
        download_configs: catalogue.DownloadConfigs | None = None,
    ) -> None:
        self.path = Path(path)
        self._known, self._cache_dir, self._download_configs = tuple(known), cache_dir, download_configs
        self._lock = threading.RLock()
        self._past_problems: list[str] = []

    def add(self, text: str, files: bool = True) -> ModelCard:
        """Add a model: a hub id or the address of its page, a diffusers folder, or a .safetensors file.

        Args:
            text: what the user typed or pasted; quotes and spaces around it are dropped.
            files: whether folders and files may be named; False for guests, who could probe this disk.

        Raises:
            CatalogueError: if it is no supported model, was added before, or the file cannot be written.
        """
        name = text.strip().strip("\"'").strip()
        with self._lock:
            entries = self._entries()
            cards = [*self._known, *self._cards(entries)[0]]
            if any(name == card.id for card in cards):
                raise CatalogueError(f"The model {name[:200]} is already there; choose it from the list.")
            card = catalogue.card_for(name, cards, self._cache_dir, self._download_configs, files)
            if any(card.source == other.source for other in cards):
                raise CatalogueError(f"The model {card.name} is already there; choose it from the list.")
            if len(entries) >= MAX_MODELS:
                raise CatalogueError(f"You have added {MAX_MODELS} models, which is the most; remove one first.")
            self._write([*entries, {"id": card.id, "source": card.source}])
        return card

    def remove(self, id: str) -> bool:
        """Remove a model from the list; its files stay.

        Returns:
            Whether it was on the list.

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
        """Ids of all models on the list, usable or not; empty if the file cannot be read."""
        with self._lock:
            try:
                return {entry["id"] for entry in self._entries()}
            except CatalogueError:
                return set()

    def cards(self) -> list[ModelCard]:
        """The models that can be used now."""
        return self.load()[0]

    def load(self) -> tuple[list[ModelCard], list[str]]:
        """The models that can be used now, and a sentence for each problem; never raises."""
        with self._lock:
            try:
                entries = self._entries()
            except CatalogueError as error:
                return [], [*self._past_problems, str(error)]
            cards, problems = self._cards(entries)
            return cards, [*self._past_problems, *problems]

    def _cards(self, entries: Sequence[dict[str, str]]) -> tuple[list[ModelCard], list[str]]:
        """Cards with their stored ids, and problems; a model whose disk is unplugged stays on the list."""
        cards: list[ModelCard] = []
        problems = []
        for entry in entries:
            try:
                is_path = Path(entry["source"]).is_absolute()
                card = catalogue.card_for(entry["source"], (), self._cache_dir, files=is_path)
            except CatalogueError as error:
                problems.append(f"Your model {entry['id'][:200]} cannot be used: {error}")
            else:
                cards.append(card.model_copy(update={"id": entry["id"]}))
        return cards, problems

    def _entries(self) -> list[dict[str, str]]:
        """What the file holds; a broken file is renamed, and a new list begins."""
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} cannot be read ({error.strerror}); check who may read it."
            ) from None
        entries = _parse(text)
        if entries is None:
            self._set_aside()
            return []
        # Earlier versions used the path of a model as its id where its name was taken.
        return [{**entry, "id": _id_without_path(entry["id"])} for entry in entries]

    def _set_aside(self) -> None:
        numbers = (f"{self.path.name}.broken-{n}" for n in range(1, 1000))
        kept = next(self.path.with_name(name) for name in numbers if not self.path.with_name(name).exists())
        try:
            os.replace(self.path, kept)
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} is broken and cannot be renamed ({error.strerror}); move it."
            ) from None
        self._past_problems.append(f"The list of your models was broken and is kept as {kept}; a new list begins.")

    def _write(self, entries: Sequence[dict[str, str]]) -> None:
        text = json.dumps({"version": VERSION, "models": list(entries)}, indent=2, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as file:
                file.write(text.encode())
        except OSError as error:
            raise CatalogueError(
                f"The list of your models {self.path} cannot be written ({error.strerror}); free some space or choose "
                "another data folder."
            ) from None


def _parse(text: bytes) -> list[dict[str, str]] | None:
    """The entries of the file, or None if it is broken."""
    try:
        found: Any = parse_json(text, MAX_BYTES)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("models"), list):
        return None
    entries = [entry for entry in found["models"] if isinstance(entry, dict)]
    if not all(isinstance(entry.get(name), str) and entry[name] for entry in entries for name in ("id", "source")):
        return None
    return entries if len(entries) == len(found["models"]) else None


def _id_without_path(id: str) -> str:
    path = catalogue.as_path(id)
    return catalogue.distinct_id(path) if path is not None and path.is_absolute() else id
