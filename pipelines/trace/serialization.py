"""A trace as two files: ``<id>.safetensors`` with the arrays and images, ``<id>.json`` with everything else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import Picture
from pipelines.request import GenerationRequest
from pipelines.sampling.schedulers import OWN_LOOP
from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import parse_json, read_json_file
from pipelines.trace.trace import StepRecord, Trace, TraceError

log = logging.getLogger(__name__)

VERSION = 1
# A trace of four 1024 px images at 150 steps is smaller; a larger file was not written by this project.
MAX_FILE_BYTES = 2**30
MAX_JSON_BYTES = 2**20
_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def save_trace(trace: Trace, folder: Path | str) -> None:
    """Write ``<id>.safetensors`` and then ``<id>.json`` into ``folder``, each complete or not at all.

    Raises:
        OSError: if a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts, data = trace_bytes(trace)
    _write(folder / f"{trace.id}.safetensors", data)
    _write(folder / f"{trace.id}.json", facts)


def trace_bytes(trace: Trace) -> tuple[bytes, bytes]:
    """What the two files of a trace hold: facts as JSON, and arrays as safetensors."""
    from safetensors.numpy import save

    arrays = {"x_t": trace.x_t, "final": trace.final, "to_rgb": trace.to_rgb}
    arrays |= {name: a for name, a in (("cond", trace.cond), ("uncond", trace.uncond)) if a is not None}
    rows = {"frames": trace.frames, **({"noisy": trace.noisy} if trace.noisy else {}), "finals": (trace.finals,)}
    for name, blobs in ((name, [jpeg for row in found for jpeg in row]) for name, found in rows.items()):
        arrays[name], arrays[f"{name}_ends"] = join_blobs(blobs)
    data = save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    return json.dumps(_to_json(trace), indent=1).encode(), data


def trace_from_bytes(facts: bytes, data: bytes) -> Trace:
    """The trace of ``trace_bytes``, checked as one from a file; raises TraceError."""
    try:
        read = parse_json(facts, finite=False)
        if len(facts) > MAX_JSON_BYTES or len(data) > MAX_FILE_BYTES or not _TRACE_ID.fullmatch(read["id"]):
            raise ValueError("not a trace")
        return _from_files(read["id"], read, data)
    except Exception as error:
        log.info("A trace cannot be read: %s", error)
        raise TraceError("The record of this run is damaged; make the picture again to look inside.") from None


def load_trace(folder: Path | str, trace_id: str) -> Trace:
    """Read a saved trace; the shapes and dtypes of its arrays are checked.

    Raises:
        TraceError: if there is no such trace, or its files are broken.
    """
    if not _TRACE_ID.fullmatch(trace_id):
        raise TraceError(f"{trace_id[:64]!r} is no name of a recorded run; open one from a finished picture.")
    folder = Path(folder)
    try:
        data = _read(folder / f"{trace_id}.safetensors", MAX_FILE_BYTES)
        # Noise levels may be infinite.
        facts = read_json_file(folder / f"{trace_id}.json", MAX_JSON_BYTES, finite=False)
        return _from_files(trace_id, facts, data)
    except FileNotFoundError:
        raise TraceError("This run is no longer kept; make the picture again to look inside.") from None
    except Exception as error:
        log.info("Trace %s cannot be read: %s", trace_id, error)
        raise TraceError("The record of this run is damaged; make the picture again to look inside.") from None


def _to_json(trace: Trace) -> dict[str, Any]:
    return {
        "version": VERSION,
        "id": trace.id,
        "request": trace.request.model_dump(mode="json"),
        "created": trace.created,
        "total": trace.total,
        "prediction_type": trace.prediction_type,
        "exploding": trace.variance_exploding,
        "frames_guidance": trace.frames_guidance,
        "steps": [[step.timestep, step.sigma, step.alpha] for step in trace.steps],
        "pictures": [{"path": str(p.path), "seed": p.seed} for p in trace.pictures],
        "model_name": trace.model_name,
        "model_licence": trace.model_licence,
        "seconds": trace.seconds,
        "frames_seconds": round(trace.frames_seconds, 3),
        **({"rough": True} if trace.rough else {}),
    }


