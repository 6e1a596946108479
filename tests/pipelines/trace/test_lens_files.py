"""Frames of lenses as files: what is written is read, and frames of another run are refused."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from pipelines.trace.lens_files import FRAME_SIDE, encode_frame, load_lenses, save_lenses
from pipelines.trace.trace import TraceError
from tests.support.known_trace import make_trace

FRAMES = {"noise": [b"one", b"", b"three"], "latent": [b"a", b"bc", b"def"]}


def test_what_is_written_is_read(tmp_path: Path):
    trace, path = make_trace(), tmp_path / "run.lenses.safetensors"
    save_lenses(trace, FRAMES, path)
    assert load_lenses(trace, path) == FRAMES


def test_frames_of_another_run_and_broken_files_are_refused(tmp_path: Path):
    trace, path = make_trace(), tmp_path / "run.lenses.safetensors"
    save_lenses(trace, FRAMES, path)
    other = dataclasses.replace(trace, x_t=trace.x_t + 1)
    with pytest.raises(TraceError, match="another run"):
        load_lenses(other, path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TraceError):
        load_lenses(trace, path)
    with pytest.raises(TraceError):
        load_lenses(trace, tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(("side", "crisp", "form", "shown"), [
    (32, False, "PNG", 32), (128, False, "JPEG", 128), (128, True, "PNG", 128), (512, False, "JPEG", FRAME_SIDE),
])  # fmt: skip
def test_small_grids_stay_exact_and_large_pictures_get_smaller(side: int, crisp: bool, form: str, shown: int):
    with Image.open(io.BytesIO(encode_frame(Image.new("RGB", (side, side), "red"), crisp))) as image:
        assert (image.format, image.width) == (form, shown)
