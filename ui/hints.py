"""What a model with a small vocabulary has not learned, and the nearest things that it has: one click puts them in.

The words come from a file beside the model (``ModelCard.neighbours``): ``names`` of what it draws, ``known`` words that
it understands, and ``near``, for other words, places in ``names``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import words
from ui.panel import carried, script

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from ui.making import Desk, Page

# Of a longer prompt the beginning is looked at.
MAX_WORDS = 40
# How alike a mistyped word is to the one that was meant (difflib's ratio).
ALIKE = 0.8
SHORTEST = 3
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_MARK = re.compile(r"<[^<>]*>")
_TEMPLATE = """
<div class="unlearned" data-part="unlearned" role="status" hidden>
  <p data-part="told"></p><p class="nearest" data-part="nearest"></p>
</div>
"""


@dataclass(frozen=True)
class Hint:
    """A word that the model has not learned.

    Attributes:
        word: as it was typed.
        near: what the model can draw instead, the nearest first; may be empty.
        misspelt: whether the word is taken for a slip of the pen.
    """

    word: str
    near: tuple[str, ...] = ()
    misspelt: bool = False


@dataclass(frozen=True)
class Learned:
    """What a model has learned, and what is near to it."""

    names: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    near: Mapping[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, card: ModelCard | None) -> Learned | None:
        """From the card's file; None for a model without a limit, or if its file cannot be read."""
        found = words.neighbours(card) if card is not None else None
        if not found:
            return None
        return cls(tuple(found["names"]), frozenset(found["known"]), found["near"])

    def hint(self, prompt: str) -> Hint | None:
        """The first word of a prompt that the model has not learned and that has a neighbour, else the first at all."""
        strange = [hint for word in _words(prompt) if (hint := self._look(word))]
        return next((hint for hint in strange if hint.near), strange[0] if strange else None)

    def _look(self, word: str) -> Hint | None:
        forms = _forms(word)
        if any(form in self.known for form in forms):
            return None
        for form in forms:
            if form in self.near:
                return Hint(word, self._named(form))
        for meant in difflib.get_close_matches(forms[0], self.known, n=1, cutoff=ALIKE):
            named = tuple(name for name in self.names if meant in name.split())[:1]
            return Hint(word, named or (meant,), misspelt=True)
        for meant in difflib.get_close_matches(forms[0], self.near, n=1, cutoff=ALIKE):
            return Hint(word, self._named(meant))
        return Hint(word)

    def _named(self, word: str) -> tuple[str, ...]:
        return tuple(self.names[k] for k in self.near[word] if 0 <= k < len(self.names))


def _words(prompt: str) -> list[str]:
    plain = _MARK.sub(" ", prompt)
    found = [word.group() for word, _ in zip(_WORD.finditer(plain), range(MAX_WORDS), strict=False)]
    return list(dict.fromkeys(word for word in found if len(word) >= SHORTEST))


def _forms(word: str) -> list[str]:
    """A word in small letters, and what it may be the plural or the possessive of."""
    plain = word.lower().replace("\u2019", "'").removesuffix("'s")
    forms = [plain]
    for end, instead in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if plain.endswith(end) and len(plain) - len(end) >= SHORTEST - 1:
            forms.append(plain.removesuffix(end) + instead)
    if "-" in plain:
        forms.append(plain.replace("-", " "))
    return forms


def told(hint: Hint | None, name: str) -> str:
    """The sentence for it."""
    if hint is None:
        return ""
    if hint.misspelt:
        return f"{name} does not know \u201c{hint.word}\u201d. Did you mean:"
    if hint.near:
        return f"{name} has not learned \u201c{hint.word}\u201d. Nearest to it that it can draw:"
    return f"{name} has not learned \u201c{hint.word}\u201d, nor anything near it. Its words are listed below."


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
    """What the component shows for a prompt."""
    learned = Learned.of(card)
    text = text if isinstance(text, str) else ""
    hint = learned.hint(text) if learned else None
    return {
        "text": text, "word": hint.word if hint else "", "near": list(hint.near) if hint else [],
        "told": told(hint, card.name if card else ""),
    }
