"""Pictures as PNG, JPEG or WebP with their settings inside, and files without them.

Each holds AUTOMATIC1111's ``parameters`` for other programs (in JPEG and WebP the EXIF user comment), our own versioned
JSON as the source of truth (there the EXIF maker note; in a JPEG whose EXIF has no room for it, segments of its own),
and IPTC's digital source type in XMP.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.images import png
from pipelines.images.file_bounds import JPEG_HEAD, PNG_HEAD
from pipelines.images.file_texts import (
    JPEG_EXIF,
    JPEG_RECORD,
    JPEG_XMP,
    XMP_KEYWORD,
    jpeg_segments,
    png_chunks,
    read_texts,
    webp_chunks,
)
from pipelines.images.hidden_texts import file_without_hidden_text, without_hidden_text
from pipelines.images.provenance import COMPOSITE, TRAINED, xmp_of_source, xmp_packet

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.request import GenerationRequest

# Name of a format -> the ending of its files.
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
QUALITY = 92
# Bytes that a segment of a JPEG holds.
MAX_SEGMENT = 65_533
_SOURCE_TYPE = re.compile(r"digitalsourcetype/(\w{1,64})")
_EXIF_IFD, _USER_COMMENT, _MAKER_NOTE, _ORIENTATION = 0x8769, 0x9286, 0x927C, 0x0112
# What a picture needs, and C2PA manifests (caBX, APP11), which other programs have signed; everything else is settings.
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"bKGD", b"pHYs", b"caBX",
             b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND"}  # fmt: skip
_WEBP_KEPT = {b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"C2PA"}
_XMP_FLAG, _EXIF_FLAG = 0x04, 0x08


def encode(
    image: Image.Image, form: str, request: GenerationRequest, seed: int, facts: Mapping[str, Any] | None = None
) -> bytes:
    """The file of a picture with its settings.

    Args:
        image: the pixels.
        form: key of ``FORMATS``; only PNG keeps the pixels exactly.
        request: of its run.
        seed: of this picture.
        facts: more to record, JSON values.
    """
    if form == "png":
        return png.png_bytes(image, request, seed, facts or {})
    file, parameters = io.BytesIO(), png.parameters_text(request, seed, facts)
    exif = exif_block(parameters, png.metadata_json(request, seed, facts or {}, ensure_ascii=False))
    whole = form != "jpeg" or len(exif) <= MAX_SEGMENT
    if not whole and len(exif := exif_block(parameters)) > MAX_SEGMENT:
        exif = b""
    options = {"exif": exif, "xmp": xmp_packet(request).encode(), "quality": QUALITY}
    image.convert("RGB").save(file, format=form.upper(), **options)
    return file.getvalue() if whole else _with_record(file.getvalue(), png.metadata_json(request, seed, facts or {}))


def encode_without_settings(image: Image.Image, form: str, source_type: str = TRAINED, mark: bool = True) -> bytes:
    """The file of a picture that says that a model made it and nothing else.

    Args:
        source_type: the last name of IPTC's digital source type.
        mark: whether it says so; a photograph does not.
    """
    file, xmp = io.BytesIO(), xmp_of_source(source_type)
    options: dict[str, Any] = {"quality": QUALITY, **({"xmp": xmp.encode()} if mark else {})}
    if form == "png":
        options, image = {"pnginfo": png.xmp_chunk(xmp)} if mark else {}, without_hidden_text(image) or image
    (image if form == "png" else image.convert("RGB")).save(file, format=form.upper(), **options)
    return file.getvalue()


def _with_record(data: bytes, record: str) -> bytes:
    """A JPEG with our JSON, which is ASCII, in segments of its own behind the first one, which must be JFIF's."""
    size, text = MAX_SEGMENT - len(JPEG_RECORD), record.encode("ascii")
    parts = (_segment(0xEA, JPEG_RECORD + text[at : at + size]) for at in range(0, len(text), size))
    _, first = next(jpeg_segments(data))
    at = 2 + 4 + len(first)
    return data[:at] + b"".join(parts) + data[at:]


