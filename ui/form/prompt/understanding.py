"""Reading a prompt as a model with a small vocabulary will: what it draws of it, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ui.form.prompt.guide import COMBINE, COUNT, RECOLOUR, PromptGuide, PromptPlace
from ui.form.prompt.vocabulary import Phrase, Vocabulary

ACT = "show what a thing does"
# In the order in which the answer names them.
VERBS = (RECOLOUR, COUNT, COMBINE, ACT)
MAX_REWRITES = 3
ARTICLES = frozenset({"a", "an", "the"})
BACKGROUND_WORDS = frozenset({"background", "backdrop"})
BEFORE_BACKGROUNDS = frozenset({"on", "against"})
NUMBERS = frozenset(
    {"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen", "many", "several", "few",
     "couple", "pair", "both"}
)  # fmt: skip
# Before a word that says what a thing does.
BEFORE_ACTS = frozenset({"is", "are", "that", "who", "while"})
NOT_ACTS = frozenset({"painting", "drawing", "being", "including", "wearing", "nothing", "anything", "something"})


@dataclass(frozen=True)
class Understanding:
    """What a model makes of a prompt.

    Attributes:
        parts: what it understood, as people would say it.
        cannot: of ``VERBS``, what the prompt asks for in vain.
        pair: whether it asks for two things side by side.
        rewrites: prompts that the model can draw instead, the nearest first.
        meant: positions of words that have a meaning here, such as a number or a colour of a thing, learned or not.
        no_backgrounds: positions of words for backgrounds that the model does not have.
    """

    parts: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    pair: bool = False
    rewrites: tuple[str, ...] = ()
    meant: frozenset[int] = frozenset()
    no_backgrounds: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Word:
    """A phrase with its meaning: thing, colour, place, size, style, number, relation, act, or "" for other words."""

    phrase: Phrase
    kind: str = ""
    value: str = ""

    @property
    def text(self) -> str:
        return self.phrase.text.lower()


def understand(prompt: str, vocabulary: Vocabulary, guide: PromptGuide | None) -> Understanding:
    """What a model makes of a prompt; without a guide only the things that it names."""
    words = _meanings(prompt, vocabulary, guide or PromptGuide(things={}))
    things = list(dict.fromkeys(word.value for word in words if word.kind == "thing"))
    if guide is None:
        return Understanding(tuple(things))
    size = next((word.value for word in words if word.kind == "size"), "")
    style = next((word.value for word in words if word.kind == "style"), "")
    place = _place(words, guide)
    cannot = tuple(verb for verb in VERBS if verb not in guide.can and verb in set(_in_vain(words, guide)))
    parts = [*([f"{size} {things[0]}".strip(), *things[1:]] if things else []), *([place.label] if place else [])]
    rewrites = _rewrites(prompt, things, size, style, place or _wished_place(words, guide), cannot, guide)
    meant = frozenset(word.phrase.at for word in words if word.kind)
    no_backgrounds = frozenset(word.phrase.at for word in words if word.value and not word.kind)
    pair = len(things) == 2 and COMBINE not in cannot
    said = (*parts, *([f"{style} style"] if style else []))
    return Understanding(said, cannot, pair, rewrites, meant, no_backgrounds)


def _rewrites(
    prompt: str, things: Sequence[str], size: str, style: str, place: PromptPlace | None, cannot: Sequence[str],
    guide: PromptGuide,
) -> tuple[str, ...]:  # fmt: skip
    if not cannot or not things:
        return ()
    wanted = [guide.prompt(things[:2], size, style, place)] if len(things) > 1 else []
    wanted += [guide.prompt([name], size, style, place) for name in things]
    found = dict.fromkeys(text for text in wanted if text.lower() != prompt.strip().lower())
    return tuple(found)[:MAX_REWRITES]


def _meanings(prompt: str, vocabulary: Vocabulary, guide: PromptGuide) -> list[_Word]:
    """The prompt's words with their meanings; a number in digits is a word too."""
    words: list[_Word] = []
    phrases = list(vocabulary.phrases(prompt))
    for k, phrase in enumerate(phrases):
        before = prompt[phrases[k - 1].at + len(phrases[k - 1].text) if k else 0 : phrase.at]
        if any(part.isdecimal() and int(part[:9]) > 1 for part in before.split()):
            words.append(_Word(Phrase(before.strip(), phrase.at), "number"))
        words.append(_meaning(phrase, vocabulary, guide))
    return [_in_context(words, k, guide) for k in range(len(words))]


