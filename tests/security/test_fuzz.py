"""A running server under requests that nobody means well with: over raw HTTP, as owner, guest and stranger."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import secrets
import socket
import struct
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.browser.site import Site, served, tiny_card
from tests.security.fuzzing import API, Answer, Caller, Way, attack, stuck, ways
from tests.tiny import make_tiny_model
from ui import gate, patience
from ui.gate import Door

PASSWORD = "correct horse battery"
ROOT = Path(__file__).resolve().parents[2]
OURS = ("app.py", "pipelines", "presets", "ui")
# Calls that are drawn for each visitor; a long run takes more.
CASES = 100


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Door]]:
    """A page that is shared."""
    folder = tmp_path_factory.mktemp("stormed")
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    door = Door(b"k" * 32, 1, password=PASSWORD)
    with served([tiny_card(model)], folder / "pictures", door=door) as site:
        yield site, door
        site.settle()


def caller(shared: tuple[Site, Door], who: str) -> Caller:
    """The owner, a new guest or a stranger."""
    site, door = shared
    shown = {
        "owner": "=".join(door.owner_cookie),
        "guest": f"{door.guest_cookie_name}={door.log_in('', PASSWORD, who)}",
        "stranger": "",
    }
    return Caller(site.url, shown[who])


def works(shared: tuple[Site, Door]) -> None:
    """The owner's next picture is made."""
    owner = caller(shared, "owner")
    asked = owner.post(f"{API}/call/text_to_image", {"data": ["a fox", *[None] * 9]})
    assert asked.status == 200, asked
    event = re.search(r'"event_id":"(\w+)"', asked.body)
    assert event
    said = owner.ask("GET", f"{API}/call/text_to_image/{event.group(1)}")
    assert "event: complete" in said.body, said


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


# -- anything, everywhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["owner", "guest", "stranger"])
def test_whatever_is_sent_gets_a_plain_answer(shared, capfd: pytest.CaptureFixture[str], who: str) -> None:
    site, door = shared
    door.link_token()
    # The owner is told where files for models go.
    hidden = () if who == "owner" else (str(site.pictures.parent), PASSWORD)
    report = attack(site.url, caller(shared, who).cookie, CASES, 20, hidden)
    assert report.faults == []
    assert report.cases > 800 and {401} <= set(report.statuses)
    assert who == "stranger" or report.statuses[200] > 300
    assert stuck(site.demo) == [] and threads_at_work() == []
    log = "".join(capfd.readouterr())
    assert own_errors(log) == []
    works(shared)


def test_an_attack_sees_what_is_wrong() -> None:
    """The test of the test: an answer with a traceback, or none, is a fault."""
    from tests.security.fuzzing import Report

    report = Report()
    for answer in (
        Answer(500, "", "x"), Answer(0, "", ""), Answer(200, "", 'File "/x.py", line 3'), Answer(200, "", "my/folder"),
        Answer(200, "", "fine"), Answer(404, "", "There is nothing here."),
    ):  # fmt: skip
        report.note("it", answer, ["my/folder"])
    assert len(report.faults) == 4 and report.cases == 6
    assert own_errors(f'Traceback (most recent call last)\n  File "{ROOT}/ui/x.py", line 3\nKeyError') != []
    assert own_errors(f'Traceback (most recent call last)\n  File "{ROOT}/.venv/x.py", line 3\nKeyError') == []


def test_the_storm_covers_every_function_and_is_the_same_each_time(shared) -> None:
    site, _ = shared
    found = ways(caller(shared, "guest").config())
    assert {way.number for way in found} == set(site.demo.fns)
    assert {"text_to_image", "image_to_image", "inpaint", "denoising_steps"} <= {way.name for way in found}


# -- numbers beyond reason -------------------------------------------------------------------------------------------

BEYOND = (10**9, -1, 2**200, 1e308, float("nan"), float("inf"), "x" * 10**6, [0.5] * 5000, {"a": [None] * 3000})


