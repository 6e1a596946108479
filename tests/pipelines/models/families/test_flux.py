"""FLUX.1 against diffusers' own pipeline, step by step."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch

from pipelines.models.families.flux import pack_latents
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import request
from tests.support.pipeline_parity import LIMIT, assert_same, load, theirs
from tests.support.tiny_families import make


@pytest.mark.parametrize(("guided", "window"), [(True, 512), (False, 256)])
def test_flux_is_diffusers_flux(tmp_path: Path, guided: bool, window: int) -> None:
    folder = make("flux", tmp_path, guided=guided)
    asked = request(scheduler="flow_euler", guidance_scale=3.5, num_images=2, height=48)
    pipe = diffusers.FluxPipeline.from_pretrained(folder)
    found = theirs(pipe, asked, width=32, height=48, max_sequence_length=window)
    model = load(folder, "flux")
    assert (model.size_factor, model.window) == (16, window)
    steps = list(denoise(model, asked))
    assert_same(steps, *found, form=pack_latents)
    assert all(step.uncond is None for step in steps)
    # The padding counts: with the other window diffusers draws something else.
    other, _ = theirs(pipe, asked, width=32, height=48, max_sequence_length=768 - window)
    assert not torch.allclose(pack_latents(steps[0].x_next), other[0], atol=LIMIT)


@pytest.mark.parametrize(("guided", "window"), [(True, 512), (False, 256)])
def test_flux_reads_as_much_as_it_was_trained_with(tmp_path: Path, guided: bool, window: int) -> None:
    model = load(make("flux", tmp_path, guided=guided), "flux")
    prompt = " ".join(["apple"] * 600)
    t5, clip = model.texts
    assert t5.tokens(prompt).input_ids.shape == (1, window) and clip.window == 77
    assert model.encode(prompt, negative=False).prompt_embeds.shape[1] == window
    assert t5.truncated_text(prompt)
