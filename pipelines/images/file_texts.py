"""Texts in untrusted picture files, bounded in number and size; no pixel is decoded.

PNG: tEXt, zTXt, iTXt and eXIf chunks, before and after the pixels (W3C, "Portable Network Graphics", 11.3.3); JPEG:
EXIF, XMP and comments in its segments; WebP: its EXIF and XMP chunks (RFC 9649, 2.7.1.4 and 2.7.1.5).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipelines.images.file_bounds import JPEG_HEAD, PNG_HEAD
from pipelines.system.bounded_json import parse_json

# Texts of a file, bytes of one (unpacked) and of all together; chunks or segments that are looked at.
MAX_TEXTS, MAX_TEXT, MAX_ALL, MAX_PARTS = 64, 4 * 2**20, 16 * 2**20, 20_000
MAX_EXIF = 2**20
XMP_KEYWORD = "XML:com.adobe.xmp"
# Before the texts of a PNG in the maker note of a JPEG or WebP (``pipelines.images.carried_texts``): JSON, deflated.
CARRIED = b"diffusion_playground_texts\0"
JPEG_EXIF, JPEG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# Segments of a JPEG whose content goes on in others of their kind: the rest of a long XMP packet (XMP specification,
# part 3, 1.1.3.1), whose parts have an id, the whole length and their place; and this program's record, part by part.
JPEG_MORE_XMP, JPEG_RECORD = b"http://ns.adobe.com/xmp/extension/\0", b"diffusion_playground\0"
_MORE_XMP_ID = re.compile(r"HasExtendedXMP[^0-9A-Fa-f]{1,20}([0-9A-Fa-f]{32})")
_USER_COMMENT, _DESCRIPTION, _MAKER_NOTE, _EXIF_IFD = 0x9286, 0x010E, 0x927C, 0x8769
# How a user comment says in which form its text is (EXIF 2.32, 4.6.5).
_ASCII, _UNICODE, _UNDEFINED, _JIS = b"ASCII\0\0\0", b"UNICODE\0", b"\0" * 8, b"JIS\0\0\0\0\0"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass
class FileTexts:
    """The texts of one file; the first of each name counts.

    Attributes:
        texts: of a PNG, by keyword; "Comment" of a JPEG.
        user_comment, description, maker_note: of the EXIF, "" or b"" for none; ``camera`` holds its other texts.
        xmp: the XMP packet.
    """

    texts: dict[str, str] = field(default_factory=dict)
    user_comment: str = ""
    description: str = ""
    maker_note: bytes = b""
    camera: dict[str, str] = field(default_factory=dict)
    xmp: str = ""

    def add(self, name: str, text: str) -> None:
        """Add a text, unless there is one of this name or there are too many."""
        size = sum(map(len, self.texts.values()))
        if name not in self.texts and len(self.texts) < MAX_TEXTS and size + len(text) <= MAX_ALL:
            self.texts[name] = _SURROGATE.sub("\ufffd", text)


def read_texts(data: bytes) -> FileTexts:
    """The texts of a PNG, JPEG or WebP; none for anything else.  Never raises."""
    found = FileTexts()
    if data.startswith(PNG_HEAD):
        for kind, body in png_chunks(data):
            _take_png_chunk(found, kind, body)
    elif data.startswith(JPEG_HEAD):
        for marker, body in jpeg_segments(data):
            _take_jpeg_segment(found, marker, body)
        _take_parts(found, data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        for kind, body in webp_chunks(data):
            if kind == b"EXIF":
                _take_exif(found, body.removeprefix(JPEG_EXIF))
            elif kind == b"XMP ":
                found.xmp = found.xmp or _utf_8(body[:MAX_TEXT])
    return found


# -- the parts of files ----------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each whole chunk of a PNG."""
    at = len(PNG_HEAD)
    for _ in range(MAX_PARTS):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            return
        kind = data[at + 4 : at + 8]
        yield kind, data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment of a JPEG before its pixels."""
    at = 2
    for _ in range(MAX_PARTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == 0xDA:
            return
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            return
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each whole chunk of a WebP."""
    at = 12
    for _ in range(MAX_PARTS):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data) or at + 8 > len(data):
            return
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


# -- texts in them ---------------------------------------------------------------------------------------------------


def _take_png_chunk(found: FileTexts, kind: bytes, body: bytes) -> None:
    keyword, _, rest = body.partition(b"\0")
    name = keyword[:79].decode("latin-1")
    if kind == b"tEXt" and len(rest) <= MAX_TEXT:
        found.add(name, _latin_or_utf_8(rest))
    elif kind == b"zTXt" and rest[:1] == b"\0":
        found.add(name, _latin_or_utf_8(_inflate(rest[1:])))
    elif kind == b"iTXt" and len(rest) >= 2:
        compressed = rest[0] == 1
        text = b"".join(islice(rest[2:].split(b"\0", 2), 2, 3))
        text = _inflate(text) if compressed else text[:MAX_TEXT]
        if name == XMP_KEYWORD:
            found.xmp = found.xmp or _utf_8(text)
        else:
            found.add(name, _utf_8(text))
    elif kind == b"eXIf":
        _take_exif(found, body)


