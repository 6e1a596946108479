"""The program as a process of its own: rows 6 (HTTP), 7 (the usual demo), 8 (the start), 12 (memory)."""

from __future__ import annotations

import json
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rows.peers import DemoClient, bare_script, demo
from benchmarks.rows.results import Result, interleaved, ratio
from benchmarks.rows.workshop import STEPS, Bench, open_workshop
from benchmarks.running_program import BrowserClient, RunningProgram

# What a turbo run of four steps took in process when the target was set.
TURBO_UNIT_SECONDS = 0.108
TURBO, TURBO_STEPS = "pocket-turbo", 4
# Runs after which memory is compared, and the sizes that they take in turns.
FEW_RUNS, MANY_RUNS, SIZES = 20, 200, (128, 96, 64)


def card_of(bench: Bench, model: str = "") -> Any:
    """The card of a model, by default the bench's."""
    from presets.catalogue import card_for, load

    return card_for(model or bench.model, load())


class ServedProgram:
    """A running program and its owner, who asks over one open connection."""

    def __init__(self, server: RunningProgram, card: Any) -> None:
        self.server, self.card = server, card
        self.owner: BrowserClient = server.owner()
        self._client = DemoClient(server.port, self.owner.cookie)
        info = json.loads(self.owner.request("GET", "/gradio_api/info").body)
        self._parameters = info["named_endpoints"]["/text_to_image"]["parameters"]
        self.session = secrets.token_hex(6)
        self._seed = 0

    def draw(self, steps: int, **values: Any) -> float:
        """Seconds until a picture is answered."""
        self._seed += 1
        given = {
            "prompt": self.card.prompts[0], "model": self.card.id, "num_inference_steps": steps,
            "seed": self._seed, "guidance_scale": self.card.guidance_scale, **values,
        }  # fmt: skip
        data = [given.get(one["parameter_name"], one.get("parameter_default")) for one in self._parameters]
        started = time.perf_counter()
        self._client.call("text_to_image", data)
        return time.perf_counter() - started

    def warm_up(self, steps: int, **values: Any) -> None:
        """Draw until the networks are compiled, which is done in the background."""
        end = time.monotonic() + 60
        quick = [self.draw(steps, **values) for _ in range(3)]
        while time.monotonic() < end and not compiled(self.server.process.pid):
            quick.append(self.draw(steps, **values))
            time.sleep(0.2)
        for _ in range(5):
            time.sleep(1)
            self.draw(steps, **values)


def compiled(pid: int) -> bool:
    """Whether OpenVINO's library for processors is loaded; where that cannot be read, False."""
    try:
        return "openvino_intel_cpu_plugin" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


@contextmanager
def program(bench: Bench, card: Any) -> Iterator[ServedProgram]:
    """The program, started as a user does, in a data folder of its own that has the converted networks."""
    from pipelines.jobs.local import default_threads

    with tempfile.TemporaryDirectory() as folder:
        if bench.compiled:
            shutil.copytree(bench.compiled, Path(folder) / "data" / "compiled")
        more = ("--threads", str(default_threads()), "--model", card.id)
        server = RunningProgram(Path(folder) / "data", *more)
        try:
            yield ServedProgram(server, card)
        finally:
            server.kill()


def over_http(bench: Bench) -> Iterator[Result]:
    """Row 6."""
    card = card_of(bench, TURBO)
    with open_workshop(bench, card) as shop, program(bench, card) as served:
        served.warm_up(TURBO_STEPS)
        settings = {"scheduler": "lcm", "guidance_scale": 1.0}
        times = interleaved(
            {
                "http": lambda: served.draw(TURBO_STEPS),
                "inside": lambda: shop.until_picture(shop.request(TURBO_STEPS, **settings)),
            },
            2 * bench.rounds,
        )
    more = [http - inside for http, inside in zip(times["http"], times["inside"], strict=True)]
    facts = {name: round(1000 * statistics.median(took), 1) for name, took in times.items()}
    what = "plain HTTP minus in process, turbo, 4 steps / 108 ms"
    yield ratio(6, what, more, [TURBO_UNIT_SECONDS] * len(more), 0.6, http_ms=facts["http"], inside_ms=facts["inside"])


