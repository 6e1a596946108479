"""Awkward pictures, made here: every kind of file that people drop on a page, and what must come of it.

Each is drawn from one upright picture whose four corners differ in colour.  Those that are fine say which pixels must
come out; those that are not say how the one sentence begins.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter, PngImagePlugin

# Stands wherever a file can hide words; it must never come out again.
SECRET = "Elm Street 7"
FIRST_FRAME = "Only the first frame of this animation is used."
EMPTY, NO_PICTURE, BROKEN = "This file is empty", "Can't open this file", "This picture is broken"
TOO_LARGE, SLIVER = "This picture is too large", "This picture is a sliver"
ORIENTATION, GPS = 0x0112, 0x8825
SIZE = (48, 32)
RED, GREEN, BLUE, YELLOW = (220, 30, 40), (20, 200, 60), (30, 60, 210), (240, 230, 20)
# What EXIF's orientations say: at which side of the upright picture the first row lies, and the first column.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@dataclass(frozen=True, eq=False)
class Fine:
    """A file that must be read.

    Attributes:
        name: for the test's name; the file's own name is no help to anyone.
        data: the file.
        want: the pixels that must come out, RGB or RGBA.
        off: how far a level may be off (JPEG and lossy WebP do not keep pixels).
        notes: what a person must be told.
    """

    name: str
    data: bytes
    want: Image.Image
    off: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Refused:
    """A file that cannot be used, and how the sentence begins that says so."""

    name: str
    data: bytes
    sentence: str


# -- pieces --------------------------------------------------------------------------------------------------------


def upright() -> Image.Image:
    """Red and green above blue and yellow."""
    width, height = SIZE
    image = Image.new("RGB", SIZE, RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def see_through() -> Image.Image:
    """The same with its right half see-through by half."""
    image = upright().convert("RGBA")
    alpha = Image.new("L", SIZE, 255)
    alpha.paste(128, (SIZE[0] // 2, 0, *SIZE))
    image.putalpha(alpha)
    return image


def held(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as a camera stores it that was held so."""
    row, column = SIDES[orientation]
    pixels = np.asarray(image)
    pixels = pixels if row in ("top", "bottom") else pixels.swapaxes(0, 1)
    pixels = pixels[::-1] if row in ("bottom", "right") else pixels
    pixels = pixels[:, ::-1] if column in ("bottom", "right") else pixels
    return Image.fromarray(np.ascontiguousarray(pixels))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A file; JPEG and WebP as exact as they can be."""
    best: dict[str, Any] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
    file = io.BytesIO()
    image.save(file, kind, **{**best.get(kind, {}), **options})
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(size: tuple[int, int], depth: int, kind: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write.

    Args:
        size: width, height.
        depth: bits a sample.
        kind: PNG's colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
        rows: the samples, each row after a zero (no filter).
        more: whole chunks to stand before the pixels.
    """
    head = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + body + chunk(b"IEND", b"")


def deep(image: Image.Image) -> bytes:
    """Rows of 16 bits a sample for ``raw_png``: each level v as v * 257 and a bit, which rounds to v again."""
    levels = np.asarray(image, np.int64)
    levels = np.minimum(levels * 257 + 3, 65535).astype(">u2")
    return b"".join(b"\0" + row.tobytes() for row in levels)


def exif_of(orientation: Any = None, secret: bool = False) -> bytes:
    """EXIF with how the camera was held and, if asked, where and by whom."""
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    if secret:
        exif[0x013B] = SECRET
        exif.get_ifd(GPS).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 22.0, 0.0), 29: SECRET})
    return exif.tobytes()


def xmp() -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{SECRET}</dc:creator></x:xmpmeta>'.encode()


