"""The panels below the player: a panel is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ui.context import PageContext
from ui.inspector import charts, export, forks, forward_process, guidance, questions
from ui.inspector.origins import best_guess, trajectory_map
from ui.inspector.panel import Panel
from ui.inspector.words import attention, text_encoder


@dataclass(frozen=True)
class PanelSpec:
    """A panel.

    Attributes:
        label: of its sub-tab.
        build: lays it out.
        beside: it stands next to the player, the others in sub-tabs below.
    """

    label: str
    build: Callable[[PageContext], Panel]
    beside: bool = False


# By the id of the sub-tab; the order is that of the page.
PANELS: Mapping[str, PanelSpec] = MappingProxyType(
    {
        "tour": PanelSpec("Five questions", questions.build, beside=True),
        "guidance": PanelSpec("Guidance", guidance.build),
        "fork": PanelSpec("Go on differently", forks.build),
        "best": PanelSpec("Best possible guess", best_guess.build),
        "map": PanelSpec("Map", trajectory_map.build),
        "forward": PanelSpec("Adding noise", forward_process.build),
        "charts": PanelSpec("Charts", charts.build),
        "words": PanelSpec("Which word drew what", attention.build),
        "encoder": PanelSpec("Text encoder", text_encoder.build),
        "keep": PanelSpec("Save", export.build),
    }
)
