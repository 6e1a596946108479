"""The five questions: each is answered with the run's own figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.trace import lenses
from pipelines.trace.trace import Trace
from tests.support.known_trace import make_trace
from ui.inspector import questions


@pytest.fixture
def trace() -> Trace:
    return make_trace()


def test_the_questions_have_the_run_s_own_figures(trace: Trace):
    asked = questions.questions(trace, 0)
    assert [one["title"] for one in asked] == [
        "What is noise here?", "What does the model predict?", "Why many steps?", "What does guidance do?",
        "Why is a latent smaller than a picture?",
    ]  # fmt: skip
    words = [" ".join(one["text"]) for one in asked]
    assert "from the seed 5:" in words[0]
    half = next(i for i, share in enumerate(trace.cumulative_change(0)) if share >= 0.5)
    assert f"by step {half + 1} of 6" in words[2]
    assert "followed the difference 4 times" in words[3]
    assert "3,072 numbers" in words[4] and "48 numbers: 64 times fewer" in words[4]


def test_the_questions_point_at_lenses_and_steps_that_are_there():
    for trace in (make_trace(), make_trace(guidance_scale=1.0), make_trace(done=1), make_trace(done=3)):
        for one in questions.questions(trace, 0):
            go = one["go"]
            assert go["index"] in range(len(trace.steps)), one
            assert {go["left"], go["right"]} <= set(lenses.available_lenses(trace)), one


def test_a_run_without_guidance_says_so():
    text = " ".join(questions.questions(make_trace(guidance_scale=1.0), 0)[3]["text"])
    assert "predicted once a step" in text and "followed the difference" not in text


def test_a_model_that_is_told_its_guidance_is_not_said_to_be_asked_twice():
    told = replace(make_trace(guidance_scale=3.5), uncond=None)
    first, second = questions.questions(told, 0)[3]["text"]
    assert first.startswith("With guidance, most models are asked twice at each step")
    assert "takes the scale (3.5) as an input and predicts once a step" in second


def test_shares_are_never_rounded_to_all_or_nothing():
    assert [questions._percent(x) for x in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%", "less than 1%", "50%", "more than 99%", "100%",
    ]  # fmt: skip
