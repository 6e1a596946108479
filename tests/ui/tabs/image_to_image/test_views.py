"""What the right column says."""

from __future__ import annotations

from tests.support.known_trace import ask
from tests.support.source_tab import SourceTab
from ui.tabs.image_to_image import views


def test_the_strip_admits_to_other_noise_only_when_the_seed_is_not_kept():
    assert views.noise_note(True) == ""
    assert views.noise_note(False) == views.OTHER_NOISE


def test_before_and_after_never_shows_the_pair_of_another_run_than_the_result(tab: SourceTab):
    (section,) = [one for one in tab.form.sections if tab.views.comparison in one.outputs]
    made = {"state": "done", "pictures": []}
    alone = ask()
    assert section.updates(alone, made) == {tab.views.comparison: None, tab.views.comparison_note: views.NO_START}
    gone = ask(init={"image": "0" * 32, "strength": 0.5})
    assert section.updates(gone, made)[tab.views.comparison] is None
    assert section.updates(gone, {"state": "running"}) == {}
