"""Settings in pictures of other programs: one file a program, each with ``read(texts)``; all of it is untrusted.

To add a program: write its file and enter it in ``READERS``, before those that would take its text for theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from history.readers import a1111, comfyui, draw_things, fooocus, invokeai, novelai, swarmui
from history.readers.settings import ForeignSettings
from pipelines.images.file_bounds import PNG_HEAD
from pipelines.images.file_texts import FileTexts, read_texts

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)
Reader = Callable[[FileTexts], ForeignSettings | None]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "swarmui": swarmui.read,
        "fooocus": fooocus.read,
        "invokeai": invokeai.read,
        "novelai": novelai.read,
        "draw_things": draw_things.read,
        "a1111": a1111.read,
        "comfyui": comfyui.read,
    }
)


def read_settings(data: bytes, texts: FileTexts | None = None) -> ForeignSettings | None:
    """The settings that another program wrote into a PNG, JPEG or WebP, or None; never raises.

    Args:
        data: the file.
        texts: of the file, if they are known already.
    """
    texts = texts or read_texts(data)
    for name, read in READERS.items():
        try:
            found = read(texts)
        except Exception:  # the picture is taken in even if a reader fails on its text
            log.exception("The reader of %s failed", name)
            continue
        if found is not None:
            return found
    return _in_alpha(data)


def texts_with_hidden(data: bytes, image: Image.Image) -> FileTexts:
    """The texts of a file, with those that are hidden in the pixels of a decoded PNG."""
    texts = read_texts(data)
    if data.startswith(PNG_HEAD):
        novelai.add_hidden(texts, image)
    return texts


def _in_alpha(data: bytes) -> ForeignSettings | None:
    """The settings hidden in the alpha channel of a PNG that has one."""
    from pipelines.images.uploads import decode_upload

    # Colour type 6 is RGBA; others have no such channel.
    if not data.startswith(PNG_HEAD) or data[25:26] != b"\6":
        return None
    try:
        return novelai.read_alpha(decode_upload(data).image)
    except ValueError:
        return None
