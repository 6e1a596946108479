"""The loop on the pretend GPU: the pictures of the CPU, and no step that waits for the card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.pretend_memory import PretendGpu
from pipelines.model import Placement
from pipelines.models.families import loader
from pipelines.request import InitImage, make_request
from pipelines.sampling.denoise import denoise
from pipelines.sampling.image_to_image import encode_init_image
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, SCHEDULERS
from pipelines.trace.forks import fork_steps
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

FLOW_SCHEDULERS = ("flow_euler", "flow_heun")
# Their noise is drawn on the CPU at each step, so that a seed gives the same picture on every device.
DRAWING = {name for name, spec in SCHEDULERS.items() if spec.stochastic}
STEPS = 3


class Pair:
    """A tiny model on the CPU and the same one on the pretend GPU."""

    def __init__(self, folder: Path, family: str) -> None:
        flow = family in ("stable_diffusion_3", "flux")
        kind = {"prediction_type": "flow_prediction"} if flow else {}
        card = tiny_card(folder, family=family, **kind)
        self.cpu, self.gpu = (
            loader(family)(card, Placement(device, "float32", "sdpa"), lambda *a: None)
            for device in ("cpu", pretend_gpu.NAME)
        )
        self.known: dict[Any, list[Any]] = {}

    def same(self, request: Any, init: Any = None, limit: float = 2e-5) -> None:
        """Run both, and compare every step."""
        if request not in self.known:
            self.known[request] = list(denoise(self.cpu, request, init(self.cpu) if init else None))
        theirs = self.known[request]
        ours = list(denoise(self.gpu, request, init(self.gpu) if init else None))
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.timestep, a.sigma, a.alpha) == (b.timestep, b.sigma, b.alpha)
            assert a.x_next.device.type == pretend_gpu.NAME
            assert float((a.x_next.raw - b.x_next).abs().max()) <= limit * max(1.0, float(b.x_next.abs().max()))


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    torch.set_num_threads(1)
    with pretend_gpu.use() as found:
        yield found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Pair] = {}

    def get(family: str) -> Pair:
        if family not in made:
            folder = tmp_path_factory.mktemp("gpu") / family
            make_tiny_model(folder) if family == "stable_diffusion" else make(family, folder)
            made[family] = Pair(folder, "stable_diffusion" if family == "lcm" else family)
        return made[family]

    return get


def ask(**changes: Any) -> Any:
    values = {"model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "euler", "seed": 7}
    return make_request(**{**values, "num_inference_steps": STEPS, "guidance_scale": 4.0, **changes})


def waits_each_step(model: Any, request: Any, gpu: PretendGpu, init: Any = None) -> list[tuple[int, int, int]]:
    """Scalar syncs, copies to the host, and uploads that block, of each step but the first, which encodes prompts."""
    found = []
    for step in denoise(model, request, init):
        counts = gpu.counts
        if step.index:
            found.append((counts.scalar_syncs, counts.copies, counts.uploads))
        gpu.reset()
    return found


@pytest.mark.parametrize("name", DIFFUSION_SCHEDULERS)
def test_no_step_of_any_sampler_waits_for_the_card(name: str, pairs: Any, gpu: PretendGpu) -> None:
    pair = pairs("stable_diffusion")
    pair.same(ask(scheduler=name))
    waits = waits_each_step(pair.gpu, ask(scheduler=name), gpu)
    assert set(waits) == {(0, 0, 0)}
    if name in DRAWING:  # noise of several pictures is put together first
        assert set(waits_each_step(pair.gpu, ask(scheduler=name, num_images=2), gpu)) == {(0, 0, 0)}


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
@pytest.mark.parametrize("family", ["stable_diffusion_3", "flux"])
def test_no_step_of_a_flow_waits_for_the_card(family: str, name: str, pairs: Any, gpu: PretendGpu) -> None:
    pair = pairs(family)
    pair.same(ask(scheduler=name))
    assert set(waits_each_step(pair.gpu, ask(scheduler=name), gpu)) == {(0, 0, 0)}


@pytest.mark.parametrize("family", ["lcm", "stable_diffusion_xl"])
def test_no_step_of_the_other_families_waits_for_the_card(family: str, pairs: Any, gpu: PretendGpu) -> None:
    pair = pairs(family)
    pair.same(ask(num_images=2))
    assert set(waits_each_step(pair.gpu, ask(), gpu)) == {(0, 0, 0)}


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm2_karras", "dpmpp_2m", "unipc"])
def test_a_run_from_a_picture_does_not_wait_either(name: str, pairs: Any, gpu: PretendGpu) -> None:
    """Schedulers move their tables to the device of what ``add_noise`` is given."""
    pair, picture = pairs("stable_diffusion"), Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (0, 0, 16, 32))
    asked = ask(scheduler=name).model_copy(update={"init": InitImage(image="0" * 32, strength=0.9)})
    pair.same(asked, lambda model: encode_init_image(model, picture, mask))
    init = encode_init_image(pair.gpu, picture, mask)
    assert {(syncs, copies) for syncs, copies, _ in waits_each_step(pair.gpu, asked, gpu, init)} == {(0, 0)}


def test_steps_that_a_fork_makes_again_do_not_wait_either(pairs: Any, gpu: PretendGpu) -> None:
    """Their record is gone: the original's steps are made first, and then the fork begins from them."""
    pair = pairs("stable_diffusion")
    original = ask(num_inference_steps=4)
    fork = {"run": "gone", "step": 2, "original": original, "seed": None}
    request = ask(num_inference_steps=4, prompt="a house", fork=fork)
    found, waits = [], []
    for step in fork_steps(pair.gpu, request, None, lambda *a: None, lambda: False):
        counts = gpu.counts
        waits.append((counts.scalar_syncs, counts.copies, counts.uploads))
        found.append(step.x_next.raw.clone())
        gpu.reset()
    theirs = [step.x_next for step in fork_steps(pair.cpu, request, None, lambda *a: None, lambda: False)]
    assert len(found) == len(theirs) == 4
    # The first step of each part encodes its prompts, and the second compares the steps taken over.
    assert waits[1] == waits[3] == (0, 0, 0)
    for ours, wanted in zip(found, theirs, strict=True):
        assert float((ours - wanted).abs().max()) <= 2e-5 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("name", DIFFUSION_SCHEDULERS)
