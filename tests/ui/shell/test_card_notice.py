"""The line above the page: why the graphics card is not used, for the owner, as the card's record has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import app
from benchmarks.gpu.graphics_cards import CARDS, CU130, MachineWith
from pipelines.jobs.backend import BackendStatus
from pipelines.jobs.local import LocalBackend
from pipelines.models.machine import Machine
from pipelines.models.manager import PipelineManager
from pipelines.system.gpu.graphics_card import GraphicsCard, mismatch, unused_card, unused_other_card
from pipelines.system.gpu.nvidia_smi import NvidiaSmi, read
from pipelines.system.gpu.other_cards import OtherCard
from tests.support.tiny_model import tiny_card
from ui.shell.card_notice import notice_value

OLD = replace(CARDS["GTX 1060"], architectures=CU130, runtime=(13, 0))
BEHIND = replace(CARDS["RTX 3060"], driver=(12, 4))


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (replace(OLD, problem=mismatch(OLD)), "no kernels for NVIDIA GeForce GTX 1060 6GB (sm_61)"),
        (replace(BEHIND, problem=mismatch(BEHIND)), "The driver of NVIDIA GeForce RTX 3060 is too old"),
        (unused_card(read("NVIDIA GeForce RTX 3060, 12288, 581.1, 8.6"), (0, 0)), "the installed PyTorch has no CUDA"),
        (unused_other_card(OtherCard("AMD", "The AMD graphics card", 0), False), "the installed PyTorch has no ROCm"),
        (unused_other_card(OtherCard("Intel", "The Intel Arc card", 0), False), "models run on the CPU"),
        (unused_card(NvidiaSmi(silent=True), (0, 0)), "its driver does not answer"),
        *((card, "") for card in (*CARDS.values(), None)),
    ],
)
def test_the_owner_is_told_what_to_do_where_build_and_card_do_not_fit(
    card: GraphicsCard | None, told: str, tmp_path: Path
) -> None:
    backend = LocalBackend(PipelineManager([tiny_card("x")], machine=MachineWith(card)), tmp_path / "pictures")
    try:
        status = backend.status()
    finally:
        backend.close()
    value = notice_value(status, owner=True)
    assert value is not None
    text, command = value["text"], value["command"]
    assert told in text and bool(text) == bool(told) and command in text
    assert not text or (text.endswith(".") and text.count(". ") == 0)
    assert bool(command) == ("install the build" in text)
    assert notice_value(status, owner=False) == {"text": "", "command": ""}


def test_nothing_is_said_before_the_worker_has_looked() -> None:
    """Looking imports torch, which the page's own threads must not wait for."""
    machine = Machine("cpu")
    assert machine.card_problem() is None
    assert notice_value(BackendStatus("cold", "", "Starting", card_problem=None), owner=True) is None
    assert machine.card is None and machine.card_problem() == ""


def test_the_terminal_waits_until_the_card_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Iterator[Any] = iter([None, None, "Update the driver."])
    backend: Any = SimpleNamespace(status=lambda: BackendStatus("cold", "", "", card_problem=next(known)))
    monkeypatch.setattr(app, "CARD_SECONDS", 0.0)
    assert app.wait_for_card(backend) == "Update the driver."
