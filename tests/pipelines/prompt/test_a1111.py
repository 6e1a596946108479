"""AUTOMATIC1111's prompt form: weights, escapes, BREAK, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prompt import PromptError
from pipelines.prompt.a1111 import DOWN, MAX_DEPTH, UP, Fragment, parse


def told(prompt: str) -> list[list[tuple[str, float]]]:
    return [[(fragment.text, round(fragment.weight, 6)) for fragment in part] for part in parse(prompt)]


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("", []),
        ("a fox", [("a fox", 1)]),
        ("a (red:1.3) fox", [("a ", 1), ("red", 1.3), (" fox", 1)]),
        ("(red: 1.3 )", [("red", 1.3)]),
        ("(red:.5)(blue:1.)(green:+0.5)(grey:-1)", [("red", 0.5), ("blue", 1), ("green", 0.5), ("grey", -1)]),
        ("((a))", [("a", 1.21)]),
        ("[a]", [("a", round(DOWN, 6))]),
        ("[[a]]", [("a", round(DOWN**2, 6))]),
        ("(a [b] c)", [("a ", 1.1), ("b", 1), (" c", 1.1)]),
        ("(a (b:1.5):1.2)", [("a ", 1.2), ("b", 1.8)]),
        # Brackets that are never closed reach to the end; those that were never opened are letters.
        ("a (b c", [("a ", 1), ("b c", 1.1)]),
        ("a) b] :1.3) c", [("a) b] :1.3) c", 1)]),
        (r"\(a\) \[b\] \\ c", [("(a) [b] \\ c", 1)]),
        (r"(a\):1.3)", [("a)", 1.3)]),
        # The brackets of one kind need not respect those of the other.
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", round(DOWN, 6))]),
        ("a: b, 3:4", [("a: b, 3:4", 1)]),
        ("(<embedding:bad (v2) [x]>:1.2)", [("<embedding:bad (v2) [x]>", 1.2)]),
    ],
)
def test_weights_are_read(prompt: str, fragments: list[tuple[str, float]]) -> None:
    assert told(prompt) == [fragments]


def test_break_begins_a_new_part_wherever_it_stands() -> None:
    assert told("a BREAK b") == [[("a", 1)], [("b", 1)]]
    assert told("(a BREAK b:1.2) c") == [[("a", 1.2)], [("b", 1.2), (" c", 1)]]
    assert [len(part) for part in parse("BREAK BREAK")] == [0, 0, 0]
    assert told("BREAKFAST, break") == [[("BREAKFAST, break", 1)]]


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a AND b", "joins prompts by AND"),
        ("[cat:dog:0.5]", "changes over the steps"),
        ("a [dog:10] b", "changes over the steps"),
        ("[cat::0.5]", "changes over the steps"),
        ("[cat|dog]", "changes over the steps"),
        ("(x:1.2.3)", "is not a number"),
        ("(x:...)", "is not a number"),
        ("(x:1000)", "at most 100"),
        ("(" * (MAX_DEPTH + 1) + "x", "nests more than"),
        ("[" * 2000, "nests more than"),
        ("(" * 1000 + "x" + ")" * 1000, "nests more than"),
    ],
)
def test_what_is_not_done_is_refused_in_a_sentence(prompt: str, why: str) -> None:
    with pytest.raises(PromptError, match=re.escape(why)) as caught:
        parse(prompt)
    assert len(str(caught.value)) < 200


def test_weights_in_square_brackets_are_no_schedule() -> None:
    assert told("[(a:1.3)]") == [[("a", round(1.3 * DOWN, 6))]]
    assert told(r"[a \| b]") != []


WORDS = st.text("ab ,.:()[]\\|<>é日本", min_size=1, max_size=8)
WEIGHTS = st.sampled_from([1.0, 0.5, 1.3, -2.0, 0.0, 20.0])


def written(fragments: list[Fragment]) -> str:
    """A prompt that says these fragments."""
    texts = [(re.sub(r"([()\[\]\\])", r"\\\1", fragment.text), fragment.weight) for fragment in fragments]
    return "".join(text if weight == 1 else f"({text}:{weight})" for text, weight in texts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Fragment, WORDS, WEIGHTS), max_size=8))
def test_what_is_written_is_read_again(fragments: list[Fragment]) -> None:
    joined: list[Fragment] = []
    for fragment in fragments:
        if joined and joined[-1].weight == fragment.weight:
            joined[-1] = Fragment(joined[-1].text + fragment.text, fragment.weight)
        else:
            joined.append(fragment)
    assert parse(written(fragments)) == (tuple(joined),)


@settings(max_examples=40, deadline=None)
@given(st.text("ab()[]:|\\ 1.3+-,BREAKND<>", max_size=60))
def test_any_text_is_read_or_refused_and_loses_no_word(prompt: str) -> None:
    try:
        parts = parse(prompt)
    except PromptError:
        return
    read = "".join(fragment.text for part in parts for fragment in part)
    for letter in "ab":
        assert read.count(letter) == prompt.count(letter)
    assert all(UP**-60 < abs(fragment.weight) <= 100 or "0" in prompt for part in parts for fragment in part)


@pytest.mark.parametrize("name", ["AND", "this AND that", "BREAK", "a BREAK b", "x(1.3)", "a|b", "[x]", "cat, 0.5"])
def test_the_name_of_an_embedding_holds_no_mark(name: str) -> None:
    tag = f"<embedding:{name}>"
    assert told(f"a {tag}, ({tag}:1.2) and [{tag}]") == [
        [(f"a {tag}, ", 1), (tag, 1.2), (" and ", 1), (tag, round(DOWN, 6))]
    ]
    with pytest.raises(PromptError, match="joins prompts by AND"):
        parse(f"{tag} AND a cat")
    assert len(parse(f"{tag} BREAK a cat")) == 2
