"""Runs on the pretend GPU from the request to the files: what they copy, and that they are those of the CPU."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import pretend_gpu
from benchmarks.gpu.graphics_cards import MachineWith, PretendMachine
from benchmarks.gpu.pretend_memory import Counts, PretendGpu
from pipelines.events import Finished, Preview
from pipelines.jobs import previews
from pipelines.jobs.local import LocalBackend
from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from tests.support.tiny_model import tiny_card
from tests.support.waiting import wait_for

STEPS = 4


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    torch.set_num_threads(1)
    with pretend_gpu.use(trace=True) as found:
        yield found


@pytest.fixture
def make(tiny_folder: Path, tmp_path: Path) -> Iterator[Any]:
    made: list[LocalBackend] = []

    def backend(machine: Any, **options: Any) -> LocalBackend:
        # In float32 the pictures are those of the CPU.
        manager = PipelineManager([tiny_card(tiny_folder)], machine=machine)
        made.append(LocalBackend(manager, tmp_path / str(len(made)) / "pictures", threads=1, **options))
        return made[-1]

    yield backend
    for each in made:
        each.close()


def ask(**changes: Any) -> Any:
    values = {"model": "tiny", "prompt": "a fox", "width": 32, "height": 32, "scheduler": "euler", "seed": 7}
    return make_request(**{**values, "num_inference_steps": STEPS, "guidance_scale": 4.0, "num_images": 2, **changes})


def pixels(data: Any) -> np.ndarray:
    return np.asarray(Image.open(data).convert("RGB"), np.int16)


def test_steps_of_a_gpu_are_those_of_the_cpu_and_nobody_waits_for_them(make: Any, gpu: PretendGpu) -> None:
    counted: list[Any] = []

    def count(job: Any, step: Any) -> None:
        counts = gpu.counts
        counted.append((counts.scalar_syncs, counts.blocking_copies, counts.copied_bytes, step.x_t.nbytes))
        gpu.counts = Counts()

    slow, quick = make(MachineWith(None)), make(PretendMachine("GTX 1060"), on_step=count)
    jobs, events = [], []
    for backend in (slow, quick):  # one after the other: accelerate cannot load two models at once
        jobs.append(backend.submit(ask()))
        events.append(list(jobs[-1].events()))
    for ours, theirs in zip(*(
        [e for e in one if isinstance(e, Preview)] for one in events
    ), strict=True):  # fmt: skip
        assert (ours.index, ours.total, ours.timestep) == (theirs.index, theirs.total, theirs.timestep)
        for a, b in zip(ours.frames, theirs.frames, strict=True):
            apart = np.abs(pixels(io.BytesIO(a)) - pixels(io.BytesIO(b)))
            # Of two values that round differently JPEG may round a block's colour by a step of its own.
            assert apart.mean() <= 1.5 and apart.max() <= 16
    traces = [backend.trace(job.id) for backend, job in zip((slow, quick), jobs, strict=True)]
    for name in ("x_t", "cond", "uncond", "final"):
        ours, theirs = (getattr(trace, name) for trace in traces)
        assert np.isfinite(theirs).all() and np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()
    for one, other in zip(*(done[-1].pictures for done in events), strict=True):
        assert np.abs(pixels(one.path) - pixels(other.path)).max() <= 1
    # The first step encodes the prompt and finds the colours of the latents.
    for syncs, blocking, copied, latents in counted[1:]:
        assert (syncs, blocking) == (0, 0)
        # Of two pictures the noisy latents, and both views of each in the bytes of one picture.
        assert copied <= latents + 2 * 3 * 32 * 32


def test_nothing_is_previewed_for_a_run_at_which_nobody_looks(make: Any, gpu: PretendGpu) -> None:
    counted: list[tuple[int, int, int]] = []

    def count(job: Any, step: Any) -> None:
        shown = sum(bool(event.frames) for event in job.poll() if isinstance(event, Preview))
        counted.append((shown, gpu.counts.blocking_copies, gpu.counts.copied_bytes - step.x_t.nbytes))
        gpu.counts = Counts()

    backend = make(PretendMachine("GTX 1060"), on_step=count)
    jobs = [backend.submit(ask(), watched=watched) for watched in (True, False)]
    ended = [list(job.events())[-1] for job in jobs]
    assert all(isinstance(last, Finished) for last in ended), ended
    assert counted[STEPS - 1][0] >= STEPS - 2  # one behind
    for shown, blocking, too_many in counted[STEPS + 1 :]:
        assert (shown, blocking) == (0, 0) and too_many <= 0
    watched, alone = (backend.trace(job.id) for job in jobs)
    for name in ("x_t", "cond", "uncond", "final"):
        assert np.array_equal(getattr(watched, name), getattr(alone, name))
    for name in ("frames", "noisy"):
        for a, b in zip(sum(getattr(watched, name), ()), sum(getattr(alone, name), ()), strict=True):
            assert np.abs(pixels(io.BytesIO(a)) - pixels(io.BytesIO(b))).max() <= 8


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("watched", [True, False])
def test_the_record_is_exact_however_much_waits_on_the_card(
    make: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch, watched: bool, guidance: float
) -> None:
    """Predictions cross after the run, or in between where they are many."""
    seen: list[Any] = []

    def look(job: Any, step: Any) -> None:
        seen.append(tuple(one if one is None else one.raw.clone() for one in (step.x_t, step.cond, step.uncond)))

    backend = make(PretendMachine("GTX 1060"), on_step=look)
    for held in (previews.HELD_BYTES, 2 * 2 * 2 * 4 * 16 * 16 * 4, 1):
        monkeypatch.setattr(previews, "HELD_BYTES", held)
        seen.clear()
        job = backend.submit(ask(num_inference_steps=5, guidance_scale=guidance), watched=watched)
        done = list(job.events())[-1]
        assert isinstance(done, Finished), done
        trace = backend.trace(job.id)
        assert len(seen) == len(trace.steps) == 5
        for i, (x_t, cond, uncond) in enumerate(seen):
            assert np.array_equal(trace.x_t[i], x_t.numpy()) and np.array_equal(trace.cond[i], cond.numpy())
            assert (uncond is None) == (trace.uncond is None)
            assert uncond is None or np.array_equal(trace.uncond[i], uncond.numpy())
        assert len(done.pictures) == 2 and np.isfinite(trace.final).all()


def test_a_page_that_goes_and_comes_back_leaves_no_gap_in_the_trace(make: Any, gpu: PretendGpu) -> None:
    page, shown = ExitStack(), []

    def come_and_go(job: Any, step: Any) -> None:
        shown.append(job.watched)
        if step.index in (0, 3):
            page.enter_context(job.watching())
        elif step.index == 1:
            page.close()

    backend = make(PretendMachine("GTX 1060"), on_step=come_and_go)
    job = backend.submit(ask(num_inference_steps=6))
    assert isinstance(list(job.events())[-1], Finished)
    assert shown == [True, True, False, False, True, True]
    trace = backend.trace(job.id)
    assert [step.index for step in trace.steps] == list(range(6)) and all(map(len, trace.frames))
    plain = make(PretendMachine("GTX 1060"))
    whole = plain.submit(ask(num_inference_steps=6))
    assert isinstance(list(whole.events())[-1], Finished)
    assert np.array_equal(plain.trace(whole.id).x_t, trace.x_t)
    assert [event.index for event in job.poll() if isinstance(event, Preview) and event.frames] == [0, 1, 4, 5, 2, 3]


def test_a_batch_of_large_pictures_is_previewed_one_small_picture_at_a_time(gpu: PretendGpu) -> None:
    from diffusers import AutoencoderTiny

    from pipelines.sampling.latents import latent_format
    from tests.support.tiny_model import _vae

    vae, small = (_vae(kind, 4).to(pretend_gpu.NAME).eval().requires_grad_(False) for kind in ("kl", "tiny"))
    assert isinstance(small, AutoencoderTiny)
    latents = torch.randn(4, 4, 64, 96, generator=torch.Generator().manual_seed(0)).to(pretend_gpu.NAME)
    for preview_vae in (small, None):
        form = latent_format(vae, preview_vae)
        form.small_preview(latents, 256)
        before = gpu.allocated
        gpu.peak = before
        found = form.small_preview(latents, 256)
        assert found.dtype == torch.uint8 and found.shape[0] == 4 and max(found.shape[1:3]) == 256
        # A whole picture of 768 x 512 has 8 channels at full size.
        assert gpu.peak - before < 8 * 768 * 512 * 4
        before = gpu.counts.copies
        assert gpu.counts.copies == before


@pytest.mark.parametrize("size", [(64, 96), (144, 112)])
def test_previews_of_any_size_are_made_on_apples_gpu(size: tuple[int, int]) -> None:
    """It pools areas only where sizes divide each other: 512 x 768 and 1,152 x 896 do not."""
    from pipelines.sampling.latents import _at_most, latent_format
    from tests.support.tiny_model import _vae

    vae = _vae("tiny", 4).eval().requires_grad_(False)
    latents = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    with pretend_gpu.use(mps=True):
        there = latents.to(pretend_gpu.NAME)
        assert max(latent_format(vae.to(pretend_gpu.NAME)).small_preview(there, 256).shape[1:3]) == 256
        small = _at_most(there, 32).cpu()
    assert torch.allclose(small.mean(dim=(2, 3)), latents.mean(dim=(2, 3)), atol=1e-4)
    whole = latents[..., :64, :96]
    halves = torch.nn.functional.avg_pool2d(whole, 2)
    assert torch.allclose(_at_most(whole, max(halves.shape[-2:])), halves, atol=1e-5)


def test_a_picture_is_made_although_its_steps_cannot_be_painted(
    make: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sampling.latents import LatentFormat

    def refuse(*args: Any) -> None:
        raise RuntimeError("not implemented for this GPU")

    monkeypatch.setattr(LatentFormat, "small_preview", refuse)
    done = list(make(PretendMachine("GTX 1060")).submit(ask()).events())[-1]
    assert isinstance(done, Finished) and len(done.pictures) == 2, done


def test_the_colours_of_latents_are_found_on_a_card_that_is_nearly_full(gpu: PretendGpu) -> None:
    """Out of memory there, a run would lose its recording."""
    from pipelines.sampling.latents import latent_format
    from tests.support.tiny_model import _vae

    vae = _vae("kl", 4).to(pretend_gpu.NAME).eval().requires_grad_(False)
    gpu.peak = before = gpu.allocated
    latent_format(vae).to_rgb()
    # 24 fields of 64 x 64 pixels have 8 channels, and a few such maps are alive at once.
    assert gpu.peak - before < 24 * 64 * 64 * 8 * 4


def test_looks_at_a_model_on_the_card_are_those_of_the_cpu(make: Any, gpu: PretendGpu) -> None:
    answers = []
    for machine in (MachineWith(None), PretendMachine("GTX 1060")):
        asked = make(machine).queries
        x = np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)
        picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8))
        process = asked.forward_process("tiny", ask(), x[:1], 3)
        answers.append([
            *(np.asarray(image, np.float32) / 255 for full in (False, True) for image in asked.decode("tiny", x, full)),
            asked.predict_x0("tiny", x, [900.0, 250.0], "a (red)1.3 fox"), asked.encode("tiny", picture),
            process.x_t, process.clean, np.asarray(process.sigma),
        ])  # fmt: skip
    for ours, theirs in zip(*answers, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-2 * max(1.0, np.abs(ours).max())


def test_a_step_that_cannot_be_written_ends_the_run_with_a_sentence(
    make: Any, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.trace.recorder import Recorder

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    backend = make(PretendMachine("GTX 1060"))
    monkeypatch.setattr(Recorder, "add", full)
    assert "No space left" in list(backend.submit(ask()).events())[-1].message
    monkeypatch.undo()
    assert isinstance(list(backend.submit(ask()).events())[-1], Finished)


@pytest.mark.parametrize("watched", [True, False])
def test_the_steps_of_a_running_job_are_known_as_they_are_made(make: Any, gpu: PretendGpu, watched: bool) -> None:
    found: list[Any] = []

    def look(job: Any, step: Any) -> None:
        found.append(backend._runner.steps_so_far(job.id))  # as a query does between two steps

    backend = make(PretendMachine("GTX 1060"), on_step=look)
    job = backend.submit(ask(), watched=watched)
    assert isinstance(list(job.events())[-1], Finished)
    trace, known = backend.trace(job.id), [each for each in found if each is not None]
    assert len(known) >= STEPS - 2
    for each in known:
        count = len(each.steps)
        assert each.steps == trace.steps[:count]
        for name in ("x_t", "cond", "uncond"):
            np.testing.assert_array_equal(getattr(each, name), getattr(trace, name)[:count])
    assert len(known[-1].steps) >= STEPS - 1  # the last one may be on its way


def test_the_lanes_of_a_race_on_a_gpu_are_those_made_alone(make: Any, gpu: PretendGpu) -> None:
    lanes, order, held = ("euler", "ddim", "heun"), [], threading.Event()

    def hold(job: Any, step: Any) -> None:
        assert held.wait(60)  # until all lanes wait
        order.append(job.request.sampling.scheduler)

    backend = make(PretendMachine("GTX 1060"), on_step=hold)
    with ExitStack() as pages:
        jobs = [backend.submit(ask(scheduler=lane, num_images=1), watched=True, together="race") for lane in lanes]
        for job in jobs[:2]:  # no page looks at the third
            pages.enter_context(job.watching())
        wait_for(lambda: backend.status().queue == len(lanes))
        held.set()
        ended = [list(job.events())[-1] for job in jobs]
    assert all(isinstance(last, Finished) for last in ended), ended
    assert max(order.index(lane) for lane in lanes) < 2 * len(lanes)  # together, not one after the other
    plain = make(PretendMachine("GTX 1060"))
    for job, last in zip(jobs, ended, strict=True):
        alone = plain.submit(job.request)
        done = list(alone.events())[-1]
        ours, theirs = backend.trace(job.id), plain.trace(alone.id)
        assert ours.steps == theirs.steps and all(map(len, ours.frames)) and ours.seconds > 0
        for name in ("x_t", "cond", "uncond", "final"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        for one, other in zip(last.pictures, done.pictures, strict=True):
            assert np.array_equal(pixels(one.path), pixels(other.path))
