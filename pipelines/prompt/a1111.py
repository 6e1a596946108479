"""The prompt form of AUTOMATIC1111's web UI: ``(word:1.3)``, ``((word))``, ``[word]``, ``BREAK``.

``(x)`` multiplies the weight of x by 1.1, ``[x]`` by 1 / 1.1, ``(x:1.3)`` by 1.3; brackets that are never closed reach
to the end.  A backslash makes a bracket a letter, and is dropped before anything else.  BREAK begins a new chunk of the
text window.  What changes over the steps (``[a:b:0.5]``, ``[a|b]``) is resolved before (``pipelines.prompt.editing``);
what that program does with several prompts (``AND``) is refused: nothing of it would be seen here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pipelines.prompt import PromptError
from pipelines.prompt.tags import EMBEDDING_TAG
from pipelines.system.text import shorten

UP, DOWN = 1.1, 1 / 1.1
MAX_DEPTH = 40
MAX_WEIGHT = 100.0
_MARK = re.compile(
    r"(?P<tag><embedding:[^:<>/\\]{1,128}>)"
    r"|\\(?P<escaped>[()\[\]\\]?)"
    r"|(?P<open>[(\[])"
    r"|:\s*(?P<weight>[+-]?[\d.]+)\s*\)"
    r"|(?P<close>[)\]])"
    r"|(?P<new>\s*\bBREAK\b\s*)"
)
_AND = re.compile(r"\bAND\b")
_SCHEDULE = re.compile(r":\s*[\d.]+\s*$")


@dataclass(frozen=True)
class Fragment:
    """A stretch of a prompt with one weight."""

    text: str
    weight: float = 1.0


# The fragments between two BREAKs.
Part = tuple[Fragment, ...]


def parse(prompt: str) -> tuple[Part, ...]:
    """Read a prompt: its parts between BREAKs, at least one; a part may be empty.

    Raises:
        PromptError: for what is refused, deeper brackets than ``MAX_DEPTH``, and weights beyond ``MAX_WEIGHT``.
    """
    bare = _without_tags(prompt)
    if found := _AND.search(bare):
        near = shorten(prompt[found.start() :], 30)
        raise PromptError(f"joins prompts by AND ({near!r}), which is not done here; write BREAK or a comma instead")
    reader, at = _Reader(bare), 0
    for mark in _MARK.finditer(prompt):
        reader.text(prompt[at : mark.start()])
        reader.mark(mark)
        at = mark.end()
    reader.text(prompt[at:])
    return reader.parts()


def _without_tags(prompt: str) -> str:
    """A prompt with spaces for its embeddings' tags: names may hold any mark."""
    return EMBEDDING_TAG.sub(lambda tag: " " * len(tag[0]), prompt)


@dataclass
class _Item:
    """A stretch of text whose brackets may still be open."""

    text: str
    weight: float = 1.0


class _Reader:
    """What was read so far.

    Attributes:
        bare: the prompt without its tags.
        items: in order; None for BREAK.
        open: for each kind of bracket, where those that are open begin: in ``items``, and in the prompt.
    """

    def __init__(self, bare: str) -> None:
        self.bare = bare
        self.items: list[_Item | None] = []
        self.open: dict[str, list[tuple[int, int]]] = {"(": [], "[": []}

    def text(self, text: str) -> None:
        if text:
            self.items.append(_Item(text))

    def mark(self, mark: re.Match[str]) -> None:
        match mark.lastgroup:
            case "tag":
                self.text(mark[0])
            case "escaped":
                self.text(mark["escaped"])
            case "open":
                self._open(mark[0], mark.end())
            case "weight" if self.open["("]:
                self._close("(", _weight(mark["weight"]))
            case "close" if mark[0] == ")" and self.open["("]:
                self._close("(", UP)
            case "close" if mark[0] == "]" and self.open["["]:
                _refuse_schedule(self.bare[self.open["["][-1][1] : mark.start()])
                self._close("[", DOWN)
            case "new":
                self.items.append(None)
            case _:
                self.text(mark[0])

    def parts(self) -> tuple[Part, ...]:
        for kind, factor in (("(", UP), ("[", DOWN)):
            while self.open[kind]:
                self._close(kind, factor)
        parts: list[list[_Item]] = [[]]
        for item in self.items:
            if item is None:
                parts.append([])
            else:
                parts[-1].append(item)
        return tuple(_merged(part) for part in parts)

    def _open(self, kind: str, position: int) -> None:
        if len(self.open["("]) + len(self.open["["]) >= MAX_DEPTH:
            raise PromptError(f"nests more than {MAX_DEPTH} brackets; write a weight such as (word:1.3) instead")
        self.open[kind].append((len(self.items), position))

    def _close(self, kind: str, factor: float) -> None:
        for item in self.items[self.open[kind].pop()[0] :]:
            if item is not None:
                item.weight *= factor


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PromptError(f"has the weight {shorten(text, 20)!r}, which is not a number; write (word:1.3)") from None


def _refuse_schedule(inside: str) -> None:
    """Refuse square brackets that change the prompt over the steps."""
    top = re.sub(r"\\.|\([^()]*\)", "", inside)
    if "|" in top or _SCHEDULE.search(top):
        raise PromptError(
            f"changes over the steps by {shorten(f'[{inside}]', 40)!r}, which is not done here; write one of the words"
        )


def _merged(items: Sequence[_Item]) -> Part:
    """Neighbours of one weight as one fragment, so that they are tokenized together."""
    merged = [
        Fragment("".join(item.text for item in group), weight)
        for weight, group in groupby(items, lambda item: item.weight)
    ]
    for fragment in merged:
        if abs(fragment.weight) > MAX_WEIGHT:
            raise PromptError(
                f"gives {shorten(fragment.text, 30)!r} the weight {fragment.weight:.4g}; at most {MAX_WEIGHT:g} is read"
            )
    return tuple(merged)