def resident() -> int:
    """Bytes of memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        pytest.skip("only Linux says this")


def generating(site: Site, way: Way) -> bool:
    return getattr(site.demo.fns[way.number].fn, "__name__", "") == "generate"


def test_numbers_beyond_reason_are_refused_in_a_sentence_by_the_api(shared) -> None:
    site, _ = shared
    owner, before = caller(shared, "owner"), resident()
    names = "prompt negative_prompt model scheduler num_inference_steps guidance_scale seed width height num_images"
    made = len(site.backend.jobs)
    for k, name in enumerate(names.split()):
        for value in BEYOND:
            data: list[Any] = ["a fox", *[None] * 9]
            data[k] = value
            asked = owner.post(f"{API}/call/text_to_image", {"data": data})
            event = re.search(r'"event_id":"(\w+)"', asked.body)
            assert asked.status == 200 and event, asked
            said = owner.ask("GET", f"{API}/call/text_to_image/{event.group(1)}").body
            fine = name == "seed" and value == 10**9
            assert ("event: complete" if fine else "event: error") in said, (name, str(value)[:50], said[:500])
            assert fine or re.search(r'"error": "[^"\\]+[.]', said), (name, str(value)[:50], said[:500])
            assert len(said) < 3000
    assert len(site.backend.jobs) == made + 1
    assert resident() - before < 200 * 2**20


def test_numbers_beyond_reason_are_refused_by_the_page(shared) -> None:
    site, _ = shared
    guest, before, n = caller(shared, "guest"), resident(), 0
    for way in ways(guest.config()):
        if not generating(site, way):
            continue
        for k in range(len(way.given)):
            for value in BEYOND[k % 4 :: 4]:
                data = list(way.given)
                data[k] = value
                body = {"fn_index": way.number, "data": data, "session_hash": f"beyond{way.number}"}
                answer = guest.post(f"{API}/queue/join", body)
                if answer.status == 429:  # a guest's calls of a minute
                    guest = caller(shared, "guest")
                    answer = guest.post(f"{API}/queue/join", body)
                assert answer.status == 200, answer
                said = guest.outcome(f"beyond{way.number}")
                assert "close_stream" in said.body and "Traceback" not in said.body
                n += 1
    assert n > 120 and stuck(site.demo) == []
    for job in site.backend.jobs:
        asked = job.request
        assert asked.width * asked.height * asked.sampling.num_inference_steps <= 64 * 64 * 150
    site.settle()
    assert resident() - before < 300 * 2**20


# -- floods ----------------------------------------------------------------------------------------------------------


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Files as a form, and its kind."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\n\r\n'
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, b"--b--\r\n"]), "multipart/form-data; boundary=b"


def upload(who: Caller, *files: tuple[str, bytes]) -> Answer:
    body, kind = form(list(files))
    return who.ask("POST", f"{API}/upload", body, kind)


def bomb(side: int) -> bytes:
    """A PNG of so many pixels a side, black and white, all black, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8) * 100
    data = b"".join(pack.compress(row) for _ in range(side // 100)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "PNG")
    return file.getvalue()


def test_a_guest_cannot_fill_the_disk_with_files(shared) -> None:
    guest = caller(shared, "guest")
    statuses = [upload(guest, (f"{k}.png", png()), ("more.png", png())).status for k in range(gate.UPLOADS + 20)]
    assert statuses == [200] * gate.UPLOADS + [429] * 20
    # Nor with thousands in one, nor with what does not say how long it is.
    guest = caller(shared, "guest")
    assert upload(guest, *[("x", b"")] * 5000).status in (400, 413)
    announced = {"Content-Length": str(gate.MAX_UPLOAD + 1)}
    assert guest.ask("POST", f"{API}/upload", b"x", more=announced).status == 413
    assert upload(caller(shared, "owner"), ("x.png", png())).status == 200
    works(shared)


def dropping(site: Site, who: Caller) -> list[Way]:
    """Functions that take a picture."""
    takes = {k for k, fn in site.demo.fns.items() if any(type(b).__name__ == "Dropped" for b in fn.inputs)}
    return [way for way in ways(who.config()) if way.number in takes]


def with_file(site: Site, way: Way, path: str) -> list[Any]:
    """What the page would send with a file in place of every picture."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
    inputs = site.demo.fns[way.number].inputs
    return [file if type(b).__name__ == "Dropped" else v for b, v in zip(inputs, way.given, strict=True)]


def test_a_bomb_of_a_picture_is_refused_before_it_unfolds(shared) -> None:
    site, _ = shared
    guest, before = caller(shared, "guest"), resident()
    data = bomb(30_000)
    assert len(data) < 200_000
    answer = upload(guest, ("bomb.png", data))
    path = re.findall(r'"([^"]+)"', answer.body)[0]
    told = []
    for way in dropping(site, guest):
        body = {"fn_index": way.number, "data": with_file(site, way, path), "session_hash": f"bomb{way.number}"}
        assert guest.post(f"{API}/queue/join", body).status == 200
        said = guest.outcome(f"bomb{way.number}")
        assert "close_stream" in said.body
        told += re.findall(r"This picture is too large[^\"\\]*", said.body)
    assert len(told) >= 3
    # Painted, too: as the mask of a part.
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    number = next(k for k, fn in site.demo.fns.items() if getattr(fn.fn, "__name__", "") == "paint")
    for k in range(30):
        body = {"fn_index": number, "data": [None], "event_data": {"key": "x", "uri": uri}, "session_hash": "paint"}
        assert guest.post(f"{API}/queue/join", body).status == 200, k
        assert "close_stream" in guest.outcome("paint").body
    assert resident() - before < 150 * 2**20
    works(shared)


def named(site: Site, name: str) -> int:
    """The first of the page's functions with this name."""
    return next(k for k, fn in site.demo.fns.items() if getattr(fn.fn, "__name__", "") == name)


def test_calls_of_a_guest_that_wait_leave_threads_to_the_owner(shared) -> None:
    site, _ = shared
    guest = caller(shared, "guest")
    make, look = named(site, "generate"), named(site, "attach")
    given = next(way.given for way in ways(guest.config()) if way.number == make)
    site.settle()
    site.gate.hold_at(1)
    try:
        body = {"fn_index": make, "data": list(given), "session_hash": "many"}
        assert guest.post(f"{API}/queue/join", body).status == 200
        site.gate.wait_for(1)
        body = {"fn_index": look, "data": [site.backend.jobs[-1].id], "session_hash": "many"}
        statuses = [guest.post(f"{API}/queue/join", body).status for _ in range(gate.GUEST_CALLS + 20)]
        assert statuses == [200] * (gate.GUEST_CALLS - 1) + [429] * 21
        assert len(stuck(site.demo, 0.1)) == gate.GUEST_CALLS
        began = time.monotonic()
        assert caller(shared, "owner").ask("GET", "/config").status == 200 and time.monotonic() - began < 8
    finally:
        site.settle()
    assert stuck(site.demo) == []
    works(shared)


def test_a_guest_opens_so_many_pages_an_hour(shared) -> None:
    site, _ = shared
    guest, quick = caller(shared, "guest"), named(site, "tick")
    codes = [
        guest.post(f"{API}/run/predict", {"fn_index": quick, "data": [], "session_hash": f"page{k}"}).status
        for k in range(gate.PAGES_AN_HOUR + 10)
    ]
    assert codes == [200] * gate.PAGES_AN_HOUR + [429] * 10


def test_a_guests_calls_of_a_minute_come_back() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    door, guest = Door(b"k" * 32, clock=clock), gate.Visitor("anna")
    assert [door.calls(guest, "p") for _ in range(gate.CALLS_A_MINUTE + 1)] == [True] * gate.CALLS_A_MINUTE + [False]
    assert door.calls(gate.OWNER, "p") and door.calls(gate.Visitor("bert"), "p")
    clock.now = 61
    assert door.calls(guest, "p")


# -- whoever is slow -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lines(site: Site, count: int) -> Iterator[list[socket.socket]]:
    """So many connections."""
    place = urlsplit(site.url)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((place.hostname or "", place.port or 80), timeout=10))
            for _ in range(count)
        ]


