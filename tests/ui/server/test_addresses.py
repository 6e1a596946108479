"""Addresses of the page, one program on a data folder, and new links."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui.server.addresses import Addresses, FolderInUse, NoLink, ask_for_links, lock_folder


@pytest.mark.parametrize(
    ("addresses", "links"),
    [
        (Addresses("127.0.0.1", 7860), ["http://127.0.0.1:7860/?owner=T"]),
        (Addresses("0.0.0.0", 80), ["http://127.0.0.1:80/?owner=T"]),
        (Addresses("::1", 7860), ["http://[::1]:7860/?owner=T"]),
        (Addresses("::", 7860), ["http://[::1]:7860/?owner=T"]),
        (Addresses("0:0:0:0:0:0:0:0", 7860), ["http://[::1]:7860/?owner=T"]),
        (Addresses("127.0.0.1", 1, "/paint"), ["http://127.0.0.1:1/paint/?owner=T"]),
        (Addresses("127.0.0.1", 1, "/paint", (".a.org", "b.org")),
         ["https://b.org/paint/?owner=T", "http://127.0.0.1:1/paint/?owner=T"]),
        (Addresses("127.0.0.1", 1, "http://b.org:8080/x"), ["http://b.org:8080/x/?owner=T"]),
    ],
)  # fmt: skip
def test_links_name_an_address_that_works(addresses: Addresses, links: list[str]) -> None:
    assert addresses.links("T") == links


def test_names_and_origins_of_a_proxy() -> None:
    behind = Addresses("127.0.0.1", 1, "https://Paint.example.org:8443/x", ("a.org", ".b.org", "c.org:81"))
    assert behind.origins == {"paint.example.org:8443", "a.org", "c.org:81"}
    assert behind.names == {"paint.example.org", "a.org", ".b.org", "c.org"} and behind.root_path == "/x"


def test_a_folder_in_use_names_the_program_that_uses_it(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path, Addresses("127.0.0.1", 7869))
    with pytest.raises(FolderInUse, match=r"127\.0\.0\.1:7869/ \(process \d+\).*--data-dir\.$"):
        lock_folder(tmp_path, Addresses("127.0.0.1", 7870))
    lock.release()
    lock_folder(tmp_path, Addresses("127.0.0.1", 7870)).release()


def test_a_new_link_needs_a_program_that_runs(tmp_path: Path) -> None:
    with pytest.raises(NoLink, match="No program runs"):
        ask_for_links(tmp_path)
    # A port that another program has taken over is not told the owner's secret.
    (tmp_path / "running.json").write_text('{"host": "127.0.0.1", "port": 9, "root": "", "allowed": []}')
    with pytest.raises(NoLink, match="No program runs"):
        ask_for_links(tmp_path)
    lock = lock_folder(tmp_path, Addresses("127.0.0.1", 9))
    (tmp_path / "owner.key").write_bytes(b"k" * 32)
    with pytest.raises(NoLink, match="does not answer"):
        ask_for_links(tmp_path)
    lock.release()
