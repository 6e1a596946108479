"""What a call must look like: tests/security attacks a running server; here is what must be let through."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ui import bodies


def function(collects: bool) -> dict[int, Any]:
    return {7: SimpleNamespace(fn=print, inputs=[0], collects_event_data=collects)}


def call(event_data: Any) -> bytes:
    body = {"fn_index": 7, "data": ["x"], "event_data": event_data, "session_hash": "page"}
    return json.dumps(body).encode()


@pytest.mark.parametrize("event_data", [None, "typed", 3, ["a"], {"index": 1}])
def test_what_a_component_says_of_its_event_matters_to_nobody(event_data: Any) -> None:
    assert bodies.check("/gradio_api/queue/join", call(event_data), function(collects=False)) == "page"


@pytest.mark.parametrize("event_data", ["typed", 3, ["a"]])
def test_a_function_that_looks_at_the_event_gets_an_object(event_data: Any) -> None:
    with pytest.raises(bodies.BadCall, match="event_data"):
        bodies.check("/gradio_api/queue/join", call(event_data), function(collects=True))
    assert bodies.check("/gradio_api/queue/join", call({"index": 1}), function(collects=True)) == "page"
