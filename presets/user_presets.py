"""What the user saved to be used again: styles, wildcards, sampling presets; and the previews of styles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.system.bounded_json import parse_json
from presets import sampling_presets
from presets.prompts import styles
from presets.prompts.style_files import read_styles
from presets.prompts.style_previews import StylePreviews
from presets.prompts.styles import StyleLibrary
from presets.prompts.wildcards import Wildcards
from presets.sampling_presets import SamplingPresets, read_presets
from presets.user_list import as_json

# Wildcards that come with the program; the user's file of the same name counts instead.
SHIPPED_WILDCARDS = Path(__file__).with_name("prompts") / "lists"


@dataclass(frozen=True)
class Added:
    """What was taken from a file.

    Attributes:
        styles, presets: that are new.
        known: that were there already.
        refused: that cannot be used.
    """

    styles: int
    presets: int
    known: int
    refused: int


def _own_file(text: str) -> dict[str, Any]:
    """What a JSON file of this program holds; nothing for any other text."""
    try:
        found = parse_json(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class UserPresets:
    """The presets of one data folder; each member is thread-safe."""

    styles: StyleLibrary
    wildcards: Wildcards
    sampling: SamplingPresets
    previews: StylePreviews

    def export(self) -> str:
        """The user's styles and sampling presets as the text of a JSON file, which ``add_file`` takes."""
        return as_json({styles.KEY: self.styles.own(), sampling_presets.KEY: self.sampling.all()})

    def add_file(self, text: str) -> Added:
        """Add the styles and the sampling presets of a file; see ``read_styles``.

        Raises:
            StyleError, PresetError: if it is no such file, or there would be too many.
        """
        own = _own_file(text)
        presets, refused = read_presets(own.get(sampling_presets.KEY))
        found, unusable = ([], 0) if presets and not own.get(styles.KEY) else read_styles(text)
        new, taken = self.styles.add_all(found), self.sampling.add_all(presets)
        return Added(new, taken, len(found) - new + len(presets) - taken, unusable + refused)

    @classmethod
    def of(cls, data_dir: Path) -> UserPresets:
        """Those of a data folder, in which nothing is written before something is saved."""
        return cls(
            StyleLibrary(data_dir / "styles.json"),
            Wildcards(data_dir / "wildcards", SHIPPED_WILDCARDS),
            SamplingPresets(data_dir / "sampling_presets.json"),
            StylePreviews(data_dir / "style_previews"),
        )
