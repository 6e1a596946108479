"""What is marked in the masks that people bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.images.masks import mask_from_picture
from pipelines.images.uploads import decode_upload
from pipelines.request import InvalidRequest
from tests.support.awkward_images import saved

SIZE, HOLE = (40, 30), (10, 5, 22, 20)
HALF = (0, 0, 20, 30)


def drawn(mode: str, around: Any, inside: Any, box: tuple[int, int, int, int] = HOLE) -> Image.Image:
    image = Image.new(mode, SIZE, around)
    image.paste(inside, box)
    return image


def marked_in(image: Image.Image, kind: str = "PNG") -> np.ndarray:
    return np.asarray(mask_from_picture(decode_upload(saved(image, kind)).image)) > 0


def inside(box: tuple[int, int, int, int] = HOLE) -> np.ndarray:
    return np.asarray(drawn("L", 0, 255, box)) > 0


@pytest.mark.parametrize(
    "image",
    [
        drawn("RGB", "black", "white"),
        drawn("L", 0, 200),
        drawn("1", 0, 1),
        drawn("RGB", "black", "red"),
        drawn("RGB", "black", "blue"),
        drawn("RGB", (30, 30, 30), (0, 255, 0)),
        drawn("RGB", "black", "white").quantize(2),
        drawn("RGBA", "black", "white"),
        drawn("RGBA", (255, 255, 255, 255), (255, 255, 255, 0)),
        drawn("RGBA", (255, 255, 255, 255), (0, 0, 0, 0)),
        drawn("LA", (255, 255), (0, 0)),
        drawn("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
        drawn("RGBA", (0, 0, 0, 0), (255, 0, 0, 255)),
        drawn("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
        drawn("RGBA", (255, 255, 255, 0), (200, 30, 200, 255)),
    ],
)
def test_the_inside_is_marked(image: Image.Image) -> None:
    assert np.array_equal(marked_in(image), inside())


def test_a_half_that_was_erased_from_white_is_marked() -> None:
    erased = drawn("RGBA", (255, 255, 255, 255), (255, 255, 255, 0), HALF)
    assert np.array_equal(marked_in(erased), inside(HALF))


def test_white_on_black_with_clear_parts_is_read_by_its_levels() -> None:
    image = drawn("RGBA", (0, 0, 0, 255), (255, 255, 255, 255))
    image.paste((255, 255, 255, 0), (30, 0, 40, 30))
    assert np.array_equal(marked_in(image), inside())


@pytest.mark.parametrize("colour", ["red", "blue", "yellow", "white"])
def test_a_jpeg_has_other_colours_at_its_edges(colour: str) -> None:
    image = drawn("RGB", "black", colour).resize((400, 300), Image.Resampling.NEAREST)
    found = marked_in(image, "JPEG")
    wanted = np.asarray(Image.fromarray(inside()).resize((400, 300), Image.Resampling.NEAREST))
    assert (found != wanted).mean() < 0.01


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (drawn("RGB", "white", "red"), "colours next to white"),
        (drawn("RGB", "white", (0, 160, 0)), "colours next to white"),
        (drawn("RGBA", (255, 255, 255, 255), (0, 0, 0, 0), HALF), "white and transparent"),
    ],
)
def test_what_is_unclear_is_refused(image: Image.Image, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        mask_from_picture(image)
    assert refused.value.field == "mask"


@pytest.mark.parametrize("image", [drawn("RGB", "black", (90, 0, 0)), Image.new("RGBA", SIZE), drawn("L", 0, 100)])
def test_what_is_dark_marks_nothing(image: Image.Image) -> None:
    assert not marked_in(image).any()
