"""What a call of the page's functions looks like; everything else is refused before Gradio works on it.

Gradio answers most calls that it cannot make sense of with status 500 and a traceback in the log: a number that no
function has, too few values, half a surrogate pair, a body that is no object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# Longer than all that the page sends: the longest is a painted mask (``ui.brush.MAX_BYTES``).
MAX_CALL = 8 * 2**20
# Lists and objects within each other; the page's own go 4 deep.
MAX_DEPTH = 32
# Ways on which functions are called, and the rest of those that take JSON.
_CALLS = re.compile(r"/gradio_api/(queue/join|run/predict|call/(?P<name>\w+))/?")
_OTHERS = re.compile(r"/gradio_api/(cancel|reset)/?")
# A session's and an event's names are drawn by Gradio's clients and by Gradio.
_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)
# A box that is ticked sends its value along with its change.
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "data": list, "event_data": (dict, bool), "fn_index": int, "trigger_id": int, "session_hash": str, "event_id": str,
    "simple_format": bool, "oauth_token": str,
}  # fmt: skip


class BadCall(ValueError):
    """A call that is not taken; the message is one plain sentence, ``status`` goes with it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def is_json(path: str) -> bool:
    """Whether JSON belongs into a request on this way."""
    return bool(_CALLS.fullmatch(path) or _OTHERS.fullmatch(path))


def check(path: str, body: bytes, functions: Mapping[int, Any]) -> str:
    """Look at the body of a call.

    Args:
        path: the way; one for which ``is_json`` holds.
        body: as it came.
        functions: Gradio's, by number.

    Returns:
        The page that it comes from (``session_hash``), or "".

    Raises:
        BadCall: if it is none.
    """
    value = _parsed(body)
    _check_fields(value)
    call = _CALLS.fullmatch(path)
    if call and call["name"]:
        known = (one for one in functions.values() if getattr(one, "api_visibility", "public") == "public")
        if call["name"] not in {one.api_name for one in known}:
            raise BadCall("There is no function of that name.", 404)
    elif call:
        _check_call(value, functions)
    elif value.get("event_id") is None:
        raise BadCall("Say which event is meant (event_id).")
    return value.get("session_hash") or ""


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
        # Half a surrogate pair can be read and never be written.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadCall("This is not JSON.") from None
    if not isinstance(value, dict):
        raise BadCall("Send a JSON object.")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
                 if isinstance(inner, dict | list)]  # fmt: skip
        if not level:
            return value
    raise BadCall(f"This goes more than {MAX_DEPTH} levels deep.")


def _check_fields(value: Mapping[str, Any]) -> None:
    for name, kind in _FIELDS.items():
        given = value.get(name)
        if given is not None and (not isinstance(given, kind) or (kind is int and isinstance(given, bool))):
            raise BadCall(f"{name} is of the wrong kind.")
    for name in ("session_hash", "event_id"):
        if value.get(name) is not None and not _NAME.fullmatch(value[name]):
            raise BadCall(f"{name} is no name.")
    if value.get("batched"):
        raise BadCall("Nothing here takes batches.")


def _check_call(value: Mapping[str, Any], functions: Mapping[int, Any]) -> None:
    """A call by number, with a value for every input."""
    number, data = value.get("fn_index"), value.get("data")
    function = functions.get(number) if number is not None else None
    if function is None or function.fn is None:
        raise BadCall("There is no function of that number.", 404)
    if data is None or not value.get("session_hash"):
        raise BadCall("A call has data and a session_hash.")
    if len(data) != len(function.inputs):
        raise BadCall(f"data has {len(data)} values; this function takes {len(function.inputs)}.")
