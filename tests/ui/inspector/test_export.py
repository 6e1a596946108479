"""A file, or a sentence where there is none."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.images.decoding_slots import BUSY, DecodingSlots
from pipelines.system.guest_bytes import GuestBytes
from ui.inspector import export


def test_a_file_is_answered_with_its_name_its_size_and_where_it_is():
    found = export.save_answer(lambda: ("fox.gif", b"12345"), "one", "gif")
    assert (found["name"], found["bytes"], Path(found["file"]["path"]).read_bytes()) == ("fox.gif", 5, b"12345")
    assert "problem" not in found


@pytest.mark.parametrize("problem", [OSError("full"), ValueError("no picture"), RuntimeError("no decoder")])
def test_what_goes_wrong_is_a_sentence(problem: Exception):
    def fail() -> tuple[str, bytes]:
        raise problem

    assert export.save_answer(fail, "one", "gif") == {
        "problem": "The file could not be made; try again, or choose another format."
    }


def test_a_file_is_counted_and_made_in_a_slot_of_its_user(tmp_path: Path) -> None:
    slots, quota = DecodingSlots(wait_seconds=0.01), GuestBytes(tmp_path, 1000, 1000, free=lambda _: 10**12)
    page: Any = SimpleNamespace(export_slot=lambda: slots.hold("a"), charge=lambda size: quota.charge("a", size))
    assert export.save_answer(lambda: ("fox.gif", bytes(600)), "one", "gif", page)["bytes"] == 600
    said = export.save_answer(lambda: ("fox.gif", bytes(600)), "one", "gif", page)
    assert said == {"problem": "You have used up this hour's space for pictures; try again later."}
    inside, let_go = threading.Event(), threading.Event()

    def slow() -> tuple[str, bytes]:
        inside.set()
        let_go.wait(20)
        return "x", b""

    first = threading.Thread(target=export.save_answer, args=(slow, "one", "gif", page))
    first.start()
    assert inside.wait(20)
    assert export.save_answer(slow, "two", "gif", page) == {"problem": BUSY}
    # The owner's export does not wait for a guest's.
    with slots.hold(None):
        let_go.set()
    first.join(20)


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_bytes_to_cache", full)
    assert "could not be made" in export.save_answer(lambda: ("fox.gif", b"1"), "one", "gif")["problem"]