def crumbs(line: socket.socket, piece: bytes, pause: float, seconds: float) -> float:
    """Send a piece again and again; the seconds until the other side has hung up, or inf."""
    began = time.monotonic()
    line.settimeout(pause)
    while time.monotonic() - began < seconds:
        try:
            line.sendall(piece)
            if line.recv(1 << 16) == b"":
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    return float("inf")


def wait_until(met: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not met() and time.monotonic() < until:
        time.sleep(0.02)
    return met()


def test_silent_connections_never_keep_the_owner_out(shared) -> None:
    site, _ = shared
    owner = caller(shared, "owner")
    there = site.demo.server.server_state.connections
    with lines(site, 3 * patience.MAX_IDLE) as many:
        for line in many:
            with contextlib.suppress(OSError):
                line.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert wait_until(lambda: len(there) <= patience.MAX_IDLE + 2)
        for _ in range(5):
            began = time.monotonic()
            assert owner.ask("GET", "/theme.css").status == 200
            assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nG"]
)
def test_a_head_that_never_ends_is_not_waited_for(shared, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.5)
    site, _ = shared
    with lines(site, 1) as (line,):
        line.sendall(begun)
        assert crumbs(line, b"x" if begun else b"", 0.05, 15) < 12


def test_a_body_that_never_ends_is_not_waited_for(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.5)
    site, _ = shared
    guest = caller(shared, "guest")
    json, some = "application/json", "multipart/form-data; boundary=x"
    ways_in = ((f"{API}/upload", some), (f"{API}/queue/join", json), (f"{API}/cancel", json), ("/login", some))
    for path, kind in ways_in:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {guest.cookie}\r\nContent-Length: 1000000\r\n"
            f"Content-Type: {kind}\r\nConnection: close\r\n\r\n"
        )
        with lines(site, 1) as (line,):
            begun = (
                b"" if kind == json else b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
            )
            line.sendall(head.encode() + begun)
            assert 0.3 < crumbs(line, b" ", 0.05, 15) < 12, path


