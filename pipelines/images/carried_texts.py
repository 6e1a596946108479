"""The texts of another program's picture, carried over when its file is written in another format.

PNG keeps texts by keyword, JPEG and WebP in EXIF.  What has a usual place in the new format stands there, so that other
programs find it (AUTOMATIC1111's ``parameters`` and the EXIF user comment, ComfyUI's graphs); every text that has none
is in the EXIF maker note, which ``pipelines.images.file_texts`` reads back by keyword.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

from pipelines.images import png
from pipelines.images.file_texts import CARRIED, MAX_EXIF, FileTexts
from pipelines.images.provenance import TRAINED, with_source
from pipelines.images.settings_in_files import QUALITY

if TYPE_CHECKING:
    from PIL import Image, PngImagePlugin

# A JPEG's segment holds 65,533 bytes, of which the names of EXIF and XMP take some.
MAX_SEGMENT = 65_000
_EXIF_IFD, _USER_COMMENT, _MAKER_NOTE, _DESCRIPTION = 0x8769, 0x9286, 0x927C, 0x010E
# Where ComfyUI writes its graphs into a WebP: the tags Model and Make.
_GRAPHS = {"prompt": 0x0110, "workflow": 0x010F}
_KEYWORD = re.compile(r"[!-~]([ -~]{0,77}[!-~])?")


def encode_with_texts(image: Image.Image, form: str, texts: FileTexts, source_type: str = TRAINED) -> bytes:
    """The file of a picture with the texts of another file.

    Args:
        image: the pixels.
        form: key of ``FORMATS``; JPEG may have no room for the longest texts.
        texts: of the other file.
        source_type: the last name of the digital source type to write, if the texts say none.
    """
    file, xmp = io.BytesIO(), with_source(texts.xmp, source_type)
    if form == "png":
        exif = _exif_block(texts, texts.user_comment, {}, {})
        image.save(file, format="PNG", pnginfo=_chunks(texts, xmp), exif=exif)
        return file.getvalue()
    most = MAX_SEGMENT if form == "jpeg" else MAX_EXIF
    if len(xmp.encode()) > most:
        xmp = with_source("", source_type)
    exif = _fitting_exif(texts, most, _GRAPHS if form == "webp" else {})
    image.convert("RGB").save(file, format=form.upper(), quality=QUALITY, exif=exif, xmp=xmp.encode())
    return file.getvalue()


def _by_keyword(texts: FileTexts) -> dict[str, str]:
    """The texts that have a keyword; this program's own JSON is one in a PNG, and a maker note elsewhere."""
    own = png.CHUNK.encode() + b"\0"
    note = texts.maker_note.removeprefix(own) if texts.maker_note.startswith(own) else b""
    given = {png.CHUNK: note.decode("utf-8", "replace")} if note else {}
    return given | {name: text for name, text in texts.texts.items() if _KEYWORD.fullmatch(name)}


def _chunks(texts: FileTexts, xmp: str) -> PngImagePlugin.PngInfo:
    info, found = png.xmp_chunk(xmp), _by_keyword(texts)
    if texts.user_comment:
        found.setdefault("parameters", texts.user_comment)
    for name, text in found.items():
        info.add_text(name, text)  # as iTXt where Latin-1 does not hold it
    return info


def _fitting_exif(texts: FileTexts, most: int, graphs: dict[str, int]) -> bytes:
    """The largest EXIF block of at most so many bytes: without the comment first, then without the longest texts."""
    carried = _by_keyword(texts)
    comment = texts.user_comment or carried.get("parameters", "")
    while len(block := _exif_block(texts, comment, carried, graphs)) > most:
        if graphs:
            graphs = {}
        elif comment:
            carried, comment = {"parameters": comment, **carried}, ""
        elif carried:
            carried.pop(max(carried, key=lambda name: len(carried[name])))
        else:
            return b""
    return block


def _exif_block(texts: FileTexts, comment: str, carried: dict[str, str], graphs: dict[str, int]) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    for number, text in texts.camera.items():
        exif[int(number)] = _tag_text(text)
    if texts.description:
        exif[_DESCRIPTION] = _tag_text(texts.description)
    for name, tag in graphs.items():
        if name in carried:
            exif[tag] = _tag_text(f"{name}:{carried[name]}")
    inner = exif.get_ifd(_EXIF_IFD)
    if comment:
        inner[_USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    if carried:
        inner[_MAKER_NOTE] = CARRIED + zlib.compress(json.dumps(carried).encode())
    block: bytes = exif.tobytes() if len(exif) or len(inner) else b""
    return block


def _tag_text(text: str) -> Any:
    """A text as EXIF holds it: ASCII, or the bytes that most programs write for others."""
    return text if text.isascii() else text.encode()
