"""What the README says is so: its Python example runs as it stands, and its make commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from presets.catalogue import load
from tests.browser.site import served

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_draw_with_the_shipped_model(tmp_path: Path):
    example = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    pocket = next(card for card in load() if card.id == "pocket")
    names: dict = {}
    with served([pocket], tmp_path) as site:
        exec(compile(example.replace("http://127.0.0.1:7860", site.url), "README.md", "exec"), names)
    with Image.open(names["files"][0]) as picture:
        assert picture.size == (128, 128)
        assert "diffusion_playground" in picture.text
    assert names["request"]["sampling"]["seed"] == 7
    assert len(names["facts"]["steps"]) == names["request"]["sampling"]["num_inference_steps"] == 25
    with Image.open(names["animation"]) as film:
        assert film.n_frames == 25
    assert "Content-Security-Policy" in Path(names["capsule"]).read_text(encoding="utf-8")


def test_the_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)\b", README)) - {"alone"} <= targets


def test_the_moving_picture_is_there():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README):
        with Image.open(PROJECT / name) as picture:
            assert picture.n_frames > 10
