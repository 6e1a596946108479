"""Bounds on picture files before they are decoded, and what decoding then costs."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from pipelines.images.file_bounds import MAX_FRAMES, MAX_PARTS, MAX_SCANS, bounded
from pipelines.images.uploads import FIRST_FRAME, TOO_MANY_PARTS, decode_upload
from pipelines.request import InvalidRequest
from tests.support.awkward_images import chunk, exif_of, held, marker, saved, swapped_profile, upright

PLAIN, TEXT = saved(upright(), "PNG"), chunk(b"tEXt", b"Comment\0hello")


def with_chunks(*chunks: bytes, data: bytes = PLAIN) -> bytes:
    """A PNG with more chunks after its head."""
    return data[:33] + b"".join(chunks) + data[33:]


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments after its start."""
    return data[:2] + b"".join(segments) + data[2:]


def with_scans(count: int, **options: Any) -> bytes:
    """A JPEG whose last scan is repeated."""
    data = saved(upright(), "JPEG", **options)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + b"\xff\xd9"


def moving(kind: str, frames: int) -> bytes:
    images = [Image.new("RGB", (4, 4), (k % 256, k // 256, 9)) for k in range(frames)]
    return saved(images[0], kind, save_all=True, append_images=images[1:], duration=20)


def anim_chunk(count: int) -> bytes:
    """Frames of a WebP without pixels."""
    return (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * count


MANY = {
    "png-chunks": with_chunks(*[TEXT] * MAX_PARTS),
    "png-frames": with_chunks(*[chunk(b"fcTL", bytes(26))] * (MAX_FRAMES + 1)),
    "jpeg-scans": with_scans(MAX_SCANS, progressive=True),
    "jpeg-scans-of-a-baseline": with_scans(MAX_SCANS),
    "jpeg-segments": with_segments(saved(upright(), "JPEG"), *[marker(0xFE, b"")] * MAX_PARTS),
    "webp-frames": moving("WEBP", 2) + anim_chunk(MAX_FRAMES),
    "webp-chunks": saved(upright(), "WEBP") + (b"XXXX" + bytes(4)) * MAX_PARTS,
}


@pytest.mark.parametrize("name", MANY)
def test_a_file_of_too_many_parts_is_refused_before_it_is_decoded(name: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidRequest) as refused:
        decode_upload(MANY[name])
    assert str(refused.value) == TOO_MANY_PARTS
    assert time.process_time() - started < 1.0


def test_what_encoders_write_is_far_below_the_bounds() -> None:
    for data in (
        saved(upright(), "JPEG", progressive=True), moving("PNG", 30), moving("WEBP", 30),
        with_scans(20, progressive=True), with_chunks(*[TEXT] * 200),
    ):  # fmt: skip
        decode_upload(data)


def test_scans_are_bounded_with_the_pixels_that_each_goes_over() -> None:
    """A JPEG of 16 million pixels in many nearly empty scans, each of which the decoder goes over."""
    plain = saved(Image.new("L", (4096, 4096)), "JPEG", progressive=True, quality=5)
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    empty = scan[: 2 + int.from_bytes(scan[2:4], "big")]
    many = plain[:-2] + empty * 40 + b"\xff\xd9"
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="more frames, scans"):
        decode_upload(many, max_pixels=4096 * 4096)
    assert time.process_time() - started < 1.0
    # A usual one of that size has about ten, and one of a quarter may have all of them.
    decode_upload(plain, max_pixels=4096 * 4096)
    decode_upload(with_scans(40, progressive=True), max_pixels=4 * 48 * 32)


def test_texts_and_profiles_are_left_out_where_they_are_huge() -> None:
    million = zlib.compress(bytes(50_000_000), 9)
    for extra in (
        [chunk(b"zTXt", b"Comment\0\0" + million)],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + million)],
        [chunk(b"tEXt", b"Comment\0" + bytes(3_000_000))],
        [chunk(b"iCCP", b"x\0\0" + million)] * 50,
        [chunk(b"iCCP", b"x\0\0" + zlib.compress(swapped_profile()[:300]))] * 3,
        [chunk(b"eXIf", b"MM\0*" + bytes(3_000_000))],
    ):
        started = time.process_time()
        assert decode_upload(with_chunks(*extra)).image.tobytes() == upright().tobytes()
        assert time.process_time() - started < 1.0


def test_many_exif_segments_cost_nothing() -> None:
    data = with_segments(saved(upright(), "JPEG"), *[marker(0xE1, b"Exif\0\0" + bytes(65000))] * 900)
    started = time.process_time()
    assert decode_upload(data).image.size == upright().size
    assert time.process_time() - started < 1.0


def test_what_matters_to_the_pixels_stays() -> None:
    """A camera's orientation and profile among segments that are left out, and a preview behind the picture."""
    sideways = held(upright(), 6)
    data = saved(sideways, "JPEG", exif=exif_of(6), icc_profile=swapped_profile(), comment=b"x" * 999, progressive=True)
    data = with_segments(data, marker(0xED, b"Photoshop 3.0\0" + bytes(500)), marker(0xEC, b"Ducky"))
    found = decode_upload(data + saved(ImageChops.invert(upright()), "JPEG")).image
    red, green, blue = upright().split()
    wanted = np.asarray(Image.merge("RGB", (green, red, blue)), np.int16)
    assert np.abs(np.asarray(found, np.int16) - wanted)[4:-4, 4:-4].mean() < 8


def test_only_an_animation_is_told_of() -> None:
    assert decode_upload(moving("PNG", 3)).notes == decode_upload(moving("WEBP", 3)).notes == (FIRST_FRAME,)
    pair = saved(upright(), "MPO", save_all=True, append_images=[upright()])
    assert decode_upload(pair).notes == decode_upload(PLAIN).notes == ()


@pytest.mark.parametrize("cut", [9, 20, 40, 60])
def test_a_file_that_ends_in_the_middle_of_a_part(cut: int) -> None:
    for data in (with_chunks(TEXT), saved(upright(), "JPEG", comment=b"x" * 99), moving("WEBP", 2)):
        bounded(data[:cut])
        with pytest.raises(InvalidRequest):
            decode_upload(data[:cut])


def test_a_webp_is_measured_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [bounded(data).size for data in (
        saved(upright(), "WEBP"), saved(upright(), "WEBP", lossless=False), moving("WEBP", 2)
    )]  # fmt: skip
    assert sizes == [(48, 32), (48, 32), (4, 4)]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(InvalidRequest, match="too large"):
        decode_upload(saved(Image.new("RGB", (2000, 900)), "WEBP"), max_pixels=10**6)


_PEAK = """
import resource, sys, time
from pipelines.images.uploads import read_upload
before, at = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
size = read_upload(sys.argv[1]).image.size
print(*size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - at)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is not available")
@pytest.mark.parametrize("kind", [0, 4, 6], ids=["grey", "grey-see-through", "see-through"])
def test_a_deep_picture_is_converted_in_strips(tmp_path: Path, kind: int) -> None:
    """16 bits a sample, 9 million pixels: the memory of a few copies of 8 bits, not of one of 64."""
    side, samples = 3000, {0: 1, 4: 2, 6: 4}[kind]
    packer, row = zlib.compressobj(1), bytes(1 + 2 * samples * side) * 100
    body = b"".join(packer.compress(row) for _ in range(side // 100)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, kind, 0, 0, 0))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    told = subprocess.run([sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True).stdout
    width, height, kilobytes, seconds = (float(word) for word in told.split())
    assert (width, height) == (side, side)
    # 4 bytes a pixel, twice, and the libraries; in int64 it was 27.
    assert kilobytes * 1024 < 12 * side * side
    assert seconds < 20


def test_strips_are_the_whole_picture() -> None:
    """More rows than a strip has, with one level transparent."""
    levels = np.random.default_rng(3).integers(0, 65536, (300, 7)).astype(np.uint16)
    levels[70:200, 3] = 777
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    key = chunk(b"tRNS", struct.pack(">H", 777))
    found = np.asarray(decode_upload(with_chunks(key, data=file.getvalue())).image)
    assert np.array_equal(found[..., 0], np.round(levels / 257).astype(np.uint8))
    assert np.array_equal(found[..., 3] == 0, levels == 777)


def test_an_orientation_is_found_where_other_programs_write_it() -> None:
    """ImageMagick's raw profile, deflated or not, and XMP; each beside texts that are left out."""
    sideways = held(upright(), 6)
    exif = exif_of(6)
    raw = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    long = chunk(b"tEXt", b"Comment\0" + bytes(2_000_000))
    for extra in (
        chunk(b"tEXt", b"Raw profile type exif\0" + raw),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ):
        found = decode_upload(with_chunks(long, extra, data=saved(sideways, "PNG"))).image
        assert found.tobytes() == upright().tobytes()
    jpeg = with_segments(saved(sideways, "JPEG"), marker(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))
    assert decode_upload(jpeg).image.size == upright().size
    # Such texts may be bombs as well as any other.
    packed = zlib.compress(bytes(50_000_000), 9)
    for extra in (
        chunk(b"zTXt", b"Raw profile type exif\0\0" + packed),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        chunk(b"tEXt", b"Raw profile type exif\0" + bytes(3_000_000)),
    ):
        assert decode_upload(with_chunks(extra)).image.tobytes() == upright().tobytes()
