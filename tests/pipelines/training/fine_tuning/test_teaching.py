"""A teaching in parts: own pictures, steps, checkpoints with pictures; stopping, going on, and kills."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.model import Placement
from pipelines.models.families import stable_diffusion
from pipelines.request import InvalidRequest
from pipelines.training.fine_tuning import teaching as teaching_parts
from pipelines.training.fine_tuning.checkpoints import latest_run, new_run
from pipelines.training.fine_tuning.examples import drawn, request_for
from pipelines.training.fine_tuning.settings import TEXTUAL_INVERSION, TeachingSettings
from pipelines.training.fine_tuning.teaching import (
    DONE,
    FAILED,
    PAUSED,
    ROWS,
    STOPPED,
    CannotGoOn,
    Teaching,
    TeachingThread,
    check,
    knows_word,
)
from tests.support.tiny_model import make_tiny_model, tiny_card

CHANGED = (("batch", 1), ("own", 2), ("rank", 2), ("every", 4), ("steps", 8))


def part(teaching: Teaching, model: Any) -> None:
    with torch.inference_mode():
        teaching.part(model)


def to_the_end(teaching: Teaching, model: Any) -> None:
    while teaching.state not in (DONE, STOPPED, FAILED):
        part(teaching, model)


@pytest.mark.parametrize("way", ("lora", TEXTUAL_INVERSION))
def test_a_teaching_ends_with_checkpoints_and_their_pictures(small: Any, run: Any, way: str) -> None:
    folder = run(9, changed=CHANGED, way=way)
    (folder.folder / "pictures.safetensors").unlink()  # they are encoded first
    teaching = Teaching(folder, folder.settings())
    assert teaching.report(small.card)["state"] == "waiting"
    to_the_end(teaching, small)
    report = json.loads(json.dumps(teaching.report(small.card), allow_nan=False))
    assert report["state"] == DONE and report["step"] == report["steps"] == 8
    kept = folder.checkpoints()
    assert [each.step for each in kept] == [0, 4, 8] and {each.pictures for each in kept} == {len(ROWS)}
    assert all(each.held is not None for each in kept)
    assert [row[1] for row in report["rows"]] == [
        "a zorp", "a zorp in the snow", "a fox", "a red apple on a yellow background"
    ]  # fmt: skip
    assert report["memory"][0] > 0 and report["own"] == ([2, 2] if way == "lora" else [0, 0])
    again = Teaching.restored(folder)
    assert again.state == DONE and again.step == 8 and again.report(small.card)["held"] == report["held"]


def test_stop_ends_it_within_a_step_with_a_last_checkpoint(small: Any, run: Any) -> None:
    folder = run(changed=CHANGED)
    teaching = Teaching(folder, folder.settings())
    while teaching.step == 0:
        part(teaching, small)
    steps = teaching.step
    teaching.stop()
    to_the_end(teaching, small)
    assert teaching.state == STOPPED and teaching.step == steps
    assert [each.step for each in folder.checkpoints()] == [0, *([steps] if steps else [])]
    fresh = Teaching(folder, folder.settings())
    fresh.stop()
    assert fresh.state == STOPPED


def test_a_second_stop_leaves_the_last_pictures_out(small: Any, run: Any) -> None:
    folder = run(changed=CHANGED)
    teaching = Teaching(folder, folder.settings())
    while teaching.step == 0:
        part(teaching, small)
    teaching.stop()
    part(teaching, small)  # the last checkpoint
    assert folder.has(teaching.step)
    teaching.stop()
    part(teaching, small)
    assert teaching.state == STOPPED and not teaching.holds_model
    assert drawn(small, request_for(small.card, "a zorp", 1), lambda: True) is None


def test_what_was_learnt_survives_a_pause_and_the_model_s_memory_is_left_to_others(
    small: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching_parts, "PART_SECONDS", 0.0)  # a step a part
    folder = run(changed=CHANGED)
    teaching = Teaching(folder, folder.settings())
    part(teaching, small)
    first = teaching.report(small.card)
    assert first["memory"][0] > 0 and first["own"] == [0, 2] and first["state"] == "waiting"
    while teaching.step == 0:
        part(teaching, small)
    steps = teaching.step
    teaching.pause()
    part(teaching, small)
    assert teaching.state == PAUSED and not teaching.holds_model and teaching.step == steps and folder.has(steps)
    assert Teaching.restored(folder).step == steps
    teaching.go_on()
    while not teaching.holds_model or teaching.state != "training":
        part(teaching, small)
    assert teaching.step == steps
    to_the_end(teaching, small)
    # It has no pictures to be chosen by.
    assert [each.step for each in folder.checkpoints()] == [0, 4, 8]
    curve = teaching.report(small.card)["curve"]
    teaching.rest()
    assert len(curve) == 8 and teaching.report(small.card)["curve"] == curve


def test_a_full_disk_ends_it_with_a_sentence_and_it_goes_on_from_the_last_checkpoint(
    small: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(changed=(*CHANGED[:4], ("steps", 4)))
    teaching = Teaching(folder, folder.settings())
    thread, keep = TeachingThread(teaching, lambda each: each(small)), folder.keep
    tries: list[int] = []

    def full(step: int, *rest: Any) -> None:
        tries.append(step)
        if tries == [0, 4]:
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(step, *rest)

    monkeypatch.setattr(folder, "keep", full)
    thread.start()
    thread.join()
    assert teaching.state == FAILED and "No space left on device" in teaching.problem
    assert not teaching.holds_model and not folder.has(4)
    thread.start()
    thread.join()
    assert teaching.state == DONE and teaching.problem == "" and tries == [0, 4, 4]
    assert [each.pictures for each in folder.checkpoints()] == [len(ROWS)] * 2


def test_a_pause_holds_and_another_loaded_model_goes_on_from_the_last_checkpoint(
    small: Any, run: Any, tmp_path: Path
) -> None:
    folder = run(changed=CHANGED)
    teaching = Teaching(folder, folder.settings())
    while not folder.has(4):
        part(teaching, small)
    teaching.pause()
    part(teaching, small)
    assert teaching.state == PAUSED and teaching.step == 4
    loaded = stable_diffusion.load(small.card, small.placement, lambda *_: None)
    teaching.go_on()
    part(teaching, loaded)
    assert teaching.step == 4
    to_the_end(teaching, loaded)
    assert [each.step for each in folder.checkpoints()] == [0, 4, 8]


KILLED = """
import sys
from pathlib import Path
from pipelines.model import Placement
from pipelines.models.families import stable_diffusion
from pipelines.training.fine_tuning.checkpoints import RunFolder
from pipelines.training.fine_tuning.teaching import Teaching
from tests.support.tiny_model import tiny_card
model = stable_diffusion.load(tiny_card(sys.argv[1]), Placement("cpu", "float32", "sdpa"), lambda *_: None)
run = RunFolder(Path(sys.argv[2]))
teaching = Teaching(run, run.settings())
while True:
    teaching.part(model)
    if run.has(4):
        print("here", flush=True)
        while True:
            teaching.part(model)
