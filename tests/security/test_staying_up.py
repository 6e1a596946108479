"""What holds when visitors vanish, come in crowds, and when the program is ended or killed while it works.

Most of it is asked of the program itself, a process of its own; ``make soak`` does the same for long.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from benchmarks.soak import killed, whole
from benchmarks.visits import ROOT, Answer, Server, Stream, Visit
from pipelines import files
from pipelines.events import Decoding, Finished
from pipelines.pictures import read_request
from tests.browser.site import Site, served, tiny_card
from tests.security.test_sharing import program
from tests.tiny import make_tiny_model
from ui import forgetting, page
from ui.gate import Door

PASSWORD = "correct horse battery"
SECONDS = 60.0
# So many pictures with so many steps take longer than any of these tests.
LONG = {"steps": 100, "count": 4}
SHORT = {"steps": 2, "count": 1}


def soon(what: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"this never held: {what()}"
        time.sleep(0.05)


def foot(visit: Visit, session: str) -> Answer:
    """What the foot of the page says, as a page of this name hears it."""
    status = next(part["id"] for part in visit.config["components"] if part["props"].get("elem_id") == "status")
    clock = next(fn for fn in visit.config["dependencies"] if status in fn["outputs"])
    body = {"fn_index": clock["id"], "data": [None] * len(clock["inputs"]), "session_hash": session}
    return visit.post("/run/predict", body)


# -- visitors who vanish, moment by moment (in this process, where the sampler can be held) ---------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Door]]:
    folder = tmp_path_factory.mktemp("site")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    door = Door(b"k" * 32, 1, password=PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "scratch"))
        with served([tiny_card(model)], folder / "pictures", door=door) as found:
            yield found, door


def visitor(found: tuple[Site, Door], owner: bool = False) -> Visit:
    site, door = found
    name, value = door.owner_cookie if owner else (door.guest_cookie_name, door.log_in("", PASSWORD, "test"))
    return Visit(urlsplit(site.url).port or 0, f"{name}={value}")


def idle(site: Site) -> bool:
    """Whether Gradio's queue holds nothing for anybody, and no thread watches a job."""
    queue, app = site.demo._queue, site.demo.app
    watching = [frame for frame in sys._current_frames().values() if _is_in(frame, "stream.py", "watch")]
    return not (any(queue.active_jobs) or len(queue) or queue.event_ids_to_events or app.iterators or watching)


