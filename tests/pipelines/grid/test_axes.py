"""Values of a comparison's axes: written, read, applied, proposed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.grid.axes import (
    AXES,
    MAX_VALUES,
    axis_setting,
    joined,
    settings_of,
    split_numbers,
    split_texts,
    split_wholes,
)
from pipelines.grid.plan import Grid, GridAxis, expected_seconds, read_axis, work
from pipelines.grid.proposals import Bounds
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from pipelines.sampling.schedulers import SCHEDULERS


def ask(**fields: object) -> GenerationRequest:
    """A request of a small model."""
    usual = {
        "model": "toy", "prompt": "a red fox", "width": 64, "height": 64, "seed": 7, "scheduler": "ddim",
        "num_inference_steps": 20, "guidance_scale": 4.0,
    }  # fmt: skip
    return make_request(**{**usual, **fields})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1, 4, 7.5", ["1", "4", "7.5"]),
        ("1-4", ["1", "2", "3", "4"]),
        ("1-9 (+4)", ["1", "5", "9"]),
        ("9-1 (+4)", ["9", "5", "1"]),
        ("0-1 [3], 5", ["0", "0.5", "1", "5"]),
        (" , ", []),
    ],
)
def test_numbers_and_ranges_are_read_as_in_other_programs(text: str, values: list[str]) -> None:
    assert split_numbers(text) == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("3054321987-3054321991 (+2)", ["3054321987", "3054321989", "3054321991"]),
        ("4294967295-4294967294", ["4294967295", "4294967294"]),
        ("1-10 [5]", ["1", "3", "5", "7", "10"]),
        ("10-1 [5]", ["10", "7", "5", "3", "1"]),
        ("1-2 (+0.5)", ["1", "1.5", "2"]),
    ],
)
def test_ranges_of_whole_numbers_are_exact(text: str, values: list[str]) -> None:
    assert split_wholes(text) == values
    if "." not in text:
        axis = read_axis("x", "num_inference_steps" if "[" in text else "seed", text, ask())
        assert axis is not None and len({cell.request for cell in Grid(request=ask(), x=axis).cells()}) == len(values)


@pytest.mark.parametrize(
    ("setting", "text", "sentence"),
    [
        ("guidance_scale", "1, x", "'x' is not a number"),
        ("guidance_scale", "99", "Guidance scale must be at most 30."),
        ("guidance_scale", "1e999", "not a number"),
        ("guidance_scale", "1.2.3-9", "not a number"),
        ("guidance_scale", f"{'9' * 400}-1", "not a number"),
        ("guidance_scale", "1-9 (+0)", "a step other than 0"),
        ("num_inference_steps", "2.5", "not a whole number"),
        ("num_inference_steps", "1-9999999", f"more than {MAX_VALUES}"),
        ("scheduler", "Eulerian", "not a sampler"),
        ("size", "big", "not a size"),
        ("words", "cat, dog", "does not stand in the prompt"),
        ("seed", "-1", "Seed must be at least 0."),
        ("lora:none", "1", "no such setting"),
        ("", "1", ""),
    ],
)
def test_what_cannot_be_is_refused_at_its_axis_in_one_sentence(setting: str, text: str, sentence: str) -> None:
    request = ask()
    with pytest.raises(InvalidRequest) as refused:
        axis = read_axis("y", setting, text, request)
        assert axis is not None or not setting
        if axis is None:
            raise InvalidRequest("y", "none.")
        other = GridAxis(setting="prompt", values=("a red fox",))
        Grid(request=request, x=other, y=axis).cells()
    assert refused.value.field == "y" and sentence in refused.value.message and refused.value.message.endswith(".")


def test_every_setting_is_proposed_read_again_and_applied() -> None:
    request = ask(loras=({"name": "ink", "weight": 0.5},), init={"image": "0" * 32, "strength": 0.4})
    bounds = Bounds(models=("toy", "other"), size_factor=16)
    known = settings_of(request)
    assert set(known) == {*AXES, "lora:ink"}
    for name, setting in known.items():
        proposed = setting.propose(request, bounds)
        assert proposed and len(proposed) == len(set(proposed)) <= 5
        axis = read_axis("x", name, joined(name, proposed), request)
        assert axis is not None and list(axis.values) == list(proposed) and all(axis.labels)
        cells = Grid(request=request, x=axis).cells()
        # The present value is among them and changes nothing.
        assert request in [cell.request for cell in cells], name
        assert len({cell.request for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("setting", "fields"),
    [
        *(("guidance_scale", {"guidance_scale": g}) for g in (0.0, 1.0, 1.5, 4.0, 30.0)),
        *(("num_inference_steps", {"num_inference_steps": n}) for n in (*range(1, 12), 25, 150)),
        *(("num_inference_steps", {"num_inference_steps": n, "scheduler": "lcm"}) for n in (4, 26, 50)),
        *(("strength", {"init": {"image": "0" * 32, "strength": s}}) for s in (0.0, 0.4, 0.5, 1.0)),
        *(("size", {"width": w, "height": h}) for w, h in ((64, 64), (2048, 2048), (512, 2048))),
        *(("negative_prompt", {"prompt": prompt, "negative_prompt": "red"}) for prompt in ("", "a fox")),
        ("scheduler", {}),
        ("seed", {"seed": 2**63 - 1}),
    ],
)
def test_five_values_are_shown_of_what_has_so_many(setting: str, fields: dict[str, Any]) -> None:
    request = ask(**fields)
    proposed = settings_of(request)[setting].propose(request, Bounds(size_factor=16))
    axis = read_axis("x", setting, joined(setting, proposed), request)
    assert axis is not None and len({cell.request for cell in Grid(request=request, x=axis).cells()}) == 5
    shown = [cell.request for cell in Grid(request=request, x=axis).cells()]
    assert request in shown or setting == "strength"
    assert all(one.sampling.num_inference_steps <= SCHEDULERS[one.sampling.scheduler].max_steps for one in shown)


def test_a_setting_that_a_run_has_not_is_not_offered() -> None:
    assert "strength" not in settings_of(ask()) and "words" not in settings_of(ask(prompt=""))


def test_a_run_that_left_another_is_compared_along_what_it_does_not_share_with_it() -> None:
    original = ask(num_images=3).model_dump()
    fork = ask(num_images=3, guidance_scale=6.0, fork={"run": "one", "step": 4, "original": original})
    assert {"guidance_scale", "scheduler", "prompt", "negative_prompt", "words"} == set(settings_of(fork))
    with pytest.raises(InvalidRequest, match="left another one"):
        read_axis("x", "seed", "1-3", fork)
    axis = read_axis("x", "guidance_scale", "1, 6", fork)
    assert axis is not None
    for cell in (cells := Grid(request=fork, x=axis).cells()):
        assert cell.request.fork is not None and cell.request.num_images == 1 == cell.request.fork.original.num_images
    assert expected_seconds(cells, fork, 6.0) > 0


def test_labels_are_what_a_user_reads() -> None:
    assert GridAxis(setting="negative_prompt", values=("", "red")).labels == ["none", "red"]
    assert GridAxis(setting="size", values=("64x32",)).labels == ["64 \u00d7 32"]
    axis = read_axis("x", "words", 'fox, "cat, sitting"', ask())
    assert axis is not None and axis.labels == ["fox", "cat, sitting"]
    assert [c.request.prompt for c in Grid(request=ask(), x=axis).cells()] == ["a red fox", "a red cat, sitting"]


@pytest.mark.parametrize("given", ["\0cat", ["", "cat"], "\0cat, dog"])
def test_no_word_is_put_between_all_letters(given: str | list[str]) -> None:
    axis = read_axis("x", "words", given, ask())
    assert axis is not None
    with pytest.raises(InvalidRequest, match="cannot be empty"):
        Grid(request=ask(), x=axis).cells()


def test_a_word_that_is_left_out_has_a_label() -> None:
    assert GridAxis(setting="words", values=("fox\0",)).labels == ["none"]


@pytest.mark.parametrize(
    "prompt",
    [
        "[cat|dog] on a hill",
        "two\nlines",
        '"quoted" words',
        'a "quoted" word',
        " blanks ",
        "",
        '|"',
        "a fox, [a:b:0.5]",
    ],
)
def test_prompts_are_written_so_that_they_are_read_again(prompt: str) -> None:
    values = [prompt, "a fox", "", "x"]
    assert split_texts(joined("prompt", values)) == values
    axis = read_axis("x", "prompt", joined("prompt", [prompt]), ask())
    assert axis is not None and axis.values == (prompt,)


def test_texts_in_quotes_keep_their_separators() -> None:
    assert split_texts('"a|b" | c | "d" e\nf|') == ["a|b", "c", '"d" e', "f", ""]


def test_a_sampler_is_known_by_its_label_or_key() -> None:
    found = [
        axis_setting("scheduler").apply(ask(), text).sampling.scheduler for text in ("DPM++ 2M", "dpmpp_2m", "heun")
    ]
    assert found == ["dpmpp_2m", "dpmpp_2m", "heun"]


@given(st.text(max_size=60), st.sampled_from([*AXES, "lora:ink", "nothing"]))
def test_any_text_is_read_or_refused(text: str, setting: str) -> None:
    request = ask(loras=({"name": "ink", "weight": 0.5},))
    try:
        axis = read_axis("x", setting, text, request)
        assert axis is not None
        Grid(request=request, x=axis).cells()
    except InvalidRequest as problem:
        assert problem.field == "x" and problem.message


def test_a_plan_is_a_row_of_requests_page_by_page_and_its_work_is_foretold() -> None:
    request = ask(num_images=3)
    grid = Grid(
        request=request,
        x=GridAxis(setting="seed", values=("1", "2", "3")),
        y=GridAxis(setting="num_inference_steps", values=("10", "20")),
        pages=GridAxis(setting="guidance_scale", values=("1", "4")),
    )
    cells = grid.cells()
    assert grid.shape == (2, 2, 3) and len(cells) == 12
    assert [(c.page, c.row, c.column) for c in cells[:4]] == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)]
    assert cells[5].request.sampling.seed == 3 and cells[5].request.num_images == 1
    # Without guidance a step is one model call, with it two; three pictures of 20 guided steps took 6 seconds.
    assert expected_seconds(cells, request, 6.0) == pytest.approx(2 * (3 * (0.25 + 0.5 + 0.5 + 1)) / 1)
    assert Grid.model_validate_json(grid.model_dump_json()) == grid


def test_a_sampler_that_looks_twice_costs_twice() -> None:
    axis = GridAxis(setting="scheduler", values=("Heun", "ddim"))
    heun, ddim = Grid(request=ask(), x=axis).cells()
    assert work(heun.request) / work(ddim.request) == pytest.approx(39 / 20)


@pytest.mark.parametrize(("x", "y"), [("prompt", "words"), ("words", "prompt")])
def test_words_are_replaced_in_each_whole_prompt(x: str, y: str) -> None:
    axes = {"prompt": ("a red fox", "a fox asleep"), "words": ("fox\0fox", "fox\0owl")}
    grid = Grid(request=ask(), x=GridAxis(setting=x, values=axes[x]), y=GridAxis(setting=y, values=axes[y]))
    expected = {"a red fox", "a fox asleep", "a red owl", "a owl asleep"}
    assert {cell.request.prompt for cell in grid.cells()} == expected
    assert len(grid.cells()) == 4
    lacking = grid.model_copy(update={"x" if x == "prompt" else "y": GridAxis(setting="prompt", values=("a cat",))})
    with pytest.raises(InvalidRequest, match="does not stand in the prompt"):
        lacking.cells()


def test_repeated_values_count_once_and_a_long_text_is_refused() -> None:
    axis = read_axis("x", "seed", [1] * 30 + [2], ask())
    assert axis is not None and axis.values == ("1", "2")
    with pytest.raises(InvalidRequest, match="longer than 4000"):
        read_axis("x", "prompt", "a" * 4001, ask())


def test_two_axes_of_one_setting_and_too_many_pictures_are_refused() -> None:
    seeds = GridAxis(setting="seed", values=tuple(map(str, range(20))))
    with pytest.raises(InvalidRequest, match="setting of its own"):
        Grid(request=ask(), x=seeds, y=seeds).cells()
    steps = GridAxis(setting="num_inference_steps", values=tuple(map(str, range(1, 11))))
    with pytest.raises(InvalidRequest, match="200 pictures; at most 100"):
        Grid(request=ask(), x=seeds, y=steps).cells()


def test_every_setting_says_what_it_does_in_few_words() -> None:
    for setting in (*AXES.values(), axis_setting("lora:ink")):
        assert setting.does.endswith(".") and 30 < len(setting.does) < 260
