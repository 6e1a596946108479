"""The frames of lenses as small pictures, and a file of ready-made ones that comes with a recorded run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.system.atomic_files import atomic_write
from pipelines.trace.serialization import join_blobs, split_blobs
from pipelines.trace.trace import TraceError

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.trace.trace import Trace

# Of the file next to a recorded run's own.
LENSES_SUFFIX = ".lenses.safetensors"
FRAME_SIDE = 256
# A JPEG would blur the colours of pictures that are this small.
SMALL_SIDE = 64
_DIGEST = "trace"


def encode_frame(image: Image.Image, crisp: bool) -> bytes:
    """A frame as a file: exact (PNG) where single pixels count, else a small JPEG."""
    file = io.BytesIO()
    if crisp or max(image.size) <= SMALL_SIDE:
        image.save(file, format="PNG", optimize=True)
        return file.getvalue()
    if max(image.size) > FRAME_SIDE:
        image = image.copy()
        image.thumbnail((FRAME_SIDE, FRAME_SIDE))
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()


def save_lenses(trace: Trace, frames: Mapping[str, Sequence[bytes]], path: Path) -> None:
    """Write the frames of a trace's first picture, lens by lens, into one file; raises OSError."""
    from safetensors.numpy import save

    arrays = {}
    for name, blobs in frames.items():
        arrays[name], arrays[f"{name}_ends"] = join_blobs(blobs)
    with atomic_write(path, sync=False) as file:
        file.write(save(arrays, metadata={_DIGEST: trace_digest(trace)}))


def load_lenses(trace: Trace, path: Path) -> dict[str, list[bytes]]:
    """The frames that ``save_lenses`` wrote.

    Raises:
        TraceError: if there is no such file, or it is broken or of another trace.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get(_DIGEST) != trace_digest(trace):
                raise ValueError("it was drawn of another run")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        names = [name for name in arrays if f"{name}_ends" in arrays]
        return {name: split_blobs(arrays[name], arrays[f"{name}_ends"]) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise TraceError(f"The ready-made lenses {path.name} cannot be used: {error}.") from None


def trace_digest(trace: Trace) -> str:
    """What the frames of a trace depend on, in 64 hex digits."""
    digest = hashlib.sha256()
    for array in (trace.x_t, trace.cond, trace.uncond):
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
