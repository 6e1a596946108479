"""The request: every bound holds, names itself, and survives a JSON round trip."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.request import (
    MAX_GUIDANCE,
    MAX_IMAGES,
    MAX_PIXEL_STEPS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    GenerationRequest,
    InitImage,
    Interpolation,
    InvalidRequest,
    Lora,
    Variation,
    fields_of_picture,
    first_error,
    make_request,
    prompt_fields,
    replaced,
    steps_run,
)
from pipelines.request_errors import SHORTEN, SMALLER, VALUE, Remedy

GOOD: dict[str, Any] = {
    "model": "pocket",
    "prompt": "a fox",
    "width": 128,
    "height": 128,
    "scheduler": "ddim",
    "num_inference_steps": 25,
    "guidance_scale": 4.0,
    "seed": 1,
}

text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=200)
sampling = {
    "scheduler": st.sampled_from(["ddim", "euler"]),
    "num_inference_steps": st.integers(1, MAX_STEPS),
    "guidance_scale": st.floats(0, MAX_GUIDANCE),
    "seed": st.integers(0, MAX_SEED - MAX_IMAGES),
}
requests = st.fixed_dictionaries(
    {
        "model": st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40),
        "prompt": text,
        "negative_prompt": text,
        "width": st.integers(8, 512),
        "height": st.integers(8, 512),
        "num_images": st.integers(1, MAX_IMAGES),
        **sampling,
    }
)


@given(requests)
def test_json_round_trip(values: dict[str, Any]) -> None:
    request = make_request(**values)
    again = GenerationRequest.model_validate_json(request.model_dump_json())
    assert again == request
    assert again.seeds == tuple(values["seed"] + k for k in range(values["num_images"]))


outside = {
    "width": st.integers(max_value=7) | st.integers(min_value=MAX_SIDE + 1),
    "height": st.integers(max_value=7) | st.integers(min_value=MAX_SIDE + 1),
    "num_images": st.integers(max_value=0) | st.integers(min_value=MAX_IMAGES + 1),
    "num_inference_steps": st.integers(max_value=0) | st.integers(min_value=MAX_STEPS + 1),
    "seed": st.integers(max_value=-1) | st.integers(min_value=MAX_SEED + 1),
    "guidance_scale": st.floats(max_value=-1e-9) | st.floats(min_value=MAX_GUIDANCE + 0.001) | st.just(math.nan),
}
ALLOWED = {
    "width": ("8", str(MAX_SIDE)),
    "height": ("8", str(MAX_SIDE)),
    "num_images": ("1", str(MAX_IMAGES)),
    "num_inference_steps": ("1", str(MAX_STEPS)),
    "seed": ("0", str(MAX_SEED)),
    "guidance_scale": ("0", str(int(MAX_GUIDANCE)), "finite"),
}


@pytest.mark.parametrize("name", sorted(outside))
@given(data=st.data())
def test_a_number_out_of_bounds_names_field_value_and_what_is_allowed(name: str, data: st.DataObject) -> None:
    value = data.draw(outside[name])
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, name: value})
    message = str(caught.value)
    assert message.startswith(name)
    assert repr(value)[:40] in message
    assert any(bound in message.split("allowed")[1] for bound in ALLOWED[name]), message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("value", ["8", None, True, 12.5, [1]])
@pytest.mark.parametrize("name", ["width", "num_inference_steps", "seed"])
def test_what_is_no_whole_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name} is "):
        make_request(**{**GOOD, name: value})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_infinite_numbers_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="^guidance_scale"):
        make_request(**{**GOOD, "guidance_scale": value})


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_long_text_is_refused_by_its_length_without_repeating_it(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, name: "x" * 1_000_000})
    assert str(caught.value) == f"{name} has 1000000 characters; at most {MAX_PROMPT} are allowed."


@given(st.sampled_from([c for c in map(chr, range(32)) if c not in "\t\n\r"] + ["\x7f"]))
def test_control_characters_are_refused(character: str) -> None:
    with pytest.raises(InvalidRequest, match="^prompt contains control characters"):
        make_request(**{**GOOD, "prompt": f"a{character}b"})


@given(st.integers(0xD800, 0xDFFF))
def test_half_characters_are_refused(code: int) -> None:
    with pytest.raises(InvalidRequest, match="^prompt "):
        make_request(**{**GOOD, "prompt": chr(code)})


def test_an_empty_prompt_is_allowed() -> None:
    assert make_request(**{**GOOD, "prompt": ""}).prompt == ""


def test_too_much_work_is_refused() -> None:
    huge = {"width": MAX_SIDE, "height": MAX_SIDE, "num_images": MAX_IMAGES, "num_inference_steps": MAX_STEPS}
    with pytest.raises(InvalidRequest, match=f"at most {MAX_PIXEL_STEPS}"):
        make_request(**{**GOOD, **huge})


def test_the_last_seed_must_exist() -> None:
    with pytest.raises(InvalidRequest, match="largest seed"):
        make_request(**{**GOOD, "seed": MAX_SEED, "num_images": 2})


def test_sizes_are_multiples_of_the_models_factor() -> None:
    with pytest.raises(InvalidRequest, match="width is 13; for pocket it must be a multiple of 16"):
        make_request(**{**GOOD, "width": 13}).check_size(16)


def test_nothing_can_be_changed_or_added() -> None:
    request = make_request(**GOOD)
    with pytest.raises(ValueError, match="frozen"):
        request.prompt = "other"  # type: ignore[misc]
    with pytest.raises(InvalidRequest, match="^colour "):
        make_request(**{**GOOD, "colour": "red"})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="^scheduler "):
        make_request(**{k: v for k, v in GOOD.items() if k != "scheduler"})


ID = "0123456789abcdef" * 2
inits = st.builds(
    InitImage, image=st.just(ID), strength=st.floats(0, 1), mask=st.just(ID), feather=st.integers(0, 64),
    only_masked=st.booleans(), padding=st.integers(0, 256),
)  # fmt: skip
blends = st.one_of(
    st.builds(lambda **v: {"variation": Variation(**v)}, seed=st.integers(0, 2**40), strength=st.floats(0, 1)),
    st.builds(lambda **v: {"interpolation": Interpolation(**v)}, prompt=text, seed=st.none() | sampling["seed"]),
)


@given(inits, blends)
def test_what_a_run_starts_from_comes_back_from_json(init: InitImage, blend: dict[str, Any]) -> None:
    request = make_request(**{**GOOD, "num_images": 3, "init": init, **blend})
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request
    assert request.seeds == (1, 1, 1)


@given(st.integers(1, MAX_STEPS), st.floats(0, 1))
def test_the_last_steps_are_run(steps: int, strength: float) -> None:
    run = steps_run(steps, strength)
    assert 0 <= run <= steps and run <= steps * strength < run + 1
    assert steps_run(steps, 0) == 0 and steps_run(steps, 1) == steps
    request = make_request(**{**GOOD, "num_inference_steps": steps, "init": InitImage(image=ID, strength=strength)})
    assert request.steps_run == run
    assert make_request(**{**GOOD, "num_inference_steps": steps}).steps_run == steps


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"init": {"image": "../../etc/passwd", "strength": 0.5}}, "init.image"),
        ({"init": {"image": ID, "strength": 1.5}}, "init.strength is 1.5"),
        ({"init": {"image": ID, "strength": math.nan}}, "init.strength"),
        ({"init": {"image": ID, "strength": 0.5, "noise_only": True}}, "needs strength 1"),
        ({"init": {"image": ID, "strength": 1.0, "noise_only": True, "mask": ID}}, "no mask"),
        ({"init": {"image": ID, "strength": 1.0, "feather": 4}}, "need a mask"),
        ({"init": {"image": ID, "strength": 1.0, "only_masked": True}}, "need a mask"),
        ({"variation": {"seed": 1, "strength": 2.0}}, "variation.strength is 2.0"),
        ({"interpolation": {}, "num_images": 2}, "another prompt"),
        ({"interpolation": {"seed": 1}}, "at least 2 pictures"),
        (
            {"interpolation": {"seed": 1}, "variation": {"seed": 1, "strength": 0.5}, "num_images": 2},
            "exclude each other",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        make_request(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({name: "x"}, name) for name in ("width", "height", "num_images", "num_inference_steps", "guidance_scale")),
        ({"seed": -1}, "seed"),
        ({"seed": MAX_SEED, "num_images": 2}, "seed"),
        ({"model": ""}, "model"),
        ({"scheduler": ""}, "scheduler"),
        ({"prompt": "x" * 3000}, "prompt"),
        ({"negative_prompt": "\x00"}, "negative_prompt"),
        ({"colour": "red"}, "colour"),
        ({"width": MAX_SIDE, "height": MAX_SIDE, "num_images": 8, "num_inference_steps": 150}, ""),
        ({"init": {"image": "nowhere", "strength": 0.5}}, "image"),
        ({"init": "nowhere"}, "image"),
        ({"init": {"image": ID, "strength": 1.5}}, "strength"),
        ({"init": {"image": ID, "strength": 0.5, "mask": "nowhere"}}, "mask"),
        ({"init": {"image": ID, "strength": 0.5, "noise_only": True}}, "noise_only"),
        ({"init": {"image": ID, "strength": 0.5, "feather": 4}}, "mask"),
        ({"variation": {"seed": 1, "strength": 2.0}}, "variation.strength"),
        ({"variation": {"seed": -1, "strength": 1.0}}, "variation.seed"),
        ({"interpolation": {}, "num_images": 2}, "interpolation"),
        ({"interpolation": {"seed": -1}, "num_images": 2}, "interpolation.seed"),
        ({"interpolation": {"seed": 1}}, "num_images"),
        ({"interpolation": {"seed": 1}, "variation": {"seed": 1, "strength": 0.5}, "num_images": 2}, "variation"),
        ({"loras": ({"name": "ink", "weight": 11.0},)}, "loras.0.weight"),
        ({"loras": ({"name": "ink"},) * 6}, "loras"),
        ({"controls": ({"net": "edges", "image": ID, "start": 0.5, "end": 0.5},)}, "controls.0.end"),
        ({"reference": {"adapter": "plus", "image": ID, "weight": 3.0}}, "reference.weight"),
    ],
)  # fmt: skip
def test_a_refused_request_names_the_field_as_the_api_spells_it(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, **changes})
    assert caught.value.field == field


def test_a_request_from_json_names_the_same_fields() -> None:
    stored = make_request(**GOOD).model_dump()
    with pytest.raises(ValidationError) as caught:
        GenerationRequest.model_validate({**stored, "sampling": {**stored["sampling"], "seed": -1}})
    field, message, rest, remedy = first_error(caught.value)
    assert field == "seed" and message.startswith("sampling.seed is -1") and rest == "must be at least 0."
    assert remedy == Remedy(VALUE, 0)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"width": 5000}, Remedy(VALUE, MAX_SIDE)),
        ({"num_inference_steps": 0}, Remedy(VALUE, 1)),
        ({"guidance_scale": 31.0}, Remedy(VALUE, MAX_GUIDANCE)),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, Remedy(SHORTEN, MAX_PROMPT)),
        ({"seed": MAX_SEED, "num_images": 2}, Remedy(VALUE, str(MAX_SEED - 1))),
        ({"width": MAX_SIDE, "height": MAX_SIDE, "num_inference_steps": MAX_STEPS, "num_images": 8}, Remedy(SMALLER)),
        ({"interpolation": {"seed": 3}, "num_images": 1}, Remedy(VALUE, 2)),
        ({"width": "wide"}, Remedy("width")),
    ],
)
def test_an_error_says_what_mends_it(changes: dict[str, Any], remedy: Remedy) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, **changes})
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(("width", "nearest"), [(13, 16), (1, 16), (41, 48), (24, 32), (MAX_SIDE - 1, MAX_SIDE)])
def test_a_size_that_does_not_fit_is_mended_by_the_nearest_that_does(width: int, nearest: int) -> None:
    request = make_request(**GOOD).model_copy(update={"width": width})
    with pytest.raises(InvalidRequest) as caught:
        request.check_size(16)
    assert caught.value.remedy == Remedy(VALUE, nearest)


def test_a_sentence_can_name_its_field_as_the_page_does() -> None:
    for field, message, rest, shown in (
        ("width", "width is 9; allowed: more.", "must be at least 16.", "Width must be at least 16."),
        ("variation.seed", "variation.seed holds a mark.", "", "Width holds a mark."),
        ("interpolation.prompt", "prompt names a LoRA.", "", "Width names a LoRA."),
        ("width", "The width is odd.", "", "The width is odd."),
    ):
        assert InvalidRequest(field, message, rest).named("Width") == shown
    assert InvalidRequest("", "As it is.").named("") == "As it is."
    assert InvalidRequest("x", "x is bad.", "is bad.").named("") == "Is bad."


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("prompt", {"prompt": "a <lora:x:0.8:0.5>"}),
        ("prompt", {"prompt": "a <lora:x:0.8", "loras": ()}),
        ("prompt", {"prompt": "a <embedding:x:1.2>"}),
        ("negative_prompt", {"negative_prompt": "bad <lora:x:1>"}),
        ("interpolation.prompt", {"interpolation": {"prompt": "b <lora:x:1>"}, "num_images": 2}),
        ("interpolation.prompt", {"interpolation": Interpolation(prompt="b <lora:x>"), "num_images": 2}),
        ("prompt", {"prompt": "a AND b", "prompt_syntax": "a1111"}),
        ("negative_prompt", {"negative_prompt": "[a|b:1]", "prompt_syntax": "a1111"}),
        ("interpolation.prompt", {"interpolation": {"prompt": "[a:b:c:1]"}, "num_images": 2, "prompt_syntax": "a1111"}),
        ("prompt_syntax", {"prompt_syntax": "comfy"}),
    ],
)
def test_marks_that_are_nearly_right_are_refused_at_their_field(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, **values})
    assert caught.value.field == field
    assert field in str(caught.value) and str(caught.value).endswith(".")


def test_tags_are_read_in_every_text() -> None:
    request = make_request(
        **{**GOOD, "prompt": "a fox <LORA:ink:-.5> embedding:glow", "negative_prompt": "<Embedding:x>"}
    )
    assert (request.prompt, request.negative_prompt) == ("a fox <embedding:glow>", "<embedding:x>")
    assert [(lora.name, lora.weight) for lora in request.loras] == [("ink", -0.5)]
    with_more = make_request(**{**GOOD, "prompt": "a <lora:ink>", "loras": (Lora(name="clay"),)})
    assert [lora.name for lora in with_more.loras] == ["clay", "ink"]


def test_a_stored_request_is_read_as_it_was_made() -> None:
    """Requests from before the forms of prompts were known have compel's, and their texts are left alone."""
    stored = make_request(**GOOD).model_dump(mode="json")
    del stored["prompt_syntax"]
    stored["prompt"] = "a (word:1.3) AND <lora:x:0.8:0.5> [b|c]"
    again = GenerationRequest.model_validate_json(json.dumps(stored))
    assert (again.prompt, again.prompt_syntax) == (stored["prompt"], "compel")


