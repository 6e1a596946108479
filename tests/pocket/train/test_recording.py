"""The recorded run of the first visit and its ready-made lenses: they fit together, and the model draws the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.trace import lenses
from pipelines.trace.lens_files import LENSES_SUFFIX, load_lenses
from pipelines.trace.serialization import load_trace
from pocket.train.recording import DRAWN, FOLDER, NAME, draw_lenses, running_backend

PATH = FOLDER / f"{NAME}{LENSES_SUFFIX}"


@pytest.fixture(scope="module")
def trace():
    return load_trace(FOLDER, NAME)


def pixels(frame: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(frame)) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def test_every_lens_is_there_for_every_step_and_the_file_is_small(trace):
    found = load_lenses(trace, PATH)
    assert {*found, *DRAWN} == set(lenses.available_lenses(trace))
    assert {len(frames) for frames in found.values()} == {len(trace.steps)}
    assert len(trace.frames) == len(trace.noisy) == len(trace.steps)
    assert PATH.stat().st_size < 500_000


def test_the_model_draws_the_lenses_that_are_there(trace):
    with running_backend() as backend:
        drawn = draw_lenses(backend, trace)
    for name, frames in load_lenses(trace, PATH).items():
        for ready, fresh in zip(frames, drawn[name], strict=True):
            assert np.abs(pixels(ready) - pixels(fresh)).mean() < 2, name
