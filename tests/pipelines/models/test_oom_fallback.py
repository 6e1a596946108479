"""Memory that runs out at every stage, with every fallback: the job succeeds or fails clearly, the next one works."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu.graphics_cards import CARDS, GB, MachineWith
from pipelines.events import Decoding, Failed, Finished, Preview, Step
from pipelines.images.png import CHUNK, read_request
from pipelines.jobs.job import Job
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.runner import GenerationRunner
from pipelines.model import Placement
from pipelines.models import oom_fallback
from pipelines.models.families import stable_diffusion
from pipelines.models.families.stable_diffusion import StableDiffusion
from pipelines.models.manager import PipelineManager
from pipelines.models.oom_fallback import (
    DECODE,
    FALLBACKS,
    LOAD,
    START,
    STEP,
    OomFallback,
    next_fallback,
    out_of_memory,
    size_class,
)
from pipelines.request import GenerationRequest, make_request
from pipelines.sampling.latents import LatentFormat
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.waiting import wait_for

CPU = Placement("cpu", "float32", "sdpa")
CUDA = Placement("cuda", "float16", "sdpa")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def every_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU has nowhere to move parts to, but they can be hooked in all the same."""
    fallbacks = [replace(r, applies=lambda *a: True) if r.name == "parts" else r for r in FALLBACKS]
    monkeypatch.setattr(oom_fallback, "FALLBACKS", tuple(fallbacks))


