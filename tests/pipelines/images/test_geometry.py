"""Fits and masks: for any size and any mask, what is promised of every pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from PIL import Image, ImageChops

from pipelines.images import geometry
from pipelines.request import MAX_SIDE, InvalidRequest

SIDES = some.integers(1, 300)
SHORT = some.integers(1, 40)
WAYS = some.sampled_from(sorted(geometry.FIT_MODES))
LEVELS = some.integers(0, 255)
COLOURS = some.tuples(LEVELS, LEVELS, LEVELS)
SEEDS = some.integers(0, 2**32)
often = settings(max_examples=40, deadline=None)
seldom = settings(max_examples=20, deadline=None)


def noisy(size: tuple[int, int], seed: int = 0, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels)


def hexed(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def of(marked: np.ndarray) -> Image.Image:
    """A mask from true and false."""
    return Image.fromarray(np.where(marked, 255, 0).astype(np.uint8))


@some.composite
def masks(draw: some.DrawFn, sides: some.SearchStrategy[int] = SHORT) -> Image.Image:
    """Boxes and dots on nothing; sometimes none, sometimes everything."""
    width, height = draw(sides), draw(sides)
    marked = np.zeros((height, width), bool)
    for _ in range(draw(some.integers(0, 3))):
        left, top = draw(some.integers(0, width - 1)), draw(some.integers(0, height - 1))
        right, bottom = draw(some.integers(left + 1, width)), draw(some.integers(top + 1, height))
        marked[top:bottom, left:right] = True
    if draw(some.booleans()):
        marked |= np.random.default_rng(draw(SEEDS)).random(marked.shape) < draw(some.floats(0, 0.2))
    return of(marked)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def only(image: Image.Image) -> tuple[int, ...]:
    """The one colour of a picture."""
    ((_, colour),) = image.getcolors()
    return colour


# -- fits ----------------------------------------------------------------------------------------------------------


@given(SIDES, SIDES, SIDES, SIDES, WAYS, some.sampled_from(["RGB", "RGBA"]))
@often
def test_a_fitted_picture_has_exactly_the_size(a: int, b: int, width: int, height: int, how: str, mode: str) -> None:
    found = geometry.fit(noisy((a, b), channels=len(mode)), width, height, how)
    assert (found.mode, found.size) == ("RGB", (width, height))


@given(SIDES, SIDES, SIDES, SIDES, WAYS, COLOURS)
@often
def test_one_colour_stays_one_colour(
    a: int, b: int, width: int, height: int, how: str, colour: tuple[int, int, int]
) -> None:
    assert only(geometry.fit(Image.new("RGB", (a, b), colour), width, height, how, hexed(colour))) == colour


@given(SIDES, SIDES, WAYS)
@seldom
def test_a_picture_of_the_right_size_is_left_alone(width: int, height: int, how: str) -> None:
    image = noisy((width, height))
    assert geometry.fit(image, width, height, how).tobytes() == image.tobytes()


@given(SIDES, SIDES, SIDES, SIDES, WAYS, COLOURS)
@seldom
def test_what_is_see_through_shows_the_colour(
    a: int, b: int, width: int, height: int, how: str, colour: tuple[int, int, int]
) -> None:
    clear = noisy((a, b), channels=4)
    clear.putalpha(0)
    assert only(geometry.fit(clear, width, height, how, hexed(colour))) == colour


@given(SIDES, SIDES, SIDES, SIDES)
@often
def test_padding_shows_all_of_the_picture_in_the_middle(a: int, b: int, width: int, height: int) -> None:
    found = pixels(geometry.fit(Image.new("RGB", (a, b), "black"), width, height, "pad", "#ffffff"))
    black = of((found == 0).all(axis=-1))
    assert set(np.unique(found)) <= {0, 255}
    left, top, right, bottom = black.getbbox()
    assert geometry.is_empty(ImageChops.invert(black.crop((left, top, right, bottom))))
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    scale = min(width / a, height / b)
    assert abs((right - left) - max(1, a * scale)) <= 0.5 + 1e-6
    assert abs((bottom - top) - max(1, b * scale)) <= 0.5 + 1e-6


@given(some.integers(8, 200), some.integers(8, 200), some.integers(8, 200), some.integers(8, 200))
@often
def test_cropping_keeps_the_middle(a: int, b: int, width: int, height: int) -> None:
    """On a slope that says at each pixel where it came from."""
    across = np.linspace(0, 255, a)[None].repeat(b, 0)
    down = np.linspace(0, 255, b)[:, None].repeat(a, 1)
    slope = Image.fromarray(np.dstack([across, down, across]).round().astype(np.uint8))
    found = pixels(geometry.fit(slope, width, height, "crop"))
    scale = max(width / a, height / b)
    for axis, (before, after) in enumerate(((a, width), (b, height))):
        line = found[height // 2, :, axis] if axis == 0 else found[:, width // 2, axis]
        assert abs(line.mean() - 127.5) <= 3
        # The slope is as steep as the scale makes it: nothing was stretched.
        rise = 255 * after / (before * scale)
        assert abs((line[-1] - line[0]) - rise * (1 - 1 / after)) <= 255 / before + 255 / after + 3


@pytest.mark.parametrize(("size", "how"), [((32, 8), "stretch"), ((8, 32), "stretch"), ((32, 8), "pad")])
def test_these_ways_cut_nothing_off(size: tuple[int, int], how: str) -> None:
    image = Image.new("RGB", size, "white")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    red = pixels(geometry.fit(image, 64, 64, how))[..., 1] < 128
    assert abs(red.mean() - (0.5 if how == "stretch" else 0.125)) < 0.02


def test_every_way_has_words_for_the_page() -> None:
    assert list(geometry.FIT_MODES) == ["crop", "pad", "stretch"]
    assert all(label and about.endswith(".") for label, about in geometry.FIT_MODES.values())


def test_other_ways_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^fit is 'squash'; allowed: crop, pad, stretch\.$"):
        geometry.fit(noisy((4, 4)), 8, 8, "squash")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("#ff8000", (255, 128, 0)),
        ("#f80", (255, 136, 0)),
        ("#ff800000", (255, 128, 0)),
        ("white", (255, 255, 255)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("rgba(12.4, 7.6, 250, 0.5)", (12, 8, 250)),
        ("rgba(300,0,0,1)", (255, 0, 0)),
        ("hsl(0, 100%, 50%)", (255, 0, 0)),
    ],
)
def test_colours_as_pages_write_them(said: str, meant: tuple[int, int, int]) -> None:
    assert geometry.parse_colour(said) == meant


@pytest.mark.parametrize("said", ["", "whiteish", "#12", "rgba(1..2, 0, 0, 1)", "rgb(1, 2)", "9" * 500, None, 7])
def test_what_is_no_colour_is_refused_in_one_sentence(said: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^The colour is .{0,60}; give it as #rrggbb, for example #ffffff\.$"):
        geometry.fit(noisy((4, 4)), 8, 8, "pad", said)


@given(SHORT, SHORT, SEEDS, COLOURS)
@seldom
def test_flattening_mixes_by_alpha(width: int, height: int, seed: int, colour: tuple[int, int, int]) -> None:
    image = noisy((width, height), seed, channels=4)
    alpha = pixels(image)[..., 3:] / 255
    wanted = pixels(image)[..., :3] * alpha + np.array(colour) * (1 - alpha)
    assert np.abs(pixels(geometry.flatten(image, hexed(colour))) - wanted).max() <= 1.01


# -- masks ---------------------------------------------------------------------------------------------------------


def layer(mask: Image.Image, alpha: int = 255) -> Image.Image:
    """What an editor sends: strokes on a see-through layer."""
    found = Image.new("RGBA", mask.size, (255, 0, 200, 0))
    found.putalpha(mask.point(lambda level: alpha if level else 0))
    return found


@given(SHORT, SHORT, SEEDS, some.integers(geometry.PAINTED_ALPHA, 255))
@seldom
def test_a_mask_is_all_that_was_painted(width: int, height: int, seed: int, alpha: int) -> None:
    drawn = np.random.default_rng(seed).random((3, height, width)) < 0.3
    found = geometry.mask_from_layers([layer(of(each), alpha) for each in drawn], (width, height))
    assert (found.mode, found.tobytes()) == ("L", of(drawn.any(axis=0)).tobytes())


def test_the_rim_that_an_eraser_leaves_is_not_painted() -> None:
    assert geometry.is_empty(geometry.mask_from_layers([layer(of(np.ones((9, 9))), 12)], (9, 9)))


@given(masks(), SIDES, SIDES)
@seldom
def test_a_mask_takes_any_size_and_stays_hard(mask: Image.Image, width: int, height: int) -> None:
    found = geometry.mask_from_layers([layer(mask)], (width, height))
    assert found.size == (width, height)
    assert set(np.unique(found)) <= {0, 255}


def test_nothing_painted() -> None:
    assert geometry.is_empty(geometry.mask_from_layers([], (5, 4)))
    assert geometry.is_empty(geometry.mask_from_layers([Image.new("RGBA", (5, 4))], (5, 4)))


def distance_inside(mask: Image.Image) -> np.ndarray:
    """Of each pixel to the nearest unmarked one; slow and plain."""
    marked = pixels(mask) > 0
    rows, columns = np.nonzero(~marked)
    down, across = np.indices(marked.shape)
    if not len(rows):
        return np.full(marked.shape, math.inf)
    return np.hypot(down[..., None] - rows, across[..., None] - columns).min(axis=-1)


@given(masks(), some.integers(0, 64))
@often
def test_a_feather_stays_inside_the_mask(mask: Image.Image, px: int) -> None:
    soft = geometry.feather_mask(mask, px)
    assert (soft.mode, soft.size) == ("L", mask.size)
    assert ((pixels(soft) > 0) == (pixels(mask) > 0)).all()
    assert (pixels(soft)[distance_inside(mask) >= px + 1] == 255).all()


@given(masks(), some.integers(1, 64))
@often
def test_a_feather_rises_with_the_distance_to_the_edge(mask: Image.Image, px: int) -> None:
    soft, distance = pixels(geometry.feather_mask(mask, px)), distance_inside(mask)
    assume(np.isfinite(distance).any() and soft.any())
    # A part too thin for the feather rises faster, never slower.
    assert (soft >= np.floor(255 * np.minimum(distance / (px + 1), 1))).all()
    assert soft.max() == 255
    assert (geometry.feather_mask(mask, px - 1) >= np.asarray(geometry.feather_mask(mask, px))).all()


def test_a_thin_line_next_to_a_large_part_is_painted_too() -> None:
    marked = np.zeros((60, 60), bool)
    marked[5:55, 5:40], marked[:, 50:53] = True, True
    soft = pixels(geometry.feather_mask(of(marked), 16))
    assert (soft[:, 51] == 255).all()
    assert 0 < soft[30, 50] < 255
    assert 0 < soft[30, 5] < soft[30, 12] < soft[30, 20]


def test_a_feather_does_not_fade_along_the_border() -> None:
    marked = np.zeros((40, 40), bool)
    marked[:, :20] = True
    soft = pixels(geometry.feather_mask(of(marked), 8))
    assert (soft[:, :12] == 255).all()
    assert (soft == soft[:1]).all()
    everything = of(np.ones((9, 9)))
    assert geometry.feather_mask(everything, 64).tobytes() == everything.tobytes()


# -- a crop around the mask ----------------------------------------------------------------------------------------


@given(masks(SIDES), some.integers(0, 256), some.integers(8, 2048), some.integers(8, 2048))
@often
def test_a_crop_holds_the_mask_inside_the_picture(mask: Image.Image, padding: int, width: int, height: int) -> None:
    assume(not geometry.is_empty(mask))
    left, top, right, bottom = geometry.crop_box(mask, padding, (width, height))
    found = mask.getbbox()
    assert 0 <= left <= max(found[0] - padding, 0)
    assert 0 <= top <= max(found[1] - padding, 0)
    assert mask.width >= right >= min(found[2] + padding, mask.width)
    assert mask.height >= bottom >= min(found[3] + padding, mask.height)


@given(masks(SIDES), some.integers(0, 64), some.integers(8, 2048), some.integers(8, 2048))
@often
def test_a_crop_has_the_aspect_where_the_picture_has_room(
    mask: Image.Image, padding: int, width: int, height: int
) -> None:
    assume(not geometry.is_empty(mask))
    left, top, right, bottom = geometry.crop_box(mask, padding, (width, height))
    across, down, ratio = right - left, bottom - top, width / height
    if across < mask.width and down < mask.height:
        assert across - 1 <= down * ratio <= across + ratio or down - 1 <= across / ratio <= down + 1 / ratio
    elif across < mask.width:
        # The picture is too low: all of its height, and no more width than that asks for.
        assert across >= mask.getbbox()[2] - mask.getbbox()[0]


def test_a_crop_of_nothing_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"^Nothing is marked on the picture; paint over the part"):
        geometry.crop_box(Image.new("L", (9, 9)), 0, (1, 1))


@pytest.mark.parametrize(
    ("box", "padding", "aspect", "wanted"),
    [
        ((40, 40, 60, 60), 0, (1, 1), (40, 40, 60, 60)),
        ((40, 40, 60, 60), 10, (1, 1), (30, 30, 70, 70)),
        ((40, 40, 60, 60), 0, (2, 1), (30, 40, 70, 60)),
        ((0, 0, 20, 20), 10, (1, 1), (0, 0, 40, 40)),
        ((90, 95, 100, 100), 10, (1, 1), (70, 70, 100, 100)),
        ((10, 0, 90, 10), 0, (1, 2), (10, 0, 90, 100)),
    ],
)
def test_crops(box: tuple[int, ...], padding: int, aspect: tuple[int, int], wanted: tuple[int, ...]) -> None:
    mask = Image.new("L", (100, 100))
    mask.paste(255, box)
    assert geometry.crop_box(mask, padding, aspect) == wanted


# -- putting back --------------------------------------------------------------------------------------------------


@given(masks(), some.integers(0, 64), SEEDS)
@often
def test_outside_the_mask_every_pixel_is_the_old_one(mask: Image.Image, px: int, seed: int) -> None:
    old, new = noisy(mask.size, seed), noisy(mask.size, seed + 1)
    soft = geometry.feather_mask(mask, px)
    found = pixels(geometry.composite(old, new, soft))
    outside, inside = pixels(mask) == 0, pixels(soft) == 255
    assert (found[outside] == pixels(old)[outside]).all()
    assert (found[inside] == pixels(new)[inside]).all()
    share = pixels(soft)[..., None] / 255
    assert np.abs(found - (pixels(new) * share + pixels(old) * (1 - share))).max() <= 1


# -- beyond the edges ----------------------------------------------------------------------------------------------

MORE = some.integers(0, 120)


@given(SIDES, SIDES, MORE, MORE, MORE, MORE, some.sampled_from([1, 8, 16, 64]))
@often
def test_a_grown_canvas(width: int, height: int, left: int, right: int, up: int, down: int, multiple: int) -> None:
    assume(left + right + up + down)
    image = noisy((width, height))
    canvas, mask = geometry.outpaint_canvas(image, left, right, up, down, multiple)
    assert (canvas.mode, mask.mode, mask.size) == ("RGB", "L", canvas.size)
    asked = (width + left + right, height + up + down)
    assert all(0 <= got - want < multiple and got % multiple == 0 for got, want in zip(canvas.size, asked, strict=True))
    old = (left, up, left + width, up + height)
    assert canvas.crop(old).tobytes() == image.tobytes()
    assert geometry.is_empty(mask.crop(old))
    assert np.count_nonzero(mask) == canvas.width * canvas.height - width * height
    assert set(np.unique(mask)) <= {0, 255}


@given(SHORT, SHORT, MORE, MORE, MORE, MORE, COLOURS)
@seldom
def test_the_new_part_goes_on_in_the_edges_colours(
    width: int, height: int, left: int, right: int, up: int, down: int, colour: tuple[int, int, int]
) -> None:
    assume(left + right + up + down)
    canvas, _ = geometry.outpaint_canvas(Image.new("RGB", (width, height), colour), left, right, up, down, 8)
    assert only(canvas) == colour


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (-8, 16, 0, 0)])
def test_growing_by_nothing_is_refused(sides: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"^Nothing is added at any side; say by how many pixels"):
        geometry.outpaint_canvas(noisy((8, 8)), *sides, 8)


def test_growing_beyond_all_bounds_is_refused() -> None:
    canvas, _ = geometry.outpaint_canvas(noisy((48, 16)), MAX_SIDE - 48, 0, 0, 0, 8)
    assert canvas.size == (MAX_SIDE, 16)
    with pytest.raises(InvalidRequest, match=r"^The canvas would be 2056 x 16 pixels; at most 2048"):
        geometry.outpaint_canvas(noisy((48, 16)), MAX_SIDE - 47, 0, 0, 0, 8)
    with pytest.raises(InvalidRequest, match="at most 2048"):
        geometry.outpaint_canvas(noisy((48, 16)), 0, 0, 0, 10**12, 8)
