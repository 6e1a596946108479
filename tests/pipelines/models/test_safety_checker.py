"""Models' own safety checkers: what they object to never leaves, and what state they are in is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.events import Finished
from pipelines.jobs.local import LocalBackend
from pipelines.model import CannotLoad, Placement
from pipelines.models.components import load_checker
from pipelines.models.manager import PipelineManager
from pipelines.models.preflight import component_bytes
from pipelines.models.safety_checker import MISSING, NONE, OFF, ON, state_of
from pipelines.request import make_request
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.tiny_safety_checker import add_checker

CPU = Placement("cpu", "float32", "sdpa")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models without a checker, with one that objects to nothing, with one that objects to everything."""
    root = tmp_path_factory.mktemp("checked")
    made = {"none": make_tiny_model(root / "none")}
    for name, objects in (("mild", False), ("strict", True)):
        made[name] = add_checker(shutil.copytree(made["none"], root / name), objects)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Any:
    made: list[LocalBackend] = []

    def go(folder: Path, family: str = "stable_diffusion", checks: bool = True, **changes: Any) -> tuple[Any, ...]:
        card = tiny_card(folder, id="m", name="Em", family=family)
        made.append(LocalBackend(PipelineManager([card], device="cpu", checks=checks), tmp_path / "pictures"))
        values = {
            "model": "m", "prompt": "a fox", "scheduler": "ddim", "num_inference_steps": 2, "guidance_scale": 1.0,
            "seed": 1, "width": 32, "height": 32, "num_images": 2,
        }  # fmt: skip
        job = made[-1].submit(make_request(**{**values, **changes}))
        events = list(job.events())
        assert isinstance(events[-1], Finished), events[-1]
        return made[-1], job, events[-1]

    yield go
    for backend in made:
        backend.close()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def facts_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return json.loads(image.text["diffusion_playground"])["facts"]


def test_a_withheld_picture_is_black_noted_and_without_steps(folders: dict[str, Path], run: Any) -> None:
    backend, job, end = run(folders["strict"])
    assert all(not pixels(picture.path).any() for picture in end.pictures) and len(end.pictures) == 2
    assert "withheld picture 1 and 2 of 2" in end.notes[0] and "change the prompt or the seed" in end.notes[0]
    assert backend.trace(job.id) is None
    assert facts_of(end.pictures[0].path)["safety_checker"] == ON


def test_other_pictures_are_untouched(folders: dict[str, Path], run: Any) -> None:
    backend, job, plain = run(folders["none"])
    *_, end = run(folders["mild"])
    for one, other in zip(plain.pictures, end.pictures, strict=True):
        assert np.array_equal(pixels(one.path), pixels(other.path)) and pixels(one.path).any()
    assert not any("withheld" in note for note in end.notes) and backend.trace(job.id) is not None
    assert "safety_checker" not in facts_of(plain.pictures[0].path)


def test_it_says_what_diffusers_own_pipeline_says(folders: dict[str, Path]) -> None:
    from diffusers import StableDiffusionPipeline

    noise = [Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 48, 3), np.uint8)) for k in range(3)]
    for name, expected in (("mild", False), ("strict", True)):
        checker = load_checker(folders[name], CPU)
        pipe = StableDiffusionPipeline.from_pretrained(folders[name])
        values = np.stack([np.asarray(image) / 255 for image in noise])
        _, theirs = pipe.run_safety_checker(values, "cpu", checker.network.dtype)
        assert checker(noise) == tuple(theirs) == (expected,) * 3


def test_the_owner_can_switch_it_off_at_the_start_alone(folders: dict[str, Path], run: Any) -> None:
    *_, end = run(folders["strict"], checks=False)
    assert all(pixels(picture.path).any() for picture in end.pictures)
    assert facts_of(end.pictures[0].path)["safety_checker"] == OFF


def test_pipelines_with_their_own_loop_report_what_they_withheld(folders: dict[str, Path], run: Any) -> None:
    *_, end = run(folders["strict"], family="any", num_images=1)
    assert not pixels(end.pictures[0].path).any() and "withheld the picture" in end.notes[0]
    *_, end = run(folders["mild"], family="any", num_images=1)
    assert pixels(end.pictures[0].path).any() and not any("withheld" in note for note in end.notes)
    *_, end = run(folders["strict"], family="any", checks=False)
    assert all(pixels(picture.path).any() for picture in end.pictures)


def test_its_state_is_known_without_loading(folders: dict[str, Path], tmp_path: Path) -> None:
    gone = shutil.copytree(folders["mild"], tmp_path / "gone")
    shutil.rmtree(gone / "safety_checker")
    assert [state_of(folders[name]) for name in ("none", "mild")] == [NONE, ON]
    assert state_of(gone) == MISSING and state_of(folders["mild"], wanted=False) == OFF
    assert state_of(tmp_path / "file.safetensors") == NONE and state_of(tmp_path) == NONE
    for text in ("[]", "{", '{"safety_checker": 3}', '{"safety_checker": [null, null]}'):
        (tmp_path / "model_index.json").write_text(text)
        assert state_of(tmp_path) == NONE
    cards = [tiny_card(folder, id=name) for name, folder in (*folders.items(), ("gone", gone))]
    manager = PipelineManager(cards, device="cpu")
    assert [state.safety for state in manager.states()] == [NONE, ON, ON, MISSING]
    with manager.lease("mild"), manager.lease("gone"):
        assert [state.safety for state in manager.states()] == [NONE, ON, ON, MISSING]


def test_a_broken_checker_stops_the_load(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(folders["mild"], tmp_path / "broken")
    (broken / "safety_checker" / "model.safetensors").write_bytes(b"nonsense")
    manager = PipelineManager([tiny_card(broken, id="m")], device="cpu")
    with pytest.raises(CannotLoad, match="The safety checker of .* start with --no-safety-checker"), manager.lease("m"):
        pass


def test_its_memory_is_estimated_and_measured(folders: dict[str, Path]) -> None:
    manager = PipelineManager([tiny_card(folders["mild"], id="m")], device="cpu")
    with manager.lease("m") as model:
        assert "safety_checker" in model.modules
        assert sum(component_bytes(folders["mild"], "float32").values()) == pytest.approx(model.size_bytes, rel=0.01)
    without = component_bytes(folders["mild"], "float32", checks=False)
    assert without == component_bytes(folders["none"], "float32")
