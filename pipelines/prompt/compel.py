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


def factor(mark: str) -> float:
    """The weight that stands behind a bracket: a number, ``+`` for 1.1 or ``-`` for 0.9, each sign once more."""
    if mark[0] in "+-":
        return (_UP if mark[0] == "+" else _DOWN) ** len(mark)
    return float(mark)
