"""What a model with a small vocabulary has not learned, and the nearest things that it has: one click puts them in.

What is known comes from the card's ``vocabulary``: names and synonyms (tags are loose: "wizard" is one of the magic
wand's).  The file beside it, ``neighbours``, says the rest: ``names``, to which ``near`` points from words that were
not learned; ``strange`` words, near to nothing; ``colours``; and ``plain`` words, which ask for no thing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import words
from ui.panel import carried, script

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.making import Desk, Page

# Of a longer prompt the beginning is looked at, and the spelling of so many words.
MAX_TEXT = 2000
MAX_WORDS = 60
MAX_SPELT = 5
# How alike a mistyped word is to the one that was meant (difflib's ratio), and how long it is.
ALIKE = 0.8
SHORTEST, SPELT, LONGEST = 3, 4, 30
NEAREST = 3
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_MARK = re.compile(r"<[^<>]*>")
# What a word that no list has is then taken for: a verb or an adverb.
_NO_NOUN = ("ing", "ed", "ly")
_TEMPLATE = """
<div class="unlearned" data-part="unlearned">
  <p role="status" data-part="told"></p>
  <div class="nearest" role="group" aria-label="To put in its place" data-part="nearest" hidden></div>
</div>
"""


@dataclass(frozen=True)
class Hint:
    """A word that the model has not learned.

    Attributes:
        word: as it was typed.
        near: what to say instead, the nearest first; may be empty.
        misspelt: whether the word is taken for a slip of the pen.
        at: where it stands in the prompt.
    """

    word: str
    near: tuple[str, ...] = ()
    misspelt: bool = False
    at: int = 0


@dataclass(frozen=True)
class Learned:
    """What a model has learned, and what is near to it.

    Attributes:
        names: to choose neighbours from; those that the model does not know are never offered.
        known: words and phrases that it understands, in small letters.
        plain: words that ask for no thing.
        strange: words that it does not know, with nothing near.
        near: places in ``names``, for other words that it does not know.
    """

    names: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    strange: frozenset[str] = frozenset()
    near: Mapping[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, card: ModelCard | None) -> Learned | None:
        """From the card's files; None for a model without a limit, or if they cannot be read."""
        found = words.neighbours(card) if card is not None else None
        if card is None or not found:
            return None
        entries = words.vocabulary(card)
        known = {phrase for entry in entries for phrase in (entry["name"], *entry.get("synonyms", ()))}
        lists = (frozenset(found[name].split()) for name in ("plain", "strange"))
        return cls(tuple(found["names"]), frozenset({*known, *found["colours"]}), *lists, found["near"])

    def hint(self, prompt: str) -> Hint | None:
        """The first word of a prompt that the model has not learned and that has a neighbour, else the first at all."""
        strange = list(self._strange(prompt))
        return next((hint for hint in strange if hint.near), strange[0] if strange else None)

    def _strange(self, prompt: str) -> Iterator[Hint]:
        """A hint for each word that is neither known, alone or as part of a phrase, nor plain."""
        found, seen = _words(prompt), set()
        longest = max((phrase.count(" ") for phrase in self.known), default=0) + 1
        while found:
            word, at = found[0]
            spans = (n for n in range(min(longest, len(found)), 0, -1) if self._knows([w for w, _ in found[:n]]))
            known = next(spans, 0)
            found = found[max(known, 1):]
            if known or word in seen or len(word) < SHORTEST:
                continue
            if hint := self._look(word, at, len(seen) < MAX_SPELT):
                seen.add(word)
                yield hint

    def _knows(self, phrase: list[str]) -> bool:
        return any(form in self.known for form in _forms(" ".join(phrase)))

    def _look(self, word: str, at: int, spell: bool) -> Hint | None:
        """What to say of a word that is not known."""
        forms = _forms(word)
        if any(form in self.plain for form in forms) or self._is_compound(forms[0]):
            return None
        for form in forms:
            if form in self.near:
                return Hint(word, self._named(form), at=at)
        whole = tuple(name for name in self.names if forms[0] in name.split() and name in self.known)
        if whole or any(form in self.strange for form in forms):
            return Hint(word, whole[:NEAREST], at=at)
        if forms[0].endswith(_NO_NOUN):
            return None
        return (self._spelt(word, forms[0], at) if spell else None) or Hint(word, at=at)

    def _is_compound(self, word: str) -> bool:
        """Whether a word with a hyphen is made of words that need no hint ("one-eyed")."""
        parts = word.split("-")
        return len(parts) > 1 and all(
            self._knows([part]) or part in self.plain or part.endswith(_NO_NOUN) for part in parts
        )

    def _spelt(self, word: str, plain: str, at: int) -> Hint | None:
        """A hint for what was probably meant: a word of the vocabulary, or one with neighbours."""
        meant = _alike(plain, {part for phrase in self.known for part in phrase.split()})
        if meant:
            return Hint(word, meant, misspelt=True, at=at)
        return next((Hint(word, self._named(other), at=at) for other in _alike(plain, self.near)), None)

    def _named(self, word: str) -> tuple[str, ...]:
        found = (self.names[k] for k in self.near[word] if 0 <= k < len(self.names))
        return tuple(name for name in found if name in self.known)


