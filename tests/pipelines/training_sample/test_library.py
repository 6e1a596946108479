"""A sample is encoded once, in the background, and then answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.request import Fork
from pipelines.system.guest_bytes import NoBytesLeft
from pipelines.training_sample import latents
from pipelines.training_sample.library import BATCH, TrainingSamples
from pipelines.training_sample.pictures import SampleError
from pipelines.training_sample.posterior import posterior
from tests.support.known_trace import make_trace
from tests.support.tiny_model import tiny_card
from tests.support.toy_sample import toy_pictures, write_toy_sample
from tests.support.waiting import wait_for


class Mean:
    """A model whose latents are the mean colours of 4 x 4 parts of a picture; remembers how many it encoded."""

    def __init__(self) -> None:
        self.latents, self.encoded, self.held = self, 0, threading.Event()
        self.held.set()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.encoded += len(x)
        assert self.held.wait(60)
        return torch.nn.functional.adaptive_avg_pool2d(x, 4)

    def ask(self, model_id: str | None, ask: Callable[[Any], Any], work: int = 0) -> Any:
        return ask(None if model_id is None else self)


@pytest.fixture
def card(tiny_folder: Path, tmp_path: Path) -> Any:
    return tiny_card(tiny_folder, training_sample=str(write_toy_sample(tmp_path / "sample.safetensors")))


def library(card: Any, folder: Path, idle: Callable[[], bool] = lambda: True) -> TrainingSamples:
    return TrainingSamples({"tiny": card}, folder / "samples", idle)


def prepared(samples: TrainingSamples, model: Mean) -> TrainingSamples:
    samples.prepare("tiny", model.ask)
    wait_for(lambda: not samples.progress("tiny").running)
    return samples


def test_it_is_encoded_once_counted_and_kept(card: Any, tmp_path: Path) -> None:
    model = Mean()
    samples = library(card, tmp_path)
    model.held.clear()
    samples.prepare("tiny", model.ask)
    samples.prepare("tiny", model.ask)  # a second press begins nothing
    wait_for(lambda: model.encoded == BATCH)
    assert samples.progress("tiny").running and not samples.progress("tiny").ready
    model.held.set()
    wait_for(lambda: samples.progress("tiny").ready)
    assert model.encoded == 40
    again, other = library(card, tmp_path), Mean()
    assert again.progress("tiny").ready
    prepared(again, other)
    assert other.encoded == 0


def test_another_revision_of_the_model_or_of_the_sample_is_encoded_again(card: Any, tmp_path: Path) -> None:
    prepared(library(card, tmp_path), Mean())
    file = write_toy_sample(tmp_path / "other.safetensors", seed=9)
    assert not library(card.model_copy(update={"training_sample": str(file)}), tmp_path).progress("tiny").ready
    vae = tmp_path / "model" / "vae"
    vae.mkdir(parents=True)
    (vae / "weights.safetensors").write_bytes(b"others")
    assert not library(card.model_copy(update={"source": str(tmp_path / "model")}), tmp_path).progress("tiny").ready


def test_it_waits_while_a_job_runs(card: Any, tmp_path: Path) -> None:
    model, idle = Mean(), threading.Event()
    samples = library(card, tmp_path, idle.is_set)
    samples.prepare("tiny", model.ask)
    assert samples.progress("tiny").running and model.encoded == 0
    idle.set()
    wait_for(lambda: samples.progress("tiny").ready)


def test_jobs_in_a_row_are_not_held_up_between_them(card: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipelines.training_sample.library.QUIET_SECONDS", 1e9)
    model, looks = Mean(), iter([False, True, True, False, *[True] * 20])
    asked: list[bool] = []

    def idle() -> bool:
        asked.append(next(looks, True))
        return asked[-1]

    monkeypatch.setattr("pipelines.training_sample.library.WAIT_SECONDS", 0.001)
    samples = library(card, tmp_path, idle)
    samples.prepare("tiny", model.ask)
    wait_for(lambda: len(asked) > 30)
    # A job ran, and none has been away for long enough since.
    assert samples.progress("tiny").running and model.encoded == 0
    samples.stop("tiny")
    wait_for(lambda: not samples.progress("tiny").running)


def test_it_is_stopped_kept_and_goes_on_after_a_restart(card: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipelines.training_sample.library.PART", 8)
    samples, model = library(card, tmp_path), Mean()

    def ask(*asked: Any) -> Any:
        found = model.ask(*asked)
        if model.encoded == 20:
            samples.stop("tiny")
        return found

    samples.prepare("tiny", ask)
    wait_for(lambda: not samples.progress("tiny").running)
    now = samples.progress("tiny")
    assert (now.done, now.problem, now.ready) == (20, "", False)
    again, other = library(card, tmp_path), Mean()
    assert again.progress("tiny").done == 20
    assert prepared(again, other).progress("tiny").ready and other.encoded == 20
    whole = prepared(library(card, tmp_path / "at once"), Mean())
    assert whole.progress("tiny").ready
    # No part is left, and the pictures are those of a preparation at one go.
    (one,), (other_file,) = (list((folder / "samples").iterdir()) for folder in (tmp_path, tmp_path / "at once"))
    found, expected = (latents.load(file, 40) for file in (one, other_file))
    assert found is not None and expected is not None and np.array_equal(found.facts, expected.facts)
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-3)


def test_a_part_that_is_broken_is_made_again(card: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipelines.training_sample.library.PART", 8)
    model = Mean()

    def fail(*asked: Any) -> Any:
        if model.encoded == 24:
            raise RuntimeError("gone")
        return model.ask(*asked)

    prepared_until = library(card, tmp_path)
    prepared_until.prepare("tiny", fail)
    wait_for(lambda: not prepared_until.progress("tiny").running)
    parts = sorted((tmp_path / "samples").iterdir(), key=lambda file: int(file.stem.rpartition("-")[2]))
    assert len(parts) == 3
    parts[1].write_bytes(b"no tensors")
    again, other = library(card, tmp_path), Mean()
    assert again.progress("tiny").done == 8 and prepared(again, other).progress("tiny").ready and other.encoded == 32


def test_a_failure_is_told_and_the_next_try_goes_on_from_there(card: Any, tmp_path: Path) -> None:
    model = Mean()

    def fail(*asked: Any) -> Any:
        if model.encoded == 32:
            raise RuntimeError("You have had your share of this hour.")
        return model.ask(*asked)

    samples = library(card, tmp_path)
    samples.prepare("tiny", fail)
    wait_for(lambda: samples.progress("tiny").problem)
    wait_for(lambda: not samples.progress("tiny").running)
    assert samples.progress("tiny").problem.startswith("You have had") and samples.progress("tiny").done == 32
    other = Mean()
    assert prepared(samples, other).progress("tiny").ready and not samples.progress("tiny").problem
    assert other.encoded == 8


def test_the_best_guess_weighs_all_pictures_and_those_of_the_prompt(card: Any, tmp_path: Path) -> None:
    samples, trace = library(card, tmp_path), make_trace(prompt="a fox on a sky blue background")
    with pytest.raises(SampleError, match="not prepared"):
        samples.best_guess(trace, 0, Mean().ask)
    model = Mean()
    found = prepared(samples, model).best_guess(trace, 0, model.ask)
    pictures = toy_pictures()
    drawn = [pictures.draw(k) for k in range(40)]
    rows = latents_of(model, [pixels for _, pixels in drawn])
    asked = (0, "sky blue", None)
    foxes = [k for k, (shown, _) in enumerate(drawn) if (shown.thing, shown.colour, shown.other) == asked]
    levels = np.array([(step.alpha, step.sigma) for step in trace.steps]).T
    x_t = np.stack([trace.variance_preserving(i)[0].ravel() for i in range(len(trace.steps))])
    np.testing.assert_allclose(found.alone.mean, posterior(x_t, *levels, rows).mean, atol=1e-6)
    assert found.count == len(foxes) > 0 and found.given is not None
    np.testing.assert_allclose(found.given.mean, posterior(x_t, *levels, rows[foxes]).mean, atol=1e-6)
    assert found.shows.colour == "sky blue"


def test_the_first_steps_of_a_fork_are_given_what_the_other_prompt_names(card: Any, tmp_path: Path) -> None:
    model = Mean()
    samples = prepared(library(card, tmp_path), model)
    fox, owl = (make_trace(prompt=f"{thing} on a green background") for thing in ("a fox", "an owl"))
    request = owl.request.model_copy(update={"fork": Fork(run="a", step=2, original=fox.request)})
    found = [samples.best_guess(trace, 0, model.ask) for trace in (replace(owl, request=request), fox, owl)]
    assert [one.before for one in found] == [2, 0, 0]
    means = [one.given.mean for one in found if one.given is not None]
    np.testing.assert_allclose(means[0], np.concatenate([means[1][:2], means[2][2:]]), atol=1e-6)
    assert not np.allclose(means[1], means[2])


def test_a_prompt_that_names_nothing_and_a_run_of_another_size(card: Any, tmp_path: Path) -> None:
    model = Mean()
    samples = prepared(library(card, tmp_path), model)
    assert samples.best_guess(make_trace(prompt="the sea"), 0, model.ask).given is None
    trace = make_trace()
    with pytest.raises(SampleError, match="64 x 64"):
        samples.best_guess(replace(trace, x_t=trace.x_t[..., :2]), 0, model.ask)


def test_models_without_a_sample_have_none(tiny_folder: Path, tmp_path: Path) -> None:
    samples = library(tiny_card(tiny_folder), tmp_path)
    assert not samples.offered("tiny") and not samples.offered("unknown")
    with pytest.raises(SampleError, match="does not come"):
        samples.progress("tiny")


def test_what_the_disk_holds_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    file.write_bytes(b"no tensors")
    assert latents.load(file, 40) is None
    good = latents.SampleLatents(np.zeros((2, 1, 1, 1), np.float16), np.zeros((2, 5), np.int16))
    latents.save(file, good)
    assert latents.load(file, 2) is not None and latents.load(file, 3) is None


def test_the_disk_holds_them_in_order_however_they_lie_in_memory(tmp_path: Path) -> None:
    rows = np.arange(96, dtype=np.float16).reshape(2, 4, 4, 3).transpose(0, 3, 1, 2)
    latents.save(tmp_path / "some.safetensors", latents.SampleLatents(rows, np.zeros((2, 5), np.int16)))
    found = latents.load(tmp_path / "some.safetensors", 2)
    assert found is not None and np.array_equal(found.latents, rows)


def latents_of(model: Mean, pictures: list[np.ndarray]) -> np.ndarray:
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return model.encode(x).numpy().astype(np.float16).reshape(len(pictures), -1)


def test_what_is_prepared_for_a_guest_is_charged_before_it_is_written(card: Any, tmp_path: Path) -> None:
    model, samples, sizes = Mean(), library(card, tmp_path), []

    def charge(size: int) -> None:
        sizes.append(size)
        if len(sizes) > 1:
            raise NoBytesLeft("The disk is nearly full.")

    samples.prepare("tiny", model.ask, charge)
    wait_for(lambda: not samples.progress("tiny").running)
    assert sizes[0] == 0 and sizes[1] > 100 and not list((tmp_path / "samples").glob("*"))
    assert samples.progress("tiny").problem == "The disk is nearly full."
    with pytest.raises(NoBytesLeft):
        library(card, tmp_path).prepare("tiny", model.ask, charge)
    # What was encoded is kept in memory: the owner's next try only writes it.
    encoded = model.encoded
    assert prepared(samples, model).progress("tiny").ready and model.encoded == encoded


def test_a_comparison_that_waits_holds_up_no_other(card: Any, tmp_path: Path) -> None:
    model, samples, waits, go = Mean(), library(card, tmp_path), threading.Event(), threading.Event()

    def late(model_id: str | None, ask: Callable[[Any], Any], work: int = 0) -> Any:
        waits.set()
        assert go.wait(60)
        return ask(None)

    pixels = np.full((32, 32, 3), 200, np.uint8)
    first = threading.Thread(target=lambda: samples.nearest("tiny", pixels, 1, late))
    first.start()
    assert waits.wait(60)
    second = threading.Thread(target=lambda: samples.nearest("tiny", pixels, 1, model.ask), daemon=True)
    second.start()
    second.join(30)
    assert not second.is_alive()
    go.set()
    first.join(60)
