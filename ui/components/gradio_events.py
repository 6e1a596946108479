"""Gradio's events: the options of the page's listeners, and reading what an event carries."""

from __future__ import annotations

from typing import Any

from gradio import EventData

# Private, but each listener checks its values all the same: visibility is no access control.
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Past the queue: for quick answers.
UNQUEUED: dict[str, Any] = {**PRIVATE, "queue": False}
# Through the queue, any number at a time: for generators, and for states, whose changes Gradio announces only there.
CONCURRENT: dict[str, Any] = {**PRIVATE, "concurrency_limit": None}


def event_value(data: EventData, name: str, default: Any = None) -> Any:
    """A field of an event's data; an event made up by a client may carry nothing."""
    fields = data._data
    return fields.get(name, default) if isinstance(fields, dict) else default
