"""Pictures that cost much: noise, which does not compress, and small files that unpack to much."""

from __future__ import annotations

import io
import random
import struct
import zlib

# What guests may upload at most: pixels of a picture, and scans of a JPEG.
GUEST_SIDE, GUEST_SCANS = 4000, 50


def noise_png(dice: random.Random, width: int, height: int, enlarged: int = 1) -> bytes:
    """A PNG of random RGB pixels, each drawn as a square of ``enlarged`` pixels a side."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.frombytes("RGB", (width, height), dice.randbytes(width * height * 3))
    image.resize((width * enlarged, height * enlarged), Image.Resampling.NEAREST).save(file, format="PNG")
    return file.getvalue()


def deep_png(side: int, colour_type: int = 0) -> bytes:
    """A black PNG of 16 bits a sample; as grey about 140 KB for 8,191 pixels a side.

    Args:
        side: pixels.
        colour_type: PNG's: 0 grey, 2 RGB.
    """
    samples = {0: 1, 2: 3}[colour_type]
    pack, row = zlib.compressobj(9), bytes(1 + 2 * samples * side)
    data = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 16, colour_type, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def progressive_jpeg(side: int, scans: int) -> bytes:
    """A grey JPEG whose last scan is repeated until there are so many; each costs a pass over the whole picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (side, side), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last, end = data.rindex(b"\xff\xda"), len(data) - 2
    # A scan's tables stand before it and hold for its repetitions.
    more = max(0, scans - data.count(b"\xff\xda"))
    return data[:end] + data[last:end] * more + data[end:]


def bombs() -> dict[str, bytes]:
    """Files by name: some beyond what guests may upload, and some that are just within."""
    return {
        "deep.png": deep_png(8191),
        "deep-within.png": deep_png(GUEST_SIDE, 2),
        "scans.jpg": progressive_jpeg(GUEST_SIDE, 1500),
        "scans-within.jpg": progressive_jpeg(GUEST_SIDE, GUEST_SCANS),
    }
