"""Pictures and fonts as data URIs, which a page uses without another request."""

from __future__ import annotations

import base64
import io

from PIL import Image

PREFIX = "data:image/{};base64,"


def data_uri(data: bytes, kind: str = "") -> str:
    """A picture's file as a data URI.

    Args:
        data: the file's bytes.
        kind: of the media type, such as "svg+xml"; by default what the bytes are, PNG or JPEG.
    """
    kind = kind or ("png" if data.startswith(b"\x89PNG") else "jpeg")
    return PREFIX.format(kind) + base64.b64encode(data).decode("ascii")


def font_uri(data: bytes) -> str:
    """A font's WOFF2 file as a data URI."""
    return f"data:font/woff2;base64,{base64.b64encode(data).decode('ascii')}"


def thumbnail_uri(image: Image.Image, side: int) -> str:
    """A picture as a JPEG data URI, scaled down until no side is longer than ``side`` pixels."""
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return data_uri(file.getvalue())
