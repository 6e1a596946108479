"""A page that is shared, and clients of it: the owner, guests and anonymous ones."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.hostile_requests import API, Client, RawAnswer
from tests.support.site import Site, served, tiny_card
from tests.support.tiny_model import make_tiny_model
from ui.server.access import Access

PASSWORD = "correct horse battery"


@contextmanager
def shared_site(folder: Path) -> Iterator[tuple[Site, Access]]:
    """Serve a page with a password for guests."""
    model = make_tiny_model(folder / "model", prediction_type="v_prediction")
    access = Access(b"k" * 32, 1, password=PASSWORD)
    with served([tiny_card(model)], folder / "pictures", access=access) as site:
        yield site, access
        site.settle()


def client_of(shared: tuple[Site, Access], role: str) -> Client:
    """The owner, a new guest or a stranger."""
    site, access = shared
    shown = {
        "owner": "=".join(access.owner_cookie),
        "guest": f"{access.guest_cookie_name}={access.log_in('', PASSWORD, role)}",
        "stranger": "",
    }
    return Client(site.url, shown[role])


def assert_owner_can_generate(shared: tuple[Site, Access]) -> None:
    """The owner's next picture is made."""
    owner = client_of(shared, "owner")
    asked = owner.post(f"{API}/call/text_to_image", {"data": ["a fox", *[None] * 9]})
    assert asked.status == 200, asked
    event = re.search(r'"event_id":"(\w+)"', asked.body)
    assert event
    said = owner.request("GET", f"{API}/call/text_to_image/{event.group(1)}")
    assert "event: complete" in said.body, said


def resident_bytes() -> int:
    """Bytes of memory that this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        pytest.skip("only Linux says this")


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


def upload(client: Client, *files: tuple[str, bytes]) -> RawAnswer:
    body, kind = form(list(files))
    return client.request("POST", f"{API}/upload", body, kind)


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "PNG")
    return file.getvalue()


def function_number(site: Site, name: str) -> int:
    """The first of the page's functions with this name."""
    return next(k for k, fn in site.demo.fns.items() if getattr(fn.fn, "__name__", "") == name)
