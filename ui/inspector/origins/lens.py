"""The best possible guess as a view of the player and of the capsule, for runs whose panel was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAME = "best"
ABOUT = {
    "title": "The best possible guess",
    "about": "What the best possible denoiser for a sample of the training pictures would guess: a weighted average "
    "of pictures that exist. It can only copy; where the model's guess differs, the network made something up.",
    "term": "posterior mean over training pictures",
    "paper": "Kamb and Ganguli 2024",
    "link": "https://arxiv.org/abs/2412.20292",
}


def added(value: dict[str, Any], frames: Sequence[str] | None) -> dict[str, Any]:
    """A player's value with this view as its last, where its frames are known."""
    if not frames:
        return value
    return {
        **value,
        "order": [*value["order"], NAME],
        "about": {**value["about"], NAME: ABOUT},
        "lenses": {**value["lenses"], NAME: {"crisp": False, "frames": list(frames)}},
    }