def _words(prompt: str) -> list[tuple[str, int]]:
    """The words of a prompt and where they stand; LoRA marks are no words."""
    plain = _MARK.sub(lambda mark: " " * len(mark.group()), prompt[:MAX_TEXT])
    return [(word.group(), word.start()) for word in islice(_WORD.finditer(plain), MAX_WORDS)]


def _forms(phrase: str) -> list[str]:
    """Words in small letters, and what they may be the plural or the possessive of."""
    plain = phrase.lower().replace("\u2019", "'").removesuffix("'s")
    forms = [plain]
    for end, instead in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if plain.endswith(end) and len(plain) - len(end) >= SHORTEST - 1:
            forms.append(plain.removesuffix(end) + instead)
    if "-" in plain:
        forms.append(plain.replace("-", " "))
    return forms


def _alike(word: str, others: Collection[str]) -> tuple[str, ...]:
    """Those that a mistyped word may stand for, the likest first."""
    if not SPELT <= len(word) <= LONGEST:
        return ()
    fit = [other for other in others if abs(len(other) - len(word)) <= 2 and len(other) >= SPELT - 1]
    # Sorted: a set has no order of its own, and of equals the first is taken.
    return tuple(difflib.get_close_matches(word, sorted(fit), n=NEAREST, cutoff=ALIKE))


def told(hint: Hint | None, name: str) -> str:
    """The sentence for it."""
    if hint is None:
        return ""
    word = hint.word if len(hint.word) <= LONGEST else f"{hint.word[:LONGEST - 1]}\u2026"
    if hint.misspelt:
        return f"{name} does not know \u201c{word}\u201d. Did you mean:"
    if hint.near:
        return f"{name} has not learned \u201c{word}\u201d. Nearest it knows:"
    return f"{name} has not learned \u201c{word}\u201d, nor anything near it. Try one of these, or a larger model."


def hints(prefix: str = "") -> gr.HTML:
    """The component: it listens to the prompt box beside it."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=script("hints.js"),
        elem_id=f"{prefix}hints",
        apply_default_css=False,
    )


def wire(page: Page, desk: Desk) -> None:
    """Ask, once somebody has stopped typing or another model is chosen."""

    def ask(model: Any, data: gr.EventData) -> dict[str, Any]:
        return answer(page.card(model), carried(data, "text", ""))

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    desk.hints.ask(ask, [desk.controls.model], [desk.hints], **quick)


def answer(card: ModelCard | None, text: Any) -> dict[str, Any]:
    """What the component shows for a prompt; ``at`` counts as a browser does, in UTF-16."""
    text = text if isinstance(text, str) else ""
    learned = Learned.of(card)
    hint = learned.hint(text) if learned else None
    return {
        "text": text, "word": hint.word if hint else "", "near": list(hint.near) if hint else [],
        "at": len(text[:hint.at].encode("utf-16-le", "surrogatepass")) // 2 if hint else 0,
        "told": told(hint, card.name if card else ""),
    }  # fmt: skip
