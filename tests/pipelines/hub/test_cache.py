"""The hub's cache: sizes, deleting, and disks that refuse to write."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.hub.hub import Hub
from tests.support.hub_models import NEEDED, SOURCE, card, error_message, make_hub, names_in
from tests.support.hub_server import HubServer


def test_sizes_and_deleting_touch_one_model_alone(server: HubServer, hub: Hub, repository: Path) -> None:
    server.folders["maker/other"] = repository  # the same commit, as copies of a model have
    hub.download(card())
    other = hub.download(card(source="maker/other"))
    size = sum((repository / name).stat().st_size for name in NEEDED)
    # A second version that shares all but one file.
    second = hub.local_path(card()).parent / ("e" * 40)
    shutil.copytree(hub.local_path(card()), second, symlinks=True)
    (second / "more.json").write_bytes(b"{}")
    part = hub.cache_dir / "models--maker--tiny" / "blobs" / ("d" * 64 + ".incomplete")
    part.write_bytes(b"12345")
    assert hub.sizes() == {SOURCE: size + 2 + 5, "maker/other": size}
    assert hub.delete(card()) == size + 7
    assert hub.sizes() == {"maker/other": size} and hub.local_path(card()) is None
    assert names_in(other) == NEEDED and hub.local_path(card(source="maker/other")) == other
    assert hub.delete(card()) == 0


def test_an_unfinished_model_is_counted_and_deleted(server: HubServer, hub: Hub) -> None:
    server.cuts, server.cut_after, server.ranges = 99, 20000, False
    error_message(lambda: hub.download(card()))
    assert hub.sizes()[SOURCE] > 20000
    assert hub.delete(card()) > 20000 and hub.sizes() == {}
    assert Hub(endpoint=server.address, cache_dir=hub.cache_dir / "never").sizes() == {}


def test_a_disk_that_fills_up_is_named_and_the_partial_file_kept(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def small(path: Path, *arguments: Any, **more: Any) -> Any:
        file = opened(path, *arguments, **more)
        return _SmallFile(file) if path.name.endswith(".incomplete") else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", small)
        text = error_message(lambda: hub.download(card()))
    assert "is full" in text and "kept" in text
    there = hub.plan(card()).arrived
    assert there >= 20000
    server.log.clear()
    hub.download(card())
    assert any(asked.start > 0 for asked in server.log)


class _SmallFile:
    """A file on a disk with room for 20 kB."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        if self._file.tell() + len(data) > 20_000:
            self._file.write(data[: 20_000 - self._file.tell()])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_read_only_cache_is_named(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "Nothing can be written to" in error_message(lambda: make_hub(server, tmp_path).download(card()))


def test_a_cache_that_is_a_file_is_named(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    assert "Nothing can be written to" in error_message(lambda: make_hub(server, tmp_path).download(card()))
