"""Texts in files of other programs: where they stand, in which form, and how much of them is read."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipelines.images import file_texts
from pipelines.images.file_texts import read_texts, user_comment_text


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, behind: bytes = b"") -> bytes:
    """A PNG with chunks before its pixels and behind them."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunks) + data[33:-12] + behind + data[-12:]


def test_every_kind_of_text_chunk_is_read_before_and_behind_the_pixels() -> None:
    data = png(
        chunk(b"tEXt", b"latin\0Gr\xf6\xdfe"),
        chunk(b"tEXt", b"utf8\0" + "Größe 狐".encode()),
        chunk(b"zTXt", b"packed\0\0" + zlib.compress(b"zip")),
        chunk(b"iTXt", b"plain\0\0\0de\0k\0" + "狐".encode()),
        chunk(b"iTXt", b"both\0\1\0\0\0" + zlib.compress("狐".encode())),
        chunk(b"tEXt", b"latin\0a second one"),
        behind=chunk(b"tEXt", b"late\0parameters"),
    )
    assert read_texts(data).texts == {
        "latin": "Größe", "utf8": "Größe 狐", "packed": "zip", "plain": "狐", "both": "狐", "late": "parameters",
    }  # fmt: skip


def test_broken_chunks_are_skipped() -> None:
    data = png(
        chunk(b"zTXt", b"bad\0\0not deflated"), chunk(b"iTXt", b"short\0"), chunk(b"tEXt", b"nothing"),
        chunk(b"eXIf", b"MM\0*garbage"), chunk(b"tEXt", b"good\0yes"),
    )  # fmt: skip
    found = read_texts(data).texts
    assert found["good"] == "yes" and found["bad"] == ""
    assert read_texts(data[:60]).texts == {}


def test_number_and_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "MAX_TEXT", 1000)
    monkeypatch.setattr(file_texts, "MAX_ALL", 3000)
    bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(b"a" * 10**7))
    data = png(bomb, *(chunk(b"tEXt", b"%d\0" % k + b"x" * 999) for k in range(5)))
    found = read_texts(data).texts
    assert len(found["bomb"]) == 1000 and sum(map(len, found.values())) <= 3000
    many = png(*(chunk(b"tEXt", b"%d\0" % k) for k in range(500)))
    assert len(read_texts(many).texts) == file_texts.MAX_TEXTS


@pytest.mark.parametrize(
    ("comment", "little"),
    [
        (b"UNICODE\0" + "Größe 狐".encode("utf-16-be"), False),
        (b"UNICODE\0" + "Größe 狐".encode("utf-16-le"), True),
        (b"UNICODE\0" + "Größe 狐".encode("utf-16-le"), False),
        (b"UNICODE\0\xff\xfe" + "Größe 狐".encode("utf-16-le"), False),
        (b"ASCII\0\0\0" + "Größe 狐".encode(), False),
        (b"\0" * 8 + "Größe 狐".encode(), False),
        ("Größe 狐".encode(), False),
        ("Größe 狐", False),
    ],
)
def test_user_comments_as_programs_write_them(comment: object, little: bool) -> None:
    assert user_comment_text(comment, little) == "Größe 狐"


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_exif_and_xmp_are_read(form: str) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "Steps: 3".encode("utf-16-be")
    exif[0x010E] = "about"
    exif[0x010F] = "maker: x"
    options = {"xmp": b"<x:xmpmeta/>"} if form != "PNG" else {}
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
        options["pnginfo"] = info
    Image.new("RGB", (8, 8)).save(file, form, exif=exif.tobytes(), **options)
    found = read_texts(file.getvalue())
    assert (found.user_comment, found.description, found.xmp) == ("Steps: 3", "about", "<x:xmpmeta/>")
    assert found.camera[str(0x010F)] == "maker: x"


def test_a_comment_of_a_jpeg_is_read() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", comment="{} 狐".encode())
    assert read_texts(file.getvalue()).texts == {"Comment": "{} 狐"}


@given(st.binary(max_size=300), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b""]))
@settings(max_examples=50, deadline=None)
def test_no_bytes_are_an_error(data: bytes, head: bytes) -> None:
    read_texts(head + data)


@pytest.mark.parametrize("form", ["iso2022_jp", "shift_jis", "euc_jp", "utf-8"])
def test_a_japanese_user_comment_is_read(form: str) -> None:
    text = "赤い狐、夜の森\nSteps: 20"
    assert user_comment_text(b"JIS\0\0\0\0\0" + text.encode(form)) == text
    assert user_comment_text(b"JIS\0\0\0\0\0plain\0") == "plain"
    assert user_comment_text(b"JIS\0\0\0\0\0\xff\xff\xff") != ""


@pytest.mark.parametrize("head", ["", "ASCII\0\0\0", "\0" * 8])
def test_a_user_comment_of_the_type_of_ascii_texts_may_hold_utf_8(head: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = (head + "Größe 狐").encode()
    block = bytearray(exif.tobytes())
    at = block.index(b"\x92\x86") + 2 if b"\x92\x86" in block else block.index(b"\x86\x92") + 2
    order = "little" if block[6:8] == b"II" else "big"
    block[at : at + 2] = (2).to_bytes(2, order)
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG", exif=bytes(block))
    assert read_texts(file.getvalue()).user_comment == "Größe 狐"


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def jpeg(*segments: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG")
    return file.getvalue()[:20] + b"".join(segments) + file.getvalue()[20:]


ID = "0123456789ABCDEF" * 2
STANDARD = segment(file_texts.JPEG_XMP + f'<x xmpNote:HasExtendedXMP="{ID}"/>'.encode())


def more_xmp(at: int, part: bytes, size: int = 120_000, name: str = ID) -> bytes:
    return segment(file_texts.JPEG_MORE_XMP + name.encode() + size.to_bytes(4, "big") + at.to_bytes(4, "big") + part)


def test_xmp_that_goes_on_in_more_segments_is_read() -> None:
    long = b"<more>" + b"a" * 119_987 + b"</more>"
    parts = [more_xmp(at, long[at : at + 60_000]) for at in (60_000, 0)]  # in any order
    strange = more_xmp(0, b"<strange>", 9, "F" * 32)
    found = read_texts(jpeg(STANDARD, strange, *parts)).xmp
    assert found.startswith("<x xmpNote") and found.endswith(long.decode()) and "strange" not in found
    for broken in (parts[:1], [more_xmp(0, b"")], [segment(file_texts.JPEG_MORE_XMP + ID.encode())], [strange]):
        assert "more" not in read_texts(jpeg(STANDARD, *broken)).xmp.removeprefix("<x xmpNote")
    assert read_texts(jpeg(*parts)).xmp == "", "none is named that goes on"


def test_a_record_in_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [segment(file_texts.JPEG_RECORD + part, 0xEA) for part in (b'{"a":', b" 1}")]
    assert read_texts(jpeg(*parts)).texts == {"diffusion_playground": '{"a": 1}'}
    monkeypatch.setattr(file_texts, "MAX_TEXT", 5)
    assert read_texts(jpeg(*parts)).texts == {}
