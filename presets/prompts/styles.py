"""Styles: texts that are put around a prompt and its negative prompt, several at once, in the order chosen.

``{prompt}`` in a style's text is where the user's prompt goes; a text without it is appended after a comma, as in
AUTOMATIC1111's web UI and Fooocus.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipelines.cards import ModelCard
from pipelines.request import MAX_PROMPT, MAX_STYLES
from pipelines.system.text import printable, shorten
from presets.user_list import UserList, UserListError, first_problem

SHIPPED = Path(__file__).with_name("styles.toml")
PLACE = "{prompt}"
KEY = "styles"
MAX_SAVED, MAX_NAME = 2000, 100
# While styles are put together; a request's own bound is lower.
MAX_LENGTH = 20_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class StyleError(ValueError):
    """Styles that cannot be used or saved; the message is one sentence for the user."""


def _clean_name(name: str) -> str:
    clean = " ".join(_CONTROL.sub(" ", printable(name)).split())[:MAX_NAME].strip()
    if not clean:
        raise ValueError("has no letters")
    return clean


def _clean_text(text: str) -> str:
    """A text without control characters; line breaks become spaces."""
    return _CONTROL.sub(" ", printable(text)).strip()


class Style(BaseModel):
    """A style.

    Attributes:
        name: what the page calls it.
        prompt, negative_prompt: its texts; at most one of them is empty.
        subject: what its preview shows; empty for the usual subject.
        models: ids of the models that it is for; empty for any model without a vocabulary of its own.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, AfterValidator(_clean_name)]
    prompt: Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_clean_text)] = ""
    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_clean_text)] = ""
    subject: str = ""
    models: tuple[str, ...] = ()


def make_style(name: Any, prompt: Any, negative_prompt: Any = "") -> Style:
    """A style of the user; raises StyleError with one sentence."""
    texts = [text if isinstance(text, str) else "" for text in (name, prompt, negative_prompt)]
    try:
        style = Style(name=texts[0], prompt=texts[1], negative_prompt=texts[2])
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("name",):
            raise StyleError("A style needs a name; give it one.") from None
        raise StyleError(f"This is too long for a style ({first_problem(error)}); shorten it.") from None
    if not style.prompt and not style.negative_prompt:
        raise StyleError("A style needs a prompt or a negative prompt; write one first.")
    return style


def apply(text: str, parts: Sequence[str]) -> str:
    """A prompt with the texts of several styles, in their order.

    Raises:
        StyleError: if it grows far beyond what a prompt may hold.
    """
    for part in filter(None, map(str.strip, parts)):
        count = part.count(PLACE)
        if len(part) + max(1, count) * len(text) > MAX_LENGTH:
            raise StyleError(f"With its styles the prompt has more than {MAX_PROMPT} characters; choose fewer styles.")
        if count:
            text = part.replace(PLACE, text.strip())
        else:
            text = ", ".join(filter(None, (text.strip().rstrip(", "), part.lstrip(", "))))
    return text


def shipped(path: Path = SHIPPED) -> list[Style]:
    """The styles that come with the program."""
    return [Style(name=name, **table) for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items()]


class StyleLibrary:
    """The styles that come with the program and those of the user.  Thread-safe.

    Args:
        path: the file with the user's; it is made when the first is saved.
    """

    def __init__(self, path: Path) -> None:
        self.shipped = tuple(shipped())
        self._own = UserList(path, KEY, Style, MAX_SAVED)

    def own(self) -> list[Style]:
        """The user's styles, in the order in which they were saved."""
        return self._own.items()

    def problem(self) -> str:
        """Why the user's styles cannot be read, one sentence; "" if they can."""
        return self._own.problem()

    def offered(self, card: ModelCard | None) -> list[Style]:
        """The user's styles, then those shipped ones that are for a model."""
        own = self.own()
        names = {style.name for style in own}
        return [*own, *(s for s in self.shipped if s.name not in names and card is not None and is_for(s, card))]

    def find(self, names: Sequence[Any]) -> list[Style]:
        """Styles by their names, in this order, each once.

        Raises:
            StyleError: for an unknown one, or too many.
        """
        if len(names) > MAX_STYLES:
            raise StyleError(f"At most {MAX_STYLES} styles can be used at once; choose fewer.")
        known = {style.name: style for style in (*self.shipped, *self.own())}
        found = []
        for name in dict.fromkeys(str(name) for name in names):
            if name not in known:
                raise StyleError(f"The style {shorten(name)!r} is not there any more; choose another one.")
            found.append(known[name])
        return found

    def save(self, style: Style) -> None:
        """Add a style of the user; raises StyleError, also if its name is taken."""
        if any(style.name == other.name for other in (*self.own(), *self.shipped)):
            raise StyleError(f"There is a style {shorten(style.name)!r} already; choose another name.")
        self._change(lambda items: [*items, style])

    def remove(self, name: str) -> None:
        """Remove a style of the user; raises StyleError."""
        self._change(lambda items: [item for item in items if item.name != name])

    def add_all(self, styles: Sequence[Style]) -> int:
        """Add styles of a file; how many were new.  One that is there is left out; a name that is taken gets a number.

        Raises:
            StyleError: if there are too many, or they cannot be written.
        """
        taken = {style.name: style for style in (*self.shipped, *self.own())}
        new = []
        for style in styles:
            if _is_there(style, taken):
                continue
            named = style.model_copy(update={"name": _free_name(style.name, taken)})
            taken[named.name] = named
            new.append(named)
        if new:
            self._change(lambda items: [*items, *new])
        return len(new)

    def _change(self, change: Any) -> None:
        try:
            self._own.change(change)
        except UserListError as problem:
            raise StyleError(str(problem)) from None


def is_for(style: Style, card: ModelCard) -> bool:
    """Whether a shipped style uses words that a model knows."""
    return card.id in style.models if style.models else not card.vocabulary


def _is_there(style: Style, taken: dict[str, Style]) -> bool:
    texts = (style.prompt, style.negative_prompt)
    names = (style.name, *(f"{style.name[: MAX_NAME - 6]} ({n})" for n in range(2, 6)))
    return any(name in taken and (taken[name].prompt, taken[name].negative_prompt) == texts for name in names)


def _free_name(name: str, taken: dict[str, Style]) -> str:
    if name not in taken:
        return name
    return next(each for n in range(2, MAX_SAVED + 3) if (each := f"{name[: MAX_NAME - 6]} ({n})") not in taken)
