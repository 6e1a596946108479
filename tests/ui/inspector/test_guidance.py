"""Guidance at one step: arithmetic on what the run kept."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.jobs.backend import QueryFailed
from tests.support.known_trace import draw, make_trace, stand
from ui.inspector import guidance


def pixels(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), np.float64)


def near(uri: str, image: Image.Image) -> bool:
    """Alike but for what JPEG does to hard edges."""
    return np.abs(pixels(uri) - np.asarray(image, np.float64)).mean() < 12


def test_the_three_pictures_are_the_beliefs_at_g_one_and_nought():
    page, trace = stand(), make_trace()
    answer = guidance.predict_at(page, trace, 0, 2, 9.0, True)
    for uri, g in zip(answer["images"], (9.0, 1.0, 0.0), strict=True):
        assert near(uri, draw(trace.x0(2, g))[0])
    assert not near(answer["images"][0], draw(trace.x0(2, 0.0))[0])
    assert page.backend.asked == ["decode 3"]


def test_a_slider_that_moves_within_a_step_draws_one_picture():
    page = stand()
    answer = guidance.predict_at(page, make_trace(), 0, 2, 9.0, False)
    assert len(answer["images"]) == 1
    assert page.backend.asked == ["decode 1"]


def test_without_guidance_it_shows_the_timelines_own_bytes():
    trace = make_trace(num_images=2)
    answer = guidance.predict_at(stand(), trace, 1, 3, 1.0, True)
    assert base64.b64decode(answer["images"][0].split(",")[1]) == trace.frames[3][1]
    own = guidance.predict_at(stand(), trace, 1, 3, 4.0, True)
    assert "the run's own guidance" in own["said"]


def test_the_difference_is_measured():
    trace = make_trace()
    away = trace.x0(1, 8.0)[0] - trace.x0(1)[0]
    said = guidance.difference(trace, 0, 1, 8.0)
    assert f"{np.sqrt((away.astype(np.float64) ** 2).mean()):.3f}" in said
    assert "g = 4" in said


def test_without_the_model_the_pictures_are_rough_and_it_is_said():
    page = stand()
    page.backend.problem = QueryFailed("The model is not here.")
    answer = guidance.predict_at(page, make_trace(), 0, 2, 9.0, True)
    assert len(answer["images"]) == 3
    assert answer["said"].startswith("The model is not here.") and "rough" in answer["said"]


@pytest.mark.parametrize(("own", "top"), [(4.0, 15.0), (7.5, 15.0), (12.0, 24.0)])
def test_the_slider_reaches_twice_the_runs_own_value(own: float, top: float):
    assert guidance.panel_value(make_trace(guidance_scale=own), 0)["max"] == top


def test_a_negative_prompt_is_shown_for_what_it_is():
    plain, pushed = (guidance.panel_value(make_trace(negative_prompt=text), 0) for text in ("", "a blurry dog"))
    assert plain["cells"][2][1] == "g = 0, uncond"
    assert pushed["cells"][2][0] == "What it pushes away from"
    assert '"a blurry dog"' in pushed["cells"][2][2] and "the place of the empty" in pushed["cells"][2][2]
    assert plain["formula"] != pushed["formula"]


def test_the_panel_opens_with_a_sentence_that_holds_for_a_model_that_answers_once():
    told = replace(make_trace(guidance_scale=3.5), uncond=None)
    lead = " ".join(guidance._TEMPLATE.split('class="lead">')[1].split("</p>")[0].split())
    assert lead.startswith("With guidance, most models predict twice at every step:")
    assert "takes the guidance scale (3.5) as an input and predicts once a step" in guidance.panel_value(told, 0)["why"]


def test_a_run_without_guidance_says_what_to_do():
    sheet = guidance.panel_value(make_trace(guidance_scale=1.0, negative_prompt="x"), 0)
    assert "a scale of 1" in sheet["why"] and "guidance above 1" in sheet["why"]
    assert guidance.panel_value(make_trace(), 0)["why"] == ""
