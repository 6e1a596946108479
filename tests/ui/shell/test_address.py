"""Which tab, run and picture an address names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ui.page import TABS
from ui.shell.address import place


def data(**fields: Any) -> Any:
    return SimpleNamespace(_data=fields)


@pytest.mark.parametrize(
    ("run", "wanted"),
    [("", ("", 0)), ("abc", ("abc", 0)), ("abc:2", ("abc", 2)), ("abc:x", ("abc", 0)), ("abc:-1", ("abc", 0)),
     ("abc:123456", ("abc", 0)), (None, ("", 0)), (7, ("", 0)), ("a:\u0662", ("a", 0))],
)  # fmt: skip
def test_a_run_and_its_picture(run: Any, wanted: tuple[str, int]) -> None:
    assert place(data(tab="denoising", run=run), TABS) == ("denoising", *wanted)


@pytest.mark.parametrize("tab", ["", "nowhere", None, 7, ["denoising"]])
def test_a_tab_that_does_not_exist_opens_nothing(tab: Any) -> None:
    assert place(data(tab=tab, run="abc"), TABS) is None


def test_a_long_name_is_cut() -> None:
    found = place(data(tab="denoising", run="x" * 9000), TABS)
    assert found is not None and len(found[1]) <= 80
