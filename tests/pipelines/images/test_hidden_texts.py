"""Texts that other programs hide in the lowest bits of pixels, and files without them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.images.hidden_texts import hidden_text, without_hidden_text
from pipelines.images.settings_in_files import encode_without_settings, source_type_of, without_settings
from tests.support.foreign_pictures import hidden_in_alpha, png

SECRET = "a secret fox"


def hidden_in_colours(text: str, size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture with a text in the lowest bits of red, green and blue, as the extension writes it."""
    data = b"stealth_rgbinfo" + (8 * len(text)).to_bytes(4, "big") + text.encode()
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    pixels = np.full(size[0] * size[1] * 3, 100, np.uint8)
    pixels[: len(bits)] |= bits
    return Image.fromarray(pixels.reshape(size[0], size[1], 3).swapaxes(0, 1).copy())


def lossless_webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("form", ["png", "webp"])
def test_a_file_without_settings_hides_none(compress: bool, form: str) -> None:
    image = hidden_in_alpha(SECRET, compress)
    assert hidden_text(image) == SECRET
    data = png({"Software": "secret"}, image=image) if form == "png" else lossless_webp(image)
    assert hidden_text(opened(data)) == SECRET
    after = opened(without_settings(data)).convert("RGBA")  # an opaque WebP has no such channel
    assert hidden_text(after) == "" and (np.asarray(after.getchannel("A")) & 1).all()
    assert after.size == image.size and after.convert("RGB").tobytes() == image.convert("RGB").tobytes()
    assert source_type_of(without_settings(data)) and without_settings(without_settings(data)) == without_settings(data)


def test_a_text_in_the_colours_goes_too() -> None:
    after = np.asarray(opened(without_settings(png({}, image=hidden_in_colours(SECRET)))))
    assert after.shape == (24, 40, 3) and (after == 101).all()


def test_a_signature_is_enough_and_a_profile_stays() -> None:
    image = hidden_in_alpha("x" * 5, size=(24, 24))
    pixels = np.array(image)
    pixels[0:4, 5, 3] |= 1  # bits 120 to 123: the length is beyond the picture, and no reader finds the text
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=profile)
    after = opened(without_settings(file.getvalue()))
    assert (np.asarray(after)[..., 3] == 255).all() and after.info["icc_profile"] == profile


def test_a_picture_that_is_written_again_hides_none() -> None:
    assert hidden_text(opened(encode_without_settings(hidden_in_alpha(SECRET), "png"))) == ""


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (40, 24)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_other_pictures_keep_their_pixels_byte_by_byte(size: tuple[int, int], mode: str) -> None:
    image = Image.effect_noise(size, 60).convert(mode)
    assert without_hidden_text(image) is None
    data = png({}, image=image)
    assert opened(without_settings(data)).tobytes() == image.tobytes()
