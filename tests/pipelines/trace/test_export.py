"""Exported files: every step in order, the last one held, the settings and the mark inside."""

from __future__ import annotations

import io
import json
import math
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.images.png import CHUNK, parameters_text
from pipelines.trace import export as trace_export
from pipelines.trace.export import EXPORTS, HOLD_SECONDS, MAX_SIDE, MIN_SIDE, STEP_SECONDS, ExportFormat, export
from tests.support.export_frames import make_trace, noise, shades

TITLE = "The model's guess (predicted x0)"
MARK = "digitalsourcetype/trainedAlgorithmicMedia"
HOSTILE = '<img src=x onerror="a()"> ${1} {{2}} </script> \u2028 ]]> 狐 🦊 \u202e "\\" \n--><x:xmpmeta>'


def frames_of(kind: str, data: bytes) -> list[tuple[float, Image.Image]]:
    """Seconds and picture of each frame, as a player sees them."""
    if kind == "mp4":
        import av

        with av.open(io.BytesIO(data)) as file:
            rate = float(file.streams.video[0].average_rate)
            return [(1 / rate, frame.to_image()) for frame in file.decode(video=0)]
    with Image.open(io.BytesIO(data)) as image:
        found = []
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            found.append((image.info["duration"] / 1000, image.convert("RGB")))
        return found


def settings_of(kind: str, data: bytes) -> tuple[dict[str, Any], str]:
    """The settings as JSON, and all other text of the file."""
    if kind == "mp4":
        import av

        with av.open(io.BytesIO(data)) as file:
            return json.loads(file.metadata["comment"]), str(dict(file.metadata))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if kind == "gif":
            return json.loads(image.info["comment"]), ""
        if kind == "webp":
            exif = image.getexif()
            note = exif.get_ifd(0x8769)[0x9286]
            assert note[:8] == b"UNICODE\0"
            return json.loads(exif[0x010E]), note[8:].decode("utf-16-be") + image.info["xmp"].decode()
        return json.loads(image.text[CHUNK]), image.text["parameters"] + image.text["XML:com.adobe.xmp"]


def test_the_kinds_of_file() -> None:
    assert list(EXPORTS) == ["gif", "webp", "mp4", "filmstrip"]
    magic = {"gif": b"GIF89a", "webp": b"RIFF", "mp4": b"ftyp", "filmstrip": b"\x89PNG"}
    for kind, sort in EXPORTS.items():
        data = export(kind, shades(), make_trace(), 0, TITLE)
        assert magic[kind] in data[:12]
        assert sort.label and sort.suffix.startswith(".") and sort.mime.split("/")[0] in ("image", "video")


def test_one_function_and_one_entry_add_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    form = ExportFormat("list", ".txt", "text/plain", lambda images, settings: "\n".join(settings.captions).encode())
    monkeypatch.setattr(trace_export, "EXPORTS", {**EXPORTS, "list": form})
    assert export("list", shades(), make_trace(), 0, TITLE).startswith(b"1   t ")


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("seconds", [STEP_SECONDS, 0.4])
def test_each_step_is_shown_in_turn_and_the_last_is_held(kind: str, seconds: float) -> None:
    seen = frames_of(kind, export(kind, shades(), make_trace(), 0, TITLE, seconds))
    assert [shown for shown, _ in seen] == [seconds] * 5 + [HOLD_SECONDS]
    for (_, frame), wanted in zip(seen, shades(), strict=True):
        assert np.abs(np.asarray(frame).astype(int) - np.asarray(wanted)[0, 0]).max() <= 4
    with Image.open(io.BytesIO(export(kind, shades(), make_trace(), 0, TITLE))) as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("seconds", [STEP_SECONDS, 0.4])
def test_the_film_shows_each_step_in_turn_and_holds_the_last(seconds: float) -> None:
    seen = frames_of("mp4", export("mp4", shades(), make_trace(), 0, TITLE, seconds))
    levels = [round(float(np.asarray(frame).mean())) for _, frame in seen]
    each = seen[0][0]
    assert levels == sorted(levels)
    changes = [i for i, (a, b) in enumerate(pairwise(levels), 1) if b - a > 10]
    assert len(changes) == 5
    assert np.allclose(np.diff(changes) * each, seconds, atol=each)
    assert math.isclose((len(levels) - changes[-1]) * each, HOLD_SECONDS, abs_tol=each)


def test_steps_that_look_alike_keep_their_time() -> None:
    resting = [image for image in shades(3) for _ in range(2)]
    for kind in ("gif", "webp", "mp4"):
        whole = sum(shown for shown, _ in frames_of(kind, export(kind, resting, make_trace(), 0, TITLE)))
        assert math.isclose(whole, 5 * STEP_SECONDS + HOLD_SECONDS, abs_tol=0.05), kind