def test_requests_of_one_guest_and_of_strangers_are_bounded(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _ = shared
    guest = caller(shared, "guest")
    tails = {
        f"{API}/queue/join": (f"Cookie: {guest.cookie}\r\n", gate.GUEST_REQUESTS),
        "/login": ("", gate.STRANGERS_REQUESTS),
    }
    for path, (cookie, most) in tails.items():
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}Content-Length: 1000\r\n\r\nx"
        with lines(site, most + 10) as many:
            for line in many:
                line.sendall(head.encode())
            refused = 0
            for line in many:
                # The last ones are refused at once, the first ones not at all.
                line.settimeout(0.05 if refused or line is not many[most] else 5)
                with contextlib.suppress(TimeoutError):
                    refused += b" 429 " in line.recv(1000)
            assert refused == 10
            assert caller(shared, "owner").ask("GET", "/theme.css").status == 200
    # They are let in again once they have gone.
    assert wait_until(lambda: guest.ask("GET", "/theme.css").status == 200)


def test_an_answer_that_nobody_reads_is_not_kept(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "READ_SECONDS", 0.5)
    monkeypatch.setattr(patience, "HEAD_SECONDS", 1.0)
    site, _ = shared
    guest = caller(shared, "guest")
    place = urlsplit(site.url)
    there = site.demo.server.server_state.connections
    assert wait_until(lambda: not there)
    asked = f"GET /config HTTP/1.1\r\nHost: localhost\r\nCookie: {guest.cookie}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect((place.hostname, place.port))
            line.sendall(asked * 100)
        assert wait_until(lambda: len(there) > 0)
        assert caller(shared, "owner").ask("GET", "/theme.css").status == 200
        assert wait_until(lambda: not there, 15)


# -- addresses -------------------------------------------------------------------------------------------------------


