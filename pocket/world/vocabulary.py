"""The things that can be drawn, with the words for them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pocket.paths import ROOT
from pocket.world.colours import BACKGROUNDS

THINGS = Path(__file__).parent / "things.txt"


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn: the caption's name, the emoji's label, and other words for it.

    ``tags`` are emojibase's and may be loose ("mane" for the lion); ``synonyms`` are those of the word list, which
    a person would use instead of the name ("automobile" for the car).  Each belongs to one concept alone.
    """

    name: str
    label: str
    tags: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name of its icon in the artwork packages."""
        return re.sub(r"[^a-z0-9]+", "-", re.sub("['\u2019]", "", self.label.lower())).strip("-")


def names_of_things() -> list[str]:
    """The names of ``things.txt``."""
    return [line.partition(": ")[0].partition(" = ")[0] for line in _lines(THINGS)]


def load_things(modules: Path) -> list[Concept]:
    """The things of ``things.txt``, a line each: ``name = label: synonym, synonym``; label and synonyms may lack."""
    entries = []
    for line in _lines(THINGS):
        head, _, words = line.partition(": ")
        name, _, label = head.partition(" = ")
        entries.append((name, label or name, tuple(words.split(", ")) if words else ()))
    return with_tags(entries, modules)


def load_concepts(modules: Path) -> list[Concept]:
    """The vocabulary of the released weights: ``concepts.txt`` and ``synonyms.txt``."""
    synonyms = load_synonyms()
    pairs = [line.partition(" = ") for line in _lines(ROOT / "concepts.txt")]
    return with_tags([(name, label or name, synonyms.get(name, ())) for name, _, label in pairs], modules)


def load_synonyms() -> dict[str, tuple[str, ...]]:
    """The other words of ``synonyms.txt``: concept's name -> words."""
    return {
        name: tuple(words.split(", "))
        for name, _, words in (line.partition(" = ") for line in _lines(ROOT / "synonyms.txt"))
    }


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and line[0] != "#"]


def with_tags(entries: Iterable[tuple[str, str, tuple[str, ...]]], modules: Path) -> list[Concept]:
    """Concepts of (name, label, synonyms), each with the emojibase tags that belong to no other concept."""
    found = {
        entry["label"]: entry.get("tags", [])
        for entry in json.loads((modules / "emojibase-data/en/data.json").read_text())
    }
    by_lower = {label.lower(): label for label in reversed(found)}
    entries = [(name, by_lower[label.lower()], synonyms) for name, label, synonyms in entries]
    count = Counter(tag for _, label, _ in entries for tag in found[label])
    taken = {name for name, _, _ in entries} | set(BACKGROUNDS) | {word for _, _, words in entries for word in words}

    def own(label: str) -> tuple[str, ...]:
        plain = [tag for tag in found[label] if tag not in taken and re.fullmatch(r"[a-z]{3,}", tag)]
        return tuple(tag for tag in plain if count[tag] == 1)

    return [Concept(name, label, own(label), synonyms) for name, label, synonyms in entries]