def swapped_profile() -> bytes:
    """An ICC profile of a screen whose red is sRGB's green and whose green is sRGB's red (ICC.1:2001-04)."""
    red, green, blue = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 8) + b"Swapped\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + SECRET.encode() + b"\0",
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": _xyz(green),
        b"gXYZ": _xyz(red),
        b"bXYZ": _xyz(blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz((0.9642, 1.0, 0.8249))[8:]
    return head.ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def marker(kind: int, data: bytes) -> bytes:
    """One segment of a JPEG."""
    return struct.pack(">HH", 0xFF00 | kind, len(data) + 2) + data


# -- files that are fine -------------------------------------------------------------------------------------------


def fine() -> list[Fine]:
    """Every file that must be read."""
    return [*_usual(), *_turned(), *_transparent(), *_deep(), *_inks(), *_moving(), *_telling(), *_profiled(), *_odd()]


def _usual() -> Iterator[Fine]:
    image = upright()
    grey = image.convert("L")
    yield Fine("png", saved(image, "PNG"), image)
    yield Fine("webp-lossless", saved(image, "WEBP"), image)
    soft = image.filter(ImageFilter.GaussianBlur(6))
    yield Fine("webp-lossy", saved(soft, "WEBP", lossless=False, quality=95), soft, 12)
    yield Fine("jpeg", saved(image, "JPEG"), image, 8)
    yield Fine("jpeg-progressive", saved(image, "JPEG", progressive=True), image, 8)
    yield Fine("jpeg-grey", saved(grey, "JPEG"), grey.convert("RGB"), 8)
    yield Fine("png-grey", saved(grey, "PNG"), grey.convert("RGB"))
    yield Fine("png-palette", saved(image.quantize(4), "PNG"), image.quantize(4).convert("RGB"))
    black = image.convert("1")
    yield Fine("png-1-bit", saved(black, "PNG"), black.convert("RGB"))


def _turned() -> Iterator[Fine]:
    image = upright()
    for orientation in SIDES:
        for kind, off in (("PNG", 0), ("JPEG", 8), ("WEBP", 0)):
            data = saved(held(image, orientation), kind, exif=exif_of(orientation))
            yield Fine(f"{kind.lower()}-orientation-{orientation}", data, image, off)
    turned = held(see_through(), 6)
    yield Fine("png-see-through-orientation-6", saved(turned, "PNG", exif=exif_of(6)), see_through())


def _transparent() -> Iterator[Fine]:
    image, soft = upright(), see_through()
    yield Fine("png-see-through", saved(soft, "PNG"), soft)
    yield Fine("webp-see-through", saved(soft, "WEBP"), soft)
    grey = soft.convert("LA")
    yield Fine("png-grey-see-through", saved(grey, "PNG"), grey.convert("RGBA"))
    few = image.quantize(4)
    one, some = next(iter(few.get_flattened_data())), bytes([0, 100, 200, 255])
    yield Fine("png-palette-one-clear", saved(few, "PNG", transparency=one), without(few.convert("RGB"), RED))
    levels = Image.frombytes("L", SIZE, bytes(some[i] for i in few.get_flattened_data()))
    want = few.convert("RGB").convert("RGBA")
    want.putalpha(levels)
    yield Fine("png-palette-some-clear", saved(few, "PNG", transparency=some), want)
    yield Fine("png-one-colour-clear", saved(image, "PNG", transparency=RED), without(image, RED))
    dark = image.convert("L")
    level = dark.getpixel((0, 0))
    yield Fine("png-one-grey-clear", saved(dark, "PNG", transparency=level), without(dark.convert("RGB"), (level,) * 3))
    black = image.convert("1")
    yield Fine("png-1-bit-black-clear", saved(black, "PNG", transparency=0), without(black.convert("RGB"), (0, 0, 0)))


def without(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """RGBA, see-through where an RGB picture has this colour."""
    clear = (np.asarray(image) == colour).all(axis=-1)
    return Image.fromarray(np.dstack([np.asarray(image), np.where(clear, 0, 255).astype(np.uint8)]))


def _deep() -> Iterator[Fine]:
    image, soft = upright(), see_through()
    grey, pale = image.convert("L"), soft.convert("LA")
    yield Fine("png-16-bit-grey", raw_png(SIZE, 16, 0, deep(grey)), grey.convert("RGB"))
    yield Fine("png-16-bit", raw_png(SIZE, 16, 2, deep(image)), image)
    yield Fine("png-16-bit-grey-see-through", raw_png(SIZE, 16, 4, deep(pale)), pale.convert("RGBA"))
    yield Fine("png-16-bit-see-through", raw_png(SIZE, 16, 6, deep(soft)), soft)
    level = grey.getpixel((0, 0))
    key = chunk(b"tRNS", struct.pack(">H", level * 257 + 3))
    want = without(grey.convert("RGB"), (level,) * 3)
    yield Fine("png-16-bit-one-grey-clear", raw_png(SIZE, 16, 0, deep(grey), key), want)
    key = chunk(b"tRNS", struct.pack(">3H", *(v * 257 + 3 for v in RED)))
    yield Fine("png-16-bit-one-colour-clear", raw_png(SIZE, 16, 2, deep(image), key), without(image, RED))


def _inks() -> Iterator[Fine]:
    image = upright()
    adobe = saved(image.convert("CMYK"), "JPEG")
    yield Fine("jpeg-cmyk-adobe-inverted", adobe, image, 8)
    # Without Adobe's mark 255 is full ink.
    plain = saved(ImageChops.invert(image.convert("CMYK")), "JPEG")
    at = plain.index(b"\xff\xee")
    length = struct.unpack(">H", plain[at + 2 : at + 4])[0]
    yield Fine("jpeg-cmyk-plain", plain[:at] + plain[at + 2 + length :], image, 8)


def _moving() -> Iterator[Fine]:
    image, other = upright(), ImageChops.invert(upright())
    more: dict[str, Any] = {"save_all": True, "append_images": [other, image], "duration": 100}
    yield Fine("webp-moving", saved(image, "WEBP", **more), image, notes=(FIRST_FRAME,))
    yield Fine("png-moving", saved(image, "PNG", **more), image, notes=(FIRST_FRAME,))
    # Phones put a preview or a depth map into the same file; that is no animation.
    pair = saved(image, "MPO", save_all=True, append_images=[other], quality=98, subsampling=0)
    yield Fine("jpeg-with-preview", pair, image, 8)


def _telling() -> Iterator[Fine]:
    image = upright()
    said = PngImagePlugin.PngInfo()
    said.add_text("Comment", SECRET)
    said.add_text("Author", SECRET, zip=True)
    said.add_itxt("Title", SECRET, "de", "Titel")
    said.add_itxt("XML:com.adobe.xmp", xmp().decode())
    where: dict[str, Any] = {"exif": exif_of(secret=True)}
    yield Fine("png-telling", saved(image, "PNG", pnginfo=said, **where) + SECRET.encode(), image)
    shown = {**where, "xmp": xmp()}
    yield Fine("jpeg-telling", saved(image, "JPEG", comment=SECRET, **shown) + SECRET.encode(), image, 8)
    yield Fine("webp-telling", saved(image, "WEBP", **shown), image)


def _profiled() -> Iterator[Fine]:
    """Green where red is written, and red where green is; their curves differ a little from sRGB's."""
    image, profile = upright(), swapped_profile()
    red, green, blue = image.split()
    want = Image.merge("RGB", (green, red, blue))
    for kind, off in (("PNG", 10), ("JPEG", 16), ("WEBP", 10)):
        yield Fine(f"{kind.lower()}-other-colours", saved(image, kind, icc_profile=profile), want, off)
    soft = want.convert("RGBA")
    soft.putalpha(see_through().getchannel("A"))
    yield Fine("png-see-through-other-colours", saved(see_through(), "PNG", icc_profile=profile), soft, 10)
    few = saved(image.quantize(4), "PNG", icc_profile=profile)
    yield Fine("png-palette-other-colours", few, want, 10)
    yield Fine("png-broken-profile", saved(image, "PNG", icc_profile=profile[:200]), image)
    yield Fine("jpeg-profile-of-other-kind", saved(image.convert("CMYK"), "JPEG", icc_profile=profile), image, 8)


def _odd() -> Iterator[Fine]:
    image = upright()
    for orientation in (0, 9, 65535):
        data = saved(image, "PNG", exif=exif_of(orientation))
        yield Fine(f"png-orientation-{orientation}", data, image)
    said = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI4sI", 1, ORIENTATION, 2, 4, b"top\0", 0)
    yield Fine("png-orientation-as-text", saved(image, "PNG", exif=said), image)
    yield Fine("png-broken-exif", saved(image, "PNG", exif=b"MM\0*\0\0\xff\xff" + bytes(9)), image)
    yield Fine("jpeg-broken-exif", saved(image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"), image, 8)
    yield Fine("one-pixel", saved(Image.new("RGB", (1, 1), RED), "PNG"), Image.new("RGB", (1, 1), RED))
    long = Image.new("RGB", (16384, 164), BLUE)
    yield Fine("longest", saved(long, "PNG"), long)


# -- files that are not --------------------------------------------------------------------------------------------


def refused() -> list[Refused]:
    """Every file that must be refused."""
    return [*_foreign(), *_oversized(), *_broken()]


def _foreign() -> Iterator[Refused]:
    image = upright()
    yield Refused("empty", b"", EMPTY)
    yield Refused("one-byte", b"\x89", NO_PICTURE)
    yield Refused("text", SECRET.encode(), NO_PICTURE)
    yield Refused("html", b"<!doctype html><html><body><img src=x></body></html>", NO_PICTURE)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
    yield Refused("svg", drawing.encode(), NO_PICTURE)
    for kind in ("EPS", "GIF", "BMP", "TIFF", "PDF", "ICO", "PPM"):
        yield Refused(kind.lower(), saved(image, kind), NO_PICTURE)
    yield Refused("riff-but-no-webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), NO_PICTURE)


def _oversized() -> Iterator[Refused]:
    side = 12_000
    yield Refused("png-bomb", raw_png((side, side), 1, 0, bytes((side // 8 + 1) * side)), TOO_LARGE)
    # So large that Pillow itself refuses; the pixels need not even be there.
    yield Refused("png-huge-bomb", raw_png((60_000, 60_000), 8, 2, b""), TOO_LARGE)
    yield Refused("jpeg-bomb", _jpeg_of_size(side), TOO_LARGE)
    yield Refused("webp-bomb", _webp_of_size(side), TOO_LARGE)
    yield Refused("30000-wide", raw_png((30_000, 1), 8, 0, bytes(30_001)), TOO_LARGE)
    yield Refused("30000-high", raw_png((1, 30_000), 8, 0, bytes(60_000)), TOO_LARGE)
    yield Refused("sliver", saved(Image.new("L", (202, 2)), "PNG"), SLIVER)
    yield Refused("upright-sliver", saved(Image.new("L", (1, 101)), "JPEG"), SLIVER)


def _jpeg_of_size(side: int) -> bytes:
    """A small JPEG that claims to be large."""
    data = saved(upright(), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", side, side) + data[at + 4 :]


def _webp_of_size(side: int) -> bytes:
    """A small WebP that claims to be large: 14 bits each of width - 1 and height - 1."""
    data = saved(upright(), "WEBP")
    at = data.index(b"VP8L") + 9
    bits = struct.unpack("<I", data[at : at + 4])[0] >> 28 << 28
    return data[:at] + struct.pack("<I", bits | (side - 1) << 14 | (side - 1)) + data[at + 4 :]


def _broken() -> Iterator[Refused]:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(noisy, kind)
        for share in (0.01, 0.1, 0.5, 0.9):
            yield Refused(f"{kind.lower()}-cut-at-{share:.0%}", data[: max(16, int(len(data) * share))], BROKEN)
    data = saved(noisy, "PNG")
    at = data.index(b"IDAT") + 100
    yield Refused("png-bad-byte", data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :], BROKEN)
    yield Refused("png-no-pixels", raw_png(SIZE, 8, 2, b""), BROKEN)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    yield Refused("png-text-bomb", raw_png(SIZE, 8, 2, deep(upright()), text), BROKEN)
