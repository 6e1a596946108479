"""Check calls of the page's functions before Gradio works on them.

Gradio answers most malformed calls with status 500 and a traceback in the log: an unknown function number, too few
values, half a surrogate pair, a body that is no object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pipelines.system.bounded_json import parse_json

# The longest call of the page is a painted mask (``ui.components.mask_editor.MAX_BYTES``).
MAX_CALL_BYTES = 8 * 2**20
# The name of a choice: of a model, a file, a scheduler.
MAX_CHOICE = 10_000
# Lists and objects within each other; the page's own calls go 4 deep.
MAX_DEPTH = 32
# Brackets and commas; the page's own calls have some dozens.
MAX_ITEMS = 50_000
# Escaped characters, which take ten times as long to read as others; browsers escape line ends and quotes alone.
MAX_ESCAPES = 100_000
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Routes that call functions, and the others that take JSON.
_CALLS = re.compile(r"/gradio_api/(queue/join|run/predict|call/(?P<name>\w+))/?")
_OTHERS = re.compile(r"/gradio_api/(cancel|reset)/?")
# Session and event ids are chosen by Gradio and its clients.
_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
_FIELDS: Mapping[str, type] = {
    "data": list, "fn_index": int, "trigger_id": int, "session_hash": str, "event_id": str,
    "simple_format": bool, "oauth_token": str,
}  # fmt: skip


class InvalidCall(ValueError):
    """A call that is refused; the message is one sentence, ``status`` the answer's status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def is_json(path: str) -> bool:
    """Whether requests to this route have a JSON body."""
    return bool(_CALLS.fullmatch(path) or _OTHERS.fullmatch(path))


def check(path: str, body: bytes, functions: Mapping[int, Any]) -> str:
    """Parse and check the body of a call; see ``parse`` and ``check_call``.

    Returns:
        The session that calls (``session_hash``), or "".
    """
    value = parse(body)
    check_call(path, value, functions)
    return value.get("session_hash") or ""


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a call; hostile bodies of 8 MB took at most 0.12 s of the processor.

    Raises:
        InvalidCall: if it is no JSON object, or one of too many parts, levels or escaped characters.
    """
    try:
        if body.count(b"\\") > MAX_ESCAPES:
            raise ValueError("too many escaped characters")
        text = body.decode()
        value = parse_json(text, MAX_CALL_BYTES, MAX_DEPTH, MAX_ITEMS, finite=False)
        if _SURROGATE.search(text):  # half a pair can be parsed, but not encoded again
            json.dumps(json.loads(text), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        most = f"{MAX_ITEMS} values, {MAX_DEPTH} levels or {MAX_ESCAPES} escapes"
        problem = f"The body is not valid JSON, or has more than {most}."
        raise InvalidCall(problem) from None
    if not isinstance(value, dict):
        raise InvalidCall("The body must be a JSON object.")
    return value


def check_call(path: str, value: Mapping[str, Any], functions: Mapping[int, Any]) -> None:
    """Check the fields of a call.

    Args:
        path: a route for which ``is_json`` holds.
        value: of ``parse``.
        functions: Gradio's, by number.

    Raises:
        InvalidCall: if Gradio could not make sense of it.
    """
    _check_fields(value)
    call = _CALLS.fullmatch(path)
    if call and call["name"]:
        check_name(call["name"], functions)
    elif call:
        _check_numbered_call(value, functions)
    elif value.get("event_id") is None:
        raise InvalidCall("event_id is missing.")


def check_name(name: str, functions: Mapping[int, Any]) -> None:
    """Raise InvalidCall if no function may be called by this name."""
    public = (one for one in functions.values() if getattr(one, "api_visibility", "public") == "public")
    if name not in {one.api_name for one in public}:
        raise InvalidCall("There is no function of that name.", 404)


def check_id(name: str, field: str) -> None:
    """Raise InvalidCall if no client chooses this name for a session, an event or an upload."""
    if not _ID.fullmatch(name):
        raise InvalidCall(f"{field} is not a valid id.")


def _check_fields(value: Mapping[str, Any]) -> None:
    for name, kind in _FIELDS.items():
        given = value.get(name)
        if given is not None and (not isinstance(given, kind) or (kind is int and isinstance(given, bool))):
            raise InvalidCall(f"{name} has the wrong type.")
    for name in ("session_hash", "event_id"):
        if value.get(name) is not None:
            check_id(value[name], name)
    if value.get("batched"):
        raise InvalidCall("Batched calls are not supported.")


def _check_numbered_call(value: Mapping[str, Any], functions: Mapping[int, Any]) -> None:
    """A call by ``fn_index`` needs a session and a value for every input."""
    number, data = value.get("fn_index"), value.get("data")
    function = functions.get(number) if number is not None else None
    if function is None or function.fn is None:
        raise InvalidCall("There is no function of that number.", 404)
    if data is None or not value.get("session_hash"):
        raise InvalidCall("A call needs data and a session_hash.")
    # Gradio's own pages send text with some events; it matters only to functions that use the event.
    if function.collects_event_data and not isinstance(value.get("event_data"), dict | None):
        raise InvalidCall("event_data has the wrong type.")
    if len(data) != len(function.inputs):
        raise InvalidCall(f"data has {len(data)} values; this function takes {len(function.inputs)}.")
    for component, given in zip(function.inputs, data, strict=True):
        # Gradio writes a choice that it does not know, however long, into the log.
        if getattr(component, "choices", None) is not None and isinstance(given, str) and len(given) > MAX_CHOICE:
            raise InvalidCall(f"A choice has more than {MAX_CHOICE} characters.", 422)
