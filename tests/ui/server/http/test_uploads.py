"""Uploads: files are counted before Gradio opens them, and those of a broken upload are deleted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from pipelines.jobs.users import OWNER, User
from tests.support.shared_site import form
from ui.server import limits
from ui.server.http.bodies import BodyRefused
from ui.server.http.uploads import Uploads
from ui.server.limits import GuestQuotas

GUEST = User("guest")
TYPE = b"multipart/form-data; boundary=b"


def files(count: int) -> bytes:
    return form([("x", b"1")] * count)[0]


def gradio(folder: Path) -> Callable[..., Any]:
    """Gradio's own reading of uploads, with a temporary file for each part."""
    from gradio.route_utils import GradioMultiPartParser

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = Request(scope, receive).stream()
        headers = Headers(scope=scope)
        parser = GradioMultiPartParser(headers, stream, upload_dir=folder, max_file_size=float("inf"))  # type: ignore[arg-type]
        found = await parser.parse()
        await JSONResponse(len(found))(scope, receive, send)

    return app


async def send_upload(uploads: Uploads, user: User, *pieces: bytes, held: Any = None, kind: bytes = TYPE) -> int:
    """The status of one upload; with ``held``, its last bytes come when that event is set."""
    left, statuses = list(pieces), [0]

    async def receive() -> Any:
        if len(left) <= 1 and held:
            await held.wait()
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", statuses[-1]))

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind)]}
    try:
        await uploads.forward(scope, user, receive, send)
    except BodyRefused as refused:
        return refused.status
    return statuses[-1]


