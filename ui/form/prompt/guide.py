"""What a prompt of a model with a small vocabulary is made of: things with pictures, places, sizes and styles.

A model brings its guide with its card (``ModelCard.prompt_guide``), so that the page knows no model by name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.cards import ModelCard
from pipelines.system.bounded_json import read_json_file
from pipelines.system.paths import PROJECT

log = logging.getLogger(__name__)
MAX_SHEET_BYTES = 700_000
# What a guide may say that its model can do to a thing.
RECOLOUR, COUNT, COMBINE = "recolour", "count", "combine"


class PromptPlace(BaseModel):
    """Where a thing can stand.

    Attributes:
        name: "green", or "meadow".
        phrase: how prompts say it: "on a green background", "in a meadow".
        colour: of a plain background, as ``#rrggbb``; "" for a scene.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    phrase: str
    colour: str = Field(default="", pattern="^(#[0-9a-f]{6})?$")

    @property
    def label(self) -> str:
        """The place in the answer to a prompt."""
        return f"{self.name} background" if self.colour else self.name


class ThumbnailSheet(BaseModel):
    """Pictures of all things in one file.

    Attributes:
        file: its name, next to the guide.
        tile: pixels of a picture's side.
        columns: pictures in a row, in the things' order.
        credit: whose pictures they are, and their licence.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    tile: int = Field(ge=8, le=256)
    columns: int = Field(ge=1, le=1000)
    credit: str = ""


class PromptGuide(BaseModel):
    """What a model's prompts are made of.

    Attributes:
        things: what can be drawn -> the thing's own colours.
        places: plain backgrounds and scenes.
        sizes: each size -> words for it.
        styles: each style -> how a prompt begins that asks for it; "" for the style that is not asked for.
        relations: words between two things.
        can: of ``RECOLOUR``, ``COUNT``, ``COMBINE``, what the model has learned.
        pairs: what to expect of two things, one sentence.
        sheet: pictures of the things.
        folder: where the guide lies.
    """

    model_config = ConfigDict(frozen=True)

    things: dict[str, tuple[str, ...]]
    places: tuple[PromptPlace, ...] = ()
    sizes: dict[str, tuple[str, ...]] = {}
    styles: dict[str, str] = {}
    relations: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    pairs: str = ""
    sheet: ThumbnailSheet | None = None
    folder: Path = Path()

    @classmethod
    def of(cls, card: ModelCard | None) -> PromptGuide | None:
        """A card's guide; None for a model without one, or if it cannot be read."""
        if card is None or not card.prompt_guide:
            return None
        path = PROJECT / card.prompt_guide
        try:
            return cls.model_validate({**read_json_file(path), "folder": path.parent})
        except (OSError, ValueError, TypeError, ValidationError) as error:
            log.info("%s is left out of the page: %s", path, error)
            return None

    def sheet_bytes(self) -> bytes:
        """The pictures of the things, a WebP file; b"" if there are none."""
        if self.sheet is None or Path(self.sheet.file).name != self.sheet.file:
            return b""
        try:
            with (self.folder / self.sheet.file).open("rb") as file:
                found = file.read(MAX_SHEET_BYTES + 1)
        except OSError as error:
            log.info("The pictures of the things are left out of the page: %s", error)
            return b""
        return found if len(found) <= MAX_SHEET_BYTES else b""

    def prompt(self, things: Sequence[str], size: str = "", style: str = "", place: PromptPlace | None = None) -> str:
        """The prompt for one thing, or two next to each other."""
        first = with_article(f"{size} {things[0]}".strip())
        rest = [f"{self.relations[0] if self.relations else 'and'} {with_article(name)}" for name in things[1:2]]
        beginning = self.styles.get(style, "")
        return " ".join(part for part in (beginning, first, *rest, place.phrase if place else "") if part)


def with_article(name: str) -> str:
    """A name with its indefinite article where English wants one: "an owl", "jeans"."""
    if name.endswith("s") and name[-2:-1] not in ("s", "u", "i"):
        return name
    vowel = name[:1].lower() in tuple("aeiou") and not name.lower().startswith(("uni", "eu", "uku"))
    return f"{'an' if vowel else 'a'} {name}"
