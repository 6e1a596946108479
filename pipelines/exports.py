"""A trace through a lens, or the pictures of a blend, as a file that plays elsewhere: GIF, WebP, MP4, filmstrip.

Every file carries the settings, and the mark that a model made it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from pipelines import pictures
from pipelines.marks import mark_gif, mark_mp4, xmp

if TYPE_CHECKING:
    from pipelines.trace import Trace

STEP_SECONDS = 0.12
HOLD_SECONDS = 1.5
# A blend goes there and back: how long each picture is shown, and how long its two ends.
BLEND_SECONDS, END_SECONDS = 0.25, 1.0
LEAST_SIDE, MOST_SIDE = 384, 768
GRID_SIDE = 96
FPS = 25
# The filmstrip: frames of this side, at most so many in a row.
CELL, ACROSS = 128, 10


@dataclass(frozen=True)
class Export:
    """A kind of file: the page's name of it, the file's ending, and its media type."""

    label: str
    suffix: str
    mime: str
    write: Callable[[list[Image.Image], Settings], bytes]


@dataclass(frozen=True)
class Settings:
    """What a file says of itself.

    Attributes:
        text: the settings in the form that other tools read.
        record: the settings as JSON, the source of truth.
        xmp: the mark that says: made by a model.
        title: the lens, or what is blended.
        captions: a few letters for each frame.
        milliseconds: how long each frame is shown.
        crisp: whether the frames are grids of numbers.
    """

    text: str
    record: str
    xmp: bytes
    title: str
    captions: Sequence[str]
    milliseconds: Sequence[int]
    crisp: bool


def export(
    kind: str,
    images: list[Image.Image],
    trace: Trace,
    k: int,
    title: str,
    seconds_per_step: float = STEP_SECONDS,
    crisp: bool | None = None,
) -> bytes:
    """The bytes of a file of this kind.

    Args:
        kind: key of ``EXPORTS``.
        images: one a step; small ones are enlarged, the last is held.
        trace: the run; ``k`` is the picture, from 0.
        title: of the lens, written on the filmstrip and into the file.
        seconds_per_step: how long a frame is shown.
        crisp: whether the images are grids of numbers (``Lens.crisp``); None: those below ``GRID_SIDE`` px are.

    Raises:
        KeyError: if there is no such kind.
        ValueError: if there is no picture.
    """
    write = EXPORTS[kind].write
    if not images:
        raise ValueError("There is no step to save.")
    facts = {"lens": title, "steps": len(trace.steps), "name": trace.model_name, "picture": k}
    captions = [f"{i + 1}   t {step.timestep:.0f}" for i, step in enumerate(trace.steps)]
    shown = [seconds_per_step] * (len(images) - 1) + [HOLD_SECONDS]
    crisp = max(images[0].size) < GRID_SIDE if crisp is None else crisp
    return write(images, _settings(trace, k, facts, title, captions, shown, crisp))


def export_blend(kind: str, images: list[Image.Image], trace: Trace, title: str, captions: Sequence[str]) -> bytes:
    """The bytes of a file of a blend's pictures: a filmstrip in order, everything else there and back without end.

    Args:
        kind: key of ``EXPORTS``.
        images: the finished pictures, in order.
        trace: their run.
        title: what is blended, written on the filmstrip and into the file.
        captions: a few letters for each picture.

    Raises:
        KeyError: if there is no such kind.
        ValueError: if there is no picture.
    """
    write = EXPORTS[kind].write
    if not images:
        raise ValueError("There is no picture to save.")
    facts = {"blend": title, "pictures": len(images), "name": trace.model_name}
    order = range(len(images)) if kind == "filmstrip" else there_and_back(len(images))
    shown = [END_SECONDS if i in (0, len(images) - 1) else BLEND_SECONDS for i in order]
    return write([images[i] for i in order], _settings(trace, 0, facts, title, captions, shown, False))


def there_and_back(count: int) -> list[int]:
    """Positions from the first to the last and back, so that an endless film never jumps; each end is shown once."""
    return [*range(count), *range(count - 2, 0, -1)]


def _settings(
    trace: Trace,
    k: int,
    facts: Mapping[str, object],
    title: str,
    captions: Sequence[str],
    seconds: Sequence[float],
    crisp: bool,
) -> Settings:
    request, seed = trace.request, trace.request.seeds[k]
    return Settings(
        pictures.parameters(request, seed),
        pictures.record(request, seed, facts),
        xmp(request).encode(),
        title,
        captions,
        [round(each * 1000) for each in seconds],
        crisp,
    )


def gif(images: list[Image.Image], settings: Settings) -> bytes:
    """An endless GIF; the settings are its comment, the mark is an application extension."""
    # One palette for all frames: a palette a frame would flicker.
    frames = [_enlarged(image, settings.crisp) for image in images]
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * min(len(frames), 8)))
    for i, frame in enumerate(frames[:: math.ceil(len(frames) / 8)]):
        sheet.paste(frame, (0, i * frame.height))
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    comment = settings.record.encode()
    data = _save(drawn, "GIF", settings.milliseconds, comment=comment, optimize=False, disposal=1)
    return mark_gif(data, settings.xmp)


def webp(images: list[Image.Image], settings: Settings) -> bytes:
    """An endless WebP; the settings are its EXIF user comment, the mark its XMP."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + settings.text.encode("utf-16-be")
    exif[0x010E] = settings.record
    frames = [_enlarged(image, settings.crisp) for image in images]
    return _save(frames, "WEBP", settings.milliseconds, quality=85, method=3, exif=exif.tobytes(), xmp=settings.xmp)


