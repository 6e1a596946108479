"""The Compare tab: cells by noise level, plans, making, keeping and saving a comparison."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from pipelines.events import Failed, Finished
from pipelines.grid.plan import Grid, GridAxis
from pipelines.grid.sheet import sheet
from pipelines.jobs.backend import BackendStatus, QueryFailed, QueueFull
from pipelines.jobs.job import Job
from pipelines.jobs.local import LocalBackend
from pipelines.models.manager import PipelineManager
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.trace.export import STEP_SECONDS
from pipelines.trace.serialization import load_trace
from pipelines.trace.summary import TraceSummary, summarise
from pipelines.trace.trace import Trace
from tests.support.known_trace import ask, jpeg, make_trace
from tests.support.site import tiny_card
from tests.support.waiting import wait_for
from ui.components.stage_updates import JobView
from ui.tabs import compare
from ui.tabs.compare import choosing, ways
from ui.tabs.compare.cells import CLEAN, LOUD, cell_value, differing, final_picture, level
from ui.tabs.compare.running import Comparisons, RunningGrid, _Active, kept_value
from ui.tabs.compare.saving import LEVELS, saved
from ui.tabs.compare.templates import KINDS

COLOURS = ("red", "green", "blue", "white")


def finished(trace_id: str, colour: str = "red", **changes: Any) -> Trace:
    """A known run with a finished picture."""
    trace = make_trace(trace_id, **changes)
    final = jpeg(Image.new("RGB", (32, 32), colour))
    return Trace(**{**{name: getattr(trace, name) for name in trace.__dataclass_fields__}, "finals": (final,)})


class Backend:
    """Finishes every job at once with a known run; the prompts "fail" and "full" do not."""

    def __init__(self) -> None:
        self.traces: dict[str, Trace] = {}
        self.full_after, self.workers = 99, 1
        self.submitted: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest, user: Any = None, watched: bool = True, together: str = "") -> Job:
        if len(self.submitted) >= self.full_after:
            raise QueueFull("You have used your share of this hour.")
        if request.sampling.seed == 13:
            raise InvalidRequest("seed", "Thirteen brings no luck.")
        job = Job(request)
        self.submitted.append(request)
        if request.sampling.seed == 14:
            job.emit(Failed("The device broke."))
        elif request.sampling.seed == 15:
            job.cancel()
        else:
            self.traces[job.id] = finished(job.id, COLOURS[request.sampling.seed % 4], seed=request.sampling.seed)
            job.emit(Finished(request=request, pictures=(), seconds=0.5))
        return job

    def status(self) -> BackendStatus:
        return BackendStatus("ready", "tiny", "", workers=self.workers)

    def runs(self, most: int, user: Any = None) -> list[TraceSummary]:
        return [summarise(trace) for trace in self.traces.values()][:most]

    def trace(self, name: str, user: Any = None) -> Trace | None:
        return self.traces.get(name)


def page_of(backend: Any) -> Any:
    """What the tab is given."""
    cards = {"tiny": tiny_card(Path("x"))}
    return SimpleNamespace(
        backend=backend,
        cards=cards,
        card=cards.get,
        trace=lambda opened: backend.trace(opened["id"]),
        bundled_trace=None,
    )


def event(**fields: Any) -> gr.EventData:
    """An event of the page."""
    return gr.EventData(None, fields)


def test_a_cell_holds_each_step_with_its_noise_level_from_noise_to_picture() -> None:
    trace = finished("one")
    value = cell_value(trace)
    assert value["levels"] == sorted(value["levels"]) and value["levels"][0] == LOUD
    assert value["levels"][-1] == pytest.approx(level(trace.steps[-1]), abs=1e-3)
    assert value["levels"][-1] <= CLEAN
    assert (
        len(value["guess"]) == 6 == value["steps"] and value["calls"] == 12 and value["end"].startswith("data:image/")
    )
    assert cell_value(finished("two", guidance_scale=1.0))["calls"] == 6
    assert cell_value(make_trace(done=3))["state"] == "stopped"


def test_of_many_cells_fewer_steps_are_sent_with_both_ends() -> None:
    long = finished("long")
    steps = tuple(long.steps[i % 6] for i in range(60))
    frames = tuple(long.frames[i % 6] for i in range(60))
    numbers = cell_value(replace(long, steps=steps, frames=frames), 0, 25)["numbers"]
    assert len(numbers) == 10 and (numbers[0], numbers[-1]) == (1, 60)


def test_only_what_differs_between_two_runs_is_listed() -> None:
    rows = differing((finished("a"), 0), (finished("b", guidance_scale=7.5), 0))
    assert rows == [{"label": "Guidance scale (CFG)", "values": ["4", "7.5"]}]
    assert differing((finished("a"), 0), (finished("b"), 0)) == []


def test_the_chosen_runs_stay_in_the_list() -> None:
    backend = Backend()
    backend.traces = {"old": finished("old", prompt="an owl"), "new": finished("new")}
    backend.runs = lambda most, user=None: [summarise(backend.traces["new"])]  # type: ignore[method-assign]
    page = page_of(backend)
    for chosen in (["old", "gone", "new", "old"], ["new", 3, "old"]):
        rows = choosing.runs(page, chosen)
        assert [row["id"] for row in rows] == ["new", "old"] and rows[1]["title"].startswith("an owl")
    assert [row["id"] for row in choosing.runs(page, "old")] == ["new"]


def test_times_are_those_of_this_computer_and_of_whole_runs() -> None:
    backend, page = Backend(), page_of(Backend())
    page.backend = backend
    page.trace = lambda opened: backend.trace(opened["id"])
    page.bundled_trace = replace(finished("bundled"), seconds=255.0)
    backend.traces["bundled"] = page.bundled_trace
    backend.runs = lambda most, user=None: []  # type: ignore[method-assign]
    assert choosing.base_of(page, "bundled", None).seconds == 0 == choosing.base_of(page, "asked", SENT).seconds
    # Half of it took 3 s.
    backend.traces["half"] = replace(make_trace("half", done=3, num_images=2), seconds=3.0)
    assert choosing.base_of(page, "half", None).seconds == pytest.approx(6.0)
    # A fork's two own steps took 1 s, and so do those of another fork.
    backend.traces["fork"] = replace(finished("fork", fork={**FORK, "step": 4}), seconds=1.0)
    assert choosing.base_of(page, "fork", None).seconds == pytest.approx(1.0)
    assert backend.traces["fork"].seconds_a_step == pytest.approx(0.5)
    # What was sent from the form is timed by the latest run of its model: 3 s for one picture.
    backend.runs = lambda most, user=None: [summarise(backend.traces["half"])]  # type: ignore[method-assign]
    base = choosing.base_of(page, "asked", SENT)
    data = event(x={"setting": "seed", "values": "1-4"})
    assert choosing.estimate(choosing.plan_of(page, data, base), base)["text"] == "4 pictures, about 12 s"


FORK = {"run": "one", "step": 2, "original": ask().model_dump()}
SENT = {"request": ask()}
IMAGE = {"image": "0" * 32, "strength": 0.5}
NET = {"net": "edges", "image": "1" * 32}


@pytest.mark.parametrize(
    ("one", "other", "label"),
    [
        ({"init": IMAGE}, {"init": {**IMAGE, "image": "f" * 32}}, "Your image"),
        ({"init": {**IMAGE, "mask": "2" * 32}}, {"init": {**IMAGE, "mask": "3" * 32}}, "Painted mask"),
        ({"controls": (NET,)}, {"controls": ({**NET, "end": 0.5},)}, "ControlNet 1"),
        ({}, {"reference": {"adapter": "plus", "image": "4" * 32}}, "IP-Adapter"),
        ({"fork": FORK}, {"fork": {**FORK, "seed": 3}}, "New noise after leaving"),
        (
            {"fork": FORK},
            {"fork": {**FORK, "original": ask(guidance_scale=2.0).model_dump()}},
            "Guidance scale before leaving",
        ),
        # Named by the path in the record: a third run that the second one had left.
        (
            {"fork": {**FORK, "original": ask(fork=FORK).model_dump()}},
            {"fork": {**FORK, "original": ask(fork={**FORK, "step": 1}).model_dump()}},
            "fork original fork step",
        ),
    ],
)
def test_what_the_list_of_settings_leaves_out_differs_too(one: Any, other: Any, label: str) -> None:
    rows = differing((finished("a", **one), 0), (finished("b", **other), 0))
    assert [row["label"] for row in rows] == [label] and rows[0]["values"][0] != rows[0]["values"][1]


def test_what_changes_no_picture_makes_no_difference() -> None:
    one = finished("a", fork=FORK, typed={"prompt": "a {fox}"})
    assert differing((one, 0), (finished("b", fork={**FORK, "run": "two"}), 0)) == []
    # A fork and what it left differ in that alone.
    assert [row["label"] for row in differing((one, 0), (finished("c"), 0))] == ["Left another run"]
    two = finished("d", num_images=2, fork={**FORK, "original": ask(num_images=2).model_dump()})
    assert differing((one, 0), (two, 0)) == [] and differing((one, 0), (two, 1))[0]["label"] == "Seed"


def test_a_run_is_described_with_what_can_change_in_it() -> None:
    page = page_of(Backend())
    found = choosing.description(page, choosing.StartingPoint(ask(), 0.6))
    by_name = {row["name"]: row for row in found["settings"]}
    assert "strength" not in by_name and "4" in by_name["guidance_scale"]["values"]
    assert "DDIM" in by_name["scheduler"]["choices"] and found["title"] == "a fox" and not found["note"]
    fork = choosing.description(page, choosing.StartingPoint(ask(fork=FORK)))
    assert "left another run" in fork["note"] and "seed" not in {row["name"] for row in fork["settings"]}


def test_a_plan_is_read_from_an_event_and_foretold() -> None:
    page, base = page_of(Backend()), choosing.StartingPoint(ask(), 0.6)
    data = event(x={"setting": "seed", "values": "1-4"}, y={"setting": "num_inference_steps", "values": "6, 12"})
    grid = choosing.plan_of(page, data, base)
    assert grid.shape == (1, 2, 4) and choosing.estimate(grid, base) == {"count": 8, "text": "8 pictures, about 7.2 s"}
    for fields, field in (({}, "x"), ({"x": {"setting": "seed", "values": "x"}}, "x"), ({"x": 3}, "x")):
        with pytest.raises(InvalidRequest) as refused:
            choosing.plan_of(page, event(**fields), base).cells()
        assert refused.value.field == field


@pytest.mark.parametrize("run", ["gone", "asked", ""])
def test_a_run_that_is_gone_is_said(run: str) -> None:
    with pytest.raises(InvalidRequest, match="no longer kept"):
        choosing.base_of(page_of(Backend()), run, None)
    assert choosing.base_of(page_of(Backend()), "asked", {"request": ask()}).request == ask()


def grid_of(*seeds: int) -> Grid:
    """Pictures of some seeds."""
    return Grid(request=ask(), x=GridAxis(setting="seed", values=tuple(map(str, seeds))))


def run(backend: Backend, grid: Grid, stop: threading.Event | None = None) -> list[dict[str, Any]]:
    return list(RunningGrid(backend, grid, stop or threading.Event()).values("name"))


def cells(values: list[dict[str, Any]]) -> dict[tuple[int, ...], dict[str, Any]]:
    """The last of each cell, as the page adds them up."""
    return {tuple(cell["at"]): cell for value in values for cell in value["cells"]}


def test_every_cell_is_made_and_one_that_cannot_be_says_why() -> None:
    backend = Backend()
    values = run(backend, grid_of(1, 13, 14, 2))
    found = cells(values)
    assert [found[0, 0, k]["state"] for k in range(4)] == ["done", "failed", "failed", "done"]
    assert found[0, 0, 1]["text"] == "Thirteen brings no luck." and found[0, 0, 2]["text"] == "The device broke."
    assert values[0]["started"] and values[-1]["state"] == "done" and values[-1]["sentence"] == ""
    assert [r.sampling.seed for r in backend.submitted] == [1, 14, 2]


def test_a_whole_row_ends_with_a_sentence() -> None:
    values = run(Backend(), grid_of(1, 2, 3))
    assert "picture changes most" in values[-1]["sentence"]


def test_a_running_comparison_keeps_pictures_and_no_steps() -> None:
    backend = Backend()
    grid = RunningGrid(backend, grid_of(1, 2), threading.Event())  # type: ignore[arg-type]
    last = list(grid.values("name"))[-1]
    assert "differ" in last["sentence"] and len(grid.traces) == 2
    for kept in grid.traces.values():
        assert kept.finals == backend.traces[kept.id].finals and not kept.frames and not kept.x_t.nbytes
    assert saved(grid.grid.labels, grid.grid, grid.traces, "sheet")[0] == "compare-a-fox-1.png"


def test_a_guest_whose_share_is_used_gets_what_was_made_and_the_reason() -> None:
    backend = Backend()
    backend.full_after = 2
    found = cells(run(backend, grid_of(1, 2, 3, 4)))
    assert [found[0, 0, k]["state"] for k in range(4)] == ["done", "done", "stopped", "stopped"]
    assert found[0, 0, 3]["text"] == "You have used your share of this hour."


def test_stop_leaves_what_is_there_and_makes_no_more() -> None:
    comparisons, backend = Comparisons(), Backend()
    name, stop = comparisons.begin()
    made = RunningGrid(backend, grid_of(*range(20, 40)), stop).values(name)
    next(made)
    comparisons.stop("another")
    assert not stop.is_set()
    comparisons.stop(name)
    last = list(made)[-1]
    assert last["state"] == "done" and not backend.submitted and all(c["state"] == "stopped" for c in last["cells"])


def real(tmp_path: Path, model: Path, on_step: Any) -> LocalBackend:
    """The backend of this machine with the tiny model."""
    manager = PipelineManager([tiny_card(model, prediction_type="epsilon")], device="cpu", fetches=())
    return LocalBackend(manager, tmp_path / "pictures", on_step=on_step, threads=1)


@pytest.mark.parametrize("again", [False, True])
def test_a_grid_that_is_stopped_keeps_its_pictures_and_leaves_the_queue_empty(
    tiny_folder: Path, tmp_path: Path, again: bool
) -> None:
    stop, begun = threading.Event(), []

    def stop_in_the_third(job: Job, step: Any) -> None:
        begun.append(job.id)
        if len(set(begun)) == 3 and not again:
            stop.set()
            job.wait_cancelled(60)

    backend = real(tmp_path, tiny_folder, stop_in_the_third)
    try:
        request = ask(width=64, height=64, num_inference_steps=3)
        grid = Grid(
            request=request, x=GridAxis(setting="seed", values=("1", "2", "3")),
            y=GridAxis(setting="guidance_scale", values=("2", "5")),
        )  # fmt: skip
        running = RunningGrid(backend, grid, stop)
        values = list(running.values("name"))
        found = cells(values)
        states = [found[0, row, column]["state"] for row in range(2) for column in range(3)]
        assert states == (["done"] * 6 if again else ["done"] * 2 + ["stopped"] * 4)
        assert values[-1]["state"] == "done" and bool(values[-1]["sentence"]) == again
        # So a browser that missed a value asks for what it held.
        shown = [[*place, cell["run"]] for place, cell in sorted(found.items()) if cell["state"] == "done"]
        assert values[-1]["made"] == shown
        wait_for(lambda: backend.status().queue == 0)
        made = states.count("done")
        assert len(set(begun)) == (6 if again else 3) and len(list((tmp_path / "pictures").glob("*.png"))) == made
        # What is there can be saved, as a file that makes the whole grid.
        with zipfile.ZipFile(io.BytesIO(saved(grid.labels, grid, running.traces, "zip")[1])) as packed:
            assert len(packed.namelist()) == made + 2
            plan = json.loads(packed.read("comparison.json"))["comparison"]
            assert choosing.saved_plan(json.dumps(plan)) == grid
        # The next picture is made.
        assert isinstance(list(backend.submit(request).events())[-1], Finished)
    finally:
        backend.close()


def test_the_lanes_of_a_race_run_together_by_noise_level(tiny_folder: Path, tmp_path: Path) -> None:
    order: list[str] = []
    held = threading.Event()

    def hold(job: Job, step: Any) -> None:
        assert held.wait(60)  # until all lanes wait
        order.append(job.request.sampling.scheduler)

    backend = real(tmp_path, tiny_folder, hold)
    lanes = ("ddim", "euler", "heun", "dpmpp_2m")
    grid = Grid(request=ask(width=64, height=64, num_inference_steps=6), x=GridAxis(setting="scheduler", values=lanes))
    try:
        running = RunningGrid(backend, grid, threading.Event())
        news = running.news()
        seen = [next(news)]
        wait_for(lambda: backend.status().queue == len(lanes))
        held.set()
        seen += list(news)
        assert [each.state for each in seen if each and each.state != "running"] == ["done"] * len(lanes)
        # Each has begun before any is far, and none ends long before the others.
        firsts = [order.index(lane) for lane in lanes]
        lasts = [len(order) - 1 - order[::-1].index(lane) for lane in lanes]
        assert max(firsts) < 2 * len(lanes) and min(lasts) >= len(order) - 2 * len(lanes)
        assert len(order) > 6 * len(lanes)  # Heun calls the model twice a step
        # Alone, each makes the same picture; and the times are those of its own steps.
        for cell in grid.cells():
            trace = running.traces[0, 0, cell.column]
            alone = list(backend.submit(cell.request).events())[-1]
            with Image.open(trace.pictures[0].path) as one, Image.open(alone.pictures[0].path) as other:
                assert np.array_equal(np.asarray(one), np.asarray(other))
            assert trace.seconds > 0
    finally:
        held.set()
        backend.close()


def test_a_page_that_is_closed_leaves_no_job_and_no_name() -> None:
    backend, comparisons, jobs = Backend(), Comparisons(), []
    backend.submit = lambda request, user, **more: jobs.append(Job(request)) or jobs[-1]  # type: ignore
    made = comparisons.values(backend, grid_of(1, 2, 3))  # type: ignore[arg-type]
    name = next(made)["name"]
    made.close()
    assert not jobs and name not in comparisons._stops
    grid = RunningGrid(backend, grid_of(1, 2, 3), threading.Event())  # type: ignore[arg-type]
    values = grid.values("name")
    next(values)
    news = threading.Thread(target=lambda: next(values))
    news.start()
    while len(jobs) < 2:
        news.join(0.01)
    jobs[0].emit(Failed("The device broke."))
    news.join(60)
    values.close()
    assert jobs[1].cancelled and not comparisons._stops


def test_a_comparison_waits_for_others_jobs_and_not_for_its_own_share() -> None:
    backend, full = Backend(), [True, True]

    def submit(request: Any, user: Any = None, **more: Any) -> Job:
        if full:
            raise QueueFull("32 pictures are waiting already.", soon=full.pop())
        return Backend.submit(backend, request, user)

    backend.submit = submit  # type: ignore[method-assign]
    assert [cell["state"] for cell in cells(run(backend, grid_of(1, 2))).values()] == ["done", "done"]


def test_a_kept_comparison_opens_with_the_runs_that_are_left() -> None:
    backend, grid = Backend(), grid_of(1, 2)
    backend.traces = {"one": finished("one")}
    names = [[0, 0, 0, "one"], [0, 0, 1, "gone"], ["x"], 3, [0, 0, True, "one"], [0, 0, 0, 7]]
    traces = choosing.traces_of(page_of(backend), names, 100)
    value = kept_value(choosing.saved_plan(grid.model_dump_json()), traces, "kept")
    assert [cell["state"] for cell in value["cells"]] == ["done", "stopped"]
    strange = grid.model_dump_json().replace('"seed","values"', '"nope","values"')
    assert "nope" in strange
    for text in ("", "{", "[" * 50_000, json.dumps({"version": 99}), None, "x" * 70_000, strange):
        with pytest.raises(InvalidRequest):
            choosing.saved_plan(text)


def assert_plays_from_noise_to_the_sheet(data: bytes, last: Image.Image) -> None:
    """An MP4 shows each noise level in turn, ends with the labelled sheet, holds it, and says how it was made."""
    import av

    with av.open(io.BytesIO(data)) as file:
        assert json.loads(file.metadata["comment"])["request"]["prompt"] == "a fox"
        rate = float(file.streams.video[0].average_rate or 0)
        frames = [np.asarray(frame.to_image(), np.float32) for frame in file.decode(video=0)]
    assert b"trainedAlgorithmicMedia" in data and len(frames) / rate > LEVELS * STEP_SECONDS + 1
    wanted = np.asarray(last.convert("RGB").resize(frames[-1].shape[1::-1]), np.float32)
    assert np.abs(frames[-1] - wanted).mean() < 4 < np.abs(frames[0] - wanted).mean()
    # The pictures of the known runs change at each of their six steps.
    changes = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert sum(change > 0.5 for change in changes) >= 6 and max(changes[-round(rate) :]) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_comparison_is_saved_in_every_form(kind: str) -> None:
    grid = grid_of(1, 2)
    traces = {(0, 0, 0): finished("one", "red"), (0, 0, 1): finished("two", "blue", seed=9)}
    name, data = saved(grid.labels, grid, traces, kind)
    assert name.startswith("compare-a-fox-5.")
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            assert set(packed.namelist()) == {
                "page1-row1-column1.png", "page1-row1-column2.png", "sheet.png", "comparison.json"
            }  # fmt: skip
            again = json.loads(packed.read("comparison.json"))["comparison"]
            assert choosing.saved_plan(json.dumps(again)) == grid
    elif kind == "capsule":
        page = data.decode()
        assert page.startswith("<!doctype html>") and "connect-src" not in page and page.count("<script") == 2
        value = json.loads(page.split('id="reel">')[1].split("</script>")[0])
        assert [len(cell["levels"]) for cell in value["cells"]] == [6, 6] and 'data-part="saving"' not in page
        # Without a plan: two runs that were chosen, with what differs.
        assert '"differs":[{' in saved(grid.labels, None, traces, kind)[1].decode()
    elif kind == "mp4":
        assert_plays_from_noise_to_the_sheet(data, sheet(grid.labels, {p: final_picture(t) for p, t in traces.items()}))
    else:
        image = Image.open(io.BytesIO(data))
        assert (getattr(image, "n_frames", 1) > 3) == (kind in ("webp", "gif"))
        assert image.width > image.height
    with pytest.raises(InvalidRequest, match="no finished picture"):
        saved(grid.labels, grid, {}, kind)


def test_two_runs_stand_side_by_side_with_the_setting_that_differs() -> None:
    backend = Backend()
    backend.traces = {
        "a": finished("a"),
        "b": finished("b", guidance_scale=7.5),
        "c": finished("c", seed=9, prompt="x"),
    }
    page = page_of(backend)
    value = compare.two_runs(page, "a", "b")
    axis = value["axes"]["x"]
    assert (axis["label"], axis["values"]) == ("Guidance scale (CFG)", ["4", "7.5"]) and len(value["cells"]) == 2
    assert axis["does"].startswith("How strongly the picture follows")
    # Another pair is another comparison to the viewer, which then writes other headings.
    assert len({value["name"], *(compare.two_runs(page, *pair)["name"] for pair in ("ac", "bc", "ba"))}) == 4
    assert compare.two_runs(page, "a", "c")["axes"]["x"]["values"] == ["A", "B"]
    assert compare.two_runs(page, "a", "a")["state"] == "refused" == compare.two_runs(page, "a", "gone")["state"]
    labels = compare.two_labels({(0, 0, 0): backend.traces["a"], (0, 0, 1): backend.traces["b"]})
    assert list(labels.x) == ["4", "7.5"]
    assert np.isfinite([cell["levels"][0] for cell in value["cells"]]).all()


def test_a_cancelled_job_is_a_stopped_cell() -> None:
    backend = Backend()
    found = cells(run(backend, grid_of(15)))
    assert found[0, 0, 0]["state"] == "stopped"


def test_the_lanes_of_a_comparison_lie_in_one_plane_with_their_noise_levels() -> None:
    grid = grid_of(1, 2, 3)
    traces = {(0, 0, k): finished(f"run{k}", seed=k + 1, guidance_scale=2.0 + k) for k in range(3)}
    odd = finished("odd")
    traces[0, 0, 2] = replace(odd, x_t=odd.x_t[..., :2])
    page = SimpleNamespace(queries=SimpleNamespace(ask=lambda model, ask, work=0: ask(None)))
    value = ways.ways_value(page, grid, traces)
    assert [way["name"] for way in value["ways"]] == ["1", "2"] and "2 of 3 pictures" in value["left_out"]
    for way, trace in zip(value["ways"], traces.values(), strict=False):
        assert len(way["x_t"]) == 7 and len(way["x0"]) == 6 == len(way["levels"])
        assert way["levels"] == [pytest.approx(level(step), abs=1e-3) for step in trace.steps]
    two = grid.model_copy(update={"y": GridAxis(setting="size", values=("32x32",))})
    assert ways.lane_names(two, {(0, 0, 1): odd})[0, 0, 1].startswith("seed 2, size 32")
    # Both began with the same latents here, and end apart.
    first, second = (np.array(way["x0"]) for way in value["ways"])
    assert not np.allclose(first, second) and "of the variance" in value["variance"]
    assert ways.ways_value(page, None, {(0, 0, 0): traces[0, 0, 0]})["state"] == "failed"


def test_a_refusal_leads_to_what_the_page_can_do_about_it():
    assert compare.next_of(InvalidRequest("model", "It is not here.")) == {"next": ["Open Models", "#/models"]}
    # The form's own fields are in other tabs.
    assert compare.next_of(InvalidRequest("width", "It is too large.")) == {}
    assert compare.next_of(InvalidRequest("x", "It holds no value.")) == {}


def test_the_map_of_a_race_is_drawn_while_it_runs() -> None:
    backend = Backend()
    running = RunningGrid(backend, grid_of(1, 2, 3), threading.Event())  # type: ignore[arg-type]
    page = page_of(backend)
    backend.steps_so_far = lambda jobs, user: [backend.so_far.get(job) for job in jobs]  # type: ignore[attr-defined]
    backend.so_far = {}  # type: ignore[attr-defined]
    assert ways.live_value(page, running) == {"state": "running", "why": ways.WAITS}
    # One has its picture, one has made four steps, one has not begun.
    made = backend.traces["made"] = finished("made", seed=1)
    running.traces[0, 0, 0] = made
    jobs = [Job(ask()), Job(ask())]
    for column, job in enumerate(jobs, 1):
        cell = next(cell for cell in running.grid.cells() if cell.column == column)
        running._active.append(_Active(cell, job, JobView(job)))
    backend.so_far[jobs[0].id] = make_trace("so far", done=4, seed=2)  # type: ignore[attr-defined]
    value = ways.live_value(page, running)
    assert value["state"] == "running" and "of the variance" in value["variance"]
    assert [(way["name"], len(way["x0"]), len(way["levels"])) for way in value["ways"]] == [("1", 6, 6), ("2", 4, 4)]
    assert [bool(way["picture"]) for way in value["ways"]] == [True, False]
    backend.steps_so_far = failing  # type: ignore[attr-defined]
    assert ways.live_value(page, running) == {"state": "running", "why": "Busy; try again."}


def test_a_cell_that_is_over_before_an_older_one_is_shown_and_makes_room() -> None:
    backend, jobs = Backend(), []
    backend.workers = 2

    def submit(request: Any, user: Any = None, **more: Any) -> Job:
        # The first goes on for long.
        jobs.append(Backend.submit(backend, request) if jobs else Job(request))
        return jobs[-1]

    backend.submit = submit  # type: ignore[method-assign]
    news = RunningGrid(backend, grid_of(1, 2, 3, 4), threading.Event()).news()  # type: ignore[arg-type]
    done = [next(each for each in news if each and each.state == "done") for _ in range(3)]
    assert [each.cell.column for each in done] == [1, 2, 3] and not jobs[0].done


def test_a_fork_counts_the_calls_of_its_own_steps() -> None:
    original = finished("left").request.model_dump()
    assert cell_value(finished("fork", fork={"run": "left", "step": 4, "original": original}))["calls"] == 4


def failing(jobs: Any, user: Any) -> Any:
    raise QueryFailed("Busy; try again.")


def test_a_comparison_is_known_by_its_name_while_it_is_made() -> None:
    comparisons = Comparisons()
    values = comparisons.values(Backend(), grid_of(1, 2))  # type: ignore[arg-type]
    name = next(values)["name"]
    assert comparisons.running(name) is not None and comparisons.running("another") is None
    list(values)
    assert comparisons.running(name) is None


def test_the_time_of_a_comparison_includes_that_of_its_strips(tiny_folder: Path, tmp_path: Path) -> None:
    backend = real(tmp_path, tiny_folder, None)
    try:
        run = backend.submit(ask(width=64, height=64))
        list(run.events())
        trace = backend.trace(run.id)
        assert trace is not None and 0 < trace.frames_seconds < 600
        kept = load_trace(tmp_path / "traces", run.id)
        assert kept.frames_seconds == pytest.approx(trace.frames_seconds, abs=1e-3)
    finally:
        backend.close()
    page = page_of(Backend())
    slow = replace(finished("slow"), seconds=1.0, frames_seconds=4.0)
    page.backend.traces["slow"] = slow
    base = choosing.base_of(page, "slow", None)
    plan = Grid(request=base.request, x=GridAxis(setting="seed", values=("1", "2", "3")))
    assert choosing.estimate(plan, base)["text"] == "3 pictures, about 15 s"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_grid_keeps_every_device_busy_and_one_job_waiting(workers: int) -> None:
    backend = Backend()
    backend.workers = workers
    waits: list[Job] = []
    backend.submit = lambda request, *more, **named: waits.append(Job(request)) or waits[-1]  # type: ignore[method-assign, func-returns-value]
    base = finished("x").request
    grid = Grid(request=base, x=GridAxis(setting="seed", values=tuple("0123456")))
    running = RunningGrid(backend, grid, threading.Event())  # type: ignore[arg-type]
    next(iter(running.news()))
    assert len(waits) == workers + 1
