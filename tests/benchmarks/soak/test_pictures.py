"""Small files that unpack to much, as attackers send them."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from benchmarks.soak.pictures import deep_png, noise_png, progressive_jpeg
from pipelines.images.file_bounds import MAX_SCANS, TooManyParts, bounded
from pipelines.images.uploads import decode_upload


@pytest.mark.parametrize("colour_type", [0, 2])
def test_a_deep_png_is_small_and_holds_sixteen_bits_a_sample(colour_type: int) -> None:
    data = deep_png(300, colour_type)
    assert len(data) < 2000 and data[24] == 16
    assert decode_upload(data).image.getextrema() == ((0, 0),) * 3


def test_a_jpeg_has_as_many_scans_as_asked_and_is_a_whole_picture() -> None:
    data = progressive_jpeg(64, MAX_SCANS)
    assert data.count(b"\xff\xda") == MAX_SCANS
    bounded(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (64, 64) and abs(image.getpixel((9, 9)) - 90) < 3
    with pytest.raises(TooManyParts):
        bounded(progressive_jpeg(64, MAX_SCANS + 1))


def test_noise_is_drawn_in_squares() -> None:
    with Image.open(io.BytesIO(noise_png(random.Random(1), 3, 2, 4))) as image:
        assert image.size == (12, 8) and image.getpixel((0, 0)) == image.getpixel((3, 3)) != image.getpixel((4, 0))
