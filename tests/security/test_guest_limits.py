"""Guests cannot use up the disk, the memory, the threads or the connections."""

from __future__ import annotations

import base64
import io
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile_requests import API, Client, PageFunction, page_functions, unfinished_events
from pipelines.images import uploads
from pipelines.jobs.users import User
from tests.support.shared_site import (
    assert_owner_can_generate,
    client_of,
    function_number,
    png,
    resident_bytes,
    shared_site,
    upload,
)
from tests.support.site import Site
from tests.support.waiting import wait_for
from ui.components.image_upload import ImageUpload
from ui.server import limits
from ui.server.access import Access
from ui.server.middleware import MAX_UPLOAD_BYTES


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    with shared_site(tmp_path_factory.mktemp("limits")) as found:
        yield found


def bomb(side: int) -> bytes:
    """A PNG of so many pixels a side, black and white, all black, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8) * 100
    data = b"".join(pack.compress(row) for _ in range(side // 100)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_guest_cannot_fill_the_disk_with_files(shared) -> None:
    guest = client_of(shared, "guest")
    statuses = [
        upload(guest, (f"{k}.png", png()), ("more.png", png())).status for k in range(limits.UPLOADS_AN_HOUR + 20)
    ]
    assert statuses == [200] * limits.UPLOADS_AN_HOUR + [429] * 20
    # Nor with thousands in one, nor with what does not say how long it is.
    guest = client_of(shared, "guest")
    assert upload(guest, *[("x", b"")] * 5000).status in (400, 413)
    announced = {"Content-Length": str(MAX_UPLOAD_BYTES + 1)}
    assert guest.request("POST", f"{API}/upload", b"x", more=announced).status == 413
    assert upload(client_of(shared, "owner"), ("x.png", png())).status == 200
    assert_owner_can_generate(shared)


def image_functions(site: Site, client: Client) -> list[PageFunction]:
    """Functions of the server that take a picture."""
    takes = {k for k, fn in site.demo.fns.items() if fn.fn and any(isinstance(b, ImageUpload) for b in fn.inputs)}
    return [function for function in page_functions(client.config()) if function.number in takes]


def with_file(site: Site, function: PageFunction, path: str) -> list[Any]:
    """What the page would send with a file in place of every picture."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
    inputs = site.demo.fns[function.number].inputs
    return [file if isinstance(b, ImageUpload) else v for b, v in zip(inputs, function.page_values, strict=True)]


def test_a_decompression_bomb_is_refused_before_it_is_decoded(shared) -> None:
    site, _ = shared
    guest, before = client_of(shared, "guest"), resident_bytes()
    data = bomb(30_000)
    assert len(data) < 200_000
    answer = upload(guest, ("bomb.png", data))
    path = re.findall(r'"([^"]+)"', answer.body)[0]
    told = []
    for function in image_functions(site, guest):
        body = {
            "fn_index": function.number,
            "data": with_file(site, function, path),
            "session_hash": f"bomb{function.number}",
        }
        assert guest.post(f"{API}/queue/join", body).status == 200
        said = guest.outcome(f"bomb{function.number}")
        assert "close_stream" in said.body
        told += re.findall(r"This picture is too large[^\"\\]*", said.body)
    assert len(told) >= 3
    # Painted, too: as the mask of a part.
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    number = next(k for k, fn in site.demo.fns.items() if getattr(fn.fn, "__name__", "") == "paint")
    for k in range(8):
        body = {"fn_index": number, "data": [None], "event_data": {"key": "x", "uri": uri}, "session_hash": "paint"}
        assert guest.post(f"{API}/queue/join", body).status == 200, k
        assert "close_stream" in guest.outcome("paint").body
    assert resident_bytes() - before < 150 * 2**20
    assert_owner_can_generate(shared)


def test_waiting_calls_of_a_guest_leave_threads_to_the_owner(shared) -> None:
    site, _ = shared
    guest = client_of(shared, "guest")
    make, look = function_number(site, "generate"), function_number(site, "attach")
    given = next(function.page_values for function in page_functions(guest.config()) if function.number == make)
    site.settle()
    site.gate.hold_at(1)
    try:
        body = {"fn_index": make, "data": list(given), "session_hash": "many"}
        assert guest.post(f"{API}/queue/join", body).status == 200
        site.gate.wait_for(1)
        body = {"fn_index": look, "data": [site.backend.jobs[-1].id], "session_hash": "many"}
        statuses = [guest.post(f"{API}/queue/join", body).status for _ in range(limits.GUEST_CALLS + 20)]
        assert statuses == [200] * (limits.GUEST_CALLS - 1) + [429] * 21
        assert len(unfinished_events(site.demo, 0.1)) == limits.GUEST_CALLS
        assert client_of(shared, "owner").request("GET", "/config").status == 200
        # The owner did not have to wait for one of them.
        assert len(unfinished_events(site.demo, 0.1)) == limits.GUEST_CALLS
    finally:
        site.settle()
    assert unfinished_events(site.demo) == []
    assert_owner_can_generate(shared)


