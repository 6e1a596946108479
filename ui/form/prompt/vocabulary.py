"""The words that a model with a small vocabulary has learned, and the neighbours of others.

The learned words come from the card's ``vocabulary``: names and synonyms, not tags, which are loose ("wizard" is a tag
of the magic wand).  Its ``neighbours`` file holds the rest: ``near`` maps words that were not learned to places in
``names``; ``strange`` words have no neighbour; ``colours`` were learned; ``plain`` words name no object.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ui.components import phrases

if TYPE_CHECKING:
    from pipelines.cards import ModelCard

# Only the beginning of a longer prompt is read, and the spelling of only a few words is checked.
MAX_TEXT = 2000
MAX_WORDS = 60
MAX_SPELL_CHECKS = 5
# The similarity of a misspelt word to the one that was meant (difflib's ratio).
SPELLING_CUTOFF = 0.8
# Characters of a word: to get a hint, to be checked for its spelling, and at most.
MIN_LENGTH, MIN_SPELL_LENGTH, MAX_LENGTH = 3, 4, 30
MAX_SUGGESTIONS = 3
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_TAG = re.compile(r"<[^<>]*>|\bBREAK\b")
# A word with such an ending that is on no list is taken for a verb or an adverb.
_NOT_NOUN_ENDINGS = ("ing", "ed", "ly")


@dataclass(frozen=True)
class WordHint:
    """A word that the model has not learned.

    Attributes:
        word: as it was typed.
        near: suggestions, the nearest first; may be empty.
        misspelt: whether the word looks misspelt.
        at: its position in the prompt.
    """

    word: str
    near: tuple[str, ...] = ()
    misspelt: bool = False
    at: int = 0


@dataclass(frozen=True)
class Phrase:
    """A word of a prompt, or several that are known together.

    Attributes:
        text: as it was typed.
        at: its position in the prompt.
        known: what the model has learned for it, in lower case and without its plural, or "".
    """

    text: str
    at: int
    known: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model has learned, and the neighbours of others.

    Attributes:
        names: candidates for suggestions; only those that the model knows are offered.
        known: words and phrases that the model has learned, in lower case.
        no_objects: words that name no object, such as "and"; they get no hint.
        without_neighbour: words that were not learned and have no neighbour.
        near: other words that were not learned -> places in ``names``.
        things: names and synonyms of what can be drawn -> names.
        colours: the colours that were learned.
    """

    names: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    no_objects: frozenset[str] = frozenset()
    without_neighbour: frozenset[str] = frozenset()
    near: Mapping[str, list[int]] = field(default_factory=dict)
    things: Mapping[str, str] = field(default_factory=dict)
    colours: frozenset[str] = frozenset()

    @classmethod
    def of(cls, card: ModelCard | None) -> Vocabulary | None:
        """From the card's files; None for a model without a limit, or if they cannot be read."""
        found = phrases.neighbours(card) if card is not None else None
        if card is None or not found:
            return None
        entries = phrases.vocabulary(card)
        things = {p.lower(): e["name"] for e in entries for p in (*e.get("synonyms", ()), e["name"])}
        colours = frozenset(found["colours"])
        no_objects, without_neighbour = (frozenset(found[name].split()) for name in ("plain", "strange"))
        known = frozenset({*things, *colours})
        return cls(tuple(found["names"]), known, no_objects, without_neighbour, found["near"], things, colours)

    def phrases(self, prompt: str) -> Iterator[Phrase]:
        """The prompt in order, word by word; words that are known together are one phrase."""
        found = words_of(prompt)
        longest = max((phrase.count(" ") for phrase in self.known), default=0) + 1
        while found:
            spans = ((n, self._known([w for w, _ in found[:n]])) for n in range(min(longest, len(found)), 0, -1))
            count, known = next(((n, form) for n, form in spans if form), (1, ""))
            (_, start), (last, at) = found[0], found[count - 1]
            yield Phrase(prompt[start : at + len(last)], start, known)
            found = found[count:]

    def unlearned(self, prompt: str) -> tuple[WordHint, ...]:
        """A hint for each word that is neither known, alone or in a phrase, nor without an object."""
        hints: dict[str, WordHint] = {}
        for phrase in self.phrases(prompt):
            word = phrase.text
            if phrase.known or word.lower() in hints or len(word) < MIN_LENGTH:
                continue
            if hint := self._hint_for(word, phrase.at, len(hints) < MAX_SPELL_CHECKS):
                hints[word.lower()] = hint
        return tuple(hints.values())

    def colour(self, phrase: Phrase) -> str:
        """The learned colour that a phrase names or is near to ("violet" is near purple), or ""."""
        forms = _base_forms(phrase.text)
        found = (self._suggestions(form) for form in forms if form in self.near)
        near = next((names for names in found if names and all(name in self.colours for name in names)), ())
        return next((form for form in forms if form in self.colours), near[0] if near else "")

    def _known(self, phrase: list[str]) -> str:
        return next((form for form in _base_forms(" ".join(phrase)) if form in self.known), "")

    def _knows(self, phrase: list[str]) -> bool:
        return bool(self._known(phrase))

    def _hint_for(self, word: str, at: int, spell: bool) -> WordHint | None:
        """The hint for a word that is not known, if it needs one."""
        forms = _base_forms(word)
        if any(form in self.no_objects for form in forms) or self._is_compound(forms[0]):
            return None
        for form in forms:
            if form in self.near:
                return WordHint(word, self._suggestions(form), at=at)
        containing = tuple(name for name in self.names if forms[0] in name.split() and name in self.known)
        if containing or any(form in self.without_neighbour for form in forms):
            return WordHint(word, containing[:MAX_SUGGESTIONS], at=at)
        if forms[0].endswith(_NOT_NOUN_ENDINGS):
            return None
        return (self._spelling_hint(word, forms[0], at) if spell else None) or WordHint(word, at=at)

    def _is_compound(self, word: str) -> bool:
        """Whether a word with a hyphen is made of words that need no hint ("one-eyed")."""
        parts = word.split("-")
        return len(parts) > 1 and all(
            self._knows([part]) or part in self.no_objects or part.endswith(_NOT_NOUN_ENDINGS) for part in parts
        )

    def _spelling_hint(self, word: str, base: str, at: int) -> WordHint | None:
        """A hint for what was probably meant: a word of the vocabulary, or one with neighbours."""
        meant = _close_matches(base, {part for phrase in self.known for part in phrase.split()})
        if meant:
            return WordHint(word, meant, misspelt=True, at=at)
        return next(
            (WordHint(word, self._suggestions(other), at=at) for other in _close_matches(base, self.near)), None
        )

    def _suggestions(self, word: str) -> tuple[str, ...]:
        found = (self.names[k] for k in self.near[word] if 0 <= k < len(self.names))
        return tuple(name for name in found if name in self.known)


