"""Bounds on an untrusted picture file, from its structure alone: nothing of it is decoded here.

A decoder works for every chunk, frame and scan that a small file names, and some of them keep all texts in memory.
Here they are counted first, and what is no part of the picture (texts, later frames, previews) is left out.
PNG: W3C, "Portable Network Graphics, third edition"; JPEG: ITU-T T.81; WebP: RFC 9649.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Chunks or segments of one file, frames of an animation, and scans of a progressive JPEG (encoders make about ten; each
# costs the decoder a pass over the whole picture).
MAX_PARTS, MAX_FRAMES, MAX_SCANS = 20_000, 1000, 50
# Scans of a JPEG as large as is allowed; a smaller one may have more of them. An empty scan costs a pass, too.
SCANS_OF_THE_LARGEST = 16
# Beyond these lengths a colour profile or EXIF is left out.
MAX_PROFILE, MAX_EXIF = 4 * 2**20, 2**17
# Chunks of a PNG that matter to its pixels; of each but IDAT the first counts.
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"IDAT", b"IEND"}
# Where a camera's orientation stands, too, in files of some programs.
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_PNG_KEPT |= {b"tEXtRaw profile type exif", b"zTXtRaw profile type exif", b"iTXtXML:com.adobe.xmp"}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
# A marker between the entropy-coded bytes of a JPEG: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_SOS, _EOI, _APP0, _APP1, _APP2, _APP14, _COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE


class TooManyParts(ValueError):
    """A file with more chunks, frames or scans than any picture needs."""


@dataclass(frozen=True)
class BoundedFile:
    """A file that is safe to give to a decoder.

    Attributes:
        data: the file, without what is no part of its first picture.
        size: width and height that a WebP claims; None for the other formats, whose decoders read only the head first.
        animated: whether it has more frames.
        scans: of a JPEG; 1 for the other formats.
    """

    data: bytes
    size: tuple[int, int] | None = None
    animated: bool = False
    scans: int = 1


def bounded(data: bytes) -> BoundedFile:
    """A PNG, JPEG or WebP with its parts counted; anything else as it is.

    Raises:
        TooManyParts: if there are too many.
    """
    if data.startswith(PNG_HEAD):
        return _bounded_png(data)
    if data.startswith(JPEG_HEAD):
        return _bounded_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _bounded_webp(data)
    return BoundedFile(data)


def _bounded_png(data: bytes) -> BoundedFile:
    kept, seen, frames, dropped, end = [data[:8]], set[bytes](), 0, False, 8
    for kind, start, end in _png_chunks(data):
        frames += kind == b"fcTL"
        # A text counts by its keyword.
        name = data[start + 4 : start + 40].partition(b"\0")[0] if kind in _TEXTS else kind
        wanted = name in _PNG_KEPT and (kind == b"IDAT" or name not in seen)
        if wanted and (kind in _TEXTS or kind in (b"iCCP", b"eXIf")):
            wanted = _is_small(kind, data[start + 8 : end - 4])
        seen.add(name)
        if wanted:
            kept.append(data[start:end])
        dropped |= not wanted
    if frames > MAX_FRAMES:
        raise TooManyParts
    # What is left of a broken chunk stays: the decoder says what is wrong.
    whole = data if not dropped else b"".join(kept) + (b"" if b"IEND" in seen else data[end:])
    return BoundedFile(whole, animated=frames > 1)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each whole chunk, up to IEND."""
    at, count = 8, 0
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        count += 1
        if count > MAX_PARTS:
            raise TooManyParts
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def _is_small(kind: bytes, body: bytes) -> bool:
    """Whether a chunk with a profile, EXIF or a text is small, and unpacks to a megabyte at most (Pillow's bound)."""
    packed = body.partition(b"\0")[2]
    if kind not in (b"iCCP", b"zTXt"):
        # An international text is deflated if its first byte says so.
        return len(body) <= MAX_EXIF and not (kind == b"iTXt" and packed[:1] == b"\1")
    # Both: a name, a zero, the method, and deflated bytes.
    packed = packed[1:]
    try:
        unpack = zlib.decompressobj()
        unpack.decompress(packed, 2**20)
        return not unpack.unconsumed_tail
    except zlib.error:
        return False


def _bounded_jpeg(data: bytes) -> BoundedFile:
    """Segments up to the first end of image: what follows (previews, videos) is another picture."""
    kept, scans, count, at, profile = [data[:2]], 0, 0, 2, 0
    heads = [b"Exif\0\0", _XMP]
    while (found := _MARKER.search(data, at)) is not None:
        start, kind = found.start(), data[found.start() + 1]
        count, scans = count + 1, scans + (kind == _SOS)
        if count > MAX_PARTS or scans > MAX_SCANS:
            raise TooManyParts
        if kind == _EOI:
            kept.append(data[at : start + 2])
            return BoundedFile(b"".join(kept), scans=scans)
        # 01 and D8 have no length.
        length = int.from_bytes(data[start + 2 : start + 4], "big") if kind not in (0x01, 0xD8) else 0
        end = start + 2 + length
        body = data[start + 4 : start + 34]
        wanted = not (_APP0 <= kind <= 0xEF or kind == _COMMENT) or kind in (_APP0, _APP14)
        if kind == _APP1 and not scans and (head := next(filter(body.startswith, heads), None)):
            heads.remove(head)
            wanted = True
        elif kind == _APP2 and body.startswith(b"ICC_PROFILE\0"):
            profile += length
            wanted = profile <= MAX_PROFILE
        # Entropy-coded bytes before this marker belong to the scan before it.
        kept.append(data[at:end] if wanted else data[at:start])
        at = max(end, start + 2)
    return BoundedFile(b"".join([*kept, data[at:]]), scans=scans)


def _bounded_webp(data: bytes) -> BoundedFile:
    size, frames, count, at = None, 0, 0, 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 18]
        count, frames = count + 1, frames + (kind == b"ANMF")
        if count > MAX_PARTS or frames > MAX_FRAMES:
            raise TooManyParts
        size = size or _webp_size(kind, body)
        at += 8 + length + length % 2
    return BoundedFile(data, size, frames > 1)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas, or of the only picture."""
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None
