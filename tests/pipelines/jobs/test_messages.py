"""Errors and notes as sentences."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.events import Failed, Finished
from pipelines.jobs.messages import explain_error, remedy_for
from pipelines.model import CannotLoad
from pipelines.models.placement import NoSuchDevice
from pipelines.request import InvalidRequest
from pipelines.request_errors import AGAIN, LEAVE_OUT, OWN_SETTINGS, SMALLER, Remedy
from tests.support.toy_backend import ask, finish


def test_truncated_text_is_quoted(make_backend: Any) -> None:
    done = finish(make_backend().submit(ask("one two three four five")))[-1]
    assert done.notes == ('The prompt is longer than the model reads; it did not see: "four five".',)


@pytest.mark.parametrize(
    ("prompt", "words", "remedy"),
    [
        ("crash", "Something went wrong with toy", AGAIN),
        ("memory", "not enough memory for 1 x 16 x 16 pixels", SMALLER),
        ("nan", "overflowed", OWN_SETTINGS),
    ],
)
def test_an_error_is_one_sentence_and_the_next_job_runs(
    make_backend: Any, prompt: str, words: str, remedy: str
) -> None:
    backend = make_backend()
    last = finish(backend.submit(ask(prompt)))[-1]
    assert isinstance(last, Failed)
    assert words in last.message and last.remedy == Remedy(remedy)
    assert "secret" not in last.message
    assert isinstance(finish(backend.submit(ask()))[-1], Finished)
    assert backend.status().text == "toy on CPU, ready"


@pytest.mark.parametrize(
    "error",
    [
        CannotLoad("The unet of Fox cannot be loaded from /home/me/fox (bad); it must be whole."),
        CannotLoad("The disk with /home/me/.cache/huggingface/hub is full: make room."),
        InvalidRequest("controls", "The model in '/home/me/a b/fox' is broken."),
        OSError("Cannot open /home/me/fox/config.json"),
        NoSuchDevice("Nothing at /home/me/fox."),
    ],
)
def test_no_explanation_holds_a_path(error: Exception) -> None:
    assert "/home" not in explain_error(error, "fox") and "me/" not in explain_error(error, "fox")


def test_what_mends_an_error_is_told_by_its_kind() -> None:
    missing = InvalidRequest("prompt", "It names a LoRA.", remedy=Remedy(LEAVE_OUT, "ink"))
    assert remedy_for(missing) == Remedy(LEAVE_OUT, "ink")
    assert remedy_for(InvalidRequest("mask", "Nothing is marked.")) == Remedy("mask")
    assert remedy_for(CannotLoad("It is not whole.")) == remedy_for(MemoryError()) == Remedy("model")
    assert remedy_for(OSError("The disk is full.")) == Remedy(AGAIN)


def test_marks_that_were_read_as_words_are_named(make_backend: Any) -> None:
    (note,) = finish(make_backend().submit(ask("a <wildcard:x>")))[-1].notes
    assert note == "Read as words: <wildcard:x> is no mark."
