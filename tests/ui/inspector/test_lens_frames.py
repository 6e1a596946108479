"""A trace -> values of the player: what comes first, what follows, and what is said when something is missing."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.jobs.backend import QueryFailed
from pipelines.trace import lenses
from pipelines.trace.trace import Trace
from tests.support.known_trace import draw, make_trace
from ui.components.frame_cache import FrameCache
from ui.inspector import lens_frames

GONE = "The model 'tiny' is not here any more; choose another picture."


def decode(latents: np.ndarray) -> list[Image.Image]:
    return draw(latents)


def missing(latents: np.ndarray) -> list[Image.Image]:
    raise QueryFailed(GONE)


def opened_image(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@pytest.fixture
def trace() -> Trace:
    return make_trace()


def test_the_first_value_plays_what_the_trace_holds_and_asks_no_model(trace: Trace):
    first = lens_frames.first_value(trace, 0)
    assert list(first["lenses"]) == ["x0"]
    shown = [base64.b64decode(uri.split(",", 1)[1]) for uri in first["lenses"]["x0"]["frames"]]
    assert shown == [row[0] for row in trace.frames]
    assert (first["run"], first["title"], first["total"], first["views"]) == ("one:0", "a fox", 6, ["x_t", "x0"])
    assert list(first["about"]) == first["order"] == list(lenses.available_lenses(trace))


def test_noisy_latents_that_were_drawn_during_the_run_play_at_once(trace: Trace):
    seen = replace(trace, noisy=tuple((b"noisy %d" % i,) for i in range(len(trace.steps))))
    assert list(lens_frames.first_value(seen, 0)["lenses"]) == ["x0", "x_t"]
    values = list(lens_frames.render_lenses(seen, 0, decode, FrameCache()))
    assert not {"x0", "x_t"} & {name for value in values[:-1] for name in value["lenses"]}
    assert base64.b64decode(values[-1]["lenses"]["x_t"]["frames"][2].split(",", 1)[1]) == b"noisy 2"


def test_rough_frames_of_a_run_that_was_stopped_are_drawn_again(trace: Trace):
    rough = replace(trace, noisy=tuple((b"rough",) for _ in trace.steps), frames_guidance=1.0, rough=True)
    *_, last = lens_frames.render_lenses(rough, 0, decode, FrameCache())
    for name in ("x_t", "x0"):
        frames = [base64.b64decode(uri.split(",", 1)[1]) for uri in last["lenses"][name]["frames"]]
        assert len(frames) == len(trace.steps) and not set(frames) & {b"rough", *(row[0] for row in trace.frames)}


def test_an_earlier_versions_guesses_are_shown_as_what_they_are(trace: Trace):
    """They were drawn with guidance; the guess without it is drawn anew from the latents."""
    values = list(lens_frames.render_lenses(replace(trace, frames_guidance=4.0), 0, decode, FrameCache()))
    shown = values[-1]["lenses"]
    assert [base64.b64decode(uri.split(",", 1)[1]) for uri in shown["guided"]["frames"]] == [f[0] for f in trace.frames]
    assert shown["x0"]["frames"] != shown["guided"]["frames"]


def test_a_value_is_json_and_an_infinite_ratio_is_null(trace: Trace):
    clean = replace(trace.steps[-1], sigma=0.0, alpha=1.0)
    told = lens_frames.step_facts(replace(trace, steps=(*trace.steps[:-1], clean)), 0)
    json.dumps(told, allow_nan=False)
    assert told[-1]["snr"] is None and told[0]["snr"] == pytest.approx(0.0)
    assert told[2]["change"] == pytest.approx(trace.change(2, 0)) and told[-1]["share"] == pytest.approx(1.0)
    assert all(step["phase"] and step["words"] for step in told)


def test_lenses_come_one_by_one_the_two_on_view_first_and_all_at_the_end(trace: Trace):
    values = list(lens_frames.render_lenses(trace, 0, decode, FrameCache()))
    names = [list(value["lenses"]) for value in values]
    assert names[:2] == [[], ["x_t"]]
    assert sorted(name for batch in names[1:-1] for name in batch) == sorted(
        set(lenses.available_lenses(trace)) - {"x0"}
    )
    assert sorted(names[-1]) == sorted(lenses.available_lenses(trace))
    assert (
        values[0]["text"] == f"Rendering the lenses: 1 of {len(lenses.available_lenses(trace))}"
        and values[-1]["text"] == ""
    )
    assert all(len(lens["frames"]) == 6 for lens in values[-1]["lenses"].values())
    assert values[-1]["steps"] == lens_frames.step_facts(trace, 0)


def test_lenses_that_were_drawn_before_come_at_once(trace: Trace):
    frame_cache, asked = FrameCache(), []

    def counted(latents: np.ndarray) -> list[Image.Image]:
        asked.append(len(latents))
        return draw(latents)

    list(lens_frames.render_lenses(trace, 0, counted, frame_cache))
    assert asked
    asked.clear()
    again = list(lens_frames.render_lenses(trace, 0, counted, frame_cache))
    assert asked == [] and len(again) == 2 and len(again[0]["lenses"]) == len(lenses.available_lenses(trace)) - 1


def test_ready_lenses_come_with_the_first_value(trace: Trace):
    ready = {
        (trace.id, 0, name): ["data:image/png;base64,"] * len(trace.steps) for name in lenses.available_lenses(trace)
    }
    cache = FrameCache(ready=ready)
    value = lens_frames.first_value(trace, 0, cache)
    assert list(value["lenses"]) and set(value["lenses"]) == set(value["order"])
    assert lens_frames.is_complete(trace, 0, cache)
    assert not lens_frames.is_complete(trace, 0, FrameCache())
    assert value["at"] == trace.loudest_step(0) and not value["play"]


def test_the_frame_cache_forgets_the_oldest_beyond_their_limit(trace: Trace):
    frame_cache = FrameCache(limit=25)
    for name in ("a", "b", "c"):
        frame_cache.put(trace, 0, name, ["x" * 10])
    assert frame_cache.get(trace, 0, "a") is None and frame_cache.get(trace, 0, "c") == ["x" * 10]
    assert frame_cache.get(trace, 1, "c") is None


def test_without_the_model_the_colour_map_draws_and_the_page_says_so(trace: Trace):
    frame_cache = FrameCache()
    values = list(lens_frames.render_lenses(trace, 0, missing, frame_cache))
    assert GONE in values[-1]["note"] and "coarser" in values[-1]["note"]
    frame = opened_image(values[-1]["lenses"]["x_t"]["frames"][-1])
    expected = lenses.project(trace, trace.variance_preserving(5))[0]
    assert np.array_equal(np.asarray(frame.convert("RGB").resize(expected.size, 0)), np.asarray(expected))
    assert frame_cache.get(trace, 0, "x_t") is None, "a stand-in is not kept"
    assert "x_t" in values[-1]["coarse"] and values[-1]["again"] == "Try again"
    # Those that were drawn during the run, or that are numbers, need no model.
    assert not {"x0", "latent"} & set(values[-1]["coarse"])
    better = list(lens_frames.render_lenses(trace, 0, decode, frame_cache))[-1]
    assert better["coarse"] == [] and better["note"] == lens_frames.note(trace)
    assert better["lenses"]["x_t"] != values[-1]["lenses"]["x_t"]


def test_crisp_lenses_are_exact_and_others_small(trace: Trace):
    dots = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8))
    assert np.array_equal(np.asarray(opened_image(lens_frames.frame_uri(dots, True)).convert("RGB")), np.asarray(dots))
    large = opened_image(lens_frames.frame_uri(Image.new("RGB", (1024, 512)), False))
    assert large.format == "JPEG" and large.size == (256, 128)


def test_what_is_unusual_about_a_run_is_said(trace: Trace):
    exact = replace(trace, final=trace.x0(5))
    assert lens_frames.note(exact) == ""
    assert "last guess is not quite" in lens_frames.note(replace(exact, final=exact.final + 0.5))
    assert lens_frames.note(make_trace(done=3)) == "Stopped after 3 of 6 steps, so there is no finished picture."


def test_heading_and_settings_name_the_loras_that_were_worn(trace: Trace):
    dressed = make_trace(prompt="a fox <lora:ink:0.8> <lora:my clay:1>")
    rows = dict(lens_frames.settings(dressed, 0))
    assert rows["Prompt"] == "a fox" and rows["LoRA"] == "ink 0.8, my clay 1"
    assert lens_frames.first_value(dressed, 0)["title"] == "a fox \u00b7 LoRA ink 0.8, my clay 1"
    assert lens_frames.first_value(make_trace(prompt="<lora:ink:-0.5>"), 0)["title"] == "LoRA ink -0.5"
    assert "LoRA" not in dict(lens_frames.settings(trace, 0))


def test_settings_name_this_picture_s_own_seed():
    trace = make_trace(num_images=2, negative_prompt="rain")
    rows = dict(lens_frames.settings(trace, 1))
    assert rows["Seed"] == "6" and rows["Negative prompt"] == "rain" and rows["Guidance scale (CFG)"] == "4"
    assert lens_frames.run_key(trace, 0) != lens_frames.run_key(trace, 1)


def test_settings_of_a_run_from_a_picture_name_strength_mask_and_feather():
    init = {"image": "1" * 32, "strength": 0.5}
    rows = dict(lens_frames.settings(make_trace(done=3, init=init), 0))
    assert rows["Strength"] == "0.5: the last 3 of 6 steps"
    assert not {"Mask", "Feather (soft edge)", "Started from"} & set(rows)
    part = {**init, "mask": "2" * 32, "feather": 4}
    rows = dict(lens_frames.settings(make_trace(done=3, init=part), 0))
    assert (rows["Mask"], rows["Feather (soft edge)"]) == ("painted", "4 pixels")
    rows = dict(lens_frames.settings(make_trace(done=3, init={**part, "feather": 0, "only_masked": True}), 0))
    assert rows["Mask"] == "enlarged, with 32 pixels around it" and rows["Feather (soft edge)"] == "none"
    rows = dict(lens_frames.settings(make_trace(init={**init, "strength": 1.0, "noise_only": True}), 0))
    assert rows["Started from"] == "noise alone, without the image"
    assert "Strength" not in dict(lens_frames.settings(make_trace(), 0))
