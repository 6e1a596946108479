"""A trace through a lens, or the images of an interpolation, as a file: GIF, WebP, MP4, filmstrip.

Every file holds the settings, and XMP that says that a model made it.  To add a format, add one function and one entry
in ``EXPORTS``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from pipelines.images import png
from pipelines.images.provenance import add_xmp_to_gif, add_xmp_to_mp4, xmp_packet

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace

STEP_SECONDS = 0.12
HOLD_SECONDS = 1.5
# An interpolation plays forwards and backwards: how long each image is shown, and how long the first and last.
INTERPOLATION_SECONDS, END_SECONDS = 0.25, 1.0
MIN_SIDE, MAX_SIDE = 384, 768
GRID_SIDE = 96
FPS = 25
# The filmstrip: side of a frame in px, and frames a row.
FILMSTRIP_SIDE, FILMSTRIP_COLUMNS = 128, 10


@dataclass(frozen=True)
class ExportFormat:
    """A file format: its label on the page, the file's suffix, its media type, and the function that writes it."""

    label: str
    suffix: str
    mime: str
    write: Callable[[list[Image.Image], ExportSettings], bytes]


@dataclass(frozen=True)
class ExportSettings:
    """What is written into a file besides the frames.

    Attributes:
        text: the settings in the form that other tools read.
        record: the settings as JSON, which the page reads back.
        xmp: the XMP packet that says that a model made the images.
        title: the lens, or what is interpolated.
        captions: a short text for each frame.
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
        images: one a step; small ones are enlarged, the last is shown longer.
        trace: the run; ``k`` is the image, from 0.
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


def export_interpolation(
    kind: str, images: list[Image.Image], trace: Trace, title: str, captions: Sequence[str]
) -> bytes:
    """The bytes of a file of an interpolation's images: a filmstrip in order, animations as an endless back and forth.

    Args:
        kind: key of ``EXPORTS``.
        images: the finished images, in order.
        trace: their run.
        title: what is interpolated, written on the filmstrip and into the file.
        captions: a short text for each image.

    Raises:
        KeyError: if there is no such kind.
        ValueError: if there is no picture.
    """
    write = EXPORTS[kind].write
    if not images:
        raise ValueError("There is no picture to save.")
    facts = {"blend": title, "pictures": len(images), "name": trace.model_name}
    order = range(len(images)) if kind == "filmstrip" else there_and_back(len(images))
    shown = [END_SECONDS if i in (0, len(images) - 1) else INTERPOLATION_SECONDS for i in order]
    return write([images[i] for i in order], _settings(trace, 0, facts, title, captions, shown, False))


def there_and_back(count: int) -> list[int]:
    """Positions from the first to the last and back, so that a loop never jumps; each end is shown once."""
    return [*range(count), *range(count - 2, 0, -1)]


def _settings(
    trace: Trace,
    k: int,
    facts: Mapping[str, object],
    title: str,
    captions: Sequence[str],
    seconds: Sequence[float],
    crisp: bool,
) -> ExportSettings:
    request, seed = trace.request, trace.request.seeds[k]
    return ExportSettings(
        png.parameters_text(request, seed),
        png.metadata_json(request, seed, facts),
        xmp_packet(request).encode(),
        title,
        captions,
        [round(each * 1000) for each in seconds],
        crisp,
    )


def gif(images: list[Image.Image], settings: ExportSettings) -> bytes:
    """An endless GIF; the settings are its comment, the XMP is an application extension."""
    # One palette for all frames: a palette for each would flicker.
    frames = [_enlarged(image, settings.crisp) for image in images]
    sheet = Image.new("RGB", (frames[0].width, frames[0].height * min(len(frames), 8)))
    for i, frame in enumerate(frames[:: math.ceil(len(frames) / 8)]):
        sheet.paste(frame, (0, i * frame.height))
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    comment = settings.record.encode()
    data = _save(drawn, "GIF", settings.milliseconds, comment=comment, optimize=False, disposal=1)
    return add_xmp_to_gif(data, settings.xmp)


def webp(images: list[Image.Image], settings: ExportSettings) -> bytes:
    """An endless WebP; the settings are its EXIF user comment."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + settings.text.encode("utf-16-be")
    exif[0x010E] = settings.record
    frames = [_enlarged(image, settings.crisp) for image in images]
    return _save(frames, "WEBP", settings.milliseconds, quality=85, method=3, exif=exif.tobytes(), xmp=settings.xmp)


def mp4(images: list[Image.Image], settings: ExportSettings) -> bytes:
    """H.264 in MP4; the settings are its comment, the XMP is a ``uuid`` box."""
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
                # Clear the timestamp: the encoder counts the frames itself.
                frame.pts = None
        file.mux(stream.encode())
    return add_xmp_to_mp4(buffer.getvalue(), settings.xmp)


def filmstrip(images: list[Image.Image], settings: ExportSettings) -> bytes:
    """All steps in rows on one PNG, each with its number."""
    rows = math.ceil(len(images) / FILMSTRIP_COLUMNS)
    across = min(FILMSTRIP_COLUMNS, len(images))
    # Only the program's own words are drawn: the font may lack the letters of a prompt.
    top, step, gap = 40, FILMSTRIP_SIDE + 24, 8
    sheet = Image.new("RGB", (max(across * (FILMSTRIP_SIDE + gap) + gap, 480), top + rows * step + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((gap, 12), settings.title, fill="black", font=ImageFont.load_default(18))
    for i, image in enumerate(images):
        x, y = gap + i % FILMSTRIP_COLUMNS * (FILMSTRIP_SIDE + gap), top + i // FILMSTRIP_COLUMNS * step
        sheet.paste(_fitted(image, FILMSTRIP_SIDE, settings.crisp), (x, y))
        pen.text((x, y + FILMSTRIP_SIDE + 3), settings.captions[i], fill="#52525b", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=png.text_chunks(settings.text, settings.record, settings.xmp.decode()))
    return buffer.getvalue()


EXPORTS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "gif": ExportFormat("GIF", ".gif", "image/gif", gif),
        "webp": ExportFormat("WebP", ".webp", "image/webp", webp),
        "mp4": ExportFormat("MP4", ".mp4", "video/mp4", mp4),
        "filmstrip": ExportFormat("filmstrip", ".png", "image/png", filmstrip),
    }
)


def _save(frames: list[Image.Image], form: str, durations: Sequence[int], **options: object) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=list(durations), loop=0, **options)
    return buffer.getvalue()


def _enlarged(image: Image.Image, crisp: bool) -> Image.Image:
    """The image enlarged or reduced to ``MIN_SIDE`` to ``MAX_SIDE`` px; grids of numbers keep their hard edges."""
    side = max(image.size)
    if crisp and side < MIN_SIDE:
        times = math.ceil(MIN_SIDE / side)
        return image.convert("RGB").resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = max(MIN_SIDE / side, min(1.0, MAX_SIDE / side))
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _fitted(image: Image.Image, side: int, crisp: bool) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS)


def _even(image: Image.Image) -> Image.Image:
    """Cropped to even sides, which H.264 in 4:2:0 requires."""
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))
