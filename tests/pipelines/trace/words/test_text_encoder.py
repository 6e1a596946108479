"""The text encoder cut off after each layer, and prompts without one of their words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.cards import Quality
from pipelines.request import InvalidRequest
from pipelines.sampling.denoise import denoise
from pipelines.trace.words import text_encoder as lens
from tests.support.pipeline_parity import load
from tests.support.recorded_runs import ask, returned
from tests.support.tiny_families import make
from tests.support.tiny_model import tiny_card


@pytest.mark.parametrize("prompt", ["a fox", "a (red)1.3 fox"])
def test_cut_off_means_the_final_norm_of_that_layer(epsilon: Any, prompt: str) -> None:
    text, whole = epsilon.texts[0], epsilon.encode_prompt([prompt]).prompt_embeds
    depth = lens.depth_of(epsilon)
    for layer in range(depth + 1):
        with lens.cut_off(epsilon, layer / depth):
            found = epsilon.encode_prompt([prompt]).prompt_embeds
        if prompt == "a fox":
            states = text(prompt, output_hidden_states=True).hidden_states
            with torch.inference_mode():
                assert torch.allclose(found, text.encoder.final_layer_norm(states[layer]), atol=1e-6)
        assert torch.equal(found, whole) == (layer == depth)
    assert torch.equal(epsilon.encode_prompt([prompt]).prompt_embeds, whole)


def test_xl_reads_the_layer_before_the_last_of_what_is_left(tmp_path: Path) -> None:
    model = load(make("stable_diffusion_xl", tmp_path), "stable_diffusion_xl")
    states = [text("a fox", output_hidden_states=True).hidden_states for text in model.texts]
    with lens.cut_off(model, 0.5):
        found = model.encode_prompt(["a fox"]).prompt_embeds
    assert torch.allclose(found, torch.cat([each[0] for each in states], dim=-1), atol=1e-6)
    other = load(make("flux", tmp_path / "flux"), "flux")
    assert lens.depth_of(other) == 0
    with pytest.raises(InvalidRequest, match="CLIP alone"), lens.cut_off(other, 0.5):
        pass


def test_the_whole_encoder_draws_the_runs_own_picture(epsilon: Any) -> None:
    request = ask(num_inference_steps=3)
    with torch.inference_mode():
        drawn = returned(lens.draw(epsilon, request, 1.0))
        cut = returned(lens.draw(epsilon, request, 0.0))
        last = list(denoise(epsilon, request))[-1]
        [wanted] = epsilon.latents.decode(last.x_next)
    assert np.array_equal(np.asarray(drawn), np.asarray(wanted))
    assert not np.array_equal(np.asarray(cut), np.asarray(wanted))


def test_words_are_left_out_of_plain_prompts_alone() -> None:
    spans = lens.words_to_leave_out(ask(prompt="a red fox, at night's end"), 0)
    texts = [lens.without_word("a red fox, at night's end", span) for span in spans]
    assert texts[1] == "a fox, at night's end" and len(texts) == 6
    for prompt in ("a (red)1.3 fox", "<embedding:x> fox", "a (red:1.2) fox"):
        try:
            request = ask(prompt=prompt)
        except InvalidRequest:
            continue
        assert lens.words_to_leave_out(request, 0) == []
    assert len(lens.words_to_leave_out(ask(prompt="word " * 50), 0)) == lens.MAX_WORDS


def test_the_pictures_are_few_steps_of_the_same_seed_by_the_quick_model() -> None:
    own = tiny_card("somewhere", id="own", source="weights")
    quality = {"fine": Quality(scheduler="lcm", num_inference_steps=4)}
    turbo = tiny_card("t", id="turbo", source="t", rest="weights", live=True, guidance_scale=1.0, qualities=quality)
    request = ask(model="own", num_images=3, seed=5, num_inference_steps=5)
    assert lens.quick_card([own, turbo], own, request) is turbo
    found = lens.base_request(turbo, request, 2)
    assert (found.model, found.num_images, found.sampling.seed, found.sampling.num_inference_steps) == (
        "turbo",
        1,
        7,
        4,
    )
    assert found.sampling.guidance_scale == 1.0 and found.sampling.scheduler == "lcm"
    added = ask(model="own", prompt="<lora:ink:1> a fox")
    assert lens.quick_card([own, turbo], own, added) is own
    slow = lens.base_request(own, request, 0)
    assert slow.sampling.num_inference_steps == 2 and slow.sampling.guidance_scale == 4.0


@pytest.mark.parametrize("depth", [2, 12, 23, 32])
def test_every_layer_has_a_picture_of_its_own(depth: int) -> None:
    trace: Any = SimpleNamespace(request=ask(prompt="a red fox"))
    layers, words = lens.variants(trace, 0, depth)
    assert [round(each.share * depth) for each in layers] == list(range(depth + 1))
    assert layers[-1].share == 1.0 and len(words) == 3
