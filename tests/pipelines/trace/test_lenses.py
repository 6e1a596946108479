"""Lenses: each draws what it says it draws, for the picture that was asked for, on one scale for the whole run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.request import make_request
from pipelines.trace import lenses
from pipelines.trace.lenses import GRID_COLOUR, LENSES, MAX_GAIN, Lens, available_lenses, project, render, value_counts
from pipelines.trace.trace import StepRecord, Trace

LEVELS = ((900.0, 0.96, 0.28), (500.0, 0.8, 0.6), (100.0, 0.28, 0.96))  # timestep, sigma, alpha
SHAPE = (len(LEVELS), 2, 4, 6, 8)  # steps, pictures, channels, height, width


def make_trace(seed: int = 0, **changes: Any) -> Trace:
    """Random numbers in every array; two pictures of 64 x 48 px, guidance 3."""
    draws = np.random.default_rng(seed)

    def some(*shape: int) -> np.ndarray:
        return draws.standard_normal(shape).astype(np.float32)

    request = make_request(
        model="tiny", prompt="a fox", width=64, height=48, scheduler="ddim", num_inference_steps=len(LEVELS),
        guidance_scale=3.0, seed=5, num_images=2,
    )  # fmt: skip
    steps = tuple(StepRecord(i, *level) for i, level in enumerate(LEVELS))
    trace = Trace(
        "run", request, 0.0, len(LEVELS), "epsilon", False, steps, some(*SHAPE), some(*SHAPE), some(*SHAPE),
        some(*SHAPE[1:]), (), (), (), some(5, 3) / 4,
    )  # fmt: skip
    return dataclasses.replace(trace, **changes)


def walk(*x0: np.ndarray) -> Trace:
    """One image whose x0 at each step is the given latent (c, h, w), for any noise."""
    x0s = np.stack(x0)[:, None].astype(np.float32)
    trace = make_trace(prediction_type="sample", x_t=x0s, cond=x0s, uncond=None, final=x0s[-1])
    return dataclasses.replace(trace, steps=trace.steps[: len(x0)])


def grey(latents: np.ndarray) -> list[Image.Image]:
    """The first channel as grey: 0 is 100, and 1 is 10 levels."""
    levels = np.clip(100 + 10 * latents[:, 0], 0, 255).astype(np.uint8)
    return [Image.fromarray(one).convert("RGB") for one in levels]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.fixture
def asked() -> Callable[[np.ndarray], list[Image.Image]]:
    """A decode that remembers what it was asked for, in ``seen``."""

    def decode(latents: np.ndarray) -> list[Image.Image]:
        decode.seen.append(latents)  # type: ignore[attr-defined]
        return [Image.new("RGB", (64, 48), (k, k, k)) for k in range(len(latents))]

    decode.seen = []  # type: ignore[attr-defined]
    return decode


def test_the_lenses_of_the_page_in_order() -> None:
    assert list(LENSES) == ["x0", "guided", "x_t", "noise", "change", "channels", "guidance", "latent"]
    assert [name for name, lens in LENSES.items() if lens.crisp] == ["channels", "latent"]


@pytest.mark.parametrize("name", LENSES)
def test_each_lens_is_explained_in_two_sentences_with_a_paper(name: str) -> None:
    lens = LENSES[name]
    assert len(re.findall(r"[.?](?: |$)", lens.about)) == 2, lens.about
    assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", lens.link)
    assert re.fullmatch(r"[A-Z].+ \d{4}", lens.paper)
    assert lens.title and lens.term and lens.title != lens.term


@pytest.mark.parametrize("exploding", [False, True])
@pytest.mark.parametrize("name", LENSES)
def test_each_lens_draws_one_picture_a_step(name: str, exploding: bool) -> None:
    drawn = render(make_trace(variance_exploding=exploding), name, 1, lambda latents: project(make_trace(), latents))
    assert len(drawn) == len(LEVELS)
    assert {image.mode for image in drawn} == {"RGB"} and len({image.size for image in drawn}) == 1
    assert len({image.tobytes() for image in drawn}) == len(LEVELS)


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("name", ["x0", "guided", "x_t", "noise"])
def test_what_is_decoded_is_that_of_the_picture_that_was_asked_for(name: str, k: int, asked: Any) -> None:
    trace = make_trace()
    wanted = {"x0": trace.guess, "guided": trace.x0, "x_t": trace.variance_preserving, "noise": trace.noise}[name]
    drawn = render(trace, name, k, asked)
    assert np.allclose(np.concatenate(asked.seen), np.stack([wanted(i)[k] for i in range(3)]), atol=1e-6)
    assert [pixels(image)[0, 0, 0] for image in drawn] == [0, 1, 2]


def test_a_samplers_own_scale_is_left_before_x_t_is_decoded(asked: Any) -> None:
    own = make_trace(variance_exploding=True)
    render(own, "x_t", 0, asked)
    alphas = np.array([alpha for _, _, alpha in LEVELS], np.float32)[:, None, None, None]
    assert np.allclose(asked.seen[0], alphas * own.x_t[:, 0])
    render(dataclasses.replace(own, variance_exploding=False), "x_t", 0, asked)
    assert np.array_equal(asked.seen[1], own.x_t[:, 0])


def test_change_is_the_difference_to_the_step_before_around_middle_grey() -> None:
    up, down = np.zeros((4, 6, 8)), np.zeros((4, 6, 8))
    up[0, :3], down[0, :3] = 8, 4
    first, second, third = (pixels(image) for image in render(walk(np.zeros((4, 6, 8)), up, down), "change", 0, grey))
    assert (first == 128).all()
    # 80 levels brighter, then 40 darker: the same gain for both.
    assert (second[3:] == 128).all() and (third[3:] == 128).all()
    brighter, darker = second[0, 0, 0] - 128, 128 - third[0, 0, 0]
    assert brighter > 80 and abs(brighter - 2 * darker) <= 2


def test_change_is_not_amplified_without_limit() -> None:
    still, moved = np.zeros((4, 6, 8)), np.full((4, 6, 8), 0.1)
    assert all((pixels(image) == 128).all() for image in render(walk(still, still), "change", 0, grey))
    assert pixels(render(walk(still, moved), "change", 0, grey)[1]).max() == 128 + MAX_GAIN
    assert (pixels(render(walk(still), "change", 0, grey)[0]) == 128).all()


def test_channels_are_side_by_side_with_a_line_between_them_and_one_scale_for_the_run() -> None:
    low, high = np.zeros((4, 6, 8)), np.zeros((4, 6, 8))
    for c, value in enumerate((-1, -0.5, 0.5, 1)):
        high[c] = value
    low[:] = high / 2
    small, large = (pixels(image) for image in render(walk(low, high), "channels", 0, grey))
    assert large.shape == (13, 17, 3)
    assert (large[6] == GRID_COLOUR).all() and (large[:, 8] == GRID_COLOUR).all()
    cells = [(0, 0), (0, 9), (7, 0), (7, 9)]
    strong, weak = [large[cell][0] for cell in cells], [small[cell][0] for cell in cells]
    assert strong == sorted(strong) and strong[0] == 0 and strong[3] == 255
    assert all(abs((w - 127.5) * 2 - (s - 127.5)) <= 2 for w, s in zip(weak, strong, strict=True))


@pytest.mark.parametrize(("count", "size"), [(4, (17, 13)), (16, (35, 27)), (5, (26, 13)), (1, (8, 6))])
def test_any_number_of_channels_has_room(count: int, size: tuple[int, int]) -> None:
    assert render(walk(np.ones((count, 6, 8))), "channels", 0, grey)[0].size == size


def test_heat_is_where_the_two_answers_differ_on_one_scale_for_the_run() -> None:
    cond, uncond = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    cond[0, 1, :, :3], cond[1, 1, :, :3] = 1, 0.5
    trace = make_trace(cond=cond, uncond=uncond, prediction_type="sample")
    flat = lambda latents: [Image.new("RGB", (64, 48), "grey")] * len(latents)  # noqa: E731
    strong, weak, none = (pixels(image).sum(axis=2) for image in render(trace, "guidance", 1, flat))
    assert strong.shape == (48, 64)
    # The upper half of the cells, as plain blocks of 8 x 8 px.
    assert np.ptp(strong[:24]) == 0 and np.ptp(strong[24:]) == 0
    assert strong[0, 0] > weak[0, 0] > none[0, 0] == strong[47, 0] == weak[47, 0] and np.ptp(none) == 0
    # The other picture was not pulled anywhere.
    assert np.ptp([pixels(image).sum(axis=2) for image in render(trace, "guidance", 0, flat)]) == 0


def test_without_guidance_there_is_no_direction_to_draw(asked: Any) -> None:
    alone = make_trace(uncond=None)
    assert available_lenses(alone) == ("x0", "x_t", "noise", "change", "channels", "latent")
    assert available_lenses(make_trace()) == tuple(LENSES)
    assert render(alone, "guidance", 0, asked) == []


def mean_grey(trace: Trace, k: int, decode: Any) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (int(abs(x_t[k].mean()) * 255),) * 3) for x_t in trace.x_t]


@pytest.mark.parametrize(
    ("needs", "shown"),
    [((), (True, True, True)), (("predictions",), (True, True, False)), (("guidance",), (True, False, False)),
     (("attention",), (False, False, False))],
)  # fmt: skip
def test_one_function_and_one_entry_add_a_lens(
    monkeypatch: pytest.MonkeyPatch, needs: tuple[str, ...], shown: tuple[bool, ...]
) -> None:
    link = "https://arxiv.org/abs/2006.11239"
    lens = Lens("Mean", "mean of x_t", "One. Two.", "Ho et al. 2020", link, mean_grey, frozenset(needs))
    monkeypatch.setattr(lenses, "LENSES", {**LENSES, "mean": lens})
    guided, alone, own = make_trace(), make_trace(uncond=None), make_trace(cond=None, uncond=None)
    assert tuple("mean" in available_lenses(trace) for trace in (guided, alone, own)) == shown
    assert len(render(guided, "mean", 1, grey)) == len(LEVELS)


def test_of_an_own_loop_only_the_latents_are_shown() -> None:
    own = make_trace(cond=None, uncond=None)
    assert available_lenses(own) == ("x_t", "change", "channels", "latent")


def test_the_latent_is_one_colour_a_cell_by_the_traces_own_map() -> None:
    trace = make_trace()
    drawn = render(trace, "latent", 1, grey)
    assert [image.size for image in drawn] == [(8, 6)] * 3
    x0 = trace.x0(2)[1]
    colour = x0[:, 4, 5] @ trace.to_rgb[:4] + trace.to_rgb[4]
    assert np.abs(pixels(drawn[2])[4, 5] - np.clip((colour + 1) * 127.5, 0, 255)).max() <= 0.5 + 1e-3


def test_a_map_without_the_model_gives_what_the_model_gives(tiny_folder: Path) -> None:
    import torch

    from pipelines.models.manager import PipelineManager
    from tests.support.tiny_model import tiny_card

    trace = make_trace()
    with PipelineManager([tiny_card(tiny_folder)], device="cpu").lease("tiny") as model:
        theirs = model.latents.project(torch.from_numpy(trace.final))
        ours = project(dataclasses.replace(trace, to_rgb=model.latents.to_rgb()), trace.final)
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(pixels(mine) - pixels(other)).max() <= 1


def test_how_many_numbers_a_picture_takes() -> None:
    assert value_counts(make_trace()) == (3 * 64 * 48, 4 * 6 * 8)


@pytest.mark.parametrize("name", LENSES)
def test_numbers_that_overflowed_draw_something(name: str) -> None:
    bad = np.full(SHAPE, np.nan, np.float32)
    bad[..., 0] = np.inf
    trace = make_trace(x_t=bad, cond=bad.copy())
    with np.errstate(all="ignore"):
        drawn = render(trace, name, 0, lambda latents: lenses.project(trace, latents))
    assert [image.mode for image in drawn] == ["RGB"] * 3


def test_one_number_that_overflowed_leaves_the_rest_of_the_run_to_be_seen() -> None:
    trace, spoilt = make_trace(), make_trace()
    for array in (spoilt.x_t, spoilt.cond):
        array[2, 0, 0, 0, 0] = np.nan
    flat = lambda latents: [Image.new("RGB", (64, 48), "grey")] * len(latents)  # noqa: E731
    for name in ("channels", "guidance"):
        for clean, marred in zip(render(trace, name, 0, flat)[:2], render(spoilt, name, 0, flat)[:2], strict=True):
            assert np.abs(pixels(clean) - pixels(marred)).mean() < 5, name
