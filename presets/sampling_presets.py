"""Sampling presets that the user saved: scheduler, steps and guidance under one name.

Draft, balanced and fine are data of each model (``qualities`` in ``models.toml``): few steps for models that were made
for few.  These here are for every model that works with their scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipelines.request import MAX_GUIDANCE, MAX_STEPS
from pipelines.system.text import printable, shorten
from presets.user_list import UserList, UserListError, first_problem

KEY = "presets"
MAX_SAVED, MAX_NAME = 100, 40


class PresetError(ValueError):
    """A preset that cannot be saved; the message is one sentence for the user."""


def _clean_name(name: str) -> str:
    clean = " ".join(printable(name).split())[:MAX_NAME].strip()
    if not clean or not clean.isprintable():
        raise ValueError("has no letters, or marks that cannot be shown")
    return clean


class SamplingPreset(BaseModel):
    """A preset.

    Attributes:
        name: what the page calls it.
        scheduler: key of ``pipelines.sampling.schedulers.SCHEDULERS``.
        num_inference_steps, guidance_scale: as in ``pipelines.request.Sampling``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: Annotated[str, AfterValidator(_clean_name)]
    scheduler: str = Field(min_length=1, max_length=64)
    num_inference_steps: int = Field(ge=1, le=MAX_STEPS)
    guidance_scale: float = Field(ge=0, le=MAX_GUIDANCE)


def read_presets(listed: Any) -> tuple[list[SamplingPreset], int]:
    """The presets of a file's list, and how many of its entries are none."""
    found, refused = [], 0
    for each in listed if isinstance(listed, list) else ():
        try:
            found.append(SamplingPreset.model_validate(each))
        except ValidationError:
            refused += 1
    return found, refused


class SamplingPresets:
    """The user's presets.  Thread-safe.

    Args:
        path: the file; it is made when the first is saved.
    """

    def __init__(self, path: Path) -> None:
        self._own = UserList(path, KEY, SamplingPreset, MAX_SAVED)

    def all(self) -> list[SamplingPreset]:
        """Every preset, in the order in which they were saved."""
        return self._own.items()

    def find(self, name: Any) -> SamplingPreset | None:
        """The preset of this name, or None."""
        return next((preset for preset in self.all() if preset.name == name), None)

    def save(self, name: Any, scheduler: Any, steps: Any, guidance: Any) -> SamplingPreset:
        """Save a preset; raises PresetError, also if its name is taken."""
        fields = {"name": name, "scheduler": scheduler, "num_inference_steps": steps, "guidance_scale": guidance}
        try:
            preset = SamplingPreset.model_validate(fields)
        except ValidationError as error:
            if error.errors()[0]["loc"] == ("name",):
                raise PresetError("A preset needs a name; give it one.") from None
            raise PresetError(f"This cannot be saved as a preset ({first_problem(error)}).") from None
        if self.find(preset.name) is not None:
            raise PresetError(f"There is a preset {shorten(preset.name)!r} already; choose another name.")
        self._change(lambda items: [*items, preset])
        return preset

    def add_all(self, presets: Iterable[SamplingPreset]) -> int:
        """Add presets of a file; how many were new.  One that is there is left out; a name that is taken gets a number.

        Raises:
            PresetError: if there are too many, or they cannot be written.
        """
        known = {preset.name: preset for preset in self.all()}
        new: list[SamplingPreset] = []
        for preset in presets:
            if any(each.model_copy(update={"name": preset.name}) == preset for each in known.values()):
                continue
            names = chain([preset.name], (f"{preset.name[: MAX_NAME - 6]} ({n})" for n in count(2)))
            named = preset.model_copy(update={"name": next(name for name in names if name not in known)})
            known[named.name] = named
            new.append(named)
            if len(new) > MAX_SAVED:
                break
        if new:
            self._change(lambda items: [*items, *new])
        return len(new)

    def remove(self, name: str) -> None:
        """Remove a preset; raises PresetError."""
        self._change(lambda items: [item for item in items if item.name != name])

    def _change(self, change: Any) -> None:
        try:
            self._own.change(change)
        except UserListError as problem:
            raise PresetError(str(problem)) from None
