"""Which files are served and which addresses are opened: none but the page's own."""

from __future__ import annotations

import re
import secrets
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hostile_requests import API, page_functions
from pipelines.jobs.users import OWNER, User
from tests.support.history_entries import keep
from tests.support.shared_site import (
    client_of,
    png,
    shared_site,
    upload,
)
from tests.support.site import Site
from ui.server.access import Access


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Access]]:
    with shared_site(tmp_path_factory.mktemp("files")) as found:
        yield found


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


@pytest.mark.parametrize("role", ["owner", "guest"])
def test_no_url_of_a_client_is_opened(shared, elsewhere, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
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
    one, n = client_of(shared, role), 0
    for address in (f"{url}/x.png", "http://pictures.example/x.png", "https://pictures.example/x.png"):
        file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
        for function in page_functions(one.config()):
            takes = any(
                type(b).__name__ in ("ImageUpload", "Api", "Textbox", "Radio")
                for b in site.demo.fns[function.number].inputs
            )
            if not (takes and function.page_values):
                continue
            body = {"fn_index": function.number, "data": [file] * len(function.page_values), "session_hash": "ssrf"}
            path = f"{API}/queue/join" if function.uses_queue else f"{API}/run/predict"
            if one.post(path, body).status == 200 and function.uses_queue:
                assert "close_stream" in one.outcome("ssrf").body
            n += 1
        for path in (f"{API}/file={address}", f"/file={address}", f"{API}/proxy={address}", f"{API}/file= {address}"):
            assert one.request("GET", path.replace(" ", "%20")).status in (400, 403, 404), path
    assert n > 60
    assert asked == [] and looked == []


def spellings(path: str) -> Iterator[str]:
    """A path, and spellings of it that have fooled servers before."""
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
    site.pictures.mkdir(parents=True, exist_ok=True)
    (site.pictures / "mine.png").write_text(secret)
    (site.pictures / "drawn.svg").write_text(f"<svg>{secret}</svg>")
    link = site.pictures / "innocent.png"
    link.unlink(missing_ok=True)
    link.symlink_to(data / "owner.key")
    targets = ["/etc/passwd", *(str(p) for p in (data / "owner.key", site.pictures / "mine.png", link))]
    targets += [
        str(site.pictures / "drawn.svg"),
        f"{site.pictures}/../owner.key",
        "app.py",
        "../app.py",
        "ui/server/access.py",
    ]
    guest, n = client_of(shared, "guest"), 0
    for target in targets:
        for prefix in PREFIXES:
            for path in spellings(target):
                answer = guest.request("GET", prefix + path, seconds=5)
                n += 1
                assert answer.status in (303, 400, 401, 403, 404, 405), (answer.status, prefix + path)
                assert secret not in answer.body and "root:" not in answer.body
    assert n > 2000


def test_uploads_of_other_guests_have_unguessable_names(shared) -> None:
    """A guest who knows a path of a file gets it; the path has a hash of the content, so it cannot be guessed."""
    one, other, stranger = (client_of(shared, role) for role in ("guest", "guest", "stranger"))
    content = secrets.token_bytes(64)
    path = re.findall(r'"([^"]+)"', upload(one, ("mine.png", content)).body)[0]
    assert re.search(r"/[0-9a-f]{64}/[^/]+$", path)
    assert one.request("GET", f"{API}/file={path}").status == 200
    assert stranger.request("GET", f"{API}/file={path}").status == 401
    parent, name = path.rsplit("/", 1)
    for near in (
        parent,
        f"{parent}/",
        f"{parent}/other.png",
        f"{parent.rsplit('/', 1)[0]}/{name}",
        parent[:-1] + "/" + name,
    ):
        assert other.request("GET", f"{API}/file={near}").status in (400, 403, 404), near


def test_what_a_guest_uploads_is_never_shown_as_a_page(shared) -> None:
    guest = client_of(shared, "guest")
    for name in ("x.svg", "x.html", "x.xhtml", "x.xml", "x.js", "x.pdf", "x.png.html", "x", "x.shtml", "x.mhtml"):
        answer = upload(guest, (name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/><script>1</script>"))
        path = re.findall(r'"([^"]+)"', answer.body)[0]
        head = guest.request("GET", f"{API}/file={path}").head.lower()
        assert "content-security-policy" in head and "x-content-type-options: nosniff" in head
        assert "content-disposition: attachment" in head and "application/octet-stream" in head, (name, head)


def test_pictures_of_the_history_go_to_those_who_may_see_them(shared) -> None:
    """The owner sees all, a guest its own, a stranger none; whoever knows an id of another's learns nothing."""
    site, access = shared
    owner, one, other, stranger = (client_of(shared, role) for role in ("owner", "guest", "guest", "stranger"))
    name, _, cookie = one.cookie.partition("=")
    guest = access.identify({access.owner_cookie[0]: [], name: [cookie]}, "")
    assert guest is not None and guest.guest
    mine, theirs = keep(site.history), keep(site.history, user=User(guest.id), size=(400, 300))
    allowed = {(owner, mine), (owner, theirs), (one, theirs)}
    for client in (owner, one, other, stranger):
        for entry in (mine, theirs):
            for kind in ("thumbnail", "picture"):
                answer = client.request("GET", f"/history/{kind}/{entry}")
                expected = 200 if (client, entry) in allowed else 401 if client is stranger else 404
                assert answer.status == expected, (kind, expected)
    seen = owner.request("GET", f"/history/thumbnail/{theirs}").head.lower()
    assert "image/jpeg" in seen and "private" in seen and "nosniff" in seen
    site.history.bin.delete(OWNER, [theirs])
    assert one.request("GET", f"/history/picture/{theirs}").status == 200  # in the bin, from where it can come back
    site.history.bin.empty(OWNER)
    assert one.request("GET", f"/history/picture/{theirs}").status == 404


def test_the_history_serves_no_other_file(shared) -> None:
    site, _ = shared
    owner, secret = client_of(shared, "owner"), "the-very-secret"
    (site.pictures.parent / "owner.key").write_text(secret)
    entry = keep(site.history)
    with site.history.database.write() as connection:
        connection.execute("UPDATE entries SET file = '../owner.key' WHERE id = ?", (entry,))
    paths = [f"/history/picture/{entry}", "/history/picture/", "/history/strip/x", "/history/picture/a/b", "/history/"]
    paths += [f"/history/picture/{spelling}" for spelling in ("../owner.key", "..%2fowner.key", "%2e%2e/owner.key")]
    paths += ["/history/picture/%ed%a0%80", "/history/picture/" + "x" * 3000, "/history/picture/%00"]
    for path in paths:
        answer = owner.request("GET", path)
        assert answer.status in (400, 404, 414), (answer.status, path)
        assert secret not in answer.body
    assert owner.post(f"/history/picture/{entry}", {}).status == 404


@pytest.mark.parametrize(
    "path", ["/?page=nope", "/?page=%00", "/?deep_link=../x", "/config?page=nope", "/config/?page=a"]
)
def test_the_page_is_the_same_whatever_stands_behind_its_address(shared, path: str) -> None:
    guest = client_of(shared, "guest")
    plain, asked = (guest.request("GET", each) for each in (path.partition("?")[0], path))
    assert asked.status == plain.status == 200 and asked.body == plain.body