"""


def test_after_kill_9_the_last_checkpoint_is_there_and_it_goes_on(small: Any, run: Any) -> None:
    folder = run(changed=(("batch", 1), ("own", 0), ("rank", 2), ("every", 4), ("steps", 12)))
    arguments = [sys.executable, "-c", KILLED, small.card.source, str(folder.folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == "here"
        process.send_signal(signal.SIGKILL)
    found = latest_run(folder.folder.parent)
    assert found is not None and found.name == folder.name and found.has(4)
    teaching = Teaching.restored(found)
    assert teaching.state in (PAUSED, DONE) and teaching.step >= 4
    teaching.go_on()
    to_the_end(teaching, small)
    assert {0, 4, 8, 12} <= {each.step for each in found.checkpoints() if each.pictures == len(ROWS)}


def test_the_thread_goes_on_by_itself_and_says_why_it_cannot(small: Any, run: Any) -> None:
    folder = run(changed=CHANGED)
    thread = TeachingThread(Teaching(folder, folder.settings()), lambda each: each(small))
    thread.start()
    thread.join()
    assert thread.teaching.state == DONE and thread.wait(-1, 0) == thread.version > 3
    assert not thread.teaching.holds_model

    def closed(_: Any) -> None:
        raise CannotGoOn("The program is closing.")

    thread = TeachingThread(Teaching(folder, folder.settings()), closed)
    thread.start()
    thread.join()
    assert thread.teaching.state == FAILED and thread.teaching.problem == "The program is closing."


def test_what_cannot_be_taught_is_said_in_one_sentence(tmp_path: Path) -> None:
    model = stable_diffusion.load(
        tiny_card(make_tiny_model(tmp_path / "inpaint", inpaint=True)),
        Placement("cpu", "float32", "sdpa"),
        lambda *_: None,
    )
    with pytest.raises(InvalidRequest, match="cannot be taught here"):
        check(model)


def test_a_word_of_the_model_s_own_vocabulary_is_noticed(small: Any) -> None:
    assert knows_word(small, "z") and not knows_word(small, "zorp")


def test_old_runs_go_when_others_begin(tmp_path: Path) -> None:
    for _ in range(10):
        new_run(tmp_path).begin(TeachingSettings("tiny", "zorp", ("a zorp",) * 3), [])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 8 and names[-1] == "run-00010"
    (tmp_path / "run-00010" / "run.json").write_text("{")
    found = latest_run(tmp_path)
    assert found is not None and found.name == "run-00009"
    (found.folder / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(OSError, match="damaged"):
        Teaching.restored(found)
