"""The line below the prompt: what was understood, and what goes to the model as words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prompt import A1111, COMPEL
from pipelines.prompt.reading import read, words_alone


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a fox",
        "c++ and t-shirts, 4:3, 'no'",
        "a fox (red)",
        "std::map, 4:3, at 12:30",
        "\uff08a fox\uff09",
        "i <3 foxes",
        "a: b; c.",
    ],
)
def test_plain_words_need_no_line(text: str) -> None:
    assert read(text, "blurry, bad", COMPEL).line == ""


@pytest.mark.parametrize(
    ("prompt", "syntax", "line"),
    [
        ("a (red)1.4 fox, (dull)0.5", COMPEL, "Understood: weights red \u00d7 1.4, dull \u00d7 0.5."),
        ("a (red:1.4) fox", A1111, "Understood: weights red \u00d7 1.4."),
        ("a fox <lora:ink:0.3><lora:ink:0.5>", COMPEL, "Understood: LoRA ink at 0.8."),
        ("embedding:glow", A1111, "Understood: embedding glow."),
        ("a BREAK b", A1111, "Understood: 2 chunks by BREAK."),
    ],
)
def test_what_is_understood_is_said(prompt: str, syntax: str, line: str) -> None:
    assert read(prompt, "", syntax).line == line


@pytest.mark.parametrize(
    ("prompt", "syntax", "named"),
    [
        ("a (word:1.3)", COMPEL, "(word:1.3) is A1111's form"),
        ("((word))", COMPEL, "((word)) gives no weight"),
        ("[word]", COMPEL, "[word] gives no weight"),
        ("a BREAK b", COMPEL, "BREAK is A1111's mark"),
        ("a AND b", COMPEL, "AND is A1111's mark"),
        ("(red)-1.3", COMPEL, "the end of -1.3"),
        ("(red)1,3", COMPEL, "the end of 1,3"),
        ("(red)1.2.3", COMPEL, "the end of 1.2.3"),
        ("(red) 1.3", COMPEL, "stands too far"),
        ("(red):1.3", COMPEL, "stands too far"),
        ("(red 1.3)", COMPEL, "no colon"),
        ("(red:1,3)", A1111, "ends with no number"),
        ("(red:1.3, fox", A1111, "is not closed"),
        ("(red)1.3", A1111, "compel's form"),
        ("(red)++", A1111, "compel's form"),
        ("(red)-1.3", A1111, "compel's form"),
        ("{red}", A1111, "{red} gives no weight"),
        ('("a", "b").blend(1, 1)', COMPEL, ".blend( is read only"),
        ('("a", "b").blend(1, 1)', A1111, "compel's mark"),
        ("<wildcard:x>", COMPEL, "<wildcard:x> is no mark"),
        *(
            (text, syntax, "has full-width signs")
            for syntax in (COMPEL, A1111)
            for text in ("\uff08word\uff1a1.3\uff09", "(word\uff1a1.3)", "\uff08word:1.3\uff09", "\uff08word\uff091.3")
        ),
        *(
            (text, syntax, "is NovelAI's form")
            for syntax in (COMPEL, A1111)
            for text in ("1.3::word::", "a, -0.5::red fox ::, b", "2::rain")
        ),
        *(("a AND_PERP b", syntax, "AND_PERP is a mark of an extension") for syntax in (COMPEL, A1111)),
    ],
)
def test_what_goes_to_the_model_as_words_is_said(prompt: str, syntax: str, named: str) -> None:
    assert named in read(prompt, "", syntax).warning
    assert named in read("a fox", prompt, syntax).warning


@pytest.mark.parametrize(
    ("prompt", "negative", "syntax", "said"),
    [
        ("<lora:x:0.8:0.5>", "", COMPEL, "The prompt has the mark <lora:x:0.8:0.5>"),
        ("a", "<lora:x:1>", COMPEL, "The negative prompt has the mark <lora:x:1>"),
        ("a AND b", "", A1111, "The prompt joins prompts"),
        ("a", "[x|y:0.5]", A1111, "The negative prompt mixes | and :"),
        ("(" * 60 + "a" + ")" * 60 + " (b)1.2", "", COMPEL, "The prompt nests more than"),
    ],
)
def test_what_will_be_refused_is_said(prompt: str, negative: str, syntax: str, said: str) -> None:
    assert read(prompt, negative, syntax).error.startswith(said)
    assert read(prompt, negative, syntax).error.endswith(".")


def test_a_model_without_weights_says_so() -> None:
    for text, syntax in (("(red)1.3", COMPEL), ("(red:1.3)", A1111)):
        assert "this model does not read" in read(text, "", syntax, weights=False).warning
    assert read("a fox (red)", "", COMPEL, weights=False).line == ""


@pytest.mark.parametrize(
    ("prompt", "syntax", "words"),
    [
        ("a (red)1.4 fox", COMPEL, "a red fox"),
        ("a (re:1.1)d fox", A1111, "a red fox"),
        ("(re)(d:0.9) BREAK fox", A1111, "red fox"),
        ("a AND b", A1111, "a AND b"),
    ],
)
def test_the_words_alone_are_what_the_model_reads(prompt: str, syntax: str, words: str) -> None:
    assert words_alone(prompt, syntax) == words


@settings(max_examples=40, deadline=None)
@given(st.text("ab()[]{}:|\\ 1.3+-,<>lora\n", max_size=80), st.sampled_from([COMPEL, A1111]), st.booleans())
def test_any_text_has_one_line(prompt: str, syntax: str, weights: bool) -> None:
    assert "\n" not in read(prompt.replace("\n", " "), "", syntax, weights).line
    read(prompt, prompt, syntax, weights)


@pytest.mark.parametrize("name", ["AND", "BREAK", "AND_PERP", "this AND that", "a|b", "x(1.3)"])
def test_the_name_of_an_embedding_holds_no_mark(name: str) -> None:
    found = read(f"a fox, <embedding:{name}>", f"[<embedding:{name}>]", A1111)
    assert not found.error and not found.words
    assert f"embedding {name}" in found.understood and "BREAK" not in found.line.replace(f"embedding {name}", "")
