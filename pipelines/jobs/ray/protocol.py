"""The messages between this program and its replicas: plain values and bytes, of one version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from pipelines.cards import ModelCard
from pipelines.events import Announced, Cancelled, Decoding, Event, Failed, Finished, Loading, Preview, Queued
from pipelines.request import GenerationRequest
from pipelines.request_errors import Remedy
from pipelines.system.paths import PROJECT
from pipelines.trace.serialization import trace_bytes, trace_from_bytes
from pipelines.trace.trace import Trace

# Raise it with every change of a message, of an event or of what a query's closure may name.
PROTOCOL = 1
OTHER_PROTOCOL = (
    "The cluster runs another version of this program (its messages have version {there}, these have {here}); install "
    "the same version on all machines and start again."
)
_KINDS: dict[str, type] = {
    "queued": Queued,
    "loading": Loading,
    "preview": Preview,
    "decoding": Decoding,
    "cancelled": Cancelled,
    "failed": Failed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
# A card's source in the program's own folder is named by its place in there: other machines have it elsewhere.
_INSIDE = "program:"


class OtherProtocol(RuntimeError):
    """A message of another version; the message is one sentence for the user."""


def checked(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message of this version; raises OtherProtocol for any other."""
    there = message.get("protocol")
    if there != PROTOCOL:
        raise OtherProtocol(OTHER_PROTOCOL.format(there=there if isinstance(there, int) else "none", here=PROTOCOL))
    return message


# -- requests --------------------------------------------------------------------------------------------------------


def write_request(request: GenerationRequest) -> str:
    """A request as JSON."""
    return json.dumps(request.model_dump(mode="json"))


def read_request(text: str) -> GenerationRequest:
    """The request of ``write_request``; raises ``pydantic.ValidationError``, for its bounds are checked again."""
    return GenerationRequest.model_validate_json(text)


def write_card(card: ModelCard) -> str:
    """A card as JSON."""
    source = card.source
    if source.startswith(f"{PROJECT}/"):
        source = _INSIDE + source[len(str(PROJECT)) + 1 :]
    return json.dumps(card.model_copy(update={"source": source}).model_dump(mode="json"))


def read_card(text: str) -> ModelCard:
    """The card of ``write_card``, with the place of its files on this machine."""
    card = ModelCard.model_validate_json(text)
    if not card.source.startswith(_INSIDE):
        return card
    return card.model_copy(update={"source": str(PROJECT / card.source.removeprefix(_INSIDE))})


# -- events ----------------------------------------------------------------------------------------------------------


def write_event(event: Event, pictures: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """An event as plain values.

    Args:
        event: of a job of a replica.
        pictures: of ``Announced``: the pixels of each and how it was made.
    """
    if isinstance(event, Announced):
        return {"kind": "announced", "pictures": list(pictures), **_ending(event.finished)}
    if isinstance(event, Finished):
        return {"kind": "finished", "pictures": list(pictures), **_ending(event)}
    return {"kind": _NAMES[type(event)], **asdict(event)}


def _ending(event: Finished) -> dict[str, Any]:
    return {"seconds": event.seconds, "notes": event.notes, "withheld": event.withheld}


def read_event(message: Mapping[str, Any], request: GenerationRequest) -> Event:
    """The event of ``write_event``; one that ends a run has no pictures yet.

    Args:
        message: of ``write_event``.
        request: of the job.
    """
    kind = message["kind"]
    if kind in ("announced", "finished"):
        ending = (message["seconds"], tuple(message["notes"]), tuple(message["withheld"]))
        finished = Finished(request, (), *ending)
        return Announced(finished) if kind == "announced" else finished
    found = _KINDS[kind]
    values = {each.name: _plain(message[each.name]) for each in fields(found) if each.name in message}
    if isinstance(remedy := values.get("remedy"), dict):
        values["remedy"] = Remedy(**remedy)
    return found(**values)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def write_trace(trace: Trace) -> dict[str, Any]:
    """A trace as a message."""
    facts, arrays = trace_bytes(trace)
    return {"kind": "trace", "facts": facts, "arrays": arrays}


def read_trace(message: Mapping[str, Any]) -> Trace:
    """The trace of ``write_trace``; raises TraceError."""
    return trace_from_bytes(message["facts"], message["arrays"])
