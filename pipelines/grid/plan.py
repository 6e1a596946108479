"""A comparison as a plan: which requests it consists of, in which place, and how much work they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines.grid.axes import (
    FIXED_IN_FORKS,
    MAX_TEXT,
    MAX_VALUES,
    AxisSetting,
    axis_setting,
    listed,
    refuse,
    settings_of,
)
from pipelines.grid.sheet import Labels
from pipelines.request import GenerationRequest, InvalidRequest, fields_of_picture, first_error, replaced
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.text import shorten

MAX_CELLS = 100
WHOLE_TEXTS = ("prompt", "negative_prompt")
FIXED = "This run left another one and shares its seed, steps, size, model and strength; choose another setting."
VERSION = 1


class GridAxis(BaseModel):
    """One setting with its values.

    Attributes:
        setting: a name of ``axes.AXES`` or ``lora:NAME``.
        values: as they are applied, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    setting: str = Field(max_length=200)
    values: tuple[Annotated[str, Field(max_length=MAX_TEXT)], ...] = Field(min_length=1, max_length=MAX_VALUES)

    @field_validator("setting")
    @classmethod
    def _is_known(cls, setting: str) -> str:
        try:
            axis_setting(setting)
        except KeyError:
            raise ValueError(f"{shorten(repr(setting))} is no setting that can be compared") from None
        return setting

    @property
    def about(self) -> AxisSetting:
        """What is known of the setting."""
        return axis_setting(self.setting)

    @property
    def labels(self) -> list[str]:
        """What stands above its columns."""
        return [self.about.show(value) for value in self.values]


@dataclass(frozen=True)
class Cell:
    """One picture of a comparison: its place and its request."""

    page: int
    row: int
    column: int
    request: GenerationRequest


class Grid(BaseModel):
    """A comparison: a request, and up to three axes along which it changes.

    Attributes:
        request: what all cells have in common; one picture.
        x, y, pages: columns, rows, and sheets; the last two may be missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=VERSION, ge=1, le=VERSION)
    request: GenerationRequest
    x: GridAxis
    y: GridAxis | None = None
    pages: GridAxis | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of pages, rows and columns."""
        count = [len(axis.values) if axis else 1 for axis in (self.pages, self.y)]
        return count[0], count[1], len(self.x.values)

    @property
    def axes(self) -> dict[str, GridAxis]:
        """The axes that there are, by their field."""
        found = {"pages": self.pages, "y": self.y, "x": self.x}
        return {field: axis for field, axis in found.items() if axis is not None}

    @property
    def labels(self) -> Labels:
        """What is written around the pictures."""
        rows, pages = (axis.labels if axis else [""] for axis in (self.y, self.pages))
        return Labels(self.x.labels, rows, pages, self.x.about.label, self.pages.about.label if self.pages else "")

    def cells(self) -> list[Cell]:
        """Every cell, row by row.

        Raises:
            InvalidRequest: whose field is the axis with a value that cannot be; a setting on two axes is refused, too.
        """
        names = [axis.setting for axis in self.axes.values()]
        if len(set(names)) < len(names):
            raise InvalidRequest("y", "Each axis needs a setting of its own; choose another one for the second.")
        pages, rows, columns = self.shape
        if pages * rows * columns > MAX_CELLS:
            raise InvalidRequest(
                "x", f"That is {pages * rows * columns} pictures; at most {MAX_CELLS} are made at once."
            )
        found = []
        for page in range(pages):
            for row in range(rows):
                for column in range(columns):
                    place = {"pages": page, "y": row, "x": column}
                    found.append(Cell(page, row, column, self._request(place)))
        return found

    def _request(self, place: dict[str, int]) -> GenerationRequest:
        request = first_picture(self.request)
        # Whole texts first: words are replaced in each of them.
        for field, axis in sorted(self.axes.items(), key=lambda each: each[1].setting not in WHOLE_TEXTS):
            try:
                request = axis.about.apply(request, axis.values[place[field]])
            except InvalidRequest as problem:
                raise InvalidRequest(field, problem.named(axis.about.label)) from None
            except ValueError as problem:
                raise refuse(field, problem) from None
        return request


def first_picture(request: GenerationRequest) -> GenerationRequest:
    """The request for the first picture of a run alone, and of the runs that it left."""
    fork = request.fork
    fork = fork and fork.model_copy(update={"original": first_picture(fork.original)})
    alone = {**fields_of_picture(request, 0), "variation": None, "interpolation": None, "fork": fork}
    return replaced(request, **alone)


def read_axis(field: str, setting: str, given: str | Sequence[object], request: GenerationRequest) -> GridAxis | None:
    """An axis as a user wrote it; None without a setting.

    Args:
        field: x, y or pages.
        setting: a name of ``axes.AXES`` or ``lora:NAME``.
        given: the values in one text, as the page takes them, or one by one: texts and numbers.
        request: what it changes.

    Raises:
        InvalidRequest: whose field is ``field``.
    """
    if not setting:
        return None
    known = settings_of(request)
    if request.fork and setting in FIXED_IN_FORKS:
        raise InvalidRequest(field, FIXED)
    if setting not in known:
        raise InvalidRequest(field, "This run has no such setting; choose another one.")
    if isinstance(given, str) and len(given) > MAX_TEXT:
        raise InvalidRequest(field, f"The values are longer than {MAX_TEXT} characters; leave some out.")
    try:
        found = known[setting].split(given) if isinstance(given, str) else listed(setting, given)
        values = tuple(dict.fromkeys(found))
        if not values:
            raise InvalidRequest(field, f"Give at least one value for {known[setting].label.lower()}.")
        if len(values) > MAX_VALUES:
            raise InvalidRequest(field, f"{len(values)} values are more than {MAX_VALUES}; leave some out.")
        return GridAxis(setting=setting, values=values)
    except ValidationError as error:
        raise InvalidRequest(field, str(first_error(error)[1])) from None
    except ValueError as problem:
        raise problem if isinstance(problem, InvalidRequest) else refuse(field, problem) from None


def work(request: GenerationRequest) -> float:
    """What a run costs, in pixels times model calls; only the ratio of two of them means something."""
    sampling = request.sampling
    spec = SCHEDULERS.get(sampling.scheduler)
    calls = spec.model_calls(request.steps_run) if spec else max(request.steps_run, 1)
    return float(request.width * request.height * calls * (2 if sampling.guidance_scale > 1 else 1))


def expected_seconds(cells: Sequence[Cell], known: GenerationRequest, seconds: float) -> float:
    """About how long the cells take, given how long one picture of a known run took."""
    one = work(first_picture(known))
    return sum(work(cell.request) for cell in cells) * seconds / (one * known.num_images)
