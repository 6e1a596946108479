"""A teaching in parts: own pictures, steps, checkpoints with pictures; stopping, going on, and kills."""

from __future__ import annotations

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
from pipelines.training.fine_tuning.checkpoints import latest_run, new_run
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
)
from tests.support.tiny_model import make_tiny_model, tiny_card

CHANGED = (("own", 2), ("rank", 2), ("steps", 40))


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
    assert report["state"] == DONE and report["step"] == report["steps"] == 40
    kept = folder.checkpoints()
    assert [each.step for each in kept] == [0, 20, 40] and {each.pictures for each in kept} == {len(ROWS)}
    assert all(each.held is not None for each in kept)
    assert [row[1] for row in report["rows"]] == [
        "a zorp", "a zorp in the snow", "a fox", "a red apple on a yellow background"
    ]  # fmt: skip
    assert report["memory"][0] > 0 and report["own"] == ([2, 2] if way == "lora" else [0, 0])
    again = Teaching.restored(folder)
    assert again.state == DONE and again.step == 40 and again.report(small.card)["held"] == report["held"]


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


def test_a_pause_holds_and_another_loaded_model_goes_on_from_the_last_checkpoint(
    small: Any, run: Any, tmp_path: Path
) -> None:
    folder = run(changed=CHANGED)
    teaching = Teaching(folder, folder.settings())
    while not folder.has(20):
        part(teaching, small)
    teaching.pause()
    part(teaching, small)
    assert teaching.state == PAUSED and teaching.step == 20
    loaded = stable_diffusion.load(small.card, small.placement, lambda *_: None)
    teaching.go_on()
    part(teaching, loaded)
    assert teaching.step == 20
    to_the_end(teaching, loaded)
    assert [each.step for each in folder.checkpoints()] == [0, 20, 40]


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
    if run.has(20):
        print("here", flush=True)
        while True:
            teaching.part(model)
"""


def test_after_kill_9_the_last_checkpoint_is_there_and_it_goes_on(small: Any, run: Any) -> None:
    folder = run(changed=(("own", 0), ("rank", 2), ("steps", 60)))
    arguments = [sys.executable, "-c", KILLED, small.card.source, str(folder.folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().strip() == "here"
        process.send_signal(signal.SIGKILL)
    found = latest_run(folder.folder.parent)
    assert found is not None and found.name == folder.name and found.has(20)
    teaching = Teaching.restored(found)
    assert teaching.state in (PAUSED, DONE) and teaching.step >= 20
    teaching.go_on()
    to_the_end(teaching, small)
    assert {0, 20, 40, 60} <= {each.step for each in found.checkpoints() if each.pictures == len(ROWS)}


def test_the_thread_goes_on_by_itself_and_says_why_it_cannot(small: Any, run: Any) -> None:
    folder = run(changed=CHANGED)
    thread = TeachingThread(Teaching(folder, folder.settings()), lambda each: each(small))
    thread.start()
    thread.join()
    assert thread.teaching.state == DONE and thread.wait(-1, 0) == thread.version > 3

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


def test_old_runs_go_when_others_begin(tmp_path: Path) -> None:
    for _ in range(10):
        new_run(tmp_path).begin(TeachingSettings("tiny", "zorp", ("a zorp",) * 3), [])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 8 and names[-1] == "run-00010"
    (tmp_path / "run-00010" / "run.json").write_text("{")
    found = latest_run(tmp_path)
    assert found is not None and found.name == "run-00009"
