"""Memory that runs out, at every place and on every rung: the job ends well or clearly, and the next one works."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import ladder
from pipelines.backend import LocalBackend
from pipelines.device import Placement
from pipelines.events import Decoding, Failed, Finished, Preview
from pipelines.families import stable_diffusion
from pipelines.families.stable_diffusion import StableDiffusion
from pipelines.ladder import DECODE, LOAD, RUNGS, START, STEP, Ladder, next_rung, size_class
from pipelines.latents import LatentFormat
from pipelines.manager import PipelineManager
from pipelines.pictures import CHUNK, read_request
from pipelines.request import GenerationRequest, make_request
from tests.tiny import make_tiny_model, tiny_card
from tests.tiny_families import make

CPU = Placement("cpu", "float32", "sdpa")
CUDA = Placement("cuda", "float16", "sdpa")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def every_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU has nowhere to move parts to, but they can be hooked in all the same."""
    rungs = [replace(r, applies=lambda *a: True) if r.name == "parts" else r for r in RUNGS]
    monkeypatch.setattr(ladder, "RUNGS", tuple(rungs))


class Site:
    """A backend with one tiny model, made anew whenever it is asked for."""

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
        self.plain, self.full, self.at = plain, full, at
        self.calls, self.failures = 0, 0
        self.held: list[weakref.ref[torch.Tensor]] = []

    def __get__(self, instance: Any, owner: Any) -> Any:
        return lambda *args, **options: self(instance, *args, **options)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls >= self.at and self.full(*args):
            attempt = torch.zeros(1000)
            self.held.append(weakref.ref(attempt))
            self.failures += 1
            raise torch.OutOfMemoryError(FULL)
        return self.plain(*args, **options)

    def assert_forgotten(self) -> None:
        assert self.held and all(ref() is None for ref in self.held)


def test_a_run_that_fits_stands_on_no_rung(site: Site) -> None:
    done = last_of(site.backend(), ask())
    assert isinstance(done, Finished) and done.notes == ()
    assert not (site.root / "memory" / "ladder.json").exists()


