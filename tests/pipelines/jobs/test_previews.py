"""The JPEGs of each step."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from pipelines.events import Preview
from pipelines.jobs.previews import hide_withheld
from tests.support.toy_backend import ask, finish


def test_previews_are_small_jpegs_one_per_picture(make_backend: Any) -> None:
    previews = [e for e in finish(make_backend().submit(ask(num_images=2))) if isinstance(e, Preview)]
    assert all(len(preview.frames) == 2 for preview in previews)
    image = Image.open(io.BytesIO(previews[0].frames[0]))
    assert image.format == "JPEG"
    assert max(image.size) == 256
    assert previews[-1].seconds_left == 0
    assert all(len(preview.noisy) == 2 and 0 <= preview.noise <= 1 for preview in previews)


def shown(frame: bytes) -> int:
    return int(Image.open(io.BytesIO(frame)).getpixel((4, 4))[0])


def test_a_withheld_picture_is_black_in_both_views() -> None:
    event = hide_withheld(Preview(0, 1, 0.0, 0.0, (b"a", b"b"), (b"c", b"d"), 1.0), (True, False))
    assert event.frames[1] == b"b" and event.noisy[1] == b"d"
    assert shown(event.frames[0]) == shown(event.noisy[0]) == 0