def mp4(images: list[Image.Image], settings: Settings) -> bytes:
    """H.264 in MP4; the settings are its comment, the mark is a box of its own."""
    import av

    buffer = io.BytesIO()
    frames = [_even(_enlarged(image, settings.crisp)) for image in images]
    with av.open(buffer, "w", format="mp4") as file:
        file.metadata.update({"title": settings.title, "comment": settings.record, "description": settings.text})
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        for image, shown in zip(frames, settings.milliseconds, strict=True):
            frame = av.VideoFrame.from_image(image)
            for _ in range(max(1, round(shown * FPS / 1000))):
                file.mux(stream.encode(frame))
                # A fresh timestamp each time: the encoder counts the frames itself.
                frame.pts = None
        file.mux(stream.encode())
    return mark_mp4(buffer.getvalue(), settings.xmp)


def filmstrip(images: list[Image.Image], settings: Settings) -> bytes:
    """All steps in rows on one PNG, each with its number."""
    rows = math.ceil(len(images) / ACROSS)
    across = min(ACROSS, len(images))
    # Names of lenses are the program's own words; the prompt is not drawn, since the font may lack its letters.
    top, step, gap = 40, CELL + 24, 8
    sheet = Image.new("RGB", (max(across * (CELL + gap) + gap, 480), top + rows * step + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((gap, 12), settings.title, fill="black", font=ImageFont.load_default(18))
    for i, image in enumerate(images):
        x, y = gap + i % ACROSS * (CELL + gap), top + i // ACROSS * step
        sheet.paste(_fitted(image, CELL, settings.crisp), (x, y))
        pen.text((x, y + CELL + 3), settings.captions[i], fill="#52525b", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=pictures.chunks(settings.text, settings.record, settings.xmp.decode()))
    return buffer.getvalue()


EXPORTS: Mapping[str, Export] = MappingProxyType(
    {
        "gif": Export("GIF", ".gif", "image/gif", gif),
        "webp": Export("WebP", ".webp", "image/webp", webp),
        "mp4": Export("MP4", ".mp4", "video/mp4", mp4),
        "filmstrip": Export("filmstrip", ".png", "image/png", filmstrip),
    }
)


def _save(frames: list[Image.Image], form: str, durations: Sequence[int], **options: object) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=list(durations), loop=0, **options)
    return buffer.getvalue()


def _enlarged(image: Image.Image, crisp: bool) -> Image.Image:
    """The picture with a side that can be watched: grids of numbers keep their hard edges."""
    side = max(image.size)
    if crisp and side < LEAST_SIDE:
        scale = math.ceil(LEAST_SIDE / side)
        return image.convert("RGB").resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    scale = max(LEAST_SIDE / side, min(1.0, MOST_SIDE / side))
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _fitted(image: Image.Image, side: int, crisp: bool) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS)


def _even(image: Image.Image) -> Image.Image:
    """H.264 in 4:2:0 wants even sides."""
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))
