"""The prompt form of the compel library, by its marks alone: ``a (red)1.4 apple``, ``(blurry)0.5``, ``(bright)++``.

Compel's own parser reads the prompts (``pipelines.models.prompt_weighting``); this tells what it will read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.prompt import PromptError

# Far beyond what anybody writes; each level takes the parser several calls of the stack.
MAX_DEPTH = 20
# A closing bracket with a weight behind it; brackets alone are ordinary text.
WEIGHT = re.compile(r"(?<!\\)\)(\d*\.?\d+|\++|-+)")
_BRACKET = re.compile(r"(?<!\\)[()]")
_UP, _DOWN = 1.1, 0.9
# What A1111's form reads as marks: escaped characters and brackets.
_MARK = re.compile(r"\\.|[()\[\]]")
_FUNCTION = re.compile(r"\)\.(?:blend|and|swap)\(")


def has_weights(prompt: str) -> bool:
    """Whether a prompt gives weights to some of its words."""
    return WEIGHT.search(prompt) is not None


def without_weights(prompt: str) -> str:
    """The words without their weights."""
    return re.sub(r"(?<!\\)\(", "", WEIGHT.sub("", prompt)) if has_weights(prompt) else prompt


def check_depth(prompt: str) -> None:
    """Raise PromptError for brackets that are nested too deeply."""
    depth = 0
    for bracket in _BRACKET.finditer(prompt):
        depth = depth + 1 if bracket[0] == "(" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            raise PromptError(f"nests more than {MAX_DEPTH} brackets; write a weight such as (word)1.3 instead")


def weighted_words(prompt: str) -> Iterator[tuple[str, float]]:
    """The words in brackets with a weight, and that weight, without the weights of brackets around them."""
    opened: list[int] = []
    for bracket in _BRACKET.finditer(prompt):
        if bracket[0] == "(":
            opened.append(bracket.end())
        elif opened:
            start = opened.pop()
            if weight := WEIGHT.match(prompt, bracket.start()):
                yield without_weights(prompt[start : bracket.start()]), factor(weight[1])


def to_a1111(prompt: str) -> str:
    """A prompt in A1111's form with the same weights: ``a (red)1.4 [apple]`` is ``a (red:1.4) \\[apple\\]``.

    What that form has not, such as ``.blend()``, stays as it is.
    """
    if _FUNCTION.search(prompt):
        return prompt
    parts, opened, at = list[str](), list[int](), 0
    for mark in _MARK.finditer(prompt):
        parts.append(prompt[at : mark.start()])
        at = mark.end()
        weight = WEIGHT.match(prompt, mark.start()) if mark[0] == ")" and opened else None
        if weight:
            parts[opened.pop()] = "("
            parts.append(f":{factor(weight[1]):g})")
            at = weight.end()
            continue
        if mark[0] == "(":
            opened.append(len(parts))
        elif mark[0] == ")" and opened:
            opened.pop()
        parts.append(mark[0] if mark[0].startswith("\\") else f"\\{mark[0]}")
    return "".join([*parts, prompt[at:]])


def factor(mark: str) -> float:
    """The weight that stands behind a bracket: a number, ``+`` for 1.1 or ``-`` for 0.9, each sign once more."""
    if mark[0] in "+-":
        return (_UP if mark[0] == "+" else _DOWN) ** len(mark)
    return float(mark)
