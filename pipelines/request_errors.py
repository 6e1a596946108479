"""What is wrong with a request: the field at fault, and one sentence for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.system.text import printable, shorten

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


# Kinds of remedies; others have the name of the field that is at fault.
VALUE, SHORTEN, LEAVE_OUT = "value", "shorten", "leave out"
SMALLER, OWN_SETTINGS, OTHER_MODEL, AGAIN = "smaller", "own settings", "other model", "again"


@dataclass(frozen=True)
class Remedy:
    """What mends an error with one press, for the button next to its sentence.

    Attributes:
        kind: VALUE (an allowed value), SHORTEN (to so many characters), LEAVE_OUT (a text of the prompt), SMALLER (less
            memory or work), OWN_SETTINGS (the model's own), OTHER_MODEL, AGAIN, or the name of the field at fault.
        value: that value, number of characters or text; "" for the other kinds.
    """

    kind: str
    value: int | float | str = ""


TRY_AGAIN = Remedy(AGAIN)


class InvalidRequest(ValueError):
    """A request that cannot be run.

    Args:
        field: the field at fault as the API spells it, dotted where it is nested ("variation.strength"), "" for the
            request as a whole; the page shows the message next to that field's control.
        message: one plain sentence for the user.
        rest: what follows where the field is called by the name of its control: "must be at most 2048."; "" for
            sentences that do not begin with the field's name.
        remedy: what mends it; None for what the field alone decides.
    """

    def __init__(self, field: str, message: str, rest: str = "", remedy: Remedy | None = None) -> None:
        message = printable(message)
        super().__init__(field, message)
        self.field, self.message, self.rest = field, message, printable(rest)
        self.remedy = remedy or Remedy(field)

    def __str__(self) -> str:
        return self.message

    def named(self, label: str) -> str:
        """The sentence with the name that the field has on the page; as it stands for the request as a whole."""
        if self.rest:
            return f"{label} {self.rest}" if label else self.rest[:1].upper() + self.rest[1:]
        for own in (self.field, self.field.rpartition(".")[2]):
            if label and own and self.message.startswith(f"{own} "):
                return f"{label}{self.message[len(own) :]}"
        return self.message


class FieldError(ValueError):
    """A rule across several fields that is broken; ``field`` is the one to change, relative to the model.

    ``rest`` and ``remedy`` are those of InvalidRequest.
    """

    def __init__(self, field: str, message: str, rest: str = "", remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.field, self.rest, self.remedy = field, rest, remedy


def first_error(error: ValidationError) -> tuple[str, str, str, Remedy | None]:
    """The first violation, as InvalidRequest takes it.

    Returns:
        Its field as the API spells it, one sentence with field, value and what is allowed, the sentence's rest, and
        what mends it.
    """
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return _api_field(first), _sentence(name or "request", first), _rest(first), _remedy(first)


def _api_field(first: ErrorDetails) -> str:
    """The dotted path of a violation, but the fields of ``sampling`` and ``init`` are flat in the API."""
    path = [str(part) for part in first["loc"]]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, FieldError) and cause.field:
        path.append(cause.field)
    if path == ["init"]:
        return "image"
    return ".".join(path[1:] if path[:1] in (["sampling"], ["init"]) and path[1:] else path)


_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least {}."),
    "greater_than": ("gt", "must be more than {}."),
    "less_than_equal": ("le", "must be at most {}."),
    "less_than": ("lt", "must be less than {}."),
}
_WHOLE = ("int_type", "int_from_float", "int_parsing", "int_parsing_size")
_NUMBER = ("float_type", "float_parsing", "finite_number")


def _rest(first: ErrorDetails) -> str:
    kind, facts = first["type"], first.get("ctx", {})
    if isinstance(cause := facts.get("error"), FieldError):
        return cause.rest
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        bound = facts[name]
        return words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    if kind == "string_too_long":
        return f"has {len(first['input'])} characters; at most {facts['max_length']} fit."
    return "must be a whole number." if kind in _WHOLE else "must be a number." if kind in _NUMBER else ""


def _remedy(first: ErrorDetails) -> Remedy | None:
    """The bound that a value is beyond, the length that a text may have, or what a rule across fields says."""
    kind, facts = first["type"], first.get("ctx", {})
    if isinstance(cause := facts.get("error"), FieldError):
        return cause.remedy
    if kind in ("greater_than_equal", "less_than_equal"):
        return Remedy(VALUE, facts[_BOUNDS[kind][0]])
    return Remedy(SHORTEN, facts["max_length"]) if kind == "string_too_long" else None


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