def test_every_sampler_runs_where_there_is_no_float64(name: str, pairs: Any) -> None:
    """Apple's GPU; DPM2's schedule is in float64."""
    pair = pairs("stable_diffusion")
    with pretend_gpu.use(mps=True):
        pair.same(ask(scheduler=name))


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_weights_of_words_are_read_where_the_text_encoder_waits_in_ram(family: str, pairs: Any, gpu: Any) -> None:
    from diffusers.hooks import ModelHook
    from diffusers.hooks.hooks import HookRegistry

    class Visit(ModelHook):
        """Takes the network to the GPU while it works, as a model in parts does."""

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            module.to(pretend_gpu.NAME)
            there = {key: v.to(pretend_gpu.NAME) if torch.is_tensor(v) else v for key, v in kwargs.items()}
            return tuple(a.to(pretend_gpu.NAME) if torch.is_tensor(a) else a for a in args), there

        def post_forward(self, module: Any, output: Any) -> Any:
            module.to("cpu")
            return output

    pair = pairs(family)
    asked = ask(prompt="a (red)1.4 fox", negative_prompt="(dull)0.5")
    for text in pair.gpu.texts:
        text.encoder.to("cpu")
        HookRegistry.check_if_exists_or_initialize(text.encoder).register_hook(Visit(), "visit")
    pair.gpu.clear_prompt_cache()
    try:
        pair.same(asked)
    finally:
        for text in pair.gpu.texts:
            HookRegistry.check_if_exists_or_initialize(text.encoder).remove_hook("visit")
            text.encoder.to(pretend_gpu.NAME)
