"""The counters of ``make bench``: they are met, and they would notice a step that waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.counters import counters, row
from pipelines.models.families.stable_diffusion import StableDiffusion
from tests.support.tiny_model import tiny_card


def test_a_row_says_whether_its_target_is_met() -> None:
    assert row("syncs", 0, 0) == {"what": "syncs", "measured": 0, "at_most": 0, "result": "met"}
    assert row("syncs", 1, 0)["result"] == "missed"


def test_no_step_waits_for_the_card(tiny_folder: Path) -> None:
    torch.set_num_threads(1)
    rows = counters("tiny", [tiny_card(tiny_folder)], steps=3)
    assert len(rows) == 5 and {one["result"] for one in rows} == {"met"}
    assert all(one["measured"] > 0 for one in rows[3:])


def test_a_step_that_waits_is_counted(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    plain = StableDiffusion.predict

    def look(model: Any, x: Any, *args: Any) -> Any:
        assert float(x.flatten()[0]) < 1e9
        x.cpu()
        return plain(model, x, *args)

    monkeypatch.setattr(StableDiffusion, "predict", look)
    rows = counters("tiny", [tiny_card(tiny_folder)], steps=3)
    assert [one["measured"] for one in rows[:2]] == [1, 1]
    assert [one["result"] for one in rows[:2]] == ["missed", "missed"]