def exif_block(parameters: str, record: str = "") -> bytes:
    """An EXIF block with the text for other programs as its user comment, and our JSON as its maker note."""
    from PIL import Image

    exif = Image.Exif()
    inner = exif.get_ifd(_EXIF_IFD)
    inner[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    if record:
        inner[_MAKER_NOTE] = png.CHUNK.encode() + b"\0" + record.encode()
    return exif.tobytes()


def source_type_of(data: bytes) -> str:
    """The last name of the digital source type in a file's XMP, if it says that a model made the picture; else ""."""
    found = _SOURCE_TYPE.search(read_texts(data).xmp)
    return found[1] if found and found[1] in (TRAINED, COMPOSITE) else ""


def without_settings(data: bytes, source_type: str = "", manifest: bool = True, mark: bool = True) -> bytes:
    """A file with the same pixels, byte by byte, and no text but the mark that a model made it.

    Only of pixels that hide a text (``hidden_texts``) the lowest bits are others.  Prompt and settings go, with every
    other text, EXIF and preview.  The mark stays, or is added; colour profiles, the orientation, and a C2PA manifest
    that another program has signed stay, too.

    Args:
        data: a PNG, JPEG or WebP.
        source_type: the last name of the digital source type to write, if the file holds none.
        manifest: whether a C2PA manifest stays; one of this program would no longer fit the file.
        mark: whether the mark is in it; False for pictures that no model made.

    Raises:
        ValueError: if it is none of these.
    """
    xmp = xmp_of_source(source_type_of(data) or source_type or TRAINED).encode() if mark else b""
    if data.startswith(PNG_HEAD):
        return _png_without(data, xmp, _PNG_KEPT if manifest else _PNG_KEPT - {b"caBX"})
    if data.startswith(JPEG_HEAD):
        return _jpeg_without(data, xmp, manifest)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_without(data, xmp, _WEBP_KEPT if manifest else _WEBP_KEPT - {b"C2PA"})
    raise ValueError("This is no PNG, JPEG or WebP.")


def _png_without(data: bytes, xmp: bytes, kept: set[bytes]) -> bytes:
    parts, text = [PNG_HEAD], XMP_KEYWORD.encode() + b"\0\0\0\0\0" + xmp
    if pixels := file_without_hidden_text(data):
        data, kept = _with_pixels(data, pixels), kept - {b"sBIT", b"tRNS", b"bKGD", b"acTL", b"fcTL", b"fdAT"}
    for kind, body in png_chunks(data):
        turned = turned_exif(_orientation_of(body)) if kind == b"eXIf" and _orientation_of(body) != 1 else b""
        if kind in kept or turned:
            parts.append(_png_chunk(kind, turned.removeprefix(JPEG_EXIF) or body))
        if kind == b"IHDR" and xmp:
            parts.append(_png_chunk(b"iTXt", text))
    return b"".join(parts)


def _with_pixels(data: bytes, pixels: bytes) -> bytes:
    """A PNG with the pixels of another one, which has nothing else."""
    before, after = list(png_chunks(data)), [chunk for chunk in png_chunks(pixels) if chunk[0] in (b"IHDR", b"IDAT")]
    others = [chunk for chunk in before if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    return PNG_HEAD + b"".join(_png_chunk(*chunk) for chunk in [after[0], *others, *after[1:], (b"IEND", b"")])


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _jpeg_without(data: bytes, xmp: bytes, manifest: bool) -> bytes:
    """Segments before the pixels are chosen; from the first scan on the file stays as it is."""
    head, at = [_segment(0xE1, JPEG_XMP + xmp)] if xmp else [], 2
    if (turned := _orientation(data)) != 1:
        head.append(_segment(0xE1, turned_exif(turned)))
    first: list[bytes] = []
    for marker, body in jpeg_segments(data):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        at += 4 + len(body)
        # JFIF must come first; ICC profiles, C2PA (APP11) and Adobe's colour transform stay.
        if marker == 0xE0:
            first.append(_segment(marker, body))
        elif _is_needed(marker, body) and (manifest or marker != 0xEB):
            head.append(_segment(marker, body))
    return b"".join([data[:2], *first, *head, data[at:]])


def _is_needed(marker: int, body: bytes) -> bool:
    if marker in (0xEB, 0xEE) or (marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")):
        return True
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def turned_exif(orientation: int) -> bytes:
    """The body of an EXIF segment that holds an orientation and nothing else."""
    from PIL import Image

    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    block: bytes = exif.tobytes()
    return block if block.startswith(JPEG_EXIF) else JPEG_EXIF + block


def _orientation(data: bytes) -> int:
    segments = jpeg_segments(data)
    return _orientation_of(next((part for mark, part in segments if mark == 0xE1 and part.startswith(JPEG_EXIF)), b""))


def _orientation_of(body: bytes) -> int:
    """The orientation in an EXIF block, 1 if it says none."""
    from PIL import Image

    try:
        exif = Image.Exif()
        exif.load(body)
        found = exif.get(_ORIENTATION, 1)
    except Exception:  # the exceptions of its parser on broken blocks are not documented
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _webp_without(data: bytes, xmp: bytes, kept: set[bytes]) -> bytes:
    turned = next((_orientation_of(body) for kind, body in webp_chunks(data) if kind == b"EXIF"), 1)
    chunks = [(kind, body) for kind, body in webp_chunks(data) if kind in kept]
    pixels = b""
    if any(kind == b"VP8L" for kind, _ in chunks) and (pixels := file_without_hidden_text(data)):
        clean = next(body for kind, body in webp_chunks(pixels) if kind == b"VP8L")
        chunks = [(kind, clean if kind == b"VP8L" else body) for kind, body in chunks]
    if not chunks:
        raise ValueError("This WebP is broken.")
    if chunks[0][0] != b"VP8X":  # the simple form, which has no place for XMP
        chunks.insert(0, (b"VP8X", _extended_head(pixels or data)))
    flags = chunks[0][1][0] & ~(_EXIF_FLAG | _XMP_FLAG) | _EXIF_FLAG * (turned != 1) | _XMP_FLAG * bool(xmp)
    chunks[0] = (b"VP8X", bytes([flags]) + chunks[0][1][1:])
    chunks += [(b"EXIF", turned_exif(turned).removeprefix(JPEG_EXIF))] if turned != 1 else []
    body = b"WEBP" + b"".join(_webp_chunk(*chunk) for chunk in [*chunks, *([(b"XMP ", xmp)] if xmp else [])])
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _extended_head(data: bytes) -> bytes:
    """The body of the VP8X chunk that a simple WebP lacks: flags, and the size of the canvas less one."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        width, height, alpha = *image.size, "A" in image.getbands()
    return bytes([0x10 * alpha, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
