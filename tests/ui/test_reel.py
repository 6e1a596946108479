"""A trace -> reels: what comes first, what follows, and what is said when something is missing."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines import lenses
from pipelines.backend import LookFailed
from pipelines.trace import Trace
from tests.ui.scene import draw, make_trace
from ui import reel, tour

GONE = "The model 'tiny' is not here any more; choose another picture."


def decode(latents: np.ndarray) -> list[Image.Image]:
    return draw(latents)


def missing(latents: np.ndarray) -> list[Image.Image]:
    raise LookFailed(GONE)


def opened_image(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@pytest.fixture
def trace() -> Trace:
    return make_trace()


def test_the_first_reel_plays_what_the_trace_holds_and_asks_no_model(trace: Trace):
    first = reel.opening(trace, 0)
    assert list(first["lenses"]) == ["x0"]
    shown = [base64.b64decode(uri.split(",", 1)[1]) for uri in first["lenses"]["x0"]["frames"]]
    assert shown == [row[0] for row in trace.frames]
    assert (first["run"], first["title"], first["total"], first["views"]) == ("one:0", "a fox", 6, ["x_t", "x0"])
    assert list(first["about"]) == first["order"] == list(lenses.available(trace))


def test_a_reel_is_json_and_an_infinite_ratio_is_null(trace: Trace):
    clean = replace(trace.steps[-1], sigma=0.0, alpha=1.0)
    told = reel.steps(replace(trace, steps=(*trace.steps[:-1], clean)), 0)
    json.dumps(told, allow_nan=False)
    assert told[-1]["snr"] is None and told[0]["snr"] == pytest.approx(0.0)
    assert told[2]["change"] == pytest.approx(trace.change(2, 0)) and told[-1]["share"] == pytest.approx(1.0)
    assert all(step["phase"] and step["words"] for step in told)


def test_lenses_come_one_by_one_the_two_on_view_first_and_all_at_the_end(trace: Trace):
    values = list(reel.unroll(trace, 0, decode, reel.Films()))
    names = [list(value["lenses"]) for value in values]
    assert names[:2] == [[], ["x_t"]]
    assert sorted(name for batch in names[1:-1] for name in batch) == sorted(set(lenses.available(trace)) - {"x0"})
    assert sorted(names[-1]) == sorted(lenses.available(trace))
    assert values[0]["text"] == f"Drawing the lenses: 1 of {len(lenses.available(trace))}" and values[-1]["text"] == ""
    assert all(len(lens["frames"]) == 6 for lens in values[-1]["lenses"].values())
    assert values[-1]["steps"] == reel.steps(trace, 0)


def test_lenses_that_were_drawn_before_come_at_once(trace: Trace):
    films, asked = reel.Films(), []

    def counted(latents: np.ndarray) -> list[Image.Image]:
        asked.append(len(latents))
        return draw(latents)

    list(reel.unroll(trace, 0, counted, films))
    assert asked
    asked.clear()
    again = list(reel.unroll(trace, 0, counted, films))
    assert asked == [] and len(again) == 2 and len(again[0]["lenses"]) == len(lenses.available(trace)) - 1


def test_films_forget_the_oldest_beyond_their_limit(trace: Trace):
    films = reel.Films(limit=25)
    for name in ("a", "b", "c"):
        films.put(trace, 0, name, ["x" * 10])
    assert films.get(trace, 0, "a") is None and films.get(trace, 0, "c") == ["x" * 10]
    assert films.get(trace, 1, "c") is None


def test_without_the_model_the_colour_map_draws_and_the_page_says_so(trace: Trace):
    films = reel.Films()
    values = list(reel.unroll(trace, 0, missing, films))
    assert GONE in values[-1]["note"] and "coarser" in values[-1]["note"]
    frame = opened_image(values[-1]["lenses"]["x_t"]["frames"][-1])
    expected = lenses.project(trace, trace.vp(5))[0]
    assert np.array_equal(np.asarray(frame.convert("RGB").resize(expected.size, 0)), np.asarray(expected))
    assert films.get(trace, 0, "x_t") is None, "a stand-in is not kept"


def test_crisp_lenses_are_exact_and_others_small(trace: Trace):
    dots = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8))
    assert np.array_equal(np.asarray(opened_image(reel.image_uri(dots, True)).convert("RGB")), np.asarray(dots))
    large = opened_image(reel.image_uri(Image.new("RGB", (1024, 512)), False))
    assert large.format == "JPEG" and large.size == (256, 128)


def test_what_is_unusual_about_a_run_is_said(trace: Trace):
    exact = replace(trace, final=trace.x0(5))
    assert reel.note(exact) == ""
    assert "last belief is not quite" in reel.note(replace(exact, final=exact.final + 0.5))
    assert reel.note(make_trace(done=3)) == "Stopped after 3 of 6 steps, so there is no finished picture."


def test_heading_and_settings_name_the_loras_that_were_worn(trace: Trace):
    dressed = make_trace(prompt="a fox <lora:ink:0.8> <lora:my clay:1>")
    rows = dict(reel.settings(dressed, 0))
    assert rows["Prompt"] == "a fox" and rows["Added to the model (LoRA)"] == "ink 0.8, my clay 1"
    assert reel.opening(dressed, 0)["title"] == "a fox \u00b7 LoRA ink 0.8, my clay 1"
    assert reel.opening(make_trace(prompt="<lora:ink:-0.5>"), 0)["title"] == "LoRA ink -0.5"
    assert "Added to the model (LoRA)" not in dict(reel.settings(trace, 0))


def test_settings_name_this_picture_s_own_seed():
    trace = make_trace(num_images=2, negative_prompt="rain")
    rows = dict(reel.settings(trace, 1))
    assert rows["Seed"] == "6" and rows["Left out (negative prompt)"] == "rain" and rows["Guidance scale (CFG)"] == "4"
    assert reel.run_of(trace, 0) != reel.run_of(trace, 1)


def test_settings_of_a_run_from_a_picture_name_strength_mask_and_feather():
    init = {"image": "1" * 32, "strength": 0.5}
    rows = dict(reel.settings(make_trace(done=3, init=init), 0))
    assert rows["Drawn anew (strength)"] == "0.5: the last 3 of 6 steps"
    assert not {"Part (mask)", "Soft edge (feather)", "Began with"} & set(rows)
    part = {**init, "mask": "2" * 32, "feather": 4}
    rows = dict(reel.settings(make_trace(done=3, init=part), 0))
    assert (rows["Part (mask)"], rows["Soft edge (feather)"]) == ("painted over", "4 pixels")
    rows = dict(reel.settings(make_trace(done=3, init={**part, "feather": 0, "only_masked": True}), 0))
    assert rows["Part (mask)"] == "enlarged, with 32 pixels around it" and rows["Soft edge (feather)"] == "none"
    rows = dict(reel.settings(make_trace(init={**init, "strength": 1.0, "noise_only": True}), 0))
    assert rows["Began with"] == "the noise alone, without the picture"
    assert "Drawn anew (strength)" not in dict(reel.settings(make_trace(), 0))


def test_the_questions_have_the_run_s_own_figures(trace: Trace):
    asked = tour.questions(trace, 0)
    assert [one["title"] for one in asked] == [
        "What is noise here?", "What does the model predict?", "Why many steps?", "What does guidance do?",
        "Why is a latent smaller than a picture?",
    ]  # fmt: skip
    words = [" ".join(one["text"]) for one in asked]
    assert "from the seed 5:" in words[0]
    half = next(i for i, share in enumerate(trace.shares(0)) if share >= 0.5)
    assert f"by step {half + 1} of 6" in words[2]
    assert "followed the difference 4 times" in words[3]
    assert "3,072 numbers" in words[4] and "48 numbers: 64 times fewer" in words[4]


def test_the_questions_point_at_lenses_and_steps_that_are_there():
    for trace in (make_trace(), make_trace(guidance_scale=1.0), make_trace(done=1), make_trace(done=3)):
        for one in tour.questions(trace, 0):
            go = one["go"]
            assert go["index"] in range(len(trace.steps)), one
            assert {go["left"], go["right"]} <= set(lenses.available(trace)), one


def test_a_run_without_guidance_says_so():
    text = " ".join(tour.questions(make_trace(guidance_scale=1.0), 0)[3]["text"])
    assert "asked once a step" in text and "followed the difference" not in text


def test_a_model_that_is_told_its_guidance_is_not_said_to_be_asked_twice():
    told = replace(make_trace(guidance_scale=3.5), uncond=None)
    first, second = tour.questions(told, 0)[3]["text"]
    assert first.startswith("With guidance, most models are asked twice at each step")
    assert "told the scale (3.5) and answers once a step" in second


def test_shares_are_never_rounded_to_all_or_nothing():
    assert [tour._percent(x) for x in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%", "less than 1%", "50%", "more than 99%", "100%",
    ]  # fmt: skip
