"""What is wrong with a request: the field at fault, and one sentence for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.system.text import printable, shorten

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class InvalidRequest(ValueError):
    """A request that cannot be run.

    Args:
        field: the field at fault as the API spells it, dotted where it is nested ("variation.strength"), "" for the
            request as a whole; the page shows the message next to that field's control.
        message: one plain sentence for the user.
    """

    def __init__(self, field: str, message: str) -> None:
        message = printable(message)
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return self.message


class FieldError(ValueError):
    """A rule across several fields that is broken; ``field`` is the one to change, relative to the model."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def first_error(error: ValidationError) -> tuple[str, str]:
    """The first violation: its field as the API spells it, and one sentence with field, value and what is allowed."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return _api_field(first), _sentence(name or "request", first)


def _api_field(first: ErrorDetails) -> str:
    """The dotted path of a violation, but the fields of ``sampling`` and ``init`` are flat in the API."""
    path = [str(part) for part in first["loc"]]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        path.append(cause.field)
    if path == ["init"]:
        return "image"
    return ".".join(path[1:] if path[:1] in (["sampling"], ["init"]) and path[1:] else path)


def _sentence(name: str, first: ErrorDetails) -> str:
    shown = shorten(repr(first.get("input")))
    allowed = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if not first["loc"]:
        return f"This request cannot be run: {allowed}."
    if first["type"] == "string_too_long":
        size = len(first["input"])
        return f"{name} has {size} characters; at most {first['ctx']['max_length']} are allowed."
    if first["type"] == "value_error":
        return f"{name} {allowed}."
    return f"{name} is {shown}; allowed: {allowed}."
