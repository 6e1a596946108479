"""What is changed in Gradio's scripts fits the version that is installed."""

from __future__ import annotations

import re

import pytest

from ui.server.http.faster_scripts import CHANGES, faster
from ui.server.http.preloads import ASSETS


@pytest.mark.parametrize("pattern", CHANGES)
def test_each_piece_stands_once_in_the_installed_script(pattern: str) -> None:
    (script,) = [path for path in ASSETS.iterdir() if re.fullmatch(pattern, path.name)]
    text = script.read_bytes()
    changed = faster(f"/assets/{script.name}", text)
    for old, new in CHANGES[pattern]:
        assert text.count(old.encode()) == 1 and new.encode() in changed and old.encode() not in changed


def test_other_scripts_and_other_versions_stay_as_they_are() -> None:
    (old, _), *_ = next(iter(CHANGES.values()))
    assert faster("/assets/index-12345678.js", old.encode()) == old.encode()
    assert faster("/assets/core-12345678.js", b"let a = 1;") == b"let a = 1;"
    assert faster("/assets/core-12345678.js", (old * 2).encode()) == (old * 2).encode()