class Site:
    """A backend with one tiny model, made on each request."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.card = tiny_card(folder)
        self.root = root
        self.made: list[LocalBackend] = []
        self.manager: Any = None

    def backend(self, **options: Any) -> LocalBackend:
        self.manager = PipelineManager([self.card], device="cpu", memory_dir=self.root / "memory", **options)
        self.made.append(LocalBackend(self.manager, self.root / "pictures", threads=1))
        return self.made[-1]


@pytest.fixture
def site(tiny_folder: Path, tmp_path: Path) -> Iterator[Site]:
    found = Site(tiny_folder, tmp_path)
    yield found
    for backend in found.made:
        backend.close()


def ask(**changes: Any) -> GenerationRequest:
    values = {"model": "tiny", "prompt": "a fox", "width": 64, "height": 64, "scheduler": "euler_a"}
    values |= {"num_inference_steps": 3, "guidance_scale": 4.0, "seed": 7, "num_images": 2}
    return make_request(**{**values, **changes})


def last_of(backend: LocalBackend, request: GenerationRequest) -> Any:
    return list(backend.submit(request).events())[-1]


def pixels(done: Finished) -> np.ndarray:
    return np.stack([np.asarray(Image.open(picture.path)) for picture in done.pictures]).astype(float)


class Failing:
    """Wraps a function: raises as long as ``full`` says so, and keeps weak hold of a tensor of the attempt."""

    def __init__(self, plain: Callable[..., Any], full: Callable[..., bool], at: int = 1) -> None:
        self.plain, self.full, self.at_step = plain, full, at
        self.calls, self.failures = 0, 0
        self.held: list[weakref.ref[torch.Tensor]] = []

    def __get__(self, instance: Any, owner: Any) -> Any:
        return lambda *args, **options: self(instance, *args, **options)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls >= self.at_step and self.full(*args):
            attempt = torch.zeros(1000)
            self.held.append(weakref.ref(attempt))
            self.failures += 1
            raise torch.OutOfMemoryError(FULL)
        return self.plain(*args, **options)

    def assert_forgotten(self) -> None:
        assert self.held and all(ref() is None for ref in self.held)


def test_a_run_that_fits_needs_no_fallback(site: Site) -> None:
    done = last_of(site.backend(), ask())
    assert isinstance(done, Finished) and done.notes == ()
    assert not (site.root / "memory" / "ladder.json").exists()


@pytest.mark.parametrize("name", [None, "M1"])
def test_fallbacks_are_forgotten_where_another_program_has_left_the_main_memory(
    name: str | None, tmp_path: Path
) -> None:
    def on(free: int) -> OomFallback:
        return OomFallback(tmp_path, MachineWith(CARDS[name] if name else None, (8 * GB, free * GB)))

    here = Placement("mps", "float16", "sdpa", kind="mps") if name else CPU
    on(3).remember("x", here, 10**6, ["one", "half"])
    assert on(3).remembered("x", here, 10**6) == ("one", "half")
    assert on(2).remembered("x", here, 10**6) == ("one", "half")
    assert on(6).remembered("x", here, 10**6) == ()


@pytest.mark.parametrize("fallback", ["one", "slices", "parts", "half"])
def test_memory_that_runs_out_at_a_step_takes_one_fallback_after_another(
    site: Site, fallback: str, every_fallback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = last_of(site.backend(), ask())
    failing = Failing(StableDiffusion.predict, lambda model, *a: fallback not in model.placement.fallbacks, at=2)
    if fallback == "one":
        failing.full = lambda model, x, *a: len(x) > 1
    monkeypatch.setattr(StableDiffusion, "predict", failing)
    backend = site.backend()
    job = backend.submit(ask())
    done = list(job.events())[-1]
    assert isinstance(done, Finished), done
    names = ["one", "slices", "parts", "half"]
    taken = names[: names.index(fallback) + 1]
    assert failing.failures == len(taken)
    failing.assert_forgotten()
    assert done.notes == (
        f"Memory ran out, so this was changed: {', '.join(oom_fallback.words(taken))}; next time it begins like that.",
    )
    # Half precision is another picture, though hardly one that can be told apart; all else is the same one.
    assert np.abs(pixels(done) - pixels(plain)).max() <= (40 if fallback == "half" else 1)
    facts = json.loads(Image.open(done.pictures[0].path).text[CHUNK])["facts"]
    assert facts["ladder"] == taken and facts["dtype"] == ("bfloat16" if fallback == "half" else "float32")
    trace = backend.trace(job.id)
    assert len(trace.steps) == 3 and trace.x_t.shape[1] == 2


def test_the_next_run_begins_where_the_last_one_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(StableDiffusion.predict, lambda model, x, *a: len(x) > 1)
    monkeypatch.setattr(StableDiffusion, "predict", failing)
    backend = site.backend()
    first = last_of(backend, ask())
    assert failing.failures == 1
    again = last_of(backend, ask())
    assert failing.failures == 1
    assert again.notes == ("To fit into memory, as learnt before: one prompt of one picture at a time.",)
    assert (pixels(first) == pixels(again)).all()
    restarted = last_of(site.backend(), ask(num_images=4))  # a new program, a larger run
    assert failing.failures == 1 and restarted.notes == again.notes
    smaller = last_of(site.backend(), ask(num_images=1, guidance_scale=1.0))
    assert smaller.notes == ()
    assert read_request(smaller.pictures[0].path) == ask(num_images=1, guidance_scale=1.0)


def test_a_smaller_run_has_light_fallbacks_reverted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = last_of(site.backend(), ask(width=32, height=32))
    backend = site.backend()
    with monkeypatch.context() as patch:
        patch.setattr(
            LatentFormat, "decode", Failing(LatentFormat.decode, lambda latents, *a: not latents.vae.use_tiling)
        )
        large = last_of(backend, ask())
        assert "decoder in slices and tiles" in large.notes[0]
    small = last_of(backend, ask(width=32, height=32))
    assert small.notes == () and (pixels(small) == pixels(plain)).all()


@pytest.mark.parametrize("fallback", ["tiles", "parts", "half"])
def test_memory_that_runs_out_while_decoding_repeats_the_decoding_alone(
    site: Site, fallback: str, every_fallback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = last_of(site.backend(), ask())
    manager: list[Any] = []

    def full(latents: Any, *args: Any) -> bool:
        (entry,) = manager[0]._residency.residents().values()
        return fallback not in entry.placement.fallbacks

    failing = Failing(LatentFormat.decode, full)
    monkeypatch.setattr(LatentFormat, "decode", failing)
    backend = site.backend()
    manager.append(site.manager)
    events = list(backend.submit(ask()).events())
    done = events[-1]
    assert isinstance(done, Finished), done
    assert [type(e) for e in events].count(Preview) == 3 and [type(e) for e in events].count(Decoding) == 1
    names = ["tiles", "parts", "half"]
    assert failing.failures == names.index(fallback) + 1
    failing.assert_forgotten()
    # Tiles are normalised each by itself, so they differ; random weights show it more than trained ones.
    now, before = pixels(done), pixels(plain)
    assert np.abs(now - before).mean() < 0.6 * np.abs(now - before[::-1]).mean()


def test_memory_that_runs_out_before_the_first_step(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = site.backend()
    image = backend.inputs.put(Image.new("RGB", (64, 64), "orange"))
    image_id = getattr(image, "id", image)
    failing = Failing(LatentFormat.moments, lambda latents, *a: not latents.vae.use_tiling)
    monkeypatch.setattr(LatentFormat, "moments", failing)
    done = last_of(backend, ask(init={"image": image_id, "strength": 1.0}))
    assert isinstance(done, Finished), done
    assert failing.failures == 1 and "tiles" in done.notes[0]


@pytest.mark.parametrize(("fallbacks", "stage"), [([], "parts"), (["parts"], "half")])
def test_memory_that_runs_out_while_loading(
    site: Site, fallbacks: list[str], stage: str, every_fallback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(stable_diffusion.load, lambda card, placement, report: stage not in placement.fallbacks)
    monkeypatch.setattr(stable_diffusion, "load", failing)
    done = last_of(site.backend(), ask())
    assert isinstance(done, Finished), done
    assert failing.failures == len(fallbacks) + 1
    failing.assert_forgotten()
    assert done.notes == (
        f"To fit into memory, as learnt before: {', '.join(oom_fallback.words([*fallbacks, stage]))}.",
    )
    again = last_of(site.backend(), ask())
    assert failing.failures == len(fallbacks) + 1 and again.notes == done.notes


@pytest.mark.parametrize("place", ["load", "step", "decode"])
@pytest.mark.parametrize("enabled", [True, False])
def test_where_no_fallback_helps_the_job_fails_once_and_the_next_job_works(
    site: Site, place: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = {
        "load": (stable_diffusion, "load"), "step": (StableDiffusion, "predict"), "decode": (LatentFormat, "decode"),
    }[place]  # fmt: skip
    backend = site.backend(fallbacks=enabled)
    with monkeypatch.context() as patch:
        failing = Failing(getattr(owner, name), lambda *a: True)
        patch.setattr(owner, name, failing)
        failed = last_of(backend, ask())
    assert isinstance(failed, Failed)
    words = "There is not enough memory to load Tiny" if place == "load" else "not enough memory for 2 x 64 x 64 pixels"
    assert words in failed.message and failed.message.count(".") == 1
    assert ("half precision" in failed.message) == (enabled and place != "load")
    failing.assert_forgotten()
    assert failing.failures == {"load": 2, "step": 4, "decode": 3}[place] if enabled else failing.failures == 1
    assert not (site.root / "memory" / "ladder.json").exists()
    done = last_of(backend, ask())
    assert isinstance(done, Finished) and done.notes == ()


def test_nothing_is_remembered_or_changed_when_fallbacks_are_off(site: Site) -> None:
    (site.root / "memory").mkdir()
    site.backend().close()
    site.manager.oom_fallback.remember("stable_diffusion " + site.card.source, CPU, 64 * 64, ["one"])
    assert last_of(site.backend(fallbacks=False), ask()).notes == ()
    assert last_of(site.backend(), ask()).notes != ()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"cpu": 3}'])
def test_a_broken_file_is_ignored_and_written_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ladder.json").write_bytes(content)
    found = OomFallback(tmp_path)
    assert found.remembered("x", CPU, 10**6) == ()
    found.remember("x", CPU, 10**6, ["half", "one"])
    assert OomFallback(tmp_path).remembered("x", CPU, 10**6) == ("one", "half")


@pytest.mark.parametrize("noted", [3, {"a": ["one"]}, {"3": "one"}, {"3": [1, None, "stairs"]}])
def test_malformed_notes_are_ignored(tmp_path: Path, noted: Any) -> None:
    found = OomFallback(tmp_path)
    found.notes.note(found._key("x", CPU), noted)
    assert OomFallback(tmp_path).remembered("x", CPU, 10**6) == ()
    found.remember("x", CPU, 10**6, ["one"])
    assert OomFallback(tmp_path).remembered("x", CPU, 10**6) == ("one",)


def test_fallbacks_are_remembered_by_card_model_and_size(tmp_path: Path) -> None:
    machine = MachineWith(CARDS["RTX 3060"])
    found = OomFallback(tmp_path, machine)
    found.remember("x", CUDA, 512 * 512, ["tiles"])
    assert found.remembered("x", CUDA, 512 * 512) == found.remembered("x", CUDA, 2048 * 2048) == ("tiles",)
    assert found.remembered("x", CUDA, 256 * 256) == ()
    assert found.remembered("y", CUDA, 512 * 512) == found.remembered("x", CPU, 512 * 512) == ()
    machine.card = CARDS["Radeon"]
    assert found.remembered("x", CUDA, 512 * 512) == ()
    machine.card = CARDS["RTX 3060"]
    found.forget("x", CUDA)
    assert OomFallback(tmp_path, machine).remembered("x", CUDA, 512 * 512) == ()
    assert str(tmp_path) not in (tmp_path / "ladder.json").read_text()


def test_sizes_within_a_factor_of_two_are_alike() -> None:
    assert size_class(512 * 512) == 18 and size_class(512 * 512 + 1) == 19 and size_class(0) == 0


def test_which_fallbacks_apply_where(tiny_folder: Path) -> None:
    model = stable_diffusion.load(tiny_card(tiny_folder), CPU, lambda *a: None)

    def names(
        stage: str, placement: Placement, rows: int = 2, of: Any = model, first: tuple[str, ...] = ()
    ) -> list[str]:
        found = list(first)
        while (fallback := next_fallback(stage, of, replace(placement, fallbacks=tuple(found)), rows)) is not None:
            found.append(fallback.name)
        return found

    assert names(STEP, CPU) == ["one", "slices", "half"]
    assert names(STEP, CPU, rows=1) == ["slices", "half"]
    assert names(STEP, CUDA) == ["one", "wait", "slices", "blocks", "parts"]
    assert names(STEP, replace(CUDA, attention="xformers")) == ["one", "wait", "blocks", "parts"]
    assert names(STEP, replace(CUDA, quantize="int8")) == ["one", "wait", "slices"]
    assert names(STEP, Placement("mps", "float32", "sdpa")) == ["one", "slices", "half"]
    # None that would bring back to the card what waits in RAM.
    assert names(DECODE, CUDA, first=("blocks",)) == ["blocks", "tiles", "parts"]
    assert names(STEP, CUDA, first=("parts",)) == ["parts", "one", "slices"]
    assert names(DECODE, CUDA) == names(START, CUDA) == ["tiles", "wait", "blocks", "parts"]
    assert names(STEP, replace(CUDA, dtype="float32", half="")) == ["one", "wait", "slices", "blocks", "parts"]
    assert names(LOAD, CUDA, of=None) == ["wait", "blocks", "parts"] and names(LOAD, CPU, of=None) == ["half"]


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_every_fallback_works_with_every_family(family: str, tmp_path: Path, every_fallback: None) -> None:
    folder = make_tiny_model(tmp_path / "m") if family == "stable_diffusion" else make(family, tmp_path / "m")
    flow = family in ("stable_diffusion_3", "flux")
    card = tiny_card(folder, family=family, prediction_type="flow_prediction" if flow else "epsilon")
    manager = PipelineManager([card], device="cpu")
    request = ask(num_images=2, num_inference_steps=2, scheduler="flow_euler" if flow else "euler", width=32, height=32)

    def run(model: Any) -> np.ndarray:
        from pipelines.sampling.denoise import denoise

        with torch.inference_mode():
            *_, last = denoise(model, request)
            return np.stack([np.asarray(image) for image in model.latents.decode(last.x_next)]).astype(float)

    with manager.lease("tiny") as model:
        plain, rows, taken = run(model), 4, []
        for stage in (STEP, DECODE):
            while (found := manager.apply_next_fallback("tiny", stage, rows)) is not None:
                model, name = found
                taken.append(name)
                now = run(model)
                assert now.shape == plain.shape and np.isfinite(now).all()
                if not {"tiles", "half"} & set(taken):
                    assert np.abs(now - plain).max() <= 1
        assert {"one", "parts", "half", "tiles"} <= set(taken)


def test_which_fallbacks_a_pipeline_with_its_own_loop_takes(tmp_path: Path, every_fallback: None) -> None:
    card = tiny_card(make("pixart", tmp_path / "m"), family="any", prediction_type="own")
    manager = PipelineManager([card], device="cpu")
    request = ask(width=64, height=64, num_inference_steps=2, scheduler="dpmpp_2m")
    with manager.lease("tiny") as model:
        plain = [step.pictures for step in model.own_loop(request, lambda: False)][-1]
        taken = []
        while (found := manager.apply_next_fallback("tiny", STEP, 2)) is not None:
            model, name = found
            taken.append(name)
            now = [step.pictures for step in model.own_loop(request, lambda: False)][-1]
            assert [image.size for image in now] == [image.size for image in plain]
        assert taken == ["tiles", "parts", "half"]


def test_one_by_one_passes_each_row_its_own_conditioning(tiny_folder: Path) -> None:
    from pipelines.sampling.conditioning import Conditioning

    asked: list[Any] = []

    class Listener:
        placement = replace(CPU, fallbacks=("one",))

        def predict(self, x: Any, t: Any, conditioning: Any, guidance: float) -> Any:
            asked.append(
                (
                    x.tolist(),
                    t.tolist(),
                    conditioning.prompt_embeds.tolist(),
                    conditioning.pooled_prompt_embeds,
                    guidance,
                )
            )
            return x * 2

    model = oom_fallback.leased(Listener())
    conditioning = Conditioning(torch.tensor([[1.0], [2.0]]))
    assert model.predict(torch.tensor([[3.0], [4.0]]), torch.tensor([5, 6]), conditioning, 1.5).tolist() == [
        [6.0],
        [8.0],
    ]
    assert asked == [([[3.0]], [5], [[1.0]], None, 1.5), ([[4.0]], [6], [[2.0]], None, 1.5)]
    asked.clear()
    model.predict(torch.tensor([[3.0], [4.0]]), torch.tensor(5), conditioning)
    assert [row[1] for row in asked] == [5, 5]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (torch.OutOfMemoryError("any"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, found: bool) -> None:
    assert out_of_memory(error) is found


@pytest.mark.parametrize("lane", [0, 1])
def test_memory_that_runs_out_in_one_lane_of_a_race(
    site: Site, lane: int, every_fallback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, held, now = ("ddim", "euler", "dpmpp_2m"), threading.Event(), []
    plain = [last_of(site.backend(), ask(scheduler=name)) for name in lanes]
    steps = GenerationRunner._steps

    def noted(runner: Any, job: Job, *more: Any) -> Iterator[Step]:
        made, count = steps(runner, job, *more), 0
        while True:
            now[:] = [job.request.sampling.scheduler, count]
            if (step := next(made, None)) is None:
                return
            count += 1
            yield step

    monkeypatch.setattr(GenerationRunner, "_steps", noted)
    # The second step of this lane needs too much: of the first one in its turn, of the second one before its turn.
    failing = Failing(StableDiffusion.predict, lambda model, x, *a: len(x) > 1 and now == [lanes[lane], 1])
    monkeypatch.setattr(StableDiffusion, "predict", failing)
    backend = site.backend()
    backend._runner.on_step = lambda job, step: held.wait(60)  # until all lanes wait
    jobs = [backend.submit(ask(scheduler=name), together="race") for name in lanes]
    wait_for(lambda: backend.status().queue == len(lanes))
    held.set()
    ended = [list(job.events())[-1] for job in jobs]
    assert all(isinstance(done, Finished) for done in ended), ended
    assert failing.failures == 1 + lane
    failing.assert_forgotten()
    for job, done, alone in zip(jobs, ended, plain, strict=True):
        assert np.abs(pixels(done) - pixels(alone)).max() <= 1
        trace = backend.trace(job.id)
        assert [step.index for step in trace.steps] == [0, 1, 2] and trace.seconds > 0
    assert ["Memory ran out" in " ".join(done.notes) for done in ended] == [lane == 0, lane == 1, False]
    assert not lane or ended[0].notes == ()