def run(work: Callable[[], Any]) -> Any:
    """Run in a thread of its own: the browser of other tests keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(gradio(tmp_path), GuestQuotas(has_room=lambda folder: True))


def test_files_of_one_upload_are_bounded_and_none_of_a_refused_one_is_left(uploads: Uploads, tmp_path: Path) -> None:
    most = limits.GUEST_FILES_A_REQUEST
    assert run(lambda: send_upload(uploads, GUEST, files(most + 1))) == 413
    assert not list(tmp_path.iterdir()), "the files of a refused upload are deleted at once"
    assert run(lambda: send_upload(uploads, OWNER, files(limits.OWNERS_FILES_A_REQUEST + 1))) == 413
    body = files(most)
    assert run(lambda: send_upload(uploads, GUEST, body[:70], body[70:75], body[75:])) == 200
    assert len(list(tmp_path.iterdir())) == most
    assert run(lambda: send_upload(uploads, OWNER, files(most + 1))) == 200


def test_parts_are_counted_however_the_form_is_written(uploads: Uploads) -> None:
    many = files(limits.GUEST_FILES_A_REQUEST + 1)
    for kind in (b'multipart/form-data; boundary="b"', b"Multipart/Form-Data;charset=UTF-8; BOUNDARY=b"):
        assert run(lambda kind=kind: send_upload(uploads, GUEST, many, kind=kind)) == 413
    pieces = [many[at : at + 1] for at in range(len(many))]
    assert run(lambda: send_upload(uploads, GUEST, *pieces)) == 413


def part(head: str, data: bytes = b"1") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"


SOUND, END = part('name="files"; filename="x"'), b"--b--\r\n"
# A form's kind, its parts after the first one, and its end.
HOSTILE: dict[str, tuple[str, bytes, bytes]] = {
    "a charset of quadratic time": ("boundary=b; charset=punycode", part('name="x"', b"a" * 1000), END),
    "a charset that fails": ("boundary=b; charset=undefined", b"", END),
    "a charset that is none": ('boundary=b; charset="utf-8, punycode"', b"", END),
    "another charset": ("boundary=b; charset=utf-7", b"", END),
    "no boundary": ("charset=utf-8", b"", END),
    "an empty boundary": ("boundary=", b"", END),
    "a quoted empty boundary": ('boundary=""', b"", END),
    "a long boundary": ("boundary=" + "b" * 257, b"", END),
    "a long kind": ("boundary=b; x=" + ";" * 2000, b"", END),
    "text in the field of files": ("boundary=b", part('name="files"'), END),
    "text in another field": ("boundary=b", part('name="x"'), END),
    "a file in another field": ("boundary=b", part('name="x"; filename="x"'), END),
    "a name in the extended form alone": ("boundary=b", part("name=\"files\"; filename*=punycode''x"), END),
    "a part without a name": ("boundary=b", part("x=1"), END),
    "a part without a head": ("boundary=b", b"--b\r\n\r\n1\r\n", END),
    "the folder above as a name": ("boundary=b", part('name="files"; filename=".."'), END),
    "a header that is none": ("boundary=b", b"--b\r\n\x00: 1\r\n\r\n1\r\n", END),
    "no end": ("boundary=b", b"", b""),
    "a part that is cut": ("boundary=b", part('name="files"; filename="y"')[:-3], b""),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("upload_id", ["", "x"])
def test_a_form_that_is_not_of_files_alone_is_refused_and_leaves_no_file(
    tmp_path: Path, case: str, upload_id: str
) -> None:
    from gradio.route_utils import FileUploadProgress, upload_fn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        progress = FileUploadProgress() if upload_id else None
        found = await upload_fn(Request(scope, receive), tmp_path, float("inf"), upload_id, False, progress)
        await JSONResponse(len(found[0]))(scope, receive, send)

    uploads = Uploads(app, GuestQuotas(has_room=lambda folder: True))
    kind, more, end = HOSTILE[case]
    for user in (GUEST, OWNER):
        sent = SOUND, more + end
        assert (
            run(
                lambda sent=sent, user=user: send_upload(
                    uploads, user, *sent, kind=f"multipart/form-data; {kind}".encode()
                )
            )
            == 400
        )
    assert not list(tmp_path.rglob("*"))
    assert run(lambda: send_upload(uploads, GUEST, SOUND, END)) == 200


def test_what_browsers_name_their_files_is_taken(uploads: Uploads, tmp_path: Path) -> None:
    for name in ("a b.png", "\u732b.png", "", "()", "a..b", "C:\\x.png"):
        assert run(lambda name=name: send_upload(uploads, GUEST, part(f'name="files"; filename="{name}"'), END)) == 200
    assert run(lambda: send_upload(uploads, GUEST, SOUND, END, kind=TYPE + b"; charset=utf-8")) == 200


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux counts open files")
def test_uploads_that_never_end_leave_files_to_open(uploads: Uploads, tmp_path: Path) -> None:
    import resource

    bounds = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def flood() -> list[int]:
        held = asyncio.Event()
        body = files(990)
        sent = [
            asyncio.ensure_future(send_upload(uploads, User(f"g{k % 6}"), body[:-9], body[-9:], held=held))
            for k in range(24)
        ]
        body = files(4)
        sent += [
            asyncio.ensure_future(send_upload(uploads, User(f"g{k % 6}"), body[:-9], body[-9:], held=held))
            for k in range(24)
        ]
        await asyncio.sleep(0.5)
        open_files = len(os.listdir("/proc/self/fd"))
        held.set()
        return [open_files, *await asyncio.gather(*sent)]

    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before + 80, bounds[1]), bounds[1]))
    try:
        open_files, *statuses = run(flood)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, bounds)
    assert open_files < before + limits.ALL_GUEST_FILES + 20
    assert statuses[:24] == [413] * 24 and set(statuses[24:]) == {200, 429}
    assert len(list(tmp_path.iterdir())) == 4 * statuses.count(200)


def test_a_disk_without_space_is_one_sentence() -> None:
    async def full(scope: Any, receive: Any, send: Any) -> None:
        raise OSError(28, "No space left on device", "/home/me/upload/tmp1")

    refusing = Uploads(full, GuestQuotas(has_room=lambda folder: True))
    scope = {"type": "http", "headers": [(b"content-type", TYPE)]}
    with pytest.raises(BodyRefused, match="check the disk's space") as refused:
        run(lambda: refusing.forward(scope, GUEST, None, None))  # type: ignore[arg-type]
    assert refused.value.status == 507 and "/home" not in str(refused.value)
