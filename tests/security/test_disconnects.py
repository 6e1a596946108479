"""Clients that vanish, moment by moment: in this process, where the sampler can be held."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.running_program import BrowserClient
from pipelines.events import Decoding, Finished
from pipelines.images.png import read_request
from tests.support.site import Site, served, tiny_card
from tests.support.status_poll import poll_status
from tests.support.tiny_model import make_tiny_model
from tests.support.waiting import SECONDS, wait_for
from ui import page
from ui.components.stage_updates import watch
from ui.server import session_cleanup
from ui.server.access import Access
from ui.server.temp_files import TempFiles

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    folder = tmp_path_factory.mktemp("site")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    access = Access(b"k" * 32, 1, password=PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "scratch"))
        with served([tiny_card(model)], folder / "pictures", access=access) as found:
            yield found, access


def connect(found: tuple[Site, Access], owner: bool = False) -> BrowserClient:
    site, access = found
    name, value = access.owner_cookie if owner else (access.guest_cookie_name, access.log_in("", PASSWORD, "test"))
    return BrowserClient(urlsplit(site.url).port or 0, f"{name}={value}")


def idle(site: Site) -> bool:
    """Whether Gradio's queue is empty and no thread watches a job."""
    queue, app = site.demo._queue, site.demo.app
    watching = [frame for frame in sys._current_frames().values() if _is_in(frame, watch.__code__)]
    return not (any(queue.active_jobs) or len(queue) or queue.event_ids_to_events or app.iterators or watching)


def _is_in(frame: Any, code: CodeType) -> bool:
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("moment", ["before it listens", "queued", "step 3", "decode"])
def test_a_client_that_vanishes_holds_up_no_other_and_its_picture_is_kept(
    site: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    here, gate = site[0], site[0].gate
    here.settle()
    painting, go_on = threading.Event(), threading.Event()
    if moment == "decode":
        monkeypatch.setattr("pipelines.jobs.runner._decode", _held("pipelines.jobs.runner", painting, go_on))
    else:
        gate.hold_at(3)
    first = connect(site).press("generate", prompt="first") if moment in ("queued", "before it listens") else None
    if first:
        gate.wait_for(3)
    gone = connect(site).press("generate", prompt="gone")
    if moment == "step 3":
        assert gone.until("running")
        gate.wait_for(3)
    elif moment == "decode":
        assert gone.until("decoding") and painting.wait(SECONDS)
    elif moment == "queued":
        assert gone.until("queued")
    wait_for(lambda: len(here.backend.jobs) == 1 + (first is not None))
    gone.disconnect()
    next_one = connect(site, owner=True).press("generate", prompt="next")
    assert next_one.until("queued")
    gate.open()
    go_on.set()
    assert next_one.finish()["state"] == "done"
    if first:
        assert first.finish()["state"] == "done"
    job = next(job for job in here.backend.jobs if job.request.prompt == "gone")
    last = list(job.events())[-1]
    assert isinstance(last, Finished) and read_request(last.pictures[0].path).prompt == "gone"
    wait_for(lambda: idle(here))


def _held(module: str, there: threading.Event, go_on: threading.Event) -> Callable[..., Any]:
    real = sys.modules[module]._decode

    def decode(*given: Any) -> Any:
        there.set()
        assert go_on.wait(SECONDS)
        return real(*given)

    return decode


def test_a_page_that_comes_back_finds_what_it_left(site: tuple[Site, Access]) -> None:
    here = site[0]
    here.settle()
    here.gate.hold_at(3)
    guest = connect(site)
    gone = guest.press("generate", prompt="left")
    assert gone.until("running")
    gone.disconnect()
    here.gate.open()
    job = here.backend.jobs[-1]
    assert isinstance(list(job.events())[-1], Finished)
    assert any(isinstance(event, Decoding) for event in job.poll())
    assert here.backend.find(job.id, job.user) is job


def test_an_upload_that_breaks_off_leaves_no_file(site: tuple[Site, Access]) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    connections = site[0].demo.server.server_state.connections
    guest = connect(site)
    wait_for(lambda: not connections)
    unfinished = guest.half_upload()
    wait_for(lambda: [path for path in folder.glob("tmp*") if path.is_file()])
    unfinished.close()
    wait_for(lambda: not [path for path in folder.glob("tmp*") if path.is_file()])
    assert TempFiles(folder).sweep() == 0
    assert Path(guest.upload("whole.png", b"x")["path"]).exists() and TempFiles(folder).sweep() == 0


def test_messages_without_a_reader_are_dropped_and_the_picture_is_kept(
    site: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, queue = site[0], site[0].demo._queue
    here.settle()
    monkeypatch.setattr(session_cleanup, "UNREAD_SECONDS", 0.0)
    silent = connect(site).press("generate", prompt="unheard")
    heard = connect(site).press("generate", prompt="heard")
    assert heard.finish()["state"] == "done"
    wait_for(lambda: len(here.backend.jobs) == 2 and all(job.done for job in here.backend.jobs))
    wait_for(lambda: idle(here))
    assert not queue.pending_messages_per_session[silent.session].empty()
    guest = connect(site)
    # The first run notes the oldest messages, the second finds them unread.
    assert poll_status(guest, "any").status == poll_status(guest, "any").status == 200
    assert silent.session not in queue.pending_messages_per_session
    assert not {silent.session, heard.session} & set(queue.pending_event_ids_session)
    assert [list(job.events())[-1].pictures[0].path.exists() for job in here.backend.jobs] == [True, True]


def test_old_sessions_are_dropped(site: tuple[Site, Access], monkeypatch: pytest.MonkeyPatch) -> None:
    holder = site[0].demo.app.state_holder
    assert holder.capacity == page.SESSIONS
    monkeypatch.setattr(holder, "capacity", 5)
    guest = connect(site)
    for k in range(8):
        assert poll_status(guest, f"page{k}").status == 200
    assert "page7" in holder and "page0" not in holder
