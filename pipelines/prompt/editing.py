"""Prompt editing as in AUTOMATIC1111's web UI: ``[from:to:when]``, ``[to:when]``, ``[from::when]``, ``[a|b]``.

``when`` is a share of the steps if it has a point (0.5), else a number of steps; until then ``from`` is read, and from
then on ``to``.  ``[a|b]`` reads one of its texts at each step, in turn.  Both nest.  A prompt is resolved into one
plain prompt a step, which keeps every other mark; other square brackets are weights (``a1111``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.prompt import PromptError
from pipelines.system.text import shorten

# Each takes a pass of the text encoder and is kept for the run.
MAX_TEXTS = 32
MAX_DEPTH = 20
_WHEN = re.compile(r"\s*(\d{1,4}|\d{0,4}\.\d{0,9}\d|\d{1,4}\.)\s*")
_PIECE = re.compile(r"<embedding:[^:<>]{1,128}>|\\.|[()\[\]:|]|[^()\[\]:|\\<]+|.", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """``before`` until ``when``, then ``after``; ``when`` is a share of the steps or a number of steps."""

    before: Sequence[Node]
    after: Sequence[Node]
    when: str

    def at(self, step: int, steps: int) -> Sequence[Node]:
        """What is read at a step, from 0."""
        return self.before if step < self.switch(steps) else self.after

    def switch(self, steps: int) -> int:
        """The first step that reads ``after``."""
        return min(steps, int(float(self.when) * steps) if "." in self.when else int(self.when))


@dataclass(frozen=True)
class Turns:
    """Several texts, one a step in turn."""

    options: Sequence[Sequence[Node]]

    def at(self, step: int, steps: int) -> Sequence[Node]:
        """What is read at a step, from 0."""
        return self.options[step % len(self.options)]


Node = str | Edit | Turns


def is_edited(prompt: str) -> bool:
    """Whether a prompt changes over the steps; raises PromptError for one that cannot be read."""
    return any(not isinstance(node, str) for node in _read(prompt))


def at_steps(prompt: str, steps: int) -> tuple[str, ...]:
    """The plain prompt of each of so many steps; one prompt for all if it never changes.

    Raises:
        PromptError: for a prompt that cannot be read, or that changes into more than ``MAX_TEXTS`` texts.
    """
    nodes = _read(prompt)
    if all(isinstance(node, str) for node in nodes):
        return (prompt,)
    texts = tuple(_text(nodes, step, steps) for step in range(max(steps, 1)))
    if len(set(texts)) > MAX_TEXTS:
        raise PromptError(f"changes over the steps into {len(set(texts))} texts; at most {MAX_TEXTS} are read")
    return texts


def describe(prompt: str) -> Iterator[str]:
    """A phrase for each change over the steps."""
    for node in _read(prompt):
        if isinstance(node, Turns):
            yield f"{' and '.join(_name(option) for option in node.options)} in turn, one a step"
        elif isinstance(node, Edit):
            yield f"{_name(node.before)} until {_moment(node.when)}, then {_name(node.after)}"


def _moment(when: str) -> str:
    return f"{100 * float(when):.3g}% of the steps" if "." in when else f"step {int(when)}"


def _name(nodes: Sequence[Node]) -> str:
    return shorten(_text(nodes, 0, 1).strip(" ,"), 24) or "nothing"


def _text(nodes: Sequence[Node], step: int, steps: int) -> str:
    return "".join(node if isinstance(node, str) else _text(node.at(step, steps), step, steps) for node in nodes)


def _read(prompt: str) -> Sequence[Node]:
    if "[" not in prompt:
        return [prompt]
    pieces = _PIECE.findall(prompt)
    return _nodes(pieces, _pairs(pieces), 0, len(pieces), 0)[0][0]


def _pairs(pieces: Sequence[str]) -> dict[int, int]:
    """Where each bracket that is closed ends; the others are letters here."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for at, piece in enumerate(pieces):
        if piece in ("(", "["):
            opened.append(at)
        elif piece in (")", "]"):
            mate = "(" if piece == ")" else "["
            place = next((k for k in reversed(range(len(opened))) if pieces[opened[k]] == mate), None)
            if place is not None:
                found[opened[place]] = at
                del opened[place:]
    return found


def _nodes(
    pieces: Sequence[str], pairs: dict[int, int], at: int, end: int, depth: int, marks: str = ""
) -> tuple[list[list[Node]], list[str]]:
    """What stands between two places, split at these marks outside of brackets; and the marks that were found."""
    if depth > MAX_DEPTH:
        raise PromptError(f"nests more than {MAX_DEPTH} brackets; take some out")
    parts: list[list[Node]] = [[]]
    found: list[str] = []
    while at < end:
        piece, close = pieces[at], pairs.get(at)
        if close is not None and piece == "[":
            parts[-1] += _square(*_nodes(pieces, pairs, at + 1, close, depth + 1, ":|"))
        elif close is not None:
            parts[-1] += ["(", *_nodes(pieces, pairs, at + 1, close, depth + 1)[0][0], ")"]
        elif piece in marks:
            found.append(piece)
            parts.append([])
        else:
            parts[-1].append(piece)
        at = (at if close is None else close) + 1
    return parts, found


def _square(parts: list[list[Node]], marks: list[str]) -> list[Node]:
    """Square brackets: texts in turn, a change, or a weight."""
    last = parts[-1]
    when = "".join(node for node in last if isinstance(node, str)) if all(isinstance(n, str) for n in last) else ""
    if "|" in marks:
        if ":" in marks:
            shown = shorten("".join(_text(part, 0, 1) for part in parts), 40)
            raise PromptError(f"mixes | and : in one pair of square brackets ({shown!r}); write one of them")
        return [Turns(parts)]
    if marks and _WHEN.fullmatch(when):
        if len(parts) > 3:
            raise PromptError(f"has more than [from:to:when] in square brackets before {shorten(when.strip(), 20)!r}")
        return [Edit(parts[0] if len(parts) == 3 else [], parts[-2], when.strip())]
    inner: list[Node] = [node for k, part in enumerate(parts) for node in ([":"] * (k > 0) + part)]
    return ["[", *inner, "]"]
