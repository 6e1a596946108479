"""The devices of ``--devices``."""

from __future__ import annotations

import pytest

from pipelines.system.gpu.device_list import device_list


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu", ("cpu",)),
        ("cpux2", ("cpu", "cpu")),
        ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
        ("cuda:0,cpu", ("cuda:0", "cpu")),
    ],
)
def test_devices_are_named_with_commas(text: str, found: tuple[str, ...]) -> None:
    assert device_list(text) == found


@pytest.mark.parametrize(
    "text", ["", "cuda", "mps", "cuda:0,", "cpux0", "cpux65", "cpux999", "cuda:0,cuda:00", "gpu:1"]
)
def test_other_names_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"cpux2|named twice|name 1 to 64"):
        device_list(text)
