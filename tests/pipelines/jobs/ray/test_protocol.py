"""The messages between program and replicas; none of it needs Ray."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.events import Announced, Cancelled, Decoding, Failed, Finished, Loading, Picture, Preview, Queued
from pipelines.jobs.ray import protocol
from pipelines.system.paths import PROJECT
from pipelines.trace.trace import TraceError
from tests.support.known_trace import make_trace
from tests.support.recorded_runs import ask
from tests.support.site import tiny_card

REQUEST = ask(prompt="a fox", seed=5)


@pytest.mark.parametrize(
    "event",
    [
        Queued(2),
        Loading("tiny", "unet", 1, 3),
        Preview(1, 5, 801.5, 2.5, (b"a", b"b"), (b"c", b"d"), 0.25, ("guess",)),
        Decoding(),
        Cancelled(3),
        Failed("The device broke."),
    ],
)
def test_an_event_arrives_as_it_was(event: Any) -> None:
    message = pickle.loads(pickle.dumps(protocol.write_event(event)))
    assert protocol.read_event(message, REQUEST) == event


def test_an_end_arrives_with_the_pixels_and_never_with_a_path() -> None:
    finished = Finished(REQUEST, (Picture(Path("/tmp/x.png"), 5),), 1.5, ("a note",), (False,))
    pictures = [{"png": b"png", "made": {"device": "cpu"}}]
    message = protocol.write_event(Announced(finished), pictures)
    assert "/tmp" not in repr(message) and message["pictures"] == pictures
    assert protocol.read_event(message, REQUEST) == Announced(replace(finished, pictures=()))
    assert protocol.read_event(protocol.write_event(finished), REQUEST) == replace(finished, pictures=())


def test_a_request_arrives_as_it_was() -> None:
    assert protocol.read_request(protocol.write_request(REQUEST)) == REQUEST


def test_files_of_the_program_are_named_by_their_place_in_it() -> None:
    card = tiny_card(PROJECT / "pocket" / "weights")
    assert str(PROJECT) not in protocol.write_card(card)
    assert protocol.read_card(protocol.write_card(card)) == card
    elsewhere = tiny_card(Path("/models/x"))
    assert protocol.read_card(protocol.write_card(elsewhere)) == elsewhere


def test_a_trace_arrives_as_it_was_and_a_damaged_one_is_refused() -> None:
    trace = make_trace()
    message = protocol.write_trace(trace)
    found = protocol.read_trace(message)
    assert found.request == trace.request and np.array_equal(found.x_t, trace.x_t) and found.frames == trace.frames
    with pytest.raises(TraceError):
        protocol.read_trace({**message, "arrays": message["arrays"][:-9]})
    with pytest.raises(TraceError):
        protocol.read_trace({**message, "facts": b"[]"})


@pytest.mark.parametrize("message", [{}, {"protocol": protocol.PROTOCOL + 1}, {"protocol": "1"}])
def test_a_message_of_another_version_is_refused_in_one_sentence(message: dict[str, Any]) -> None:
    with pytest.raises(protocol.OtherProtocol, match="install the same version on all machines"):
        protocol.checked(message)
    assert protocol.checked({"protocol": protocol.PROTOCOL})
