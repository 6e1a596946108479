"""Small pictures of styles, each drawn by one model: those that come with the program, and those drawn when asked."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cards import ModelCard
from pipelines.request import GenerationRequest, make_request
from pipelines.system.atomic_files import atomic_write
from presets.prompts.styles import Style, apply

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).with_name("thumbnails")
# What previews show, of which seed, and their side in pixels.
SUBJECT, SEED, SIDE = "a fox", 7, 96
QUALITY = 70
# Previews that are kept, and the largest file that is read as one.
MAX_FILES, MAX_BYTES = 2000, 64 << 10


class StylePreviews:
    """The previews of one data folder.

    Args:
        folder: where drawn ones are kept; it is made with the first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, card: ModelCard, style: Style) -> bytes:
        """A preview as a WebP file, b"" if there is none."""
        for path in (self.folder / file_name(card, style), SHIPPED / shipped_name(card, style)):
            if path.parent == SHIPPED and not style.models:
                continue
            with suppress(OSError), path.open("rb") as file:
                found = file.read(MAX_BYTES + 1)
                if found and len(found) <= MAX_BYTES:
                    return found
        return b""

    def put(self, card: ModelCard, style: Style, image: Image.Image) -> bytes:
        """Keep a preview, unless the disk does not take it; its WebP file."""
        data = encode(image)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.folder / file_name(card, style), sync=False) as file:
                file.write(data)
            self._forget()
        except OSError as problem:
            log.warning("A preview of a style is not kept: %s", problem)
        return data

    def _forget(self) -> None:
        """Remove the oldest beyond ``MAX_FILES``."""
        files = sorted(self.folder.glob("*.webp"), key=os.path.getmtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)


def prompts(style: Style) -> tuple[str, str]:
    """The prompt and the negative prompt of a style's preview; raises StyleError."""
    return apply(style.subject or SUBJECT, [style.prompt]), apply("", [style.negative_prompt])


def preview_request(card: ModelCard, style: Style) -> GenerationRequest:
    """The request of a preview; raises InvalidRequest, StyleError."""
    prompt, negative = prompts(style)
    quality = card.qualities[card.default_quality]
    reads = card.guidance_scale > 1 and not card.guidance_embedded
    return make_request(
        model=card.id, prompt=prompt, negative_prompt=negative if reads else "", width=card.width, height=card.height,
        scheduler=quality.scheduler, num_inference_steps=quality.num_inference_steps,
        guidance_scale=card.guidance_scale, seed=SEED, prompt_syntax=card.prompt_syntax,
    )  # fmt: skip


def file_name(card: ModelCard, style: Style) -> str:
    """The file of a preview; another for each text, model and subject."""
    facts: Sequence[str | int] = (card.id, card.source, SUBJECT, SEED, style.prompt, style.negative_prompt)
    return f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.webp"


def shipped_name(card: ModelCard, style: Style) -> str:
    """The file of a preview that comes with the program."""
    return "-".join(re.findall(r"[a-z0-9]+", f"{card.id} {style.name}".lower()))[:120] + ".webp"


def encode(image: Image.Image) -> bytes:
    """A picture as a small WebP file, its middle square."""
    from PIL import Image, ImageOps

    file = io.BytesIO()
    small = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()
