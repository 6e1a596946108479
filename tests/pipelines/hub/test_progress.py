"""Progress of downloads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipelines.hub.hub import Hub
from pipelines.hub.progress import DownloadStopped, Progress, ProgressMeter
from pipelines.hub.selection import DownloadPlan, PlannedFile
from tests.support.hub_models import NEEDED, card, make_hub
from tests.support.hub_server import COMMIT, HubServer


def test_progress_counts_bytes_speed_and_time(server: HubServer, hub: Hub) -> None:
    server.slow = 250_000
    seen: list[Progress] = []
    hub.download(card(), seen.append)
    total = hub.plan(card()).total
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert {progress.total for progress in seen} == {total}
    assert (seen[-1].done, seen[-1].file, seen[-1].seconds_left) == (total, "", 0.0)
    assert {progress.file for progress in seen[:-1]} == NEEDED
    middle = [progress for progress in seen if 150_000 < progress.done < 300_000]
    assert len(middle) >= 2 and all(100_000 < progress.bytes_per_second < 400_000 for progress in middle)
    assert all(
        progress.seconds_left == pytest.approx((total - progress.done) / progress.bytes_per_second)
        for progress in middle
    )


def test_progress_is_reported_while_nothing_arrives(server: HubServer, tmp_path: Path) -> None:
    server.stalls, server.stall_after = 1, 100
    began, seen = time.monotonic(), []
    with pytest.raises(DownloadStopped):
        make_hub(server, tmp_path, timeout=20.0).download(
            card(), lambda progress: seen.append(progress), lambda: time.monotonic() - began > 1.5
        )
    quiet = [progress for progress in seen if progress.file.endswith(".safetensors")]
    assert len(quiet) >= 4 and quiet[-1].bytes_per_second < quiet[1].bytes_per_second


def test_a_resumed_download_does_not_count_as_fast() -> None:
    files = (PlannedFile("a/b", COMMIT, "x", 1000, "0" * 64),)
    seen: list[Progress] = []
    tally = ProgressMeter(DownloadPlan(files, 1000, 900, 10**9), seen.append)
    tally.update()
    assert (seen[0].done, seen[0].bytes_per_second, seen[0].seconds_left) == (900, 0.0, None)
