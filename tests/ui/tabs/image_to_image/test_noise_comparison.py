"""Two runs from the same noise, one of them without the image."""

from __future__ import annotations

from pipelines.jobs.job import Job
from tests.support.known_trace import ask
from tests.support.source_tab import SourceTab
from ui.tabs.image_to_image import noise_comparison


def test_stop_ends_both(tab: SourceTab) -> None:
    request = ask()
    first, second = Job(request), Job(request)
    first.cancel()
    updates = list(noise_comparison.follow(tab.form, [first, second]))
    assert second.cancelled and updates[-1][tab.form.stage]["state"] == "stopped"
    assert {one[tab.page.tab_job] for one in updates if tab.page.tab_job in one} == {first.id}