def against_the_demo(bench: Bench) -> Iterator[Result]:
    """Row 7: both asked over HTTP; with preview, ours as the page asks, until its stage shows the picture."""
    card = card_of(bench)
    with program(bench, card) as served, demo(card, STEPS) as theirs:
        served.warm_up(STEPS, scheduler="ddim")
        times = interleaved(
            {
                "ours": lambda: served.draw(STEPS, scheduler="ddim"),
                "theirs": lambda: theirs.call("plain", [card.prompts[0]]),
                "watched": lambda: press(served),
                "their preview": lambda: theirs.call("with_preview", [card.prompts[0]]),
            },
            bench.rounds,
        )
    yield ratio(7, "against the usual Gradio demo, plain", times["ours"], times["theirs"], 0.3)
    yield ratio(7, "against the usual Gradio demo with preview", times["watched"], times["their preview"], 0.15)


def press(served: ServedProgram) -> float:
    """Seconds from Generate to the message that shows the picture; the rest is waited for."""
    started, shown = time.perf_counter(), 0.0
    stream = served.owner.press("generate", session=served.session)  # a page has one as long as it is open
    for _ in stream.updates():
        if not shown and stream.stage().get("state") in ("shown", "done"):
            shown = time.perf_counter() - started
    if not shown:
        raise RuntimeError(f"The page's run ended without a picture: {stream.stage()}")
    return shown


def starting(bench: Bench) -> Iterator[Result]:
    """Row 8: the program's page is asked for as soon as its address is printed."""
    card = card_of(bench)
    pictures, pages, bare = [], [], []
    for k in range(max(2, bench.rounds // 5) + 1):
        started = time.perf_counter()
        with program(bench, card) as served:
            page = time.perf_counter() - started
            served.draw(STEPS, scheduler="ddim")
            picture = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder, bare_script(card, STEPS, f"{folder}/one.png") as (_, took):
            pass
        if k:  # the first round reads the libraries from the disk
            pictures.append(picture)
            pages.append(page)
            bare.append(took)
    yield ratio(8, "start to the first own picture / bare script", pictures, bare, 1.1)
    yield ratio(8, "start to the served page / bare script", pages, bare, 0.5)


def memory(bench: Bench) -> Iterator[Result]:
    """Row 12."""
    card = card_of(bench)
    with tempfile.TemporaryDirectory() as folder, bare_script(card, STEPS, f"{folder}/one.png") as (pid, _):
        bare = resident(pid)
    with program(bench, card) as served:
        served.warm_up(STEPS, scheduler="ddim")
        one_size = resident(served.server.process.pid)
        after = {}
        for k in range(1, MANY_RUNS + 1):
            side = SIZES[k % len(SIZES)]
            served.draw(8, width=side, height=side)
            if k in (FEW_RUNS, MANY_RUNS):
                time.sleep(15)  # compiling goes on for a while, and freed memory goes back to the system
                served.draw(8, width=side, height=side)
                after[k] = resident(served.server.process.pid)
    mb = {"bare_mb": round(bare / 1e6), "ours_mb": round(one_size / 1e6)}
    used = f"memory with {card.id} loaded and used at one size / bare script"
    yield Result(12, used, round(one_size / bare, 3), None, 1.4, facts=mb)
    grown = {f"after_{k}_mb": round(size / 1e6) for k, size in after.items()}
    what = f"after {MANY_RUNS} runs at {len(SIZES)} sizes / after {FEW_RUNS}"
    yield Result(12, what, round(after[MANY_RUNS] / after[FEW_RUNS], 3), None, 1.05, facts=grown)


def resident(pid: int) -> int:
    """Bytes in memory of a process and those that it started."""
    import psutil

    parent = psutil.Process(pid)
    return sum(int(one.memory_info().rss) for one in (parent, *parent.children(recursive=True)))
