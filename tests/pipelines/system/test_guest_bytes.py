"""Bytes that are written for guests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.system.guest_bytes import HOUR, MIN_FREE_BYTES, GuestBytes, NoBytesLeft, free_bytes, has_room


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(folder: Path, clock: Clock | None = None, free: int = 2 * MIN_FREE_BYTES) -> GuestBytes:
    return GuestBytes(folder, 100, 150, clock or Clock(), lambda _: free)


def test_each_guest_and_all_of_them_have_a_share_of_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    quota = make(tmp_path, clock)
    quota.charge("a", 60)
    with pytest.raises(NoBytesLeft, match="^You have used up"):
        quota.charge("a", 41)
    quota.charge("a", 40)
    with pytest.raises(NoBytesLeft, match="^All guests together"):
        quota.charge("b", 51)
    quota.charge("b", 50)
    clock.now = HOUR + 1
    quota.charge("a", 100)


def test_a_claim_is_settled_by_what_was_written(tmp_path: Path) -> None:
    quota = make(tmp_path)
    charge = quota.charge("a", 100)
    quota.settle(charge, 30)
    quota.charge("a", 70)
    with pytest.raises(NoBytesLeft):
        quota.charge("a", 1)


def test_nothing_is_written_for_guests_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    quota = make(tmp_path, free=MIN_FREE_BYTES - 1)
    with pytest.raises(NoBytesLeft, match="nearly full"):
        quota.charge("a", 1)
    assert quota.charge(None, 10**12) is None


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "data" / "inputs") > 0


@pytest.mark.parametrize(
    ("free", "total", "room"), [(3, 100, True), (1.9, 100, False), (1.9, 4, True), (0.5, 1, True), (0.2, 1, False)]
)
def test_a_temporary_folder_may_be_on_a_small_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, total: float, room: bool
) -> None:
    usage = SimpleNamespace(free=int(free * 2**30), total=int(total * 2**30))
    monkeypatch.setattr("pipelines.system.guest_bytes.shutil.disk_usage", lambda folder: usage)
    assert has_room(tmp_path / "x") == room


def test_the_disk_of_a_temporary_folder_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = make(tmp_path)
    quota.watch(tmp_path / "tmp")
    quota.charge("a", 10)
    full = SimpleNamespace(total=10**10, used=10**10, free=10**6)
    monkeypatch.setattr("pipelines.system.guest_bytes.shutil.disk_usage", lambda path: full)
    with pytest.raises(NoBytesLeft, match="nearly full"):
        quota.charge("a", 10)
    assert quota.charge(None, 10) is None


def test_questions_for_room_are_not_kept(tmp_path: Path) -> None:
    quota = make(tmp_path)
    for _ in range(5):
        quota.charge("a", 0)
    assert quota._charges == []
