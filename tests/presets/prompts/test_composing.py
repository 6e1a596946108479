"""What is sent, from what was typed: styles first, then the wildcards of each picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.request import InvalidRequest, TypedPrompt, make_request
from presets.prompts.composing import ComposedPrompt, compose
from presets.prompts.styles import make_style
from presets.user_presets import UserPresets

FIELDS = {
    "model": "tiny", "width": 16, "height": 16, "scheduler": "ddim", "num_inference_steps": 2, "guidance_scale": 2.0,
    "seed": 1,
}  # fmt: skip


@pytest.fixture
def presets(tmp_path: Path) -> UserPresets:
    found = UserPresets.of(tmp_path)
    found.styles.save(make_style("Any", "{oil|ink} painting of {prompt}", "{blur|noise}"))
    return found


def composed(presets: UserPresets, prompt: str, names: tuple[str, ...] = (), seeds: range = range(4)) -> ComposedPrompt:
    return compose(prompt, "dull", names, list(seeds), presets.styles, presets.wildcards)


def test_a_plain_prompt_is_sent_as_it_was_typed(presets: UserPresets) -> None:
    assert composed(presets, "a (red)1.3 fox ") == ComposedPrompt(("a (red)1.3 fox ",) * 4, "dull")


def test_each_picture_draws_its_own_and_what_was_typed_is_kept(presets: UserPresets) -> None:
    found = composed(presets, "a __animal__", ("Any",), range(7, 15))
    assert len(set(found.prompts)) > 2 and found.typed is not None
    (drawn,) = found.typed.negative_drawn
    assert drawn in ("blur", "noise") and found.negative_prompt == f"dull, {drawn}"
    assert (found.typed.prompt, found.typed.negative_prompt, found.typed.styles) == ("a __animal__", "dull", ("Any",))
    for text, (medium, animal) in zip(found.prompts, found.typed.drawn, strict=True):
        assert text == f"{medium} painting of a {animal}"
    assert composed(presets, "a __animal__", ("Any",), range(10, 11)).prompts == found.prompts[3:4]


def test_a_negative_prompt_is_drawn_by_the_first_seed_and_apart_from_the_prompt(presets: UserPresets) -> None:
    def drawn(seed: int, prompt: str = "") -> str:
        found = compose(prompt, "{a|b|c|d}", [], [seed, seed + 1], presets.styles, presets.wildcards)
        assert found.typed is not None and found.typed.negative_drawn == (found.negative_prompt,)
        request = make_request(**FIELDS, prompt=found.prompts[0], typed=found.typed)
        assert make_request(**FIELDS, prompt="x", typed=request.model_dump()["typed"]).typed == found.typed
        return found.negative_prompt

    words = [drawn(seed) for seed in range(20)]
    assert set(words) == set("abcd") and words == [drawn(seed, "{x|y} {z|w}") for seed in range(20)]
    prompts = [composed(presets, "{a|b|c|d}", seeds=range(seed, seed + 1)).prompts[0] for seed in range(20)]
    assert prompts != words, "the same numbers would tie the words of both prompts together"
    unread = compose("x", "{a|b}", ["Any"], [1], presets.styles, presets.wildcards, reads_negative=False)
    assert unread.negative_prompt == "{a|b}" and unread.typed is not None and not unread.typed.negative_drawn
    with pytest.raises(InvalidRequest) as problem:
        compose("x", "{" * 50, [], [1], presets.styles, presets.wildcards)
    assert problem.value.field == "negative_prompt"
    # Records of requests without one are read by earlier versions.
    assert "negative_drawn" not in TypedPrompt(prompt="x").model_dump()


def test_what_was_sent_is_not_drawn_again(presets: UserPresets) -> None:
    found = composed(presets, r"\{a\|b\} {x|y}", seeds=range(1))
    assert found.prompts[0] in ("{a|b} x", "{a|b} y") and found.typed and found.typed.prompt == r"\{a\|b\} {x|y}"


def test_problems_name_their_field(presets: UserPresets) -> None:
    for prompt, names, field in (("{" * 50, (), "prompt"), ("a", ("Gone",), "styles")):
        with pytest.raises(InvalidRequest) as problem:
            composed(presets, prompt, names)
        assert problem.value.field == field
    assert composed(presets, "__gone__").missing == ("gone",)


def test_nothing_is_written_before_something_is_saved(tmp_path: Path) -> None:
    presets = UserPresets.of(tmp_path / "data")
    assert presets.styles.own() == [] and presets.sampling.all() == [] and presets.wildcards.names()
    assert not (tmp_path / "data").exists()
