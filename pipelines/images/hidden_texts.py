"""Texts that other programs hide in the lowest bits of pixels: NovelAI, and the extension "stealth pnginfo".

The bits run down the columns, in the alpha channel or in red, green and blue: 15 bytes of signature, 32 bits with the
length in bits, and the bytes, gzipped after a signature that ends in "comp".
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from pipelines.images.file_bounds import bounded
from pipelines.images.file_texts import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from PIL import Image

_COMPRESSED, _PLAIN = b"stealth_pngcomp", b"stealth_pnginfo"
_IN_COLOURS = (b"stealth_rgbcomp", b"stealth_rgbinfo")
_HEAD = 8 * (len(_PLAIN) + 4)


def hidden_text(image: Image.Image) -> str:
    """The text in the lowest bits of the alpha channel, "" if there is none."""
    import numpy as np

    if "A" not in image.getbands():
        return ""
    bits = _bits(np.asarray(image.getchannel("A")))
    start = np.packbits(bits[:_HEAD]).tobytes()
    signature, length = start[:15], int.from_bytes(start[15:], "big")
    if signature not in (_COMPRESSED, _PLAIN) or not 0 < length <= min(bits.size - _HEAD, 8 * MAX_TEXT):
        return ""
    data = np.packbits(bits[_HEAD : _HEAD + length]).tobytes()
    if signature == _COMPRESSED:
        try:
            data = zlib.decompressobj(31).decompress(data, MAX_TEXT)
        except zlib.error:
            return ""
    return data.decode("utf-8", "replace")


def without_hidden_text(image: Image.Image) -> Image.Image | None:
    """The picture with the lowest bits of the channels that hide a text all set; None if none does.

    A signature alone is enough: what follows it is removed even where it cannot be read.
    """
    import numpy as np
    from PIL import Image

    if image.mode not in ("RGB", "RGBA"):
        return None
    pixels = np.array(image)
    hiding = list(_hiding(pixels))
    for channels in hiding:
        pixels[..., channels] |= 1
    return Image.fromarray(pixels) if hiding else None


def file_without_hidden_text(data: bytes) -> bytes:
    """A PNG or lossless WebP with the pixels of a file that hides a text, without it; b"" if it hides none.

    Nothing but the pixels is in it.  A file that cannot be decoded hides nothing that a reader could find.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(bounded(data).data), formats=("PNG", "WEBP")) as image:
            form, clean = image.format, without_hidden_text(image)
    except Exception:  # the exceptions of decoders on broken files are not documented
        return b""
    file = io.BytesIO()
    if clean is not None:
        clean.save(file, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    return file.getvalue()


def _hiding(pixels: np.ndarray[Any, Any]) -> Iterator[slice]:
    """The channels in which a signature stands."""
    import numpy as np

    for channels, signatures in ((slice(3, 4), (_COMPRESSED, _PLAIN)), (slice(0, 3), _IN_COLOURS)):
        # A few columns hold the signature: the whole picture's bits are not needed.
        columns = pixels[:, : 1 + _HEAD // len(pixels), channels]
        if np.packbits(_bits(columns)[:_HEAD]).tobytes()[:15] in signatures:
            yield channels


def _bits(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The lowest bits, down the columns; those of a pixel's channels follow one another."""
    return pixels.swapaxes(0, 1).reshape(-1) & 1
