"""Events -> film values, with a job that is written out by hand."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pipelines.events import Announced, Cancelled, Decoding, Event, Failed, Finished, Loading, Picture, Preview, Queued
from pipelines.jobs.job import Job
from pipelines.request import make_request
from pipelines.request_errors import SMALLER, Remedy
from presets.catalogue import load
from ui.components import phrases, stage_updates


def request(**changes):
    values = {
        "model": "tiny", "prompt": "a fox", "width": 64, "height": 64, "scheduler": "euler", "num_inference_steps": 4,
        "guidance_scale": 4.0, "seed": 2**62, "num_images": 1,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def played(*events: Event, **changes) -> list[dict]:
    """The film values of a job with these events, all there at once."""
    job = Job(request(**changes))
    for event in events:
        job.emit(event)
    return list(stage_updates.watch(job))


def preview(index: int, size: int = 3) -> Preview:
    return Preview(index, 4, 900.0, 1.25, (b"x" * size,))


def test_the_picture_is_described_by_its_prompt_and_its_loras():
    (plain,), (dressed,) = played(Cancelled(0)), played(Cancelled(0), prompt="a fox <lora:ink:0.8>")
    assert (plain["prompt"], dressed["prompt"]) == ("a fox", "a fox \u00b7 LoRA ink 0.8")


def test_a_page_that_joins_late_gets_everything_at_once():
    (last,) = played(Queued(0), preview(0), preview(1), Cancelled(2))
    assert (last["state"], last["text"]) == ("stopped", "Stopped after 2 steps")
    assert [f["i"] for f in last["frames"]] == [0, 1]
    assert last["frames"][0]["p"] == ["data:image/jpeg;base64,eHh4"]


def test_what_is_withheld_is_taken_off_the_timeline_too():
    job = Job(request(num_images=2))
    for index in range(2):
        job.emit(Preview(index, 2, 900.0, 1.25, (b"bad", b"good")))
    roll = stage_updates.JobView(job)
    for event in job.poll():
        roll.take(event)
    job.emit(Finished(job.request, (), 1.0, ("why",), (True, False)))
    roll.take(job.poll()[-1])
    for value in (roll.snapshot(), *stage_updates.watch(job)):
        assert len(value["frames"]) == 2
        for frame in value["frames"]:
            bad, good = (base64.b64decode(uri.partition(",")[2]) for uri in frame["p"])
            with Image.open(io.BytesIO(bad)) as picture:
                assert picture.convert("RGB").getextrema() == ((0, 0),) * 3
            assert good == b"good"


def test_news_hold_only_what_is_new():
    roll = stage_updates.JobView(Job(request()))
    roll.take(preview(0))
    assert [f["i"] for f in roll.delta()["frames"]] == [0]
    roll.take(preview(1))
    assert [f["i"] for f in roll.delta()["frames"]] == [1]
    assert roll.delta()["frames"] == []
    assert [f["i"] for f in roll.snapshot()["frames"]] == [0, 1]


def test_every_wait_has_a_name():
    roll = stage_updates.JobView(Job(request()))
    said = []
    for event in (Queued(0), Queued(1), Loading("tiny", "unet", 2, 5), preview(1), preview(3), Decoding()):
        roll.take(event)
        said.append((roll.state, roll.text))
    assert said == [
        ("queued", "Queued, next in line"),
        ("queued", "Queued, 2nd in line: 1 picture is made before yours"),
        ("loading", "Loading tiny: 2 of 5 parts, next unet"),
        ("running", "Denoising 2 of 4 · 1.2 s left"),
        ("running", "Denoising 4 of 4"),
        ("decoding", "Decoding: turning the result into pixels"),
    ]


def test_a_failure_is_shown_as_its_sentence():
    (last,) = played(Failed("The disk is full; make room and try again."))
    assert (last["state"], last["text"]) == ("failed", "The disk is full; make room and try again.")
    assert last["next"] == {"label": "Try again", "to": "generate"}


def test_a_failure_offers_what_mends_it():
    (last,) = played(Failed("There was not enough memory.", Remedy(SMALLER)))
    assert last["next"] == {"label": "Make it smaller", "to": "fix", "fix": SMALLER}


def test_finished_pictures_are_byte_true_copies_and_seeds_are_text(tmp_path: Path):
    path = tmp_path / "one.png"
    Image.new("RGB", (8, 8), "red").save(path)
    (last,) = played(preview(0), Finished(request(), (Picture(path, 2**62),), 3.14159, ("Words were not read.",)))
    (picture,) = last["pictures"]
    assert picture["seed"] == str(2**62)
    assert Path(picture["file"]["path"]) != path
    assert Path(picture["file"]["path"]).read_bytes() == path.read_bytes()
    assert (last["text"], last["notes"]) == ("4 steps in 3.1 s", "Words were not read.")


def test_the_picture_is_shown_before_the_frames_of_its_steps(tmp_path: Path):
    path = tmp_path / "one.png"
    Image.new("RGB", (8, 8), "red").save(path)
    finished = Finished(request(), (Picture(path, 7),), 1.0, ("A note.",))
    roll, said = stage_updates.JobView(Job(request())), []
    for event in (replace(preview(1), rough=("guess",)), Decoding(), Announced(finished), preview(0), finished):
        roll.take(event)
        said.append((roll.state, roll.text, len(roll.pictures), roll.over))
    assert said == [
        ("running", "Denoising 2 of 4 · 1.2 s left", 0, False),
        ("decoding", "Decoding: turning the result into pixels", 0, False),
        ("shown", "4 steps in 1.0 s · drawing the timeline", 1, False),
        ("shown", "4 steps in 1.0 s · drawing the timeline", 1, False),
        ("done", "4 steps in 1.0 s", 1, True),
    ]
    assert [frame.get("r") for frame in roll.snapshot()["frames"]] == [None, ["guess"]]


def test_a_page_that_watches_is_counted():
    job = Job(request())
    values = stage_updates.watch(job)
    job.emit(Queued(0))
    assert next(values)["state"] == "queued" and job.watched
    values.close()
    assert not job.watched


def test_a_long_run_is_thinned_out_when_it_is_repeated():
    (last,) = played(*[preview(i, stage_updates.SNAPSHOT_BYTES // 10) for i in range(40)], Cancelled(40))
    assert 5 <= len(last["frames"]) <= 12
    assert last["frames"][0]["i"] == 0


def test_the_bundled_recording_plays_without_a_job():
    trace = phrases.recording(next(card for card in load() if card.id == "pocket"))
    value = stage_updates.replay(trace)
    assert value["state"] == "recording" and value["total"] == len(value["frames"]) == len(trace.steps)
    (picture,) = value["pictures"]
    assert base64.b64decode(picture["uri"].removeprefix("data:image/png;base64,")) == trace.finals[0]


def test_ordinals_and_times():
    assert [phrases.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "112th",
    ]  # fmt: skip
    assert [phrases.seconds(s) for s in (0.04, 9.94, 12.3, 400)] == ["0.0 s", "9.9 s", "12 s", "7 min"]
