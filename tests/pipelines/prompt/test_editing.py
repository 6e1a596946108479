"""Prompt editing: which text is read at which step."""

from __future__ import annotations

import pytest

from pipelines.prompt import PromptError
from pipelines.prompt.editing import MAX_TEXTS, at_steps, describe, is_edited


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a [red:blue:0.5] apple", ["a red apple"] * 2 + ["a blue apple"] * 2),
        ("a [red:blue:3]", ["a red"] * 3 + ["a blue"]),
        ("[x:1] y", [" y"] + ["x y"] * 3),
        ("[x::.25] y", ["x y"] + [" y"] * 3),
        ("[x:y:1.0]", ["x"] * 4),
        ("[x:y:0]", ["y"] * 4),
        ("[cat|dog|]", ["cat", "dog", "", "cat"]),
        ("[[a|b]:(c:1.2) [d]:2]", ["a", "b", "(c:1.2) [d]", "(c:1.2) [d]"]),
        ("[<embedding:bad>:x:2]", ["<embedding:bad>"] * 2 + ["x"] * 2),
    ],
)
def test_the_text_of_each_step(prompt: str, texts: list[str]) -> None:
    assert list(at_steps(prompt, 4)) == texts
    assert is_edited(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "a fox",
        "[word]",
        "(a:1.3) [b (c:2)]",
        r"\[a:b:0.5\]",
        "[a:b:c]",
        "[a:b:0.5",
        "a:b] [c",
        "((",
        "\\",
        "a|b",
    ],
)
def test_other_marks_stay_as_they_are(prompt: str) -> None:
    assert at_steps(prompt, 4) == (prompt,)
    assert not is_edited(prompt)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("[a:b:c:0.5]", "more than"),
        ("[a|b:0.5]", "mixes"),
        ("[" * 40 + "a" + "]" * 40, "nests"),
        ("[" + "|".join(f"w{k}" for k in range(MAX_TEXTS + 1)) + "]", "33 texts"),
    ],
)
def test_what_cannot_be_read_is_refused(prompt: str, why: str) -> None:
    with pytest.raises(PromptError, match=why):
        at_steps(prompt, 100)


def test_a_long_row_of_brackets_is_read_at_once() -> None:
    assert at_steps("(" * 2000, 4) == ("(" * 2000,)
    assert len(at_steps("[" * 1000 + "]" * 19 + "|" * 900, 4)) == 1


def test_a_phrase_says_what_changes() -> None:
    assert list(describe("a [red:blue:0.5] [cat|dog] [hat:8]")) == [
        "red until 50% of the steps, then blue",
        "cat and dog in turn, one a step",
        "nothing until step 8, then hat",
    ]
