"""Values of the controls -> a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.models.adapters.lora import LoraFile
from pipelines.request import MAX_SEED, InvalidRequest
from presets.catalogue import load
from tests.support.site import tiny_card
from ui.form import controls
from ui.form.controls import lora_control, lora_label, with_lora

GIVEN = {
    "prompt": "a fox", "quality": "draft", "num_images": 2, "negative_prompt": "", "num_inference_steps": 4,
    "guidance_scale": 4, "scheduler": "euler", "width": 64, "height": 64, "seed": "7",
    "keep_seed": True, "model": "tiny", "prompt_syntax": "compel",
}  # fmt: skip


def test_names_become_fields():
    request = controls.request_of({**GIVEN, "negative_prompt": None})
    assert (request.prompt, request.negative_prompt, request.seeds) == ("a fox", "", (7, 8))


def test_an_unlocked_seed_is_drawn_each_time():
    seeds = {controls.request_of({**GIVEN, "keep_seed": False}).sampling.seed for _ in range(5)}
    assert len(seeds) == 5


@pytest.mark.parametrize("seed", ["many", "-1", "1.5", str(MAX_SEED + 1), "9" * 500, "²"])
def test_a_malformed_seed_is_refused(seed: str):
    with pytest.raises(InvalidRequest, match="^Seed must be ") as caught:
        controls.request_of({**GIVEN, "seed": seed})
    assert caught.value.field == "seed"


@pytest.mark.parametrize("name", ["width", "height", "num_inference_steps", "guidance_scale"])
def test_an_empty_number_is_named(name: str):
    with pytest.raises(InvalidRequest, match=f"^{name} is empty"):
        controls.request_of({**GIVEN, name: None})


def test_a_negative_prompt_that_is_switched_off_does_not_count():
    assert controls.request_of({**GIVEN, "negative_prompt": "rain", "guidance_scale": 1}).negative_prompt == ""
    assert controls.request_of({**GIVEN, "negative_prompt": "rain"}).negative_prompt == "rain"


@pytest.mark.parametrize("guidance", ["a", True, float("nan"), [1]])
def test_odd_values_are_refused_with_a_sentence(guidance):
    with pytest.raises(InvalidRequest, match="guidance_scale"):
        controls.request_of({**GIVEN, "guidance_scale": guidance})


def test_schedulers_that_do_not_fit_are_left_out_and_named():
    card = tiny_card("x", prediction_type="sample")
    assert "pndm" not in [name for _, name in controls.offered(card)]
    assert "PNDM" in controls.not_offered(card)
    assert controls.not_offered(tiny_card("x")) == ""


def test_a_negative_prompt_is_offered_only_where_it_is_read() -> None:
    card = tiny_card("x")
    assert controls.about_negative(card, 4.0) == (controls.NEGATIVE, True)
    assert controls.about_negative(card, 1) == (controls.NO_NEGATIVE, False)
    assert controls.about_negative(tiny_card("x", guidance_embedded=True), 4.0) == (controls.NOT_READ, False)
    assert controls.about_negative(None, 4.0) == (controls.NEGATIVE, True)


def test_help_of_steps_and_guidance_says_what_the_model_was_made_for():
    cards = {card.id: card for card in load()}
    pocket, turbo = cards["pocket"], cards["pocket-turbo"]
    assert "25 is typical" in controls.about_steps(pocket) and "4 follows" in controls.about_guidance(pocket)
    assert "made for 1 to 4" in controls.about_steps(turbo)
    for card in cards.values():
        if card.guidance_scale <= 1:
            assert controls.about_guidance(card).startswith("1 is what this model was made for")
    assert dict(controls.qualities(turbo))["Draft 1"] == "draft"


# -- the LoRA control

INK = LoraFile("ink", Path("ink.safetensors"), ("Inkwash", "fox"))
CLAY = LoraFile("my clay", Path("my clay.safetensors"))
FILES = (INK, CLAY)


def test_the_control_is_there_only_where_there_is_something_to_choose() -> None:
    assert lora_control(()).visible is False
    shown = lora_control(FILES)
    assert shown.visible and [name for _, name in shown.choices] == ["ink", "my clay"]
    assert lora_label(INK) == "ink (say: Inkwash, fox)" and lora_label(CLAY) == "my clay"


@pytest.mark.parametrize(
    ("prompt", "name", "then"),
    [
        ("a fox ", "ink", "a fox, Inkwash <lora:ink:1>"),
        ("an inkwash fox", "ink", "an inkwash fox <lora:ink:1>"),
        ("a fox", "my clay", "a fox <lora:my clay:1>"),
        ("", "my clay", "<lora:my clay:1>"),
        (None, "ink", "Inkwash <lora:ink:1>"),
        ("a fox <lora:ink:0.4>", "ink", "a fox <lora:ink:0.4>"),
        ("a fox", "gone", "a fox"),
        ("a fox", None, "a fox"),
    ],
)
def test_choosing_one_writes_it_into_the_prompt(prompt: str | None, name: str | None, then: str) -> None:
    assert with_lora(prompt, name, FILES) == then