def _meaning(phrase: Phrase, vocabulary: Vocabulary, guide: PromptGuide) -> _Word:
    """A phrase's meaning by itself."""
    text = phrase.text.lower()
    if size := next((name for name, said in guide.sizes.items() if text in said), ""):
        return _Word(phrase, "size", size)
    if text in guide.styles:
        return _Word(phrase, "style", text)
    if text in NUMBERS:
        return _Word(phrase, "number")
    if scene := next((place.name for place in guide.places if not place.colour and place.name == phrase.known), ""):
        return _Word(phrase, "place", scene)
    thing, colour = vocabulary.things.get(phrase.known, ""), vocabulary.colour(phrase)
    return (
        _Word(phrase, "thing", thing)
        if thing and thing != colour
        else _Word(phrase, "colour" if colour else "", colour)
    )


def _in_context(words: Sequence[_Word], k: int, guide: PromptGuide) -> _Word:
    """A word's meaning among the others: a colour may be a background, a word that ends in -ing what a thing does."""
    word = words[k]
    after, before = _neighbour(words, k, 1), _neighbour(words, k, -1)
    if word.kind == "colour":
        said = after is not None and after.text in BACKGROUND_WORDS
        implied = before is not None and before.text in BEFORE_BACKGROUNDS and not _coloured(words, k)
        known = any(place.colour and place.name == word.text for place in guide.places)
        kind = ("place" if known else "") if said or implied else "colour"
        return _Word(word.phrase, kind, word.value)
    doing = word.text.endswith("ing") and len(word.text) > 4 and word.text not in NOT_ACTS
    if not word.kind and doing and before is not None and (before.kind == "thing" or before.text in BEFORE_ACTS):
        return _Word(word.phrase, "act")
    return word


def _neighbour(words: Sequence[_Word], k: int, step: int) -> _Word | None:
    """The next word in a direction that is no article."""
    k += step
    while 0 <= k < len(words) and words[k].text in ARTICLES:
        k += step
    return words[k] if 0 <= k < len(words) else None


def _coloured(words: Sequence[_Word], k: int) -> str:
    """The thing that the colour at place k stands before, or ""."""
    following = (word for word in words[k + 1 :] if word.kind not in ("colour", "size", "style"))
    first = next(following, None)
    return first.value if first is not None and first.kind == "thing" else ""


def _in_vain(words: Sequence[_Word], guide: PromptGuide) -> Iterator[str]:
    """What the words ask for beside things, sizes, styles and places."""
    for k, word in enumerate(words):
        thing = _coloured(words, k) if word.kind in ("colour", "number") else ""
        if word.kind == "colour" and thing and word.value not in guide.things.get(thing, ()):
            yield RECOLOUR
        # "two foxes", "a pair of foxes"; "a pair of jeans" is one thing.
        counted = thing or (_coloured(words, k + 1) if _text(words, k + 1) == "of" else "")
        if word.kind == "number" and counted and not (word.text == "pair" and counted.endswith("s")):
            yield COUNT
        if word.kind == "act":
            yield ACT
    if _combines(words, guide):
        yield COMBINE


def _text(words: Sequence[_Word], k: int) -> str:
    return words[k].text if k < len(words) else ""


def _combines(words: Sequence[_Word], guide: PromptGuide) -> bool:
    """Whether two things are asked for otherwise than side by side, or more than two."""
    places = [k for k, word in enumerate(words) if word.kind == "thing"]
    if len({words[k].value for k in places}) > 2:
        return True
    for start, end in pairwise(places):
        between = " ".join(word.text for word in words[start + 1 : end] if not word.kind and word.text not in ARTICLES)
        acts = any(word.kind == "act" for word in words[start + 1 : end])
        if acts or (between and between not in guide.relations):
            return True
    return False


def _place(words: Sequence[_Word], guide: PromptGuide) -> PromptPlace | None:
    """Where the prompt puts its things."""
    names = [word.value for word in words if word.kind == "place"]
    return next((place for name in names for place in guide.places if place.name == name), None)


def _wished_place(words: Sequence[_Word], guide: PromptGuide) -> PromptPlace | None:
    """The background in the colour that was meant for a thing, or in the one nearest to what is no background."""
    names = [word.value for word in words if word.value and word.kind in ("colour", "")]
    return next((place for name in names for place in guide.places if place.colour and place.name == name), None)
