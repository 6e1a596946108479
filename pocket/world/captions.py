"""Captions of samples: plain sentences with a free order, synonyms, plurals and tags; parts are left out at random."""

from __future__ import annotations

import numpy as np

from pocket.world.colours import BACKGROUNDS
from pocket.world.grammar import article, plural
from pocket.world.media import MEDIA
from pocket.world.samples import FIRST_STYLE, Sample
from pocket.world.scenes import SCENES
from pocket.world.vocabulary import Concept

SIZE_WORDS = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
COLOUR_WORDS = {"purple": ("purple", "violet"), "grey": ("grey", "gray"), "red": ("red", "crimson")}
COUNT_WORDS = {2: ("two", "a pair of", "a couple of", "2"), 3: ("three", "3")}
RELATION_WORDS = {
    "next to": ("next to", "and", "beside", "with"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "in front of": ("in front of", "before"),
    "behind": ("behind",),
}
# How often a part that the picture has is not said.
UNSAID_PLACE, UNSAID_MEDIUM, UNSAID_COLOUR, UNSAID_SIZE = 0.07, 0.05, 0.05, 0.1
FLAT_SAID, FIRST_STYLE_SAID = 0.12, 0.08


def caption(sample: Sample, things: list[Concept], rng: np.random.Generator | None = None) -> str:
    """A caption; without ``rng`` the plain sentence that the evaluation asks for.

    "a watercolor painting of a small purple dragon in a meadow", "a noto emoji of a fox on a green background".
    """
    return _plain(sample, things) if rng is None else _Words(sample, things, rng).caption()


def _plain(sample: Sample, things: list[Concept]) -> str:
    words = [word for word in (sample.size, sample.colour) if word]
    name = things[sample.thing].name
    if sample.count > 1:
        subject = " ".join([COUNT_WORDS[sample.count][0], *words, plural(name)])
    else:
        subject = article(" ".join([*words, name]))
    if sample.other is not None:
        subject = f"{subject} {sample.relation} {article(things[sample.other].name)}"
    if sample.style != FIRST_STYLE:
        subject = f"a {sample.style} emoji of {subject}"
    opening = "" if sample.medium == "flat" else f"{MEDIA[sample.medium].openings[0]} of "
    return f"{opening}{subject} {place(sample.surroundings)}"


def place(surroundings: str) -> str:
    """Where, in its plainest form: "in a meadow", "on a green background"."""
    if surroundings in BACKGROUNDS:
        return f"on {article(surroundings)} background"
    return SCENES[surroundings].phrases[0]


class _Words:
    """One caption of a sample with random words and order."""

    def __init__(self, sample: Sample, things: list[Concept], rng: np.random.Generator) -> None:
        self.sample, self.things, self.rng = sample, things, rng

    def caption(self) -> str:
        """One of the forms of a sentence."""
        subject, where, medium = self.subject(), self.where(), self.medium()
        opening, tag = medium if medium else ("", "")
        style = self.style()
        if style and self.chance(0.5):
            subject, style = f"a {style} emoji of {subject}", ""
        tags = [t for t in (tag, style and self.any_of((f"{style} style", f"in {style} style"))) if t]
        form = self.rng.random()
        if opening and form < 0.5:
            sentence, tags = f"{opening} of {subject}", tags[1:]
        else:
            sentence = subject
        if where and form > 0.88:
            return ", ".join([where, sentence, *tags])
        if where and form > 0.8:
            parts = [sentence, where, *tags]
            return ", ".join(parts[i] for i in self.rng.permutation(len(parts)))
        if tag in tags and form > 0.7:
            tags[0] = f"in {tag} style"
            return " ".join(p for p in (sentence, where, *tags) if p)
        return ", ".join([f"{sentence} {where}".strip(), *tags])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def any_of(self, words: tuple[str, ...], first: float = 0.55) -> str:
        """One of the words, the first most often."""
        if len(words) == 1 or self.chance(first):
            return words[0]
        return words[int(self.rng.integers(1, len(words)))]

    def subject(self) -> str:
        """The thing, or the things and how they stand."""
        s = self.sample
        words = []
        if s.size and not self.chance(UNSAID_SIZE):
            words.append(self.any_of(SIZE_WORDS[s.size]))
        if s.colour and not self.chance(UNSAID_COLOUR):
            words.append(self.any_of(COLOUR_WORDS.get(s.colour, (s.colour,)), 0.8))
        first = self.noun(s.thing, words, s.count)
        if s.other is None:
            return first
        return f"{first} {self.any_of(RELATION_WORDS[s.relation], 0.6)} {self.noun(s.other, [], 1)}"

    def noun(self, thing: int, words: list[str], count: int) -> str:
        """A thing in words: its name or another word for it, mostly with the article or the number."""
        concept, draw = self.things[thing], self.rng.random()
        name = concept.name
        if concept.synonyms and draw < 0.16:
            name = self.any_of(concept.synonyms, 1 / len(concept.synonyms))
        elif concept.tags and draw > 0.96:
            name = self.any_of(concept.tags, 1 / len(concept.tags))
        if count > 1:
            return " ".join([self.any_of(COUNT_WORDS[count], 0.75), *words, plural(name)])
        phrase = " ".join([*words, name])
        return phrase if self.chance(0.2) else article(phrase)

    def where(self) -> str:
        """The surroundings in words, or nothing."""
        if self.chance(UNSAID_PLACE):
            return ""
        name = self.sample.surroundings
        if name in BACKGROUNDS:
            return self.any_of((place(name), f"on {name}", f"{name} background"), 0.75)
        return self.any_of((*SCENES[name].phrases, name), 0.45)

    def medium(self) -> tuple[str, str] | None:
        """What opens a sentence, and a tag; nothing where it is not said."""
        medium = MEDIA[self.sample.medium]
        unsaid = 1 - FLAT_SAID if medium.name == "flat" else UNSAID_MEDIUM
        return None if self.chance(unsaid) else (self.any_of(medium.openings), self.any_of(medium.tags))

    def style(self) -> str:
        """The style of the artwork where it is said."""
        style = self.sample.style
        return style if style != FIRST_STYLE or self.chance(FIRST_STYLE_SAID) else ""
