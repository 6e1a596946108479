"""Variations and blends on the page: what is asked for, what is said, what is saved."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.images.png import CHUNK
from pipelines.request import MAX_IMAGES, MAX_SEED, Interpolation, InvalidRequest, Variation
from tests.support.known_trace import ask, make_trace
from tests.support.site import tiny_card
from ui.form import controls, variations
from ui.form.controls import Controls
from ui.form.form import FormValues
from ui.form.layout import shared_fields
from ui.form.variations import BLEND, OFF, VARY, Variations
from ui.inspector import lens_frames, questions

GIVEN = {
    "prompt": "a fox", "quality": "draft", "num_images": 2, "negative_prompt": "", "num_inference_steps": 4,
    "guidance_scale": 4, "scheduler": "euler", "width": 64, "height": 64, "seed": "7",
    "keep_seed": False, "model": "tiny", "prompt_syntax": "compel",
}  # fmt: skip
MINE = {"mode": OFF, "strength": 0.3, "variation_seed": "", "prompt": "", "seed": "", "count": 5}


@pytest.fixture(scope="module")
def parts() -> tuple[Controls, Variations]:
    card = tiny_card("x")
    with gr.Blocks():
        named: dict[str, Any] = {"prompt": controls.prompt_box("")}
        named |= {"quality": controls.quality_control(card), "num_images": controls.count_control()}
        named |= {"negative_prompt": controls.negative_control(card), "scheduler": controls.scheduler_control(card)}
        named |= {"prompt_syntax": controls.syntax_control(card)}
        named |= {"num_inference_steps": controls.steps_control(card)}
        named |= {"guidance_scale": controls.guidance_control(card), **controls.size_controls(card)}
        seeds, _ = controls.seed_controls()
        named |= seeds | {"model": controls.model_control([card], card)}
        mine = variations.lay_out(named["num_images"])
        mine.strip.render()
    return Controls(**named), mine


def request(parts: tuple[Controls, Variations], *, new_seed: bool = False, shared: Any = None, **mine: Any) -> Any:
    """The request of the shared controls and these, each by name."""
    asked, own = parts
    values = {getattr(asked, name): value for name, value in {**GIVEN, **(shared or {})}.items()}
    values |= {getattr(own, name): value for name, value in {**MINE, **mine}.items()}
    form_values = FormValues(values, new_seed=new_seed)
    return controls.request_of({**shared_fields(asked, form_values), **own.fields(form_values)})


# -- what is asked for ---------------------------------------------------------------------------------------------


def test_every_control_is_an_input_and_no_output_is(parts):
    own, section = parts[1], parts[1].section()
    assert section.inputs == {own.mode, own.strength, own.variation_seed, own.prompt, own.seed, own.count}
    assert not section.inputs & {*section.errors, *section.outputs}


def test_switched_off_nothing_changes(parts):
    made = request(parts, strength=1, seed="50", prompt="a cat", shared={"keep_seed": True})
    assert made.variation is None and made.interpolation is None and made.seeds == (7, 8)
    assert request(parts).sampling.seed != 7


def test_variations_start_from_the_seed_that_is_there(parts):
    made = request(parts, mode=VARY, strength=0.25, variation_seed="50")
    assert made.variation == Variation(seed=50, strength=0.25)
    assert made.seeds == (7, 7) and made.num_images == 2


@pytest.mark.parametrize("strength", [0, 1])
def test_a_slider_at_its_end_sends_a_whole_number(parts, strength: int):
    assert request(parts, mode=VARY, strength=strength).variation.strength == strength


def test_an_empty_second_seed_is_drawn_each_time(parts):
    assert len({request(parts, mode=VARY).variation.seed for _ in range(5)}) == 5


def test_a_new_seed_makes_other_variations_of_the_same_picture(parts):
    made = request(parts, mode=VARY, variation_seed="50", new_seed=True)
    assert made.sampling.seed == 7 and made.variation.seed != 50


def test_a_blend_has_its_own_number_of_pictures(parts):
    made = request(parts, mode=BLEND, prompt="a cat", seed="50", count=6)
    assert made.interpolation == Interpolation(prompt="a cat", seed=50)
    assert made.num_images == 6 and made.sampling.seed == 7


@pytest.mark.parametrize(("prompt", "seed"), [("a cat", None), (None, 50)])
def test_an_empty_end_stays_where_it_is(parts, prompt: str | None, seed: int | None):
    made = request(parts, mode=BLEND, prompt=prompt, seed=None if seed is None else str(seed))
    assert made.interpolation == Interpolation(prompt=prompt, seed=seed)


def test_a_new_seed_makes_another_blend(parts):
    made = request(parts, mode=BLEND, seed="50", new_seed=True)
    assert made.sampling.seed != 7 and made.interpolation.seed == 50


@pytest.mark.parametrize(
    ("mine", "place", "starts"),
    [
        ({"mode": BLEND}, "interpolation.prompt", "A blend needs somewhere to go"),
        ({"mode": BLEND, "prompt": "  \n"}, "interpolation.prompt", "A blend needs somewhere to go"),
        ({"mode": BLEND, "seed": "many"}, "interpolation.seed", "Other seed must be"),
        ({"mode": BLEND, "seed": str(MAX_SEED + 1)}, "interpolation.seed", "Other seed must be"),
        ({"mode": BLEND, "seed": "\u00b2"}, "interpolation.seed", "Other seed must be"),
        ({"mode": BLEND, "seed": "9" * 500}, "interpolation.seed", "Other seed must be"),
        ({"mode": BLEND, "prompt": 5}, "interpolation.prompt", "Other prompt is 5"),
        ({"mode": BLEND, "prompt": "x" * 2001}, "interpolation.prompt", "Other prompt has 2001 characters"),
        ({"mode": VARY, "variation_seed": "-1"}, "variation.seed", "Seed to go towards must be"),
        ({"mode": VARY, "variation_seed": str(MAX_SEED)}, "variation.seed", "Seed to go towards must be"),
        ({"mode": VARY, "strength": None}, "variation.strength", "Variation strength must be a number."),
        ({"mode": VARY, "strength": 2}, "variation.strength", "Variation strength must be at most 1."),
        ({"mode": VARY, "strength": float("nan")}, "variation.strength", "Variation strength must be"),
        ({"mode": VARY, "strength": True}, "variation.strength", "Variation strength must be a number."),
    ],
)
def test_an_invalid_value_is_reported_at_its_control(parts, mine: dict, place: str, starts: str):
    with pytest.raises(InvalidRequest) as caught:
        request(parts, **mine)
    own = parts[1]
    shown = own.section().show_error(caught.value)[own.errors[place]]
    assert (shown["text"] if isinstance(shown, dict) else shown).startswith(starts)


@pytest.mark.parametrize("count", [0, 1, MAX_IMAGES + 1, 2.5, None])
def test_a_number_of_pictures_out_of_bounds_is_refused(parts, count: Any):
    with pytest.raises(InvalidRequest):
        request(parts, mode=BLEND, seed="50", count=count)


@pytest.mark.parametrize("field", ["prompt", "seed", ""])
def test_errors_of_other_controls_are_left_to_them(parts, field: str):
    assert parts[1].section().show_error(InvalidRequest(field, "It is wrong.")) is None


# -- what is said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        (
            {"variation": Variation(seed=50, strength=0.3)},
            "Near the picture of seed 5: 30% of the way to the noise of seed 50.",
        ),
        (
            {"variation": Variation(seed=50, strength=0.3), "num_images": 4},
            "Near the picture of seed 5: 30% of the way to the noise of seeds 50 to 53, one each.",
        ),
        ({"interpolation": Interpolation(seed=50), "num_images": 3}, "A blend of 3 pictures: from seed 5 to seed 50."),
        (
            {"interpolation": Interpolation(prompt="a cat"), "num_images": 3},
            "A blend of 3 pictures: from “a fox” to “a cat”, seed 5.",
        ),
        (
            {"interpolation": Interpolation(prompt="a cat", seed=50), "num_images": 3, "prompt": ""},
            "A blend of 3 pictures: from no prompt to “a cat”, from seed 5 to seed 50.",
        ),
    ],
)
def test_what_the_pictures_have_to_do_with_each_other(changes: dict, said: str):
    assert variations.about(ask(**changes)) == said


def test_long_prompts_are_cut_short():
    assert variations.quoted("a  fox\nand " + "x" * 100) == "“a fox and " + "x" * 37 + "…”"


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (2, ["where it starts", "where it ends"]),
        (5, ["where it starts", "25% of the way", "50% of the way", "75% of the way", "where it ends"]),
    ],
)
def test_where_each_picture_stands(n: int, wanted: list[str]):
    assert [variations.between(k, n) for k in range(n)] == wanted


@pytest.mark.parametrize(
    ("changes", "rows", "drawn"),
    [
        ({}, [("Seed", "7")], "was drawn from the seed 7:"),
        (
            {"variation": Variation(seed=50, strength=0.3)},
            [("Seed", "5"), ("Noise", "30% of the way to seed 52")],
            "lies 30% of the way from that of seed 5 to that of seed 52.",
        ),
        (
            {"interpolation": Interpolation(seed=50)},
            [("Seed", "5"), ("Noise", "67% of the way to seed 50")],
            "lies 67% of the way from that of seed 5 to that of seed 50.",
        ),
        (
            {"interpolation": Interpolation(prompt="a cat")},
            [("Seed", "5"), ("Other prompt", "a cat"), ("Blend", "67%")],
            "was drawn from the seed 5:",
        ),
    ],
)
def test_the_denoising_tab_says_what_each_picture_started_from(changes: dict, rows: list, drawn: str):
    trace = make_trace(num_images=4, **changes)
    names = {name for name, _ in rows} | {"Noise", "Other prompt"}
    assert [row for row in lens_frames.settings(trace, 2) if row[0] in names] == rows
    assert drawn in questions.questions(trace, 2)[0]["text"][0]


def stage(n: int, state: str = "done") -> dict[str, Any]:
    """A value of the stage with n finished pictures."""
    return {"run": "one", "state": state, "pictures": [{"file": {"path": f"{k}.png"}, "seed": "5"} for k in range(n)]}


def test_the_strip_holds_a_finished_blend_in_order(parts):
    asked = ask(interpolation=Interpolation(seed=50), num_images=3)
    value = parts[1].updates(asked, stage(3))[parts[1].strip]
    assert [picture["file"]["path"] for picture in value["pictures"]] == ["0.png", "1.png", "2.png"]
    assert value["labels"][1] == "Picture 2 of 3: 50% of the way" and value["run"] == "one"
    json.dumps(value)


def test_the_strip_is_empty_for_everything_else(parts):
    blend = ask(interpolation=Interpolation(seed=50), num_images=3)
    for asked, state in ((ask(num_images=3), "done"), (blend, "failed"), (blend, "stopped"), (blend, "queued")):
        value = parts[1].updates(asked, stage(3 if state == "done" else 0, state))[parts[1].strip]
        assert value["pictures"] == [] and bool(value["about"]) == (asked is blend)
    # While a run goes on, nothing is sent again and again.
    assert parts[1].updates(blend, stage(0, "running")) == {}


# -- what is saved -------------------------------------------------------------------------------------------------


def blend(n: int = 4, **end: Any) -> Any:
    """A finished run of n greys that grow brighter."""
    trace = make_trace(num_images=n, interpolation=Interpolation(**(end or {"seed": 50})))
    finals = []
    for k in range(n):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (20 + 60 * k,) * 3).save(file, "PNG")
        finals.append(file.getvalue())
    return replace(trace, finals=tuple(finals))


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_goes_there_and_back_and_holds_both_ends(kind: str):
    name, data = variations.packed(blend(), kind)
    assert name == f"a-fox-5-blend.{kind}"
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 6 and image.info["loop"] == 0
        seen = []
        for i in range(6):
            image.seek(i)
            image.load()
            seen.append((image.info["duration"], round(image.convert("L").resize((1, 1)).getpixel((0, 0)), -1)))
    assert seen == [(1000, 20), (250, 80), (250, 140), (1000, 200), (250, 140), (250, 80)]


@pytest.mark.parametrize("kind", variations.KINDS)
@pytest.mark.parametrize("n", [2, 3, 8])
def test_every_kind_can_be_saved(kind: str, n: int):
    assert variations.packed(blend(n), kind)[1]


def test_files_carry_the_settings_and_the_mark():
    trace = blend(prompt="<img src=x> {{1}} 狐")
    wanted = trace.request.model_dump(mode="json")
    with Image.open(io.BytesIO(variations.packed(trace, "webp")[1])) as image:
        found = json.loads(image.getexif()[0x010E])
        assert b"trainedAlgorithmicMedia" in image.info["xmp"]
    with Image.open(io.BytesIO(variations.packed(trace, "gif")[1])) as image:
        assert json.loads(image.info["comment"])["request"] == wanted
    with Image.open(io.BytesIO(variations.packed(trace, "filmstrip")[1])) as image:
        image.load()
        assert json.loads(image.text[CHUNK])["request"] == wanted
    assert found["request"] == wanted
    assert found["facts"] == {"blend": "A blend between two prompts in 4 pictures", "pictures": 4, "name": ""}


def test_a_run_without_pictures_is_no_file():
    with pytest.raises(ValueError, match="no picture"):
        variations.packed(replace(blend(), finals=()), "gif")