class Counting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png())

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server of this computer, and what it was asked for."""
    server = HTTPServer(("127.0.0.1", 0), Counting)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.mark.parametrize("who", ["owner", "guest"])
def test_no_address_is_opened_for_anybody(shared, elsewhere, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    site, _ = shared
    url, asked = elsewhere
    looked: list[str] = []
    real = socket.getaddrinfo

    def noted(host: Any, *more: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in ("127.0.0.1", "localhost"):
            looked.append(name)
            raise socket.gaierror("not here")
        return real(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    one, n = caller(shared, who), 0
    for address in (f"{url}/x.png", "http://pictures.example/x.png", "https://pictures.example/x.png"):
        file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
        for way in ways(one.config()):
            takes = any(
                type(b).__name__ in ("Dropped", "Api", "Textbox", "Radio") for b in site.demo.fns[way.number].inputs
            )
            if not (takes and way.given):
                continue
            body = {"fn_index": way.number, "data": [file] * len(way.given), "session_hash": "ssrf"}
            path = f"{API}/queue/join" if way.queued else f"{API}/run/predict"
            if one.post(path, body).status == 200 and way.queued:
                assert "close_stream" in one.outcome("ssrf").body
            n += 1
        for path in (f"{API}/file={address}", f"/file={address}", f"{API}/proxy={address}", f"{API}/file= {address}"):
            assert one.ask("GET", path.replace(" ", "%20")).status in (400, 403, 404), path
    assert n > 60
    assert asked == [] and looked == []


# -- files -----------------------------------------------------------------------------------------------------------


def spelled(path: str) -> Iterator[str]:
    """A path, and ways to write it that have fooled somebody."""
    coded = path.replace("/", "%2f").replace(".", "%2e")
    yield from (path, f"/{path}", coded, coded.replace("%", "%25"), path.replace("/", "\\"), path.replace("/", "%5c"))
    yield from (f"./{path}", path.replace("/", "//"), path + "%00.png", path + "?x=.png", path + "%20", path + ".")
    yield from (f"file://{path}", path.replace("/", "/./"), path.replace("/", "%c0%af"), path.upper(), f"~{path}")


PREFIXES = (
    f"{API}/file=", f"{API}/file/", "/file=", "/file/", f"{API}/stream/", "/static/", "/assets/", "/svelte/",
    f"{API}/custom_component/", f"{API}/file=/static/../", "/static/..%2f..%2f..%2f..%2f..%2f..%2f", "/assets/../../",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e", "/svelte/..%252f..%252f..%252f", "/",
)  # fmt: skip


def test_nothing_but_what_the_page_shows_is_served(shared, tmp_path: Path) -> None:
    site, _ = shared
    data = site.pictures.parent
    secret = "the-very-secret"
    (data / "owner.key").write_text(secret)
    (site.pictures / "mine.png").write_text(secret)
    (site.pictures / "drawn.svg").write_text(f"<svg>{secret}</svg>")
    link = site.pictures / "innocent.png"
    link.unlink(missing_ok=True)
    link.symlink_to(data / "owner.key")
    targets = ["/etc/passwd", *(str(p) for p in (data / "owner.key", site.pictures / "mine.png", link))]
    targets += [str(site.pictures / "drawn.svg"), f"{site.pictures}/../owner.key", "app.py", "../app.py", "ui/gate.py"]
    guest, n = caller(shared, "guest"), 0
    for target in targets:
        for prefix in PREFIXES:
            for path in spelled(target):
                answer = guest.ask("GET", prefix + path, seconds=5)
                n += 1
                assert answer.status in (303, 400, 401, 403, 404, 405), (answer.status, prefix + path)
                assert secret not in answer.body and "root:" not in answer.body
    assert n > 2000


def test_a_file_of_somebody_else_has_a_name_that_nobody_guesses(shared) -> None:
    """Whoever has been told of a file gets it; its name is a hash of all that is in it, so nobody finds it out."""
    one, other, stranger = (caller(shared, who) for who in ("guest", "guest", "stranger"))
    content = secrets.token_bytes(64)
    path = re.findall(r'"([^"]+)"', upload(one, ("mine.png", content)).body)[0]
    assert re.search(r"/[0-9a-f]{64}/[^/]+$", path)
    assert one.ask("GET", f"{API}/file={path}").status == 200
    assert stranger.ask("GET", f"{API}/file={path}").status == 401
    parent, name = path.rsplit("/", 1)
    for near in (
        parent,
        f"{parent}/",
        f"{parent}/other.png",
        f"{parent.rsplit('/', 1)[0]}/{name}",
        parent[:-1] + "/" + name,
    ):
        assert other.ask("GET", f"{API}/file={near}").status in (400, 403, 404), near


def test_what_a_guest_uploads_is_never_shown_as_a_page(shared) -> None:
    guest = caller(shared, "guest")
    for name in ("x.svg", "x.html", "x.xhtml", "x.xml", "x.js", "x.pdf", "x.png.html", "x", "x.shtml", "x.mhtml"):
        answer = upload(guest, (name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/><script>1</script>"))
        path = re.findall(r'"([^"]+)"', answer.body)[0]
        head = guest.ask("GET", f"{API}/file={path}").head.lower()
        assert "content-security-policy" in head and "x-content-type-options: nosniff" in head
        assert "content-disposition: attachment" in head and "application/octet-stream" in head, (name, head)
