"""The pictures of a comparison on one labelled sheet, and what changes most between them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.images import png
from pipelines.images.provenance import xmp_packet

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest

CELL, GAP, HEAD, SIDE_HEAD, LABEL = 256, 8, 40, 150, 14
LONGEST = 34
# Pictures are compared at this size; a smaller share of all change is called hardly any.
COMPARED, HARDLY = 64, 0.08
EMPTY = "#e9e8e4"
# Place of a cell: page, row, column.
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """What is written around the pictures of a comparison.

    Attributes:
        x, y, pages: above each column, left of each row, above each page; one empty text where there is no such axis.
        about_x: what the columns differ in.
        about_pages: what the pages differ in.
    """

    x: Sequence[str]
    y: Sequence[str] = ("",)
    pages: Sequence[str] = ("",)
    about_x: str = ""
    about_pages: str = ""


def sheet(labels: Labels, pictures: Mapping[Place, Image.Image]) -> Image.Image:
    """Every page of a comparison below each other, with the values above the columns and to the left of the rows.

    Args:
        labels: the values.
        pictures: the finished pictures by place; a missing one stays empty.
    """
    pages, rows, columns = len(labels.pages), len(labels.y), len(labels.x)
    beside = SIDE_HEAD if any(labels.y) else 0
    above = HEAD + (HEAD if any(labels.pages) else 0)
    size = (beside + columns * (CELL + GAP) + GAP, pages * (above + rows * (CELL + GAP)) + GAP)
    drawn = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(drawn)
    for page in range(pages):
        top = page * (above + rows * (CELL + GAP))
        if any(labels.pages):
            _write(pen, (GAP, top + 12), f"{labels.about_pages}: {written(labels.pages[page], page)}")
        for column, label in enumerate(labels.x):
            _write(pen, (beside + GAP + column * (CELL + GAP), top + above - HEAD + 14), written(label, column))
        for row in range(rows):
            y = top + above + row * (CELL + GAP)
            if any(labels.y):
                _write(pen, (GAP, y + CELL // 2), written(labels.y[row], row, LONGEST // 2))
            for column in range(columns):
                place = (beside + GAP + column * (CELL + GAP), y)
                _paste(drawn, pictures.get((page, row, column)), place)
    return drawn


def written(label: str, number: int, longest: int = LONGEST) -> str:
    """A value as it can be drawn: the font has Latin letters alone."""
    plain = label.replace("\u00d7", "x").replace("\n", " ")
    plain = plain if plain.isascii() else plain.encode("latin-1", "ignore").decode("latin-1")
    if not plain.strip():
        return f"value {number + 1}"
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    pen.text(place, text, fill="#1b1b1f", font=ImageFont.load_default(LABEL))


def _paste(drawn: Image.Image, picture: Image.Image | None, place: tuple[int, int]) -> None:
    box = Image.new("RGB", (CELL, CELL), EMPTY)
    if picture is not None:
        scale = CELL / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        fitted = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        box.paste(fitted, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    drawn.paste(box, place)


def sheet_png(labels: Labels, request: GenerationRequest, pictures: Mapping[Place, Image.Image]) -> bytes:
    """The sheet as a PNG that holds the common settings and says that a model made it."""
    chunks = png.text_chunks(
        png.parameters_text(request, request.seeds[0]),
        png.metadata_json(request, request.seeds[0], {}),
        xmp_packet(request),
    )
    file = io.BytesIO()
    sheet(labels, pictures).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def distances(pictures: Sequence[Image.Image]) -> list[float]:
    """How far each picture is from the one before it, RMS over RGB as a share of the whole range, 0 to 1."""
    small = [
        np.asarray(p.convert("RGB").resize((COMPARED, COMPARED), Image.Resampling.BOX), np.float32) for p in pictures
    ]
    return [float(np.sqrt(np.mean(np.square(b - a)))) / 255 for a, b in pairwise(small)]


def what_changed(label: str, values: Sequence[str], pictures: Sequence[Image.Image]) -> str:
    """One sentence with the figures of a row of pictures; "" for fewer than two."""
    if len(pictures) < 2 or len(values) != len(pictures):
        return ""
    found = distances(pictures)
    total = sum(found)
    if total < 1e-4:
        return f"{label} changes nothing here: all {len(pictures)} pictures are the same."
    if len(found) == 1:
        return f"{label} {values[0]} and {values[1]}: the pictures differ by {found[0]:.0%} of the range of a colour."
    most, least = int(np.argmax(found)), int(np.argmin(found))
    text = (
        f"Between {values[most]} and {values[most + 1]} the picture changes most, "
        f"{found[most] / total:.0%} of all the change in this row"
    )
    if found[least] / total < HARDLY:
        text += f"; between {values[least]} and {values[least + 1]} hardly at all ({found[least] / total:.0%})"
    return f"{text}."