# -- prompts of several pictures, and what they were made from -------------------------------------------------------


def test_prompts_of_pictures_come_back_from_json_and_fields_without_meaning_are_not_written() -> None:
    plain = make_request(**GOOD)
    assert not {"prompts", "typed"} & set(plain.model_dump()), "earlier versions refuse unknown fields"
    typed = {"prompt": "a {fox|owl}", "styles": ("ink",), "drawn": (("fox",), ("owl",))}
    both = make_request(**{**GOOD, "num_images": 2, "prompts": ("a fox", "an owl"), "typed": typed})
    assert GenerationRequest.model_validate_json(both.model_dump_json()) == both
    assert [both.prompt_of(k) for k in range(2)] == ["a fox", "an owl"] and both.drawn_for(1) == ("owl",)
    assert [text for field, text in prompt_fields(both) if field == "prompt"] == ["a fox", "an owl"]
    alone = replaced(both, **fields_of_picture(both, 1))
    assert (alone.prompt, alone.prompts, alone.num_images, alone.drawn_for(0)) == ("an owl", (), 1, ("owl",))
    assert alone.typed is not None and alone.typed.styles == ("ink",)
    assert plain.prompt_of(0) == "a fox" and plain.drawn_for(0) == ()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompts": ("a fox",), "num_images": 2}, "prompts"),
        ({"prompts": ("an owl", "a fox"), "num_images": 2}, "prompts"),
        ({"prompts": ("a fox", "an owl"), "num_images": 2, "interpolation": {"seed": 3}}, "prompts"),
        ({"prompts": ("a fox", "x" * 2001), "num_images": 2}, "prompts.1"),
        ({"prompts": ("a fox", "b <lora:x:1>"), "num_images": 2}, "prompt"),
        ({"prompts": ("a fox", "b AND c"), "num_images": 2, "prompt_syntax": "a1111"}, "prompt"),
        ({"typed": {"prompt": "x", "styles": ("s",) * 17}}, "typed.styles"),
        ({"typed": {"prompt": "\0"}}, "typed.prompt"),
    ],
)
def test_prompts_of_pictures_have_bounds(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(**{**GOOD, **values})
    assert caught.value.field == field


def test_loras_that_all_pictures_have_are_taken_once() -> None:
    texts = ("a fox <lora:ink:1>", "an owl <lora:ink:1>")
    request = make_request(**{**GOOD, "prompt": texts[0], "prompts": texts, "num_images": 2})
    assert request.prompts == ("a fox", "an owl") and [lora.name for lora in request.loras] == ["ink"]
