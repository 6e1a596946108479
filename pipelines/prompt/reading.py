"""What of a prompt was understood, in one line for the user; pure, so that the page can say it while one types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.prompt import A1111, PromptError, a1111, compel, editing, tags
from pipelines.system.text import shorten

# So many weighted words are named, and so much of each.
SHOWN, LENGTH = 4, 24
# A prompt that changes over the steps is read as for so many; which words it has does not depend on that.
SHOWN_STEPS = 100
# Marks that are sent as words, each with what to say of it: in either form, in compel's, in A1111's.
_ANY: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"(?<!\\)\([^():]*\s\d*\.\d+\s*\)"), "{} has no colon before its number"),
    (re.compile(r"(?<!\\)\([^():]*:\s*(?![+-]?[\d.]+\s*\))[+-]?[\d.][^():]*\)"), "{} ends with no number"),
    (re.compile(r"(?<!\\)\([^():]*:\s*[+-]?\d*\.\d+\s*(?=[,(]|$)"), "{} is not closed"),
    (re.compile(r"(?<!\\)\)\s*:\s*[\d.]+|(?<!\\)\)\s+\d*\.\d+"), "{} stands too far from its bracket"),
    (re.compile(r"(?<!\\)\{[^{}]*\}"), "{} gives no weight"),
    (
        re.compile(
            r"[(\uff08][^()\uff08\uff09]*\uff1a\s*[+-]?[\d.]+\s*[)\uff09]|\uff08[^()\uff08\uff09]*(?::\s*[\d.]+\s*\uff09|\uff09\s*[\d.]+)"
        ),
        "{} has full-width signs: write ( ) and :",
    ),
    (re.compile(r"(?<![\w.:])-?\d+(?:\.\d*)?::[^:]*(?:::)?"), "{} is NovelAI's form"),
    (re.compile(r"\bAND_[A-Z]+\b"), "{} is a mark of an extension"),
)
_COMPEL: Sequence[tuple[re.Pattern[str], str]] = (
    *_ANY,
    (
        re.compile(r"(?<!\\)\([^():]*:\s*[+-]?[\d.]+\s*\)"),
        "{} is A1111's form: write (word)1.3, or choose that form in Settings",
    ),
    (re.compile(r"(?<!\\)\((?:\s*\()+[^()]*\)(?:\s*\))+(?![\d.+-])"), "{} gives no weight: write (word)1.2"),
    (re.compile(r"(?<!\\)\[[^\[\]]*\]"), "{} gives no weight: write (word)0.9"),
    (re.compile(r"\bBREAK\b"), "{} is A1111's mark"),
    (re.compile(r"\bAND\b"), "{} is A1111's mark"),
)
_A1111: Sequence[tuple[re.Pattern[str], str]] = (
    *_ANY,
    (re.compile(r"(?<!\\)\)(?:[+-]*\.?\d[\d.]*|[+-]+(?=[\s,.)]|$))"), "{} is compel's form: write (word:1.3)"),
    (re.compile(r"\.(?:blend|swap|and|add|attend)\s*\("), "{} is compel's mark"),
)
_BEHIND = re.compile(r"(?<!\\)\)[\d.,:+-]+")
_MARKED = re.compile(r"(?<!\\)[()\[\]]|\bBREAK\b|\bAND\b")
_BLEND = re.compile(r"\.blend\s*\(")
_UNKNOWN_TAG = re.compile(r"<\s*[a-z]+\s*:[^<>\n]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What of the marks in a prompt was understood.

    Attributes:
        understood: a phrase for each kind of mark.
        words: marks that are sent to the model as words, a phrase each.
        error: why the prompt is refused, a sentence, or "".
    """

    understood: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    error: str = ""

    @property
    def line(self) -> str:
        """One line for the user; "" for plain words."""
        parts = [f"Understood: {'; '.join(self.understood)}." if self.understood else "", self.warning, self.error]
        return " ".join(part for part in parts if part)

    @property
    def warning(self) -> str:
        """A sentence about the marks that are sent to the model as words, or ""."""
        return f"Read as words: {'; '.join(self.words)}." if self.words else ""


def read(prompt: str, negative_prompt: str, syntax: str, weights: bool = True) -> Reading:
    """Say what of a prompt and a negative prompt is understood.

    Args:
        prompt, negative_prompt: as typed.
        syntax: the form in which they are read, ``COMPEL`` or ``A1111``.
        weights: whether the model reads weights at all.
    """
    try:
        text, loras = tags.take_lora_tags(prompt)
    except PromptError as problem:
        return Reading(error=f"The prompt {problem}.")
    totals = {name: sum(weight for other, weight in loras if other == name) for name, _ in loras}
    understood = [f"LoRA {name} at {weight:g}" for name, weight in totals.items()]
    words: list[str] = []
    for field, given in (("The prompt", text), ("The negative prompt", negative_prompt)):
        try:
            known = read_tags(given, negative=field != "The prompt")
            understood += [f"embedding {name}" for name in tags.embedding_names(known)]
            marks = _read_form(known, syntax, weights)
        except PromptError as problem:
            return Reading(tuple(understood), (), f"{field} {problem}.")
        understood += marks.understood
        words += marks.words
    return Reading(tuple(dict.fromkeys(understood)), tuple(dict.fromkeys(words)))