def test_sessions_of_a_guest_are_limited_by_the_hour(shared) -> None:
    site, _ = shared
    guest, quick = client_of(shared, "guest"), function_number(site, "tick")
    codes = [
        guest.post(f"{API}/run/predict", {"fn_index": quick, "data": [], "session_hash": f"page{k}"}).status
        for k in range(limits.SESSIONS_AN_HOUR + 10)
    ]
    assert codes == [200] * limits.SESSIONS_AN_HOUR + [429] * 10


def noise_png(seed: int, side: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def prepare(site: Site, guest: Client, session: str, picture: bytes, **values: Any) -> str:
    """Have the image-to-image tab prepare a picture; what the server said."""
    path = re.findall(r'"([^"]+)"', upload(guest, ("x.png", picture)).body)[0]
    number = next(k for k, fn in site.demo.fns.items() if fn.fn and fn.fn.__qualname__ == "wire.<locals>.update")
    function = next(one for one in page_functions(guest.config()) if one.number == number)
    data = with_file(site, function, path)
    for k, block in enumerate(site.demo.fns[number].inputs):
        for name, value in values.items():
            if getattr(block, "elem_id", None) == name:
                data[k] = value
    return call(guest, number, session, data)


def call(client: Client, number: int, session: str, data: list[Any]) -> str:
    body = {"fn_index": number, "data": data, "session_hash": session}
    assert client.post(f"{API}/queue/join", body).status == 200
    return client.outcome(session).body


def test_a_guests_pictures_are_read_one_at_a_time_and_written_only_for_a_run(
    shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = shared
    inputs, decoding, most = site.backend.inputs, [0], []
    read = uploads.read_upload

    def counted(*given: Any) -> Any:
        decoding[0] += 1
        most.append(decoding[0])
        try:
            return read(*given)
        finally:
            decoding[0] -= 1

    monkeypatch.setattr(uploads, "read_upload", counted)
    guest, before = client_of(shared, "guest"), sum(1 for _ in inputs.folder.rglob("*.png"))
    pictures = [noise_png(k, 300) for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda k: prepare(site, guest, f"slots{k}", pictures[k]), range(4)))
    assert all('"success":true' in one for one in said), said
    assert max(most) == 1 and len(most) >= 4
    assert sum(1 for _ in inputs.folder.rglob("*.png")) == before
    # Larger than guests may read, and not too large for the owner.
    large = io.BytesIO()
    Image.new("L", (4200, 4200)).save(large, "PNG")
    assert "at most 16 million pixels" in prepare(site, guest, "large", large.getvalue())
    assert "million pixels" not in prepare(site, client_of(shared, "owner"), "large", large.getvalue())


def test_a_guests_questions_wait_for_the_owners_run(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise levels of a picture, which a generator asks for after its first value."""
    site, _ = shared
    guest, owner = client_of(shared, "guest"), client_of(shared, "owner")
    asked: list[User] = []
    take = site.backend._tasks.add_query
    monkeypatch.setattr(site.backend._tasks, "add_query", lambda query: (asked.append(query.user), take(query)))
    assert '"success":true' in prepare(site, guest, "levels", noise_png(7, 64))
    draw = next(
        k for k, fn in site.demo.fns.items() if fn.fn and getattr(fn.fn, "__qualname__", "") == "wire.<locals>.draw"
        and fn.fn.__module__.endswith("strength_strip")
    )  # fmt: skip
    values = next(list(one.page_values) for one in page_functions(guest.config()) if one.number == draw)
    site.settle()
    site.gate.hold_at(1)
    try:
        event = owner.post(f"{API}/call/text_to_image", {"data": ["a fox", *[None] * 9]})
        assert event.status == 200
        site.gate.wait_for(1)
        said: list[str] = []
        looking = threading.Thread(target=lambda: said.append(call(guest, draw, "levels", values)))
        looking.start()
        wait_for(lambda: site.backend._tasks.jobs.queries())
    finally:
        site.settle()
    looking.join(60)
    assert '"state":"open"' in said[0].replace(" ", ""), said[0][-500:]
    assert asked and all(not user.owner and user.guest for user in asked)
