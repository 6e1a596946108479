"""Recolouring moves the main colour and leaves the rest."""

from __future__ import annotations

import numpy as np
import pytest

from pocket.world.colours import BACKGROUNDS, THING_COLOURS, can_be_recoloured, recolour
from tests.support.toy_artwork import disc


@pytest.mark.parametrize("colour", THING_COLOURS)
def test_the_main_colour_becomes_the_one_asked_and_eyes_stay(colour: str) -> None:
    art = disc()
    changed = recolour(art, colour)
    assert changed.dtype == np.uint8 and (changed[..., 3] == art[..., 3]).all()
    assert np.abs(changed[40, 80, :3].astype(int) - THING_COLOURS[colour]).max() <= 12
    assert (changed[80, 80] == art[80, 80]).all() and (changed[0, 0] == 0).all()


def test_shading_is_kept() -> None:
    art = disc().copy()
    art[:50, :, :3] = art[:50, :, :3] // 2
    changed = recolour(art, "blue")
    assert changed[30, 80, 2] < 0.8 * changed[130, 80, 2] and changed[30, 80, 2] > changed[30, 80, 0]


def test_grey_things_can_be_recoloured() -> None:
    art = np.full((20, 20, 4), 255, np.uint8)
    art[..., :3] = 150
    changed = recolour(art, "red")
    assert changed[10, 10, 0] > 180 and changed[10, 10, 1] < 90


def test_a_name_with_a_colour_keeps_it() -> None:
    assert can_be_recoloured("dragon") and can_be_recoloured("bluebell")
    assert not any(can_be_recoloured(name) for name in ("red apple", "blue heart", "rainbow"))
    assert len(BACKGROUNDS) == 13