@pytest.mark.parametrize("kind", EXPORTS)
@pytest.mark.parametrize("prompt", ["a fox", HOSTILE, "", "x" * 2000])
def test_the_settings_of_this_picture_are_inside(kind: str, prompt: str) -> None:
    trace = make_trace(prompt=prompt)
    found, text = settings_of(kind, export(kind, shades(), trace, 1, TITLE))
    assert found["request"] == trace.request.model_dump(mode="json")
    assert found["request"]["prompt"] == trace.request.prompt
    assert found["seed"] == 6
    assert found["facts"] == {"lens": TITLE, "steps": 6, "name": "Tiny", "picture": 1}
    if kind in ("webp", "filmstrip"):
        assert parameters_text(trace.request, 6) in text
        assert MARK in text


def test_a_filmstrip_can_be_dropped_where_settings_are_read(tmp_path: Any) -> None:
    from pipelines.images.png import read_request

    trace = make_trace()
    (tmp_path / "strip.png").write_bytes(export("filmstrip", shades(), trace, 1, TITLE))
    read = read_request(tmp_path / "strip.png")
    assert (read.prompt, read.sampling.seed, read.num_images) == ("a fox", 6, 1)


@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
@pytest.mark.parametrize("size", [(8, 8), (35, 27), (128, 128), (129, 65), (384, 256), (1024, 512), (8, 2048)])
def test_the_picture_is_neither_tiny_nor_huge_and_keeps_its_shape(kind: str, size: tuple[int, int]) -> None:
    frame = frames_of(kind, export(kind, shades(2, size), make_trace(2), 0, TITLE))[0][1]
    assert MIN_SIDE <= max(frame.size) <= MAX_SIDE
    # An even or a whole number of pixels: two may be lost.
    assert abs(frame.width * size[1] - frame.height * size[0]) <= 2 * max(size)


def board(side: int) -> Image.Image:
    return Image.fromarray((np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(("side", "crisp"), [(8, None), (8, True), (129, True)])
def test_grids_of_numbers_keep_their_hard_edges(side: int, crisp: bool | None) -> None:
    grids = [board(side)] * 2
    ((_, frame), *_) = frames_of("gif", export("gif", grids, make_trace(2), 0, TITLE, crisp=crisp))
    assert len(frame.getcolors()) == 2 and frame.width % side == 0
    with Image.open(io.BytesIO(export("filmstrip", grids, make_trace(2), 0, TITLE, crisp=crisp))) as strip:
        cell = np.asarray(strip)[40:168, 8:136]
    assert set(np.unique(cell)) == {0, 255}


@pytest.mark.parametrize(("side", "crisp"), [(8, False), (129, None)])
def test_pictures_are_enlarged_smoothly(side: int, crisp: bool | None) -> None:
    ((_, frame), *_) = frames_of("gif", export("gif", [board(side)], make_trace(1), 0, TITLE, crisp=crisp))
    assert len(frame.getcolors(1000)) > 2


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (10, 1), (11, 2), (25, 3)])
def test_the_filmstrip_has_every_step_in_its_place(steps: int, rows: int) -> None:
    with Image.open(io.BytesIO(export("filmstrip", shades(steps), make_trace(steps), 0, TITLE))) as image:
        strip = np.asarray(image.convert("RGB"))
    assert strip.shape[0] == 40 + rows * 152 + 8
    for i, wanted in enumerate(shades(steps)):
        top, left = 40 + i // 10 * 152, 8 + i % 10 * 136
        assert (strip[top : top + 128, left : left + 128] == np.asarray(wanted)[0, 0]).all()
        # Its number is written below.
        assert strip[top + 128 : top + 150, left : left + 128].min() < 128
    assert strip[:40].min() < 128


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_single_step_and_a_stopped_run_can_be_saved(kind: str) -> None:
    assert export(kind, shades(1), make_trace(1), 0, TITLE)
    assert export(kind, shades(2), make_trace(2, num_inference_steps=6), 0, TITLE)


@pytest.mark.parametrize("kind", EXPORTS)
def test_no_picture_is_an_error(kind: str) -> None:
    with pytest.raises(ValueError, match="no step"):
        export(kind, [], make_trace(), 0, TITLE)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError):
        export("exe", shades(), make_trace(), 0, TITLE)


@pytest.mark.parametrize("kind", EXPORTS)
def test_noise_at_every_step_is_written_in_seconds(kind: str) -> None:
    # Work of this thread, so that a busy machine changes nothing; noise is the slowest to pack.
    pictures, start = noise(25, 128), time.thread_time()
    export(kind, pictures, make_trace(25), 0, TITLE)
    assert time.thread_time() - start < 5
