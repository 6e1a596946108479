"""What the right column says."""

from __future__ import annotations

from ui.tabs.image_to_image import views


def test_the_strip_admits_to_other_noise_only_when_the_seed_is_not_kept():
    assert views.noise_note(True) == ""
    assert views.noise_note(False) == views.OTHER_NOISE
