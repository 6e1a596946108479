"""Adding noise: what is shown, what is measured, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from pipelines.images.uploads import UploadStore
from pipelines.jobs.backend import QueryFailed
from tests.support.known_trace import TIMES, make_trace, stand
from ui.inspector import forward_process
from ui.inspector.forward_process import THIS, UPLOAD, ForwardRequest


def tell(page, trace, k: int = 0, **changes) -> list:
    choice = ForwardRequest(**{"source": THIS, "upload": None, "with_prompt": False, "ask_model": True, **changes})
    return list(forward_process.panel_values(page, trace, k, choice))


def flat(colour: int, detail: int = 0) -> Image.Image:
    pixels = np.full((16, 16, 3), colour, np.uint8)
    pixels[:8] += np.uint8(detail)
    return Image.fromarray(pixels)


def test_everything_comes_in_the_last_value():
    page, trace = stand(), make_trace()
    with_prompt = tell(page, trace)
    last, figures = with_prompt[-1]
    assert [value["state"] for value, _ in with_prompt] == ["busy", "open", "open"]
    for name in ("noised", "run", "looks", "labels", "alike", "step_labels"):
        assert len(last[name]) == len(TIMES)
    assert len(figures) == 2
    assert page.backend.asked == ["noised 5", "decode 7", "decode 6", "believe ''", "decode 6"]


def test_levels_go_from_little_noise_to_much():
    last, figures = tell(stand(), make_trace())[-1]
    assert last["labels"][0].startswith("t = 50 of 999") and "100% noise" in last["labels"][-1]
    assert list(figures[0].data[0].x) == sorted(TIMES)
    assert figures[0].data[0].y[-1] == 0 and figures[1].data[0].y[-1] is None
    assert last["pointers"]["snr"][-1] is None
    assert last["steps"] == [5, 4, 3, 2, 1, 0]


def test_each_picture_gets_its_own_noise():
    page = stand()
    tell(page, make_trace(num_images=2), k=1)
    assert page.backend.asked[0] == "noised 6"


def test_the_model_is_told_the_prompt_only_when_asked_to():
    page = stand()
    tell(page, make_trace(prompt="a fox"), with_prompt=True)
    assert "believe 'a fox'" in page.backend.asked


def test_the_verdict_is_computed_from_the_looks():
    last = tell(stand(), make_trace())[-1][0]
    # The stand-in knows the picture below t = 500 and sees grey above.
    assert last["verdict"].startswith("Until t = 400 (")
    assert "(100%)" in last["verdict"] and "at t = 600: " in last["verdict"]
    assert last["alike"][0] == "100% in common with the picture"


@pytest.mark.parametrize(
    ("alike", "start"),
    [
        ([0.9, 0.7, 0.6], "Up to the most noise of this run, t = 900 (81% noise), single prediction has 60%"),
        ([0.9, 0.4, 0.8], "Until t = 10 (less than 0.1% noise)"),
        ([0.3, 0.2, 0.0], "Even at the lowest noise of this run (t = 10"),
        ([None, None, None], "This picture is a single colour"),
        ([], ""),
    ],
)
def test_every_outcome_has_its_sentence(alike: list, start: str):
    said = forward_process.summary([10.0, 500.0, 900.0], [0.9999, 0.6, 0.19], alike, with_prompt=False)
    assert said.startswith(start) and bool(said) == bool(start)


def test_a_look_that_was_told_the_prompt_says_so():
    assert "single prediction, given the prompt, still has" in forward_process.summary(
        [10.0, 500.0], [0.99, 0.5], [0.9, 0.1], with_prompt=True
    )


def test_a_level_that_the_sampler_visits_twice_is_shown_once():
    page, trace = stand(), make_trace()
    once = page.backend.forward_process

    def twice(*values):
        found = once(*values)
        for name in ("timesteps", "alpha", "sigma"):
            setattr(found, name, [v for v in getattr(found, name) for _ in range(2)])
        found.x_t = found.x_t.repeat(2, axis=0)
        return found

    page.backend.forward_process = twice
    assert len(tell(page, trace)[-1][0]["noised"]) == len(TIMES)


def test_likeness_is_the_variance_explained():
    picture = flat(100, 60)
    assert forward_process.likeness(picture, picture) == 1.0
    # The mean colour explains nothing, and what is further off does not count as less than nothing.
    assert forward_process.likeness(picture, flat(130)) == pytest.approx(0.0, abs=1e-9)
    assert forward_process.likeness(picture, flat(250)) == 0.0
    # Half the contrast is half the error: 1 - (1/2)^2.
    assert forward_process.likeness(picture, flat(115, 30)) == pytest.approx(0.75)
    assert forward_process.likeness(flat(100), flat(100)) is None


def test_a_slow_run_waits_for_the_button_and_says_why():
    page, trace = stand(), make_trace()
    assert not forward_process.is_slow(trace)
    last, figures = tell(page, trace, ask_model=False)[-1]
    assert last["looks"] == [] and last["verdict"] == ""
    assert "0.1 s a step" in last["text"] and len(figures[0].data) == 1
    assert not [choice for choice in page.backend.asked if choice.startswith("believe")]


def test_a_stopped_run_uses_its_last_belief():
    page, trace = stand(), make_trace(done=2)
    latents = forward_process.clean_latents(page, trace, 0, ForwardRequest(THIS, None, False, True))
    assert np.array_equal(latents, trace.x0(1)[:1])
    assert max(tell(page, trace)[-1][0]["steps"]) == 1


def test_an_upload_is_encoded(tmp_path: Path):
    path = tmp_path / "mine.png"
    Image.new("RGB", (50, 40), "red").save(path)
    page = stand()
    last, _ = tell(page, make_trace(), source=UPLOAD, upload=str(path))[-1]
    assert page.backend.asked[0] == "encode" and last["state"] == "open"
    assert "single colour" in last["verdict"]


def test_problems_are_one_sentence_in_place(tmp_path: Path):
    page = stand()
    last = tell(page, make_trace(), source=UPLOAD)[-1][0]
    assert last["state"] == "failed" and last["text"].startswith("Choose a picture of your own")
    assert last["next"] == {"label": "Choose an image", "to": "source"}
    path = tmp_path / "fake.png"
    path.write_text("no picture")
    assert tell(page, make_trace(), source=UPLOAD, upload=str(path))[-1][0]["state"] == "failed"
    page.backend.problem = QueryFailed("The model could not be loaded.")
    last = tell(page, make_trace())[-1][0]
    assert last["text"] == "The model could not be loaded." and last["next"]["label"] == "Try again"


@pytest.mark.parametrize("count", [1, 2, 50, 51, 150])
def test_no_more_levels_than_can_be_sent(count: int):
    chosen = forward_process.spread_positions(count)
    assert len(chosen) == min(count, forward_process.MAX_LEVELS)
    assert chosen[0] == 0 and chosen[-1] == count - 1 and chosen == sorted(set(chosen))


def test_what_was_chosen_comes_back_after_a_reload(tmp_path: Path):
    page = stand()
    page.inputs = UploadStore(tmp_path).of(None)
    kept = page.inputs.put(flat(90, 40))
    source, with_prompt, name, shown = forward_process.brought_back(page, json.dumps([UPLOAD, True, kept]))
    assert (source, with_prompt, name) == (UPLOAD, True, kept) and shown.visible is True
    # One of the run's own pictures is shown although another one was uploaded before.
    *_, shown = forward_process.brought_back(page, json.dumps([THIS, False, kept]))
    assert shown.visible is False
    # A picture that is gone is none of the user's.
    source, *_, name, shown = forward_process.brought_back(page, json.dumps([UPLOAD, False, "0" * 32]))
    assert (source, name, shown.visible) == (THIS, "", False)


@pytest.mark.parametrize("text", [None, "", "[]", "[1, 2]", "{", '["upload", true, {}]', '[{}, "x", 3]'])
def test_what_no_page_has_written_changes_nothing_of_the_users(text):
    source, with_prompt, *_ = forward_process.brought_back(stand(), text)
    assert source == THIS or source == gr.skip()
    assert with_prompt in (False, True) or with_prompt == gr.skip()
