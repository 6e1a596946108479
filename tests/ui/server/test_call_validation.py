"""What a call must look like: tests/security attacks a running server; here is what must be let through."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ui.server import call_validation


def function(collects: bool) -> dict[int, Any]:
    return {7: SimpleNamespace(fn=print, inputs=[0], collects_event_data=collects)}


def call(event_data: Any) -> bytes:
    body = {"fn_index": 7, "data": ["x"], "event_data": event_data, "session_hash": "page"}
    return json.dumps(body).encode()


@pytest.mark.parametrize("event_data", [None, "typed", 3, ["a"], {"index": 1}])
def test_event_data_of_any_type_passes_where_it_is_not_used(event_data: Any) -> None:
    assert call_validation.check("/gradio_api/queue/join", call(event_data), function(collects=False)) == "page"


@pytest.mark.parametrize("event_data", ["typed", 3, ["a"]])
def test_a_function_that_uses_the_event_gets_an_object(event_data: Any) -> None:
    with pytest.raises(call_validation.InvalidCall, match="event_data"):
        call_validation.check("/gradio_api/queue/join", call(event_data), function(collects=True))
    assert call_validation.check("/gradio_api/queue/join", call({"index": 1}), function(collects=True)) == "page"


@pytest.mark.parametrize("said", [None, {}, {"seed": "7"}, True, False])
def test_event_data_of_the_page_passes(said: Any) -> None:
    body = json.dumps({"fn_index": 3, "data": [True], "event_data": said, "session_hash": "page"}).encode()
    functions = {3: SimpleNamespace(fn=print, inputs=["a box to tick"], collects_event_data=False)}
    assert call_validation.check("/gradio_api/queue/join", body, functions) == "page"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 8_000_000, b"[" + b"[]," * 100_000 + b"[]]", b'{"a":' * 2000, b"\xff\xfe", b'{"data": "\\ud800"}', b"[]",
        b"", b'{"data": [' + b"0," * 60_000 + b"0]}", b'{"data": ' + b"[" * 33 + b"]" * 33 + b"}",
        '{"a": 1}'.encode("utf-16"), b'{"data": ["' + b"\\u0041" * 200_000 + b'"]}', b'{"data": [' + b"9" * 500 + b"]}",
    ],
    ids=range(12),
)  # fmt: skip
def test_a_body_beyond_the_bounds_is_refused_quickly(body: bytes) -> None:
    began = time.process_time()
    with pytest.raises(call_validation.InvalidCall):
        call_validation.parse(body)
    assert time.process_time() - began < 5.0


def test_a_painted_mask_and_any_text_pass() -> None:
    value = {"data": ["data:image/png;base64," + "A" * 4_000_000, '\U0001f600 [{,}] "\\', float("inf"), 10**300]}
    assert call_validation.parse(json.dumps(value).encode()) == value
    assert call_validation.parse(json.dumps(value, ensure_ascii=False).encode()) == value


def test_an_endless_choice_is_refused_and_a_long_text_is_not() -> None:
    body = json.dumps({"fn_index": 7, "data": ["x" * 100_000], "session_hash": "page"}).encode()
    choices = {7: SimpleNamespace(fn=print, inputs=[SimpleNamespace(choices=[])], collects_event_data=False)}
    with pytest.raises(call_validation.InvalidCall, match="choice") as refused:
        call_validation.check("/gradio_api/queue/join", body, choices)
    assert refused.value.status == 422
    assert call_validation.check("/gradio_api/queue/join", body, function(collects=False)) == "page"
