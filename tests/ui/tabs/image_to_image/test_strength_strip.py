"""The noise levels of the source image: which are drawn, what they say, and the model's prediction from one."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.images.uploads import UPLOAD_GONE, UploadStore
from pipelines.jobs.backend import ForwardProcess, QueryFailed
from pipelines.request import MAX_STEPS, GenerationRequest, InvalidRequest, make_request
from ui.tabs.image_to_image import strength_strip


@pytest.mark.parametrize("steps", [1, 2, 49, 50, 51, 99, MAX_STEPS])
def test_levels_that_are_drawn_rise_from_1_to_all(steps: int):
    runs = strength_strip.drawn_steps(steps)
    assert (runs[0], runs[-1]) == (1, steps)
    assert runs == sorted(set(runs))
    assert len(runs) == min(steps, strength_strip.MAX_LEVELS)
    # No gap is more than a step wider than any other.
    assert np.ptp(np.diff(runs)) <= 1 if len(runs) > 2 else True


def asked(image: str = "0" * 32, **changes: Any) -> GenerationRequest:
    values = {
        "model": "tiny", "prompt": "a fox", "width": 64, "height": 64, "scheduler": "euler", "num_inference_steps": 4,
        "guidance_scale": 1.0, "seed": 5, "init": {"image": image, "strength": 1.0},
    }  # fmt: skip
    return make_request(**{**values, **changes})


def levels() -> ForwardProcess:
    """Four levels; entry i is where a run of 4 - i steps begins."""
    alpha = [0.1, 0.4, 0.8, 0.99]
    sigma = [(1 - a * a) ** 0.5 for a in alpha]
    clean = np.full((1, 3, 4, 4), 0.5, np.float32)
    x_t = np.stack([np.full((1, 3, 4, 4), i, np.float32) for i in range(4)])
    return ForwardProcess([999.0, 600.0, 300.0, 20.0], alpha, sigma, x_t, clean)


def test_the_share_of_picture_and_noise_is_that_of_their_energies():
    assert strength_strip.mix(levels(), 0) == "t = 999: 1.0% picture, 99.0% noise"
    assert strength_strip.mix(levels(), 1) == "t = 600: 16% picture, 84% noise"


def test_each_strength_is_explained():
    none, some, all_ = (strength_strip.about(levels(), run, asked()) for run in (0, 3, 4))
    assert "exactly as it is" in none
    assert "noise of step 2" in some
    assert "0.1000" in all_ and "square root of alpha-bar" in all_


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "1" * 32},
        {"scheduler": "ddim"},
        {"num_inference_steps": 5},
        {"seed": 6},
        {"width": 72},
        {"model": "b"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_levels_are_redrawn_only_for_what_they_depend_on(changes: dict[str, Any]):
    assert strength_strip.key_of(asked(**changes)) != strength_strip.key_of(asked())
    same = asked(prompt="other", guidance_scale=7.0)
    assert strength_strip.key_of(same) == strength_strip.key_of(asked())


class ToyModel:
    """A backend's queries as arithmetic; remembers the predictions, and raises ``problem`` when there is one."""

    def __init__(self, inputs: UploadStore) -> None:
        self.inputs, self.problem, self.queries = inputs, None, self
        self.predictions: list[tuple[float, ...]] = []

    def starting_latents(self, request: GenerationRequest) -> ForwardProcess:
        if self.problem is not None:
            raise self.problem
        return levels()

    def predict_x0(self, model: str, x_t: np.ndarray, timesteps: Any, prompt: str, syntax: str) -> np.ndarray:
        self.predictions.append((float(x_t.flat[0]), *timesteps))
        return x_t

    def decode(self, model: str, latents: np.ndarray) -> list[Image.Image]:
        """Grey pictures: the level is 40 times the latents' value."""
        return [Image.new("RGB", (64, 64), (round(40 * float(one.flat[0])),) * 3) for one in latents]


def page_of(model: ToyModel) -> Any:
    return SimpleNamespace(queries=model, inputs=model.inputs.of(None), card=lambda name: None)


def shades(frames: list[str]) -> list[int]:
    """How bright each frame is."""
    files = [io.BytesIO(base64.b64decode(uri.split(",", 1)[1])) for uri in frames]
    return [round(float(np.asarray(Image.open(file).convert("L")).mean())) for file in files]


def test_the_levels_go_from_the_picture_itself_to_the_most_noise(inputs: UploadStore):
    name = inputs.put(Image.new("RGB", (64, 64), (200, 200, 200)))
    page: Any = page_of(ToyModel(inputs))
    first, last = strength_strip.levels(page, asked(name), "k")
    assert (first["state"], last["state"], first["key"], last["key"]) == ("busy", "open", "k", "k")
    assert last["runs"] == [0, 1, 2, 3, 4]
    assert last["steps"] == 4 and last["image"] == name and not last["quick"]
    # 200 is the stored picture, not one that went through the autoencoder; then entries 3, 2, 1 and 0.
    assert shades(last["frames"]) == [200, 120, 80, 40, 0]
    assert last["mix"][0] == "no noise" and last["mix"][4].startswith("t = 999")
    assert len(last["about"]) == 5


@pytest.mark.parametrize("problem", [InvalidRequest("image", UPLOAD_GONE), QueryFailed("The model is away.")])
def test_levels_that_fail_is_one_sentence(inputs: UploadStore, problem: Exception):
    page: Any = page_of(ToyModel(inputs))
    page.queries.problem = problem
    *_, last = strength_strip.levels(page, asked(), "k")
    assert last["state"] == "failed" and last["text"] == str(problem)
    assert ("again" in last) == isinstance(problem, QueryFailed)
    assert strength_strip.predictions(page, asked(), "k", [2]) == {"key": "k", "looks": [], "text": str(problem)}


def test_the_model_looks_from_where_the_runs_would_begin(inputs: UploadStore):
    page: Any = page_of(ToyModel(inputs))
    looks = strength_strip.predictions(page, asked(), "k", [3, 1, 3])["looks"]
    assert [look["run"] for look in looks] == [3, 1]
    assert shades([look["uri"] for look in looks]) == [40, 120]
    assert page.queries.predictions == [(1.0, 600.0, 20.0)], "both are asked for at once"


def test_no_more_is_asked_for_at_once_than_is_shown(inputs: UploadStore):
    page: Any = page_of(ToyModel(inputs))
    request = asked(num_inference_steps=8)
    page.queries.starting_latents = lambda request: ForwardProcess(
        [1.0] * 8, [0.5] * 8, [0.5] * 8, np.zeros((8, 1, 3, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.float32)
    )
    assert len(strength_strip.predictions(page, request, "k", list(range(1, 9)))["looks"]) == strength_strip.MOST_LOOKS


@pytest.mark.parametrize("runs", [[0], [5], [-1], None, "3", 3, [2.0], [True], [[3]], []])
def test_a_look_from_nowhere_is_refused_without_asking_the_model(inputs: UploadStore, runs: Any):
    page: Any = page_of(ToyModel(inputs))
    assert "Raise the strength" in strength_strip.predictions(page, asked(), "k", runs)["text"]
    assert page.queries.predictions == []