def _is_in(frame: Any, file: str, function: str) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(file) and frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("moment", ["before it listens", "queued", "step 3", "decode"])
def test_whoever_vanishes_holds_nobody_up_and_the_picture_is_kept(
    site: tuple[Site, Door], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    here, gate = site[0], site[0].gate
    here.settle()
    painting, go_on = threading.Event(), threading.Event()
    if moment == "decode":
        monkeypatch.setattr("pipelines.backend._decode", _held("pipelines.backend", painting, go_on))
    else:
        gate.hold_at(3)
    first = visitor(site).press("generate", prompt="first") if moment in ("queued", "before it listens") else None
    if first:
        gate.wait_for(3)
    gone = visitor(site).press("generate", prompt="gone")
    if moment == "step 3":
        assert gone.until("running")
        gate.wait_for(3)
    elif moment == "decode":
        assert gone.until("decoding") and painting.wait(SECONDS)
    elif moment == "queued":
        assert gone.until("queued")
    soon(lambda: len(here.backend.jobs) == 1 + (first is not None))
    gone.cut()
    next_one = visitor(site, owner=True).press("generate", prompt="next")
    assert next_one.until("queued")
    gate.open()
    go_on.set()
    assert next_one.finish()["state"] == "done"
    if first:
        assert first.finish()["state"] == "done"
    job = next(job for job in here.backend.jobs if job.request.prompt == "gone")
    last = list(job.events())[-1]
    assert isinstance(last, Finished) and read_request(last.pictures[0].path).prompt == "gone"
    soon(lambda: idle(here))


def _held(module: str, there: threading.Event, go_on: threading.Event) -> Callable[..., Any]:
    real = sys.modules[module]._decode

    def decode(*given: Any) -> Any:
        there.set()
        assert go_on.wait(SECONDS)
        return real(*given)

    return decode


def test_a_page_that_comes_back_finds_what_it_left(site: tuple[Site, Door]) -> None:
    here = site[0]
    here.settle()
    here.gate.hold_at(3)
    guest = visitor(site)
    gone = guest.press("generate", prompt="left")
    assert gone.until("running")
    gone.cut()
    here.gate.open()
    job = here.backend.jobs[-1]
    assert isinstance(list(job.events())[-1], Finished)
    assert any(isinstance(event, Decoding) for event in job.poll())
    assert here.backend.find(job.id, job.visitor) is job


def test_an_upload_that_breaks_off_leaves_no_file_for_long(site: tuple[Site, Door]) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    guest = visitor(site)
    half = guest.half_upload()
    soon(lambda: [path for path in folder.glob("*") if path.is_file()])
    half.close()
    left = [path for path in folder.glob("*") if path.is_file()]
    for path in left:  # as if it had been an hour ago
        os.utime(path, (0, 0))
    assert guest.upload("whole.png", b"x")["path"]
    soon(lambda: not any(path.exists() for path in left))


def test_news_that_nobody_hears_are_forgotten_and_the_picture_is_kept(
    site: tuple[Site, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, queue = site[0], site[0].demo._queue
    here.settle()
    monkeypatch.setattr(forgetting, "UNHEARD_SECONDS", 0.0)
    deaf = visitor(site).press("generate", prompt="unheard")
    heard = visitor(site).press("generate", prompt="heard")
    assert heard.finish()["state"] == "done"
    soon(lambda: len(here.backend.jobs) == 2 and all(job.done for job in here.backend.jobs))
    soon(lambda: idle(here))
    assert not queue.pending_messages_per_session[deaf.session].empty()
    guest = visitor(site)
    # The first look notes what lies there, the second finds it again.
    assert foot(guest, "any").status == foot(guest, "any").status == 200
    assert deaf.session not in queue.pending_messages_per_session
    assert not {deaf.session, heard.session} & set(queue.pending_event_ids_session)
    assert [list(job.events())[-1].pictures[0].path.exists() for job in here.backend.jobs] == [True, True]


def test_pages_that_are_gone_are_forgotten(site: tuple[Site, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    holder = site[0].demo.app.state_holder
    assert holder.capacity == page.SESSIONS
    monkeypatch.setattr(holder, "capacity", 5)
    guest = visitor(site)
    for k in range(8):
        assert foot(guest, f"page{k}").status == 200
    assert "page7" in holder and "page0" not in holder


# -- the program itself ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("data"))
    try:
        yield found
    finally:
        found.kill()


def connections(server: Server) -> int:
    """Connections that the program still holds."""
    open_ones = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT) for one in open_ones)


def test_many_vanish_at_random_and_the_owner_goes_on(server: Server) -> None:
    dice = random.Random(7)
    owner = server.owner()
    assert owner.press("generate", **SHORT).finish()["state"] == "done"
    for guest in [server.guest() for _ in range(4)]:
        for _ in range(3):
            gone = guest.press("generate", steps=dice.randrange(2, 12), count=1)
            for _, _ in zip(gone.open().steps(), range(dice.randrange(6)), strict=False):
                pass
            gone.cut()
        guest.half_upload().close()
    assert owner.press("generate", **SHORT).finish()["state"] == "done"
    soon(lambda: "Queue empty" in foot(owner, "owner").text)
    soon(lambda: connections(server) == 0)
    # All that was accepted was made: nobody's leaving has stopped it.
    soon(lambda: len(list(server.pictures.glob("*.png"))) == 14)


def test_fifty_guests_at_once_and_the_owner_is_next(server: Server) -> None:
    owner = server.owner()
    guests = [server.guest() for _ in range(25)]
    before = set(server.pictures.glob("*.png"))
    long = guests[0].press("generate", prompt="long", **LONG)
    assert long.until("running")
    with ThreadPoolExecutor(50) as pool:
        crowd = list(pool.map(lambda k: _first_word(guests[k % 25], f"guest {k}"), range(50)))
        refused = [stream.problem() for stream in crowd if stream.problem()]
        # 32 may wait; everybody else hears why, and for how long.
        assert len(refused) == 50 - 32
        assert all(re.fullmatch(r"This computer is busy; try again in about (a minute|\d+ minutes)\.", text)
                   for text in refused), refused  # fmt: skip
        mine = owner.press("generate", prompt="mine", **SHORT)
        assert mine.until("queued") and mine.film()["text"] == "Queued, 2nd in line: 1 picture is made before yours"
        long.stop()
        places = pool.submit(lambda: [mine.film().get("text", "") for _ in mine.steps()])
        done = list(pool.map(lambda stream: stream.finish(), [one for one in crowd if not one.problem()]))
        assert not any("3rd" in text for text in places.result(SECONDS))
    assert [film["state"] for film in done] == ["done"] * 32
    made = sorted(set(server.pictures.glob("*.png")) - before)
    order = [read_request(path).prompt for path in made]
    assert order[0] == "mine" and len(order) == 33 and len(set(order)) == 33


def _first_word(guest: Visit, prompt: str) -> Stream:
    """Ask for a picture and listen until it is said whether there will be one."""
    stream = guest.press("generate", prompt=prompt, **SHORT)
    for _ in stream.steps():
        if stream.film() or stream.problem():
            return stream
    return stream


def test_asked_to_end_it_keeps_what_was_made_and_lets_nobody_hold_it(server: Server) -> None:
    """The last that is asked of this server."""
    guests = [server.guest() for _ in range(3)]
    early = guests[0].press("generate", **SHORT)
    early.finish()
    running = guests[0].press("generate", **LONG)
    assert running.until("running")
    waiting = guests[1].press("generate", **SHORT)
    assert waiting.until("queued")
    half = guests[2].half_upload()
    _, beat = guests[2]._begin("GET", "/gradio_api/heartbeat/abc")
    soon(lambda: connections(server) == 4)
    assert server.stop(10) == 0
    half.close()
    beat.cut()
    assert early.announced() and whole(server.pictures, early.announced()) == []
    # What ran is recorded as far as it came, and nothing is half written.
    assert (server.data / "traces" / f"{running.film()['run']}.json").is_file()
    assert not list(server.data.rglob("*.part"))
    assert not list(Path(tempfile.gettempdir()).glob(f"diffusion-playground-{server.process.pid}-*"))


SLOW = """
import time, app
create = app.create
app.create = lambda settings, **more: create(settings, on_step=lambda job, step: time.sleep(60), **more)
app.main()
"""


def test_asked_to_end_in_a_step_that_takes_a_minute_it_does_not_wait_for_it(tmp_path: Path) -> None:
    server = Server(tmp_path, entry=("-c", SLOW))
    try:
        assert server.owner().press("generate", **SHORT).until("running")
        assert server.stop(10) == 0
    finally:
        server.kill()


DEAF = """
import threading, time, app
threading.Thread(target=time.sleep, args=(60,)).start()
app.main()
"""


def test_asked_to_end_it_waits_for_no_thread_that_does_not_hear(tmp_path: Path) -> None:
    server = Server(tmp_path, entry=("-c", DEAF))
    try:
        assert server.stop(10) == 0
    finally:
        server.kill()


def test_asked_to_end_while_it_starts_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "app.py", "--no-open", "--offline", "--data-dir", str(tmp_path)]
    starting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        soon(lambda: (tmp_path / "pictures").exists() or starting.poll() is not None)
        # Twice: whoever asks again while it ends is not answered by a traceback.
        starting.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        starting.send_signal(signal.SIGTERM)
        said, _ = starting.communicate(timeout=20)
    finally:
        starting.kill()
    assert starting.returncode in (0, -signal.SIGTERM) and "Traceback" not in said


def test_killed_at_any_moment_it_starts_again_with_every_picture_that_it_told_of(tmp_path: Path) -> None:
    report = killed(tmp_path, kills=3, seed=3)
    assert report.starts == 4 and report.missing == [] and report.left == []
    assert report.announced > 1, "the kills came before anything was told, so that nothing was tried"


# -- what a killed program leaves ------------------------------------------------------------------------------------


def gone_pid() -> int:
    """The number of a process that is not there any more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_half_written_files_of_the_killed_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with files.appearing(tmp_path / "a.png") as file:
        file.write(b"x")
        (mine,) = tmp_path.glob(".*.part")
        dead = mine.with_name(mine.name.replace(str(os.getpid()), str(gone_pid())))
        dead.write_bytes(b"x")
        (tmp_path / ".other.part").write_bytes(b"x")
        assert files.sweep(tmp_path) == 1
        assert mine.exists() and not dead.exists() and (tmp_path / ".other.part").exists()
    assert (tmp_path / "a.png").read_bytes() == b"x"


def test_copies_of_a_killed_program_go_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = files.scratch()
    dead = tmp_path / f"diffusion-playground-{gone_pid()}-abc"
    dead.mkdir()
    (dead / "x.png").write_bytes(b"x")
    (tmp_path / "diffusion-playground-notes").mkdir()
    other = files.scratch()
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, tmp_path / "diffusion-playground-notes"])
    if os.name == "posix":
        assert mine.stat().st_mode & 0o077 == 0


KEEPER = """
import hashlib, sys, time
from pathlib import Path
from ui.tunnel import Client, Server, Tunnel
path = Path(sys.argv[1])
client = Client(path, hashlib.sha256(path.read_bytes()).hexdigest(), print, lambda: Server("127.0.0.1:1"))
tunnel = Tunnel(client, path.parent)
tunnel.start(7860)
print("up", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("mode", ["good", "stubborn"])
def test_the_tunnel_dies_with_the_program_that_made_it(tmp_path: Path, mode: str) -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(program(tmp_path, mode))], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert keeper.stdout is not None and keeper.stdout.readline() == "up\n"
        tunnels = psutil.Process(keeper.pid).children(recursive=True)
        assert any("tunnel_client.py" in word for one in tunnels for word in one.cmdline())
    finally:
        keeper.kill()
        keeper.wait()
    _, alive = psutil.wait_procs(tunnels, 20)
    for process in alive:
        process.kill()
    assert alive == []
