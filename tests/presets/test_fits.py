"""Whether a model fits: by its preflight, and before that by what its card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.models.placement import NoSuchDevice
from pipelines.models.preflight import Preflight
from presets.fits import FITS, PARTLY, TOO_LARGE, Fits, fit_of
from tests.support.tiny_model import tiny_card

FOUND = Preflight({}, 10, 10, 0, 20, 0, 0, None, True, True, ("It needs 3 GB.", "It takes a minute."))
CARD = tiny_card(Path("/models/x"), id="x", name="Ex", memory_bytes=3_000_000_000)


@pytest.mark.parametrize(
    ("ok", "fits", "card", "kind"),
    [
        (True, True, True, FITS), (True, True, False, FITS), (True, False, True, PARTLY),
        # Without a graphics card there is nothing to move parts to.
        (True, False, False, TOO_LARGE), (False, False, True, TOO_LARGE),
    ],
)  # fmt: skip
def test_a_preflight_says_how_a_model_fits(ok: bool, fits: bool, card: bool, kind: str) -> None:
    fit = fit_of(replace(FOUND, ok=ok, fits=fits), card)
    assert (fit.kind, fit.why) == (kind, "" if kind == FITS else "It needs 3 GB.")


class Manager:
    """A manager that counts how often it looks."""

    machine = SimpleNamespace(ram=lambda: (2_000_000_000, 0), vram=lambda: (2_500_000_000, 0))

    def __init__(self, placement: Any, error: Exception | None = None) -> None:
        self.placement, self.error, self.looked = placement, error, 0

    def check(self, model_id: str) -> Preflight:
        self.looked += 1
        if self.error:
            raise self.error
        return FOUND


def test_before_anything_has_loaded_the_cards_figures_and_the_main_memory_decide() -> None:
    manager = Manager(None)
    assert Fits(manager).of(CARD, True).kind == TOO_LARGE
    assert "needs about 3.0 GB of memory and this computer has 2.0 GB" in Fits(manager).of(CARD, True).why
    assert Fits(manager).of(CARD.model_copy(update={"memory_bytes": 0}), True).kind == FITS
    assert manager.looked == 0


def test_each_model_is_looked_at_once_and_again_when_its_files_are_here() -> None:
    manager = Manager(SimpleNamespace(has_own_memory=True))
    fits = Fits(manager)
    # Without its files the card's figure counts: 3 GB, and the graphics card has 2.5.
    assert [fits.of(CARD, here).kind for here in (False, False, True, True)] == [PARTLY, PARTLY, FITS, FITS]
    assert manager.looked == 2
    huge = CARD.model_copy(update={"id": "huge", "memory_bytes": 10**15})
    assert fits.of(huge, False).kind == TOO_LARGE and "of graphics memory" in fits.of(huge, False).why


def test_without_the_device_the_card_decides() -> None:
    manager = Manager(SimpleNamespace(has_own_memory=True), NoSuchDevice("There is no such device."))
    assert Fits(manager).of(CARD, True).kind == TOO_LARGE