def _write(target: Path, data: bytes) -> None:
    with atomic_write(target, sync=False) as file:
        file.write(data)


def _read(path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return path.read_bytes()


def _from_files(trace_id: str, facts: dict[str, Any], data: bytes) -> Trace:
    from safetensors.numpy import load

    if facts["version"] != VERSION or facts["id"] != trace_id:
        raise ValueError("another version or another trace")
    arrays = load(data)
    request = GenerationRequest.model_validate_json(json.dumps(facts["request"]))
    steps = tuple(StepRecord(i, float(t), float(s), float(a)) for i, (t, s, a) in enumerate(facts["steps"]))
    n, shape = request.num_images, arrays["x_t"].shape
    floats = [arrays[name] for name in ("x_t", "cond", "uncond") if name in arrays]
    if "cond" not in arrays and ("uncond" in arrays or facts["prediction_type"] != OWN_LOOP):
        raise ValueError("predictions are missing")
    if len(shape) != 5 or shape[:2] != (len(steps), n) or any(a.shape != shape for a in floats):
        raise ValueError("shapes do not fit together")
    if arrays["final"].shape != shape[1:] or arrays["to_rgb"].shape != (shape[2] + 1, 3):
        raise ValueError("shapes do not fit together")
    if any(a.dtype != np.float32 for a in (*floats, arrays["final"], arrays["to_rgb"])):
        raise ValueError("arrays are not float32")
    frames = _rows(arrays, "frames", len(steps), n)
    return Trace(
        id=trace_id,
        request=request,
        created=float(facts["created"]),
        total=int(facts["total"]),
        prediction_type=str(facts["prediction_type"]),
        variance_exploding=bool(facts["exploding"]),
        steps=steps,
        x_t=arrays["x_t"],
        cond=arrays.get("cond"),
        uncond=arrays.get("uncond"),
        final=arrays["final"],
        frames=frames,
        noisy=_rows(arrays, "noisy", len(steps), n) if "noisy" in arrays else (),
        # Runs of earlier versions show their guesses with guidance.
        frames_guidance=float(facts.get("frames_guidance", request.sampling.guidance_scale)),
        pictures=tuple(Picture(Path(p["path"]), int(p["seed"])) for p in facts["pictures"]),
        finals=tuple(split_blobs(arrays["finals"], arrays["finals_ends"])),
        to_rgb=arrays["to_rgb"],
        model_name=str(facts["model_name"]),
        model_licence=str(facts["model_licence"]),
        seconds=float(facts["seconds"]),
        rough=bool(facts.get("rough", False)),
        frames_seconds=float(facts.get("frames_seconds", 0.0)),
    )


def _rows(arrays: dict[str, np.ndarray], name: str, steps: int, n: int) -> tuple[tuple[bytes, ...], ...]:
    """The pictures of this name, [step][picture]."""
    flat = split_blobs(arrays[name], arrays[f"{name}_ends"])
    if len(flat) != steps * n:
        raise ValueError(f"{name} are missing")
    return tuple(tuple(flat[i * n : (i + 1) * n]) for i in range(steps))


def join_blobs(blobs: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Files one after the other, uint8, and where each of them ends, int64."""
    ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
    return np.frombuffer(b"".join(blobs), dtype=np.uint8).copy(), ends


def split_blobs(data: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """The files that ``join_blobs`` joined; raises ValueError."""
    if len(ends) and (ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(data)):
        raise ValueError("pictures are cut wrongly")
    raw = data.tobytes()
    starts = [0, *ends.tolist()][: len(ends)]  # empty for a run that was stopped
    return [raw[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
