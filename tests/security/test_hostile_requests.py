"""A running server under malformed requests: over raw HTTP, as owner, guest and anonymous client."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_requests import API, PageFunction, RawAnswer, Report, attack, page_functions, unfinished_events
from tests.support.shared_site import (
    PASSWORD,
    assert_owner_can_generate,
    client_of,
    resident_bytes,
    shared_site,
)
from tests.support.site import Site
from ui.server.access import Access

ROOT = Path(__file__).resolve().parents[2]
OURS = ("app.py", "pipelines", "presets", "ui")
# Random calls for each kind of client; ``make soak`` sends more, to every route.
CASES = 40


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    with shared_site(tmp_path_factory.mktemp("hostile")) as found:
        yield found


def threads_at_work() -> list[str]:
    """Stacks of threads that answer requests and are somewhere in this program."""
    stacks = []
    for thread in threading.enumerate():
        frame = sys._current_frames().get(thread.ident or 0)
        if "AnyIO worker" in thread.name and frame is not None:
            lines = traceback.format_stack(frame)
            if any(f"{ROOT}/{room}" in line for line in lines for room in ("ui", "pipelines")):
                stacks.append("".join(lines))
    return stacks


def own_errors(log: str) -> list[str]:
    """Tracebacks whose last frame is in this program: what Gradio refuses ends in Gradio."""
    texts = re.split(r"(?=Traceback \(most recent)", log)[1:]
    ends = (found[-1] for text in texts if (found := re.findall(r'File "([^"]+)", line (\d+)', text)))
    own = [(Path(path), line) for path, line in ends if Path(path).is_relative_to(ROOT)]
    # The libraries may lie in a folder of the project, too (.venv).
    return [f"{path}:{line}" for path, line in own if path.relative_to(ROOT).parts[0] in OURS]


@pytest.mark.parametrize("role", ["owner", "guest", "stranger"])
def test_every_request_gets_a_short_answer(shared, capfd: pytest.CaptureFixture[str], role: str) -> None:
    site, access = shared
    access.link_token()
    # The owner is told where files for models go.
    hidden = () if role == "owner" else (str(site.pictures.parent), PASSWORD)
    report = attack(site.url, client_of(shared, role).cookie, CASES, 20, hidden, every_route=False)
    assert report.faults == []
    assert report.cases > 250 and {401} <= set(report.statuses)
    assert role == "stranger" or report.statuses[200] > 100
    assert unfinished_events(site.demo) == [] and threads_at_work() == []
    log = "".join(capfd.readouterr())
    assert own_errors(log) == []
    assert_owner_can_generate(shared)


def test_an_attack_sees_what_is_wrong() -> None:
    """The test of the test: an answer with a traceback, or none, is a fault."""
    report = Report()
    for answer in (
        RawAnswer(500, "", "x"), RawAnswer(0, "", ""), RawAnswer(200, "", 'File "/x.py", line 3'),
        RawAnswer(200, "", "my/folder"),
        RawAnswer(200, "", "fine"), RawAnswer(404, "", "There is nothing here."),
    ):  # fmt: skip
        report.note("it", answer, ["my/folder"])
    assert len(report.faults) == 4 and report.cases == 6
    assert own_errors(f'Traceback (most recent call last)\n  File "{ROOT}/ui/x.py", line 3\nKeyError') != []
    assert own_errors(f'Traceback (most recent call last)\n  File "{ROOT}/.venv/x.py", line 3\nKeyError') == []


def test_the_attack_covers_every_function(shared) -> None:
    site, _ = shared
    found = page_functions(client_of(shared, "guest").config())
    assert {function.number for function in found} == set(site.demo.fns)
    assert {"text_to_image", "image_to_image", "inpaint", "denoising_steps"} <= {function.name for function in found}


BEYOND = (10**9, -1, 2**200, 1e308, float("nan"), float("inf"), "x" * 10**6, [0.5] * 5000, {"a": [None] * 3000})


def is_generate(site: Site, function: PageFunction) -> bool:
    return getattr(site.demo.fns[function.number].fn, "__name__", "") == "generate"


def test_absurd_numbers_are_refused_in_a_sentence_by_the_api(shared) -> None:
    site, _ = shared
    owner, before = client_of(shared, "owner"), resident_bytes()
    names = "prompt negative_prompt model scheduler num_inference_steps guidance_scale seed width height num_images"
    made = len(site.backend.jobs)
    for k, name in enumerate(names.split()):
        # A third of them for each field; tests/pipelines/test_request.py tries more.
        for value in BEYOND[k % 3 :: 3]:
            data: list[Any] = ["a fox", *[None] * 9]
            data[k] = value
            asked = owner.post(f"{API}/call/text_to_image", {"data": data})
            event = re.search(r'"event_id":"(\w+)"', asked.body)
            assert asked.status == 200 and event, asked
            said = owner.request("GET", f"{API}/call/text_to_image/{event.group(1)}").body
            fine = name == "seed" and value == 10**9
            assert ("event: complete" if fine else "event: error") in said, (name, str(value)[:50], said[:500])
            assert fine or re.search(r'"error": "[^"\\]+[.]', said), (name, str(value)[:50], said[:500])
            assert len(said) < 3000
    assert len(site.backend.jobs) == made + 1
    assert resident_bytes() - before < 200 * 2**20


def test_absurd_numbers_are_refused_by_the_page(shared) -> None:
    site, _ = shared
    guest, before, n = client_of(shared, "guest"), resident_bytes(), 0
    for function in page_functions(guest.config()):
        if not is_generate(site, function):
            continue
        for k in range(len(function.page_values)):
            for value in BEYOND[k % 9 :: 9]:
                data = list(function.page_values)
                data[k] = value
                body = {"fn_index": function.number, "data": data, "session_hash": f"beyond{function.number}"}
                answer = guest.post(f"{API}/queue/join", body)
                if answer.status == 429:  # a guest's calls of a minute
                    guest = client_of(shared, "guest")
                    answer = guest.post(f"{API}/queue/join", body)
                n += answer.status == 422  # an endless choice is not even taken in
                if answer.status == 422:
                    continue
                assert answer.status == 200, answer
                said = guest.outcome(f"beyond{function.number}")
                assert "close_stream" in said.body and "Traceback" not in said.body
                n += 1
    assert n > 40 and unfinished_events(site.demo) == []
    for job in site.backend.jobs:
        asked = job.request
        assert asked.width * asked.height * asked.sampling.num_inference_steps <= 64 * 64 * 150
    site.settle()
    assert resident_bytes() - before < 300 * 2**20