def _take_jpeg_segment(found: FileTexts, marker: int, body: bytes) -> None:
    if marker == 0xE1 and body.startswith(JPEG_EXIF):
        _take_exif(found, body.removeprefix(JPEG_EXIF))
    elif marker == 0xE1 and body.startswith(JPEG_XMP):
        found.xmp = found.xmp or _utf_8(body.removeprefix(JPEG_XMP))
    elif marker == 0xFE:
        found.add("Comment", _utf_8(body.rstrip(b"\0")))


def _take_parts(found: FileTexts, data: bytes) -> None:
    """The texts of a JPEG that go on over several segments; those that are not whole are left out."""
    records, places, size = list[bytes](), dict[int, bytes](), 0
    wanted = _MORE_XMP_ID.search(found.xmp)
    head = JPEG_MORE_XMP + (wanted[1].encode() if wanted else b"")
    for marker, body in jpeg_segments(data):
        if marker == 0xEA and body.startswith(JPEG_RECORD):
            records.append(body.removeprefix(JPEG_RECORD))
        elif marker == 0xE1 and wanted and body.startswith(head):
            size, at = (int.from_bytes(body[len(head) + k : len(head) + k + 4], "big") for k in (0, 4))
            places.setdefault(at, body[len(head) + 8 :])
    more = b"".join(places[at] for at in sorted(places))
    if records and sum(map(len, records)) <= MAX_TEXT:
        found.add(JPEG_RECORD[:-1].decode(), _utf_8(b"".join(records)))
    if more and len(more) == size <= MAX_TEXT:
        found.xmp += f"\n{_utf_8(more)}"


def _take_exif(found: FileTexts, body: bytes) -> None:
    """The texts of an EXIF block; a broken one has none."""
    from PIL import Image

    if len(body) > MAX_EXIF:
        return
    try:
        exif = Image.Exif()
        exif.load(JPEG_EXIF + body)
        inner = exif.get_ifd(_EXIF_IFD)
        # Fooocus writes the comment into the first directory.
        comment, note = inner.get(_USER_COMMENT) or exif.get(_USER_COMMENT), inner.get(_MAKER_NOTE)
        description = exif.get(_DESCRIPTION)
        others = {str(tag): _exif_text(value) for tag, value in exif.items() if isinstance(value, str | bytes)}
    except Exception:  # the exceptions of its parser on broken blocks are not documented
        return
    found.description = found.description or _exif_text(description)
    found.user_comment = found.user_comment or user_comment_text(comment, body[:2] == b"II")
    found.maker_note = found.maker_note or (note if isinstance(note, bytes) else b"")
    found.camera = found.camera or dict(islice(others.items(), MAX_TEXTS))
    if found.maker_note.startswith(CARRIED):
        _take_carried(found, _inflate(found.maker_note.removeprefix(CARRIED)))


def _take_carried(found: FileTexts, data: bytes) -> None:
    """The texts of a picture that was converted from a PNG."""
    try:
        texts = parse_json(data)
    except (ValueError, RecursionError):
        return
    for name, text in texts.items() if isinstance(texts, dict) else ():
        if isinstance(text, str):
            found.add(name[:79], text)


def user_comment_text(value: object, little_endian: bool = False) -> str:
    """The text of an EXIF user comment, which begins with the name of its form; programs differ in what they write.

    Args:
        value: as Pillow reads it.
        little_endian: the byte order of the EXIF block, which some programs use for the text, too.
    """
    if isinstance(value, str):  # its type is that of ASCII texts, which Pillow reads as Latin-1
        if not _is_latin(value):
            return _utf_8_safe(value)
        value = value.encode("latin-1")
    if not isinstance(value, bytes):
        return ""
    head, text = value[:8], value[8:]
    if head == _UNICODE:
        return _utf_16(text, little_endian)
    if head in (_ASCII, _UNDEFINED):
        return _utf_8(text).rstrip("\0")
    if head == _JIS:
        return _jis(text).rstrip("\0")
    return _latin_or_utf_8(value).strip("\0")


def _jis(text: bytes) -> str:
    """Japanese text: in the form that the standard names, or in one that programs write instead."""
    for form in ("iso2022_jp_2", "utf-8", "shift_jis", "euc_jp"):
        try:
            return text.decode(form)
        except UnicodeDecodeError:
            continue
    return _utf_8(text)


def _utf_16(text: bytes, little_endian: bool) -> str:
    """UTF-16 in the byte order that gives more ASCII: the standard leaves it open."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        little_endian, text = text[:2] == b"\xff\xfe", text[2:]
    elif (zeros := (text[0::2].count(0), text[1::2].count(0)))[0] != zeros[1]:
        little_endian = zeros[1] > zeros[0]
    return text.decode("utf-16-le" if little_endian else "utf-16-be", "replace").rstrip("\0")


def _exif_text(value: object) -> str:
    if isinstance(value, bytes):
        return _utf_8(value).rstrip("\0")
    if not isinstance(value, str):
        return ""
    # Pillow reads it as Latin-1, and most programs write UTF-8.
    return _latin_or_utf_8(value.encode("latin-1", "replace")).rstrip("\0") if _is_latin(value) else _utf_8_safe(value)


def _is_latin(text: str) -> bool:
    return all(ord(c) < 256 for c in text)


def _utf_8_safe(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _latin_or_utf_8(data: bytes) -> str:
    """A text whose standard says Latin-1 and whose writer often means UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _utf_8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _inflate(data: bytes) -> bytes:
    """Deflated bytes, cut at ``MAX_TEXT``; b"" if they are broken."""
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT)
    except zlib.error:
        return b""
