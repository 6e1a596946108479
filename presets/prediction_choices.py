"""What the user says a checkpoint predicts, where its file does not say it or says it wrongly."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipelines.cards import ModelCard
from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import read_json_file
from presets.json_files import CatalogueError

AS_IN_FILE = "file"
# Choice -> the prediction type, and whether the schedule ends in pure noise (Lin et al. 2023, arXiv:2305.08891).
PREDICTIONS: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {"epsilon": ("epsilon", False), "v": ("v_prediction", False), "v-zsnr": ("v_prediction", True)}
)
MAX_CHOICES = 2000


class PredictionChoices:
    """The user's choices by the source of a model, in a small JSON file.  Thread-safe.

    Args:
        path: the file, made when something is first chosen; None to keep choices until the program ends.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._choices = self._read()

    def choice(self, card: ModelCard) -> str:
        """A key of ``PREDICTIONS``, or ``AS_IN_FILE``."""
        return self._choices.get(card.source, AS_IN_FILE)

    def choose(self, card: ModelCard, choice: str) -> None:
        """Remember a choice.

        Raises:
            CatalogueError: if there is no such choice, or it cannot be written.
        """
        if choice not in (AS_IN_FILE, *PREDICTIONS):
            raise CatalogueError(f"A model cannot predict {choice[:40]!r}; choose noise (epsilon) or v.")
        with self._lock:
            choices = {source: value for source, value in self._choices.items() if source != card.source}
            if choice != AS_IN_FILE:
                choices = dict([*choices.items(), (card.source, choice)][-MAX_CHOICES:])
            self._write(choices)
            self._choices = choices

    def apply(self, card: ModelCard) -> ModelCard:
        """A card, as it comes from its file, with what was chosen for it."""
        if card.source not in self._choices:
            return card
        kind, zero_snr = PREDICTIONS[self._choices[card.source]]
        options = {**card.scheduler_options, "prediction_type": kind, "rescale_betas_zero_snr": zero_snr}
        changes = {"prediction_type": kind, "terminal_snr_zero": zero_snr, "scheduler_options": options}
        return card.model_copy(update=changes)

    def _read(self) -> dict[str, str]:
        try:
            found: Any = read_json_file(self._path) if self._path else {}
        except (OSError, ValueError):
            return {}
        entries = found.items() if isinstance(found, dict) else ()
        return {source: choice for source, choice in entries if isinstance(choice, str) and choice in PREDICTIONS}

    def _write(self, choices: Mapping[str, str]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path) as file:
                file.write(json.dumps(choices, indent=2).encode())
        except OSError as error:
            raise CatalogueError(
                f"What the model predicts cannot be remembered in {self._path} ({error.strerror}); free some space or "
                "choose another data folder."
            ) from None
