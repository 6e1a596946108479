"""What README.md and docs/ say is true: the Python examples run as they stand, commands, links and pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from presets.catalogue import load
from tests.support.site import served
from ui.server.command_line import create_parser

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
GUIDE = (PROJECT / "docs" / "guide.md").read_text(encoding="utf-8")
PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/guide.md", "docs/architecture.md")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.size == (128, 128)
        return np.asarray(picture.convert("RGB"))


def test_the_python_examples_draw_with_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    example = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
    pocket = next(card for card in load() if card.id == "pocket")
    # Where an example names no number of steps, five are enough here.
    quick = {name: each.model_copy(update={"num_inference_steps": 5}) for name, each in pocket.qualities.items()}
    pocket = pocket.model_copy(update={"qualities": quick})
    names: dict = {}
    with served([pocket], tmp_path / "pictures") as site:
        exec(compile(example.replace("http://127.0.0.1:7860", site.url), "guide.md", "exec"), names)
    with Image.open(names["files"][0]) as picture:
        assert picture.size == (128, 128)
        assert "diffusion_playground" in picture.text
    assert names["request"]["sampling"]["seed"] == 7
    assert names["request"]["sampling"]["num_inference_steps"] == 25 and len(names["facts"]["steps"]) == 5
    with Image.open(names["animation"]) as stage:
        assert stage.n_frames == 5
    assert "Content-Security-Policy" in Path(names["capsule"]).read_text(encoding="utf-8")
    before, drawn, halves = (pixels(names[name][0]) for name in ("files", "drawn", "halves"))
    assert names["how"]["init"]["strength"] == 0.6 and not np.array_equal(before, drawn)
    assert names["part"]["init"]["feather"] == 8
    assert np.array_equal(before[:, :64], halves[:, :64]) and not np.array_equal(before[:, 64:], halves[:, 64:])


def test_the_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        commands = re.findall(
            r"^make ([a-z-]+)\b|`make ([a-z-]+)", (PROJECT / page).read_text(encoding="utf-8"), re.MULTILINE
        )
        assert {name for pair in commands for name in pair if name} <= targets, page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    folder = (PROJECT / page).parent
    for target in re.findall(r"\]\((?!https?:)(.*?)\)", (PROJECT / page).read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = folder / name if name else PROJECT / page
        assert linked.exists(), target
        titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [title.lower().replace(" ", "-") for title in titles], target


def test_the_readme_stays_short():
    assert README.count("\n") <= 120


def test_every_option_is_in_the_guide():
    for action in create_parser()._actions:
        names = [name for name in action.option_strings if name.startswith("--") and name != "--help"]
        assert not names or any(f"`{name}" in GUIDE for name in names), names


def test_each_promise_names_tests_and_files_that_exist():
    text = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 20
    for path, name in named:
        code = (PROJECT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^def {name}\(", code, re.MULTILINE), name
    assert all((PROJECT / path).exists() for path in re.findall(r"`((?:ui|pipelines)/[\w./]*|app\.py)`", text))


def test_the_pictures_are_there_and_small():
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README):
        with Image.open(PROJECT / name) as picture:
            assert picture.n_frames > 10 if name.endswith(".webp") else picture.width >= 600
        assert (PROJECT / name).stat().st_size <= 800_000
