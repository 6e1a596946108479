"""What the user saved to be used again: styles, wildcards, sampling presets; and the previews of styles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from presets.prompts.style_previews import StylePreviews
from presets.prompts.styles import StyleLibrary
from presets.prompts.wildcards import Wildcards
from presets.sampling_presets import SamplingPresets

# Wildcards that come with the program; the user's file of the same name counts instead.
SHIPPED_WILDCARDS = Path(__file__).with_name("prompts") / "lists"


@dataclass(frozen=True)
class UserPresets:
    """The presets of one data folder; each member is thread-safe."""

    styles: StyleLibrary
    wildcards: Wildcards
    sampling: SamplingPresets
    previews: StylePreviews

    @classmethod
    def of(cls, data_dir: Path) -> UserPresets:
        """Those of a data folder, in which nothing is written before something is saved."""
        return cls(
            StyleLibrary(data_dir / "styles.json"),
            Wildcards(data_dir / "wildcards", SHIPPED_WILDCARDS),
            SamplingPresets(data_dir / "sampling_presets.json"),
            StylePreviews(data_dir / "style_previews"),
        )