def read_tags(text: str, negative: bool = False) -> str:
    """A text, its LoRA tags taken out, with its embeddings' tags as ``<embedding:name>``.

    Raises:
        PromptError: for what is nearly a tag, and for a LoRA in a negative prompt.
    """
    if negative:
        tags.refuse_lora_tags(text)
    known = tags.read_embedding_tags(text)
    tags.refuse_near_tags(known)
    return known


def words_alone(prompt: str, syntax: str) -> str:
    """The words that a model reads: a prompt without tags, weights and BREAKs; the prompt itself if it is refused."""
    plain = " ".join(text for text, is_tag in tags.split_embeddings(prompt) if not is_tag)
    if syntax != A1111:
        return compel.without_weights(plain)
    try:
        texts = dict.fromkeys(editing.at_steps(plain, SHOWN_STEPS))
        return " ".join("".join(one.text for one in part) for text in texts for part in a1111.parse(text))
    except PromptError:
        return plain


def _read_form(text: str, syntax: str, weights: bool) -> Reading:
    plain = "".join(_letters(piece) if is_tag else piece for piece, is_tag in tags.split_embeddings(text))
    unknown = [f"{shorten(tag[0], 40)} is no mark" for tag in _UNKNOWN_TAG.finditer(plain)]
    if not weights:
        edits = tuple(editing.describe(plain)) if syntax == A1111 else ()
        first = editing.at_steps(plain, 1)[0] if edits else plain
        marked = compel.has_weights(plain) if syntax != A1111 else _MARKED.search(first) and a1111.parse(first)
        return Reading(edits, (*unknown, *(("weights, which this model does not read",) if marked else ())))
    found = _read_a1111(plain) if syntax == A1111 else _read_compel(plain)
    return Reading(found.understood, (*found.words, *unknown))


def _letters(tag: str) -> str:
    """The name in an embedding's tag without what could be a mark."""
    name = re.sub(r"[\W_]+", "_", tag.removeprefix("<embedding:").rstrip(">"))
    return re.sub(r"^(?:AND|BREAK)(?![^\W_])", lambda mark: mark[0].lower(), name)


def _read_a1111(text: str) -> Reading:
    weights: dict[tuple[str, float], None] = {}
    words: list[str] = []
    chunks = 1
    for plain in dict.fromkeys(editing.at_steps(text, SHOWN_STEPS)):
        parts = a1111.parse(plain)
        weights |= {(one.text, one.weight): None for part in parts for one in part if one.weight != 1}
        chunks = max(chunks, len(parts))
        words += _marks(plain, _A1111)
    found = [*editing.describe(text), *_weights(list(weights))]
    return Reading((*found, *([f"{chunks} chunks by BREAK"] * (chunks > 1))), tuple(dict.fromkeys(words)))


def _read_compel(text: str) -> Reading:
    weighted = list(compel.weighted_words(text))
    if weighted:
        compel.check_depth(text)
    words = [*_marks(text, _COMPEL), *_cut_weights(text)]
    if _BLEND.search(text) and not weighted:
        words.append(".blend( is read only where a word has a weight, such as (word)1.1")
    return Reading(tuple(_weights(weighted)), tuple(words))


def _cut_weights(text: str) -> Iterator[str]:
    """A weight of which compel reads only the beginning, such as ``(word)-1.3`` or ``(word)1,3``."""
    for found in _BEHIND.finditer(text):
        mark = found[0].rstrip(".,:")
        if (weight := compel.WEIGHT.match(mark)) and weight.end() < len(mark):
            yield f"the end of {mark[1:]}, which is no weight: write (word)1.3"
            return


def _weights(weighted: Sequence[tuple[str, float]]) -> Iterator[str]:
    """One phrase about the weights, if there are any."""
    words = [(text.strip(" ,"), weight) for text, weight in weighted]
    named = [f"{shorten(text, LENGTH)} \u00d7 {weight:.3g}" for text, weight in words if text]
    if named:
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        yield f"weights {', '.join(named[:SHOWN])}{more}"


def _marks(text: str, kinds: Iterable[tuple[re.Pattern[str], str]]) -> Iterator[str]:
    for pattern, about in kinds:
        if found := pattern.search(text):
            yield about.format(shorten(found[0].strip(), 40))
