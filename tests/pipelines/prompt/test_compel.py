"""Compel's form of weights, and the same prompts in A1111's form."""

from __future__ import annotations

import pytest

from pipelines.prompt.a1111 import parse
from pipelines.prompt.compel import to_a1111


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a (red)1.4 apple", "a (red:1.4) apple"), ("(bright)++ sky", "(bright:1.21) sky"), ("(dull)-", "(dull:0.9)"),
        ("((a)1.2 b).5", "((a:1.2) b:0.5)"), ("a fox", "a fox"), ("a (red) [fox]", r"a \(red\) \[fox\]"),
        (r"a \(red\) fox", r"a \(red\) fox"), ("a) b(", r"a\) b\("), ('("a", "b").blend(1, 1)',) * 2,
    ],
)  # fmt: skip
def test_a_prompt_has_the_same_weights_in_a1111s_form(prompt: str, expected: str) -> None:
    assert to_a1111(prompt) == expected


def test_what_a1111_reads_has_the_words_and_weights() -> None:
    (part,) = parse(to_a1111("a (red)1.4 [old] (apple)"))
    assert [(one.text, one.weight) for one in part] == [("a ", 1.0), ("red", 1.4), (" [old] (apple)", 1.0)]
