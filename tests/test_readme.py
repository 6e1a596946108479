"""What the README says is so: its Python examples run as they stand, and its make commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presets.catalogue import load
from tests.browser.site import served

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.size == (128, 128)
        return np.asarray(picture.convert("RGB"))


def test_the_python_examples_draw_with_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    example = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    pocket = next(card for card in load() if card.id == "pocket")
    names: dict = {}
    with served([pocket], tmp_path / "pictures") as site:
        exec(compile(example.replace("http://127.0.0.1:7860", site.url), "README.md", "exec"), names)
    with Image.open(names["files"][0]) as picture:
        assert picture.size == (128, 128)
        assert "diffusion_playground" in picture.text
    assert names["request"]["sampling"]["seed"] == 7
    assert len(names["facts"]["steps"]) == names["request"]["sampling"]["num_inference_steps"] == 25
    with Image.open(names["animation"]) as film:
        assert film.n_frames == 25
    assert "Content-Security-Policy" in Path(names["capsule"]).read_text(encoding="utf-8")
    before, drawn, halves = (pixels(names[name][0]) for name in ("files", "drawn", "halves"))
    assert names["how"]["init"]["strength"] == 0.6 and not np.array_equal(before, drawn)
    assert names["part"]["init"]["feather"] == 8
    assert np.array_equal(before[:, :64], halves[:, :64]) and not np.array_equal(before[:, 64:], halves[:, 64:])


def test_the_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)\b", README)) - {"alone"} <= targets


def test_each_promise_names_tests_and_files_that_exist():
    text = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for path, name in named:
        code = (PROJECT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^def {name}\(", code, re.MULTILINE), name
    assert all((PROJECT / path).exists() for path in re.findall(r"`((?:ui|pipelines)/[\w./]*|app\.py)`", text))


def test_the_moving_picture_is_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README):
        with Image.open(PROJECT / name) as picture:
            assert picture.n_frames > 10