@pytest.mark.parametrize("rung", ["one", "slices", "parts", "half"])
def test_memory_that_runs_out_at_a_step_takes_rung_after_rung(
    site: Site, rung: str, every_rung: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = last_of(site.backend(), ask())
    failing = Failing(StableDiffusion.predict, lambda model, *a: rung not in model.placement.rungs, at=2)
    if rung == "one":
        failing.full = lambda model, x, *a: len(x) > 1
    monkeypatch.setattr(StableDiffusion, "predict", failing)
    backend = site.backend()
    job = backend.submit(ask())
    done = list(job.events())[-1]
    assert isinstance(done, Finished), done
    names = ["one", "slices", "parts", "half"]
    taken = names[: names.index(rung) + 1]
    assert failing.failures == len(taken)
    failing.assert_forgotten()
    assert done.notes == (
        f"Memory ran out, so this was changed: {', '.join(ladder.words(taken))}; next time it begins like that.",
    )
    # Half precision is another picture, though hardly one that can be told apart; all else is the same one.
    assert np.abs(pixels(done) - pixels(plain)).max() <= (40 if rung == "half" else 1)
    facts = json.loads(Image.open(done.pictures[0].path).text[CHUNK])["facts"]
    assert facts["ladder"] == taken and facts["dtype"] == ("bfloat16" if rung == "half" else "float32")
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
    assert again.notes == ("To fit into memory, as learnt before: one picture at a time.",)
    assert (pixels(first) == pixels(again)).all()
    restarted = last_of(site.backend(), ask(num_images=4))  # a new program, a larger run
    assert failing.failures == 1 and restarted.notes == again.notes
    smaller = last_of(site.backend(), ask(num_images=1, guidance_scale=1.0))
    assert smaller.notes == ()
    assert read_request(smaller.pictures[0].path) == ask(num_images=1, guidance_scale=1.0)


def test_a_smaller_run_has_light_rungs_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("rung", ["tiles", "parts", "half"])
def test_memory_that_runs_out_while_decoding_repeats_the_decoding_alone(
    site: Site, rung: str, every_rung: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = last_of(site.backend(), ask())
    manager: list[Any] = []

    def full(latents: Any, *args: Any) -> bool:
        (entry,) = manager[0]._entries.values()
        return rung not in entry.placement.rungs

    failing = Failing(LatentFormat.decode, full)
    monkeypatch.setattr(LatentFormat, "decode", failing)
    backend = site.backend()
    manager.append(site.manager)
    events = list(backend.submit(ask()).events())
    done = events[-1]
    assert isinstance(done, Finished), done
    assert [type(e) for e in events].count(Preview) == 3 and [type(e) for e in events].count(Decoding) == 1
    names = ["tiles", "parts", "half"]
    assert failing.failures == names.index(rung) + 1
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


@pytest.mark.parametrize(("rungs", "stage"), [([], "parts"), (["parts"], "half")])
def test_memory_that_runs_out_while_loading(
    site: Site, rungs: list[str], stage: str, every_rung: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(stable_diffusion.load, lambda card, placement, report: stage not in placement.rungs)
    monkeypatch.setattr(stable_diffusion, "load", failing)
    done = last_of(site.backend(), ask())
    assert isinstance(done, Finished), done
    assert failing.failures == len(rungs) + 1
    failing.assert_forgotten()
    assert done.notes == (f"To fit into memory, as learnt before: {', '.join(ladder.words([*rungs, stage]))}.",)
    again = last_of(site.backend(), ask())
    assert failing.failures == len(rungs) + 1 and again.notes == done.notes


@pytest.mark.parametrize("place", ["load", "step", "decode"])
@pytest.mark.parametrize("enabled", [True, False])
def test_where_no_rung_helps_it_is_said_once_and_the_next_job_works(
    site: Site, place: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = {
        "load": (stable_diffusion, "load"), "step": (StableDiffusion, "predict"), "decode": (LatentFormat, "decode"),
    }[place]  # fmt: skip
    backend = site.backend(ladder=enabled)
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


def test_nothing_is_remembered_or_changed_when_it_is_turned_off(site: Site) -> None:
    (site.root / "memory").mkdir()
    site.backend().close()
    site.manager.ladder.remember("stable_diffusion " + site.card.source, CPU, 64 * 64, ["one"])
    assert last_of(site.backend(ladder=False), ask()).notes == ()
    assert last_of(site.backend(), ask()).notes != ()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"cpu": 3}'])
def test_a_broken_file_is_ignored_and_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ladder.json").write_bytes(content)
    found = Ladder(tmp_path)
    assert found.remembered("x", CPU, 10**6) == ()
    found.remember("x", CPU, 10**6, ["half", "one"])
    assert Ladder(tmp_path).remembered("x", CPU, 10**6) == ("one", "half")


@pytest.mark.parametrize("noted", [3, {"a": ["one"]}, {"3": "one"}, {"3": [1, None, "stairs"]}])
def test_notes_that_make_no_sense_are_passed_over(tmp_path: Path, noted: Any) -> None:
    found = Ladder(tmp_path)
    found._notes.note(found._key("x", CPU), noted)
    assert Ladder(tmp_path).remembered("x", CPU, 10**6) == ()
    found.remember("x", CPU, 10**6, ["one"])
    assert Ladder(tmp_path).remembered("x", CPU, 10**6) == ("one",)


def test_rungs_are_remembered_by_card_model_and_size(tmp_path: Path) -> None:
    class Named:
        card = "GeForce"

        def name(self) -> str:
            return self.card

    machine: Any = Named()
    found = Ladder(tmp_path, machine)
    found.remember("x", CUDA, 512 * 512, ["tiles"])
    assert found.remembered("x", CUDA, 512 * 512) == found.remembered("x", CUDA, 2048 * 2048) == ("tiles",)
    assert found.remembered("x", CUDA, 256 * 256) == ()
    assert found.remembered("y", CUDA, 512 * 512) == found.remembered("x", CPU, 512 * 512) == ()
    machine.card = "Radeon"
    assert found.remembered("x", CUDA, 512 * 512) == ()
    machine.card = "GeForce"
    found.forget("x", CUDA)
    assert Ladder(tmp_path, machine).remembered("x", CUDA, 512 * 512) == ()
    assert str(tmp_path) not in (tmp_path / "ladder.json").read_text()


def test_sizes_within_a_factor_of_two_are_alike() -> None:
    assert size_class(512 * 512) == 18 and size_class(512 * 512 + 1) == 19 and size_class(0) == 0


def test_which_rungs_apply_where(tiny_folder: Path) -> None:
    model = stable_diffusion.load(tiny_card(tiny_folder), CPU, lambda *a: None)

    def names(stage: str, placement: Placement, rows: int = 2, of: Any = model) -> list[str]:
        found: list[str] = []
        while (rung := next_rung(stage, of, replace(placement, rungs=tuple(found)), rows)) is not None:
            found.append(rung.name)
        return found

    assert names(STEP, CPU) == ["one", "slices", "half"]
    assert names(STEP, CPU, rows=1) == ["slices", "half"]
    assert names(STEP, CUDA) == ["one", "slices", "parts"]
    assert names(STEP, replace(CUDA, attention="xformers")) == ["one", "parts"]
    assert names(STEP, replace(CUDA, quantize="int8")) == ["one", "slices"]
    assert names(STEP, Placement("mps", "float32", "sdpa")) == ["one", "slices", "half"]
    assert names(DECODE, CUDA) == names(START, CUDA) == ["tiles", "parts"]
    assert names(LOAD, CUDA, of=None) == ["parts"] and names(LOAD, CPU, of=None) == ["half"]


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_every_rung_works_with_every_family(family: str, tmp_path: Path, every_rung: None) -> None:
    folder = make_tiny_model(tmp_path / "m") if family == "stable_diffusion" else make(family, tmp_path / "m")
    flow = family in ("stable_diffusion_3", "flux")
    card = tiny_card(folder, family=family, prediction_type="flow_prediction" if flow else "epsilon")
    manager = PipelineManager([card], device="cpu")
    request = ask(num_images=2, num_inference_steps=2, scheduler="flow_euler" if flow else "euler", width=32, height=32)

    def run(model: Any) -> np.ndarray:
        from pipelines.denoise import denoise

        with torch.inference_mode():
            *_, last = denoise(model, request)
            return np.stack([np.asarray(image) for image in model.latents.decode(last.x_next)]).astype(float)

    with manager.lease("tiny") as model:
        plain, rows, taken = run(model), 4, []
        for stage in (STEP, DECODE):
            while (found := manager.lower("tiny", stage, rows)) is not None:
                model, name = found
                taken.append(name)
                now = run(model)
                assert now.shape == plain.shape and np.isfinite(now).all()
                if not {"tiles", "half"} & set(taken):
                    assert np.abs(now - plain).max() <= 1
        assert {"one", "parts", "half", "tiles"} <= set(taken)


def test_a_pipeline_with_its_own_loop_takes_what_helps_it(tmp_path: Path, every_rung: None) -> None:
    card = tiny_card(make("pixart", tmp_path / "m"), family="any", prediction_type="own")
    manager = PipelineManager([card], device="cpu")
    request = ask(width=64, height=64, num_inference_steps=2, scheduler="dpmpp_2m")
    with manager.lease("tiny") as model:
        plain = [step.pictures for step in model.own_loop(request, lambda: False)][-1]
        taken = []
        while (found := manager.lower("tiny", STEP, 2)) is not None:
            model, name = found
            taken.append(name)
            now = [step.pictures for step in model.own_loop(request, lambda: False)][-1]
            assert [image.size for image in now] == [image.size for image in plain]
        assert taken == ["tiles", "parts", "half"]


def test_one_by_one_tells_each_row_its_own(tiny_folder: Path) -> None:
    from pipelines.conditioning import Conditioning

    asked: list[Any] = []

    class Listener:
        placement = replace(CPU, rungs=("one",))

        def predict(self, x: Any, t: Any, told: Any, guidance: float) -> Any:
            asked.append((x.tolist(), t.tolist(), told.tokens.tolist(), told.pooled, guidance))
            return x * 2

    model = ladder.lent(Listener())
    told = Conditioning(torch.tensor([[1.0], [2.0]]))
    assert model.predict(torch.tensor([[3.0], [4.0]]), torch.tensor([5, 6]), told, 1.5).tolist() == [[6.0], [8.0]]
    assert asked == [([[3.0]], [5], [[1.0]], None, 1.5), ([[4.0]], [6], [[2.0]], None, 1.5)]
    asked.clear()
    model.predict(torch.tensor([[3.0], [4.0]]), torch.tensor(5), told)
    assert [row[1] for row in asked] == [5, 5]