def words_of(prompt: str) -> list[tuple[str, int]]:
    """The words of a prompt with their positions, without tags and BREAK."""
    text = _TAG.sub(lambda tag: " " * len(tag.group()), prompt[:MAX_TEXT])
    return [(word.group(), word.start()) for word in islice(_WORD.finditer(text), MAX_WORDS)]


def _base_forms(phrase: str) -> list[str]:
    """A phrase in lower case, and the words that it may be the plural or the possessive of."""
    base = phrase.lower().replace("\u2019", "'").removesuffix("'s")
    forms = [base]
    for ending, singular in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if base.endswith(ending) and len(base) - len(ending) >= MIN_LENGTH - 1:
            forms.append(base.removesuffix(ending) + singular)
    if "-" in base:
        forms.append(base.replace("-", " "))
    return forms


def _close_matches(word: str, others: Collection[str]) -> tuple[str, ...]:
    """The words that a misspelt word may stand for, the most similar first."""
    if not MIN_SPELL_LENGTH <= len(word) <= MAX_LENGTH:
        return ()
    fit = [other for other in others if abs(len(other) - len(word)) <= 2 and len(other) >= MIN_SPELL_LENGTH - 1]
    # Sorted, since a set has no order and the first of equals is taken.
    return tuple(difflib.get_close_matches(word, sorted(fit), n=MAX_SUGGESTIONS, cutoff=SPELLING_CUTOFF))
