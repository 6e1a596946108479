"""The request: every bound holds, names itself, and survives a JSON round trip."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.request import (
    MAX_GUIDANCE,
    MAX_PICTURES,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SIDE,
    MAX_STEPS,
    MAX_WORK,
    GenerationRequest,
    InvalidRequest,
    make_request,
)

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
    "seed": st.integers(0, MAX_SEED - MAX_PICTURES),
}
requests = st.fixed_dictionaries(
    {
        "model": st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40),
        "prompt": text,
        "negative_prompt": text,
        "width": st.integers(8, 512),
        "height": st.integers(8, 512),
        "num_images": st.integers(1, MAX_PICTURES),
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
    "num_images": st.integers(max_value=0) | st.integers(min_value=MAX_PICTURES + 1),
    "num_inference_steps": st.integers(max_value=0) | st.integers(min_value=MAX_STEPS + 1),
    "seed": st.integers(max_value=-1) | st.integers(min_value=MAX_SEED + 1),
    "guidance_scale": st.floats(max_value=-1e-9) | st.floats(min_value=MAX_GUIDANCE + 0.001) | st.just(math.nan),
}
ALLOWED = {
    "width": ("8", str(MAX_SIDE)),
    "height": ("8", str(MAX_SIDE)),
    "num_images": ("1", str(MAX_PICTURES)),
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
    huge = {"width": MAX_SIDE, "height": MAX_SIDE, "num_images": MAX_PICTURES, "num_inference_steps": MAX_STEPS}
    with pytest.raises(InvalidRequest, match=f"at most {MAX_WORK}"):
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
