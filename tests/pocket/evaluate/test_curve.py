"""The curve: snapshots are measured once, in order, and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pocket.evaluate import attributes, curve, figures
from pocket.train import export
from pocket.world import artwork
from tests.support.toy_artwork import Discs


def test_the_shipped_curve_is_read_and_drawn(tmp_path: Path) -> None:
    found = curve.points()
    assert curve.samples_seen() == found[-1]["samples"] > 0
    assert [point["samples"] for point in found] == sorted(point["samples"] for point in found)
    curve.chart(target=tmp_path / "curve.svg")
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_each_snapshot_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(artwork, "Artwork", Discs)
    monkeypatch.setattr(attributes, "train", lambda renderer: None)
    monkeypatch.setattr(
        attributes,
        "answer",
        lambda judge, pictures: {
            "thing": [[0]] * len(pictures),
            "surroundings": ["sea"] * len(pictures),
            "medium": ["oil"] * len(pictures),
        },
    )
    monkeypatch.setattr(export, "build_pipeline", lambda kept, things, name: (measured.append(name), 128))
    monkeypatch.setattr(figures, "sampler", lambda pipeline: pipeline)
    monkeypatch.setattr(
        figures, "drawer", lambda pipeline, steps, guidance, size: lambda prompts: np.zeros((len(prompts), 1))
    )
    for seen in (1_000_000, 200_000):
        (tmp_path / f"unet-{seen}.pt").touch()
    found = curve.measure(tmp_path, prompts=20)
    assert measured == ["unet-200000", "unet-1000000"] and [point["samples"] for point in found] == [200_000, 1_000_000]
    assert set(found[0]) == {"samples", "px", "thing", "surroundings", "medium"}
    assert curve.measure(tmp_path, prompts=20) == found and len(measured) == 2
    assert json.loads((tmp_path / "curve.json").read_text()) == found
