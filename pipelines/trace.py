"""Trace: every step of one generation, kept so that it can be replayed and looked into without the model.

The arrays are NumPy, float32, on the CPU.  x_t is kept in full precision and x0 is computed from it: that takes as
many bytes as both of them in half precision, and the guided x0 comes out exact for any guidance scale.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import Picture, Step
from pipelines.files import appearing
from pipelines.request import GenerationRequest
from pipelines.schedulers import OWN, SCHEDULERS, noise_of, prediction_type_of, x0_of

log = logging.getLogger(__name__)

VERSION = 1
MEMORY_BYTES = 16 * 2**20
DISK_BYTES = 2 * 2**30
# A trace of four 1024 px pictures at 150 steps is below; a larger file is not one of ours.
MAX_FILE_BYTES = 2**30
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# The coarse picture: latents averaged over blocks of this share of the shorter side.
COARSE_PARTS = 4
LAYOUT_LEFT = 0.25
DETAIL_LEFT = 0.1


class TraceError(ValueError):
    """A trace that cannot be read; the message is one plain sentence."""


@dataclass(frozen=True)
class StepFacts:
    """One step in numbers.

    Attributes:
        index: from 0.
        timestep: the scheduler's timestep, 0 to 999.
        sigma, alpha: noise and signal level, alpha^2 + sigma^2 = 1 (flow matching: alpha + sigma = 1).
    """

    index: int
    timestep: float
    sigma: float
    alpha: float

    @property
    def alpha_bar(self) -> float:
        """The signal's share of the mix, alpha^2 / (alpha^2 + sigma^2).

        That is alpha^2 (Ho et al. 2020, arXiv:2006.11239, equation 4) except for flow matching, where the two levels
        and not their squares add up to 1.
        """
        return share(self.alpha, self.sigma)

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio (alpha / sigma)^2; infinite without noise."""
        return (self.alpha / self.sigma) ** 2 if self.sigma else math.inf


def share(alpha: float, sigma: float) -> float:
    """The signal's share of a mix of signal and noise, by power, 0 to 1."""
    return alpha**2 / (alpha**2 + sigma**2)


@dataclass(frozen=True)
class Phase:
    """What happens around a step: a short name, and a sentence with the trace's own figure."""

    name: str
    words: str


@dataclass(frozen=True, eq=False)
class Trace:
    """The recorded steps of one generation of n pictures with s steps.

    Attributes:
        id: the job's.
        request: what was asked for.
        created: seconds since the epoch.
        total: the scheduler's timesteps; a stopped run has fewer steps.
        prediction_type: epsilon, v_prediction, sample, flow_prediction, or own for a pipeline that runs its own loop:
            of such a run only the latents are known, and what is there after a step stands for the belief.
        exploding: whether x_t is x0 + sigma * eps (the sampler's own scale), not alpha * x0 + sigma * eps.
        steps: the numbers of each step.
        x_t, cond, uncond: (s, n, c, h, w); ``uncond`` is None without guidance, both are for an own loop.
        final: the latents after the last step, (n, c, h, w).
        frames: JPEG of x0, [step][picture].
        pictures: the stored files; empty when stopped.
        finals: each finished picture as a small PNG or JPEG, so that a trace replays when the file is gone.
        to_rgb: linear map from latents to RGB in [-1, 1], (c + 1, 3); the last row is added.
        model_name, model_licence: for the credits.
        seconds: how long the generation took.
    """

    id: str
    request: GenerationRequest
    created: float
    total: int
    prediction_type: str
    exploding: bool
    steps: tuple[StepFacts, ...]
    x_t: np.ndarray
    cond: np.ndarray | None
    uncond: np.ndarray | None
    final: np.ndarray
    frames: tuple[tuple[bytes, ...], ...]
    pictures: tuple[Picture, ...]
    finals: tuple[bytes, ...]
    to_rgb: np.ndarray
    model_name: str = ""
    model_licence: str = ""
    seconds: float = 0.0

    def vp(self, i: int) -> np.ndarray:
        """x_t of step i as alpha * x0 + sigma * eps, (n, c, h, w), whatever scale the sampler holds it in."""
        return self.steps[i].alpha * self.x_t[i] if self.exploding else self.x_t[i]

    def prediction(self, i: int, g: float | None = None) -> np.ndarray:
        """The model's output at step i under guidance g: uncond + g * (cond - uncond), (n, c, h, w).

        Args:
            i: the step, from 0.
            g: None means the run's own; 0 is the unconditional (or negative) half alone, 1 the conditional half.
        """
        if self.cond is None:
            raise TraceError("This model runs its own loop, so its predictions were not recorded.")
        if self.uncond is None:
            return self.cond[i]
        g = self.request.sampling.guidance_scale if g is None else g
        return self.uncond[i] + np.float32(g) * (self.cond[i] - self.uncond[i])

    def x0(self, i: int, g: float | None = None) -> np.ndarray:
        """The picture that the model believes in at step i under guidance g, as latents (n, c, h, w)."""
        if self.cond is None:
            return self.x_t[i + 1] if i + 1 < len(self.steps) else self.final
        facts = self.steps[i]
        return x0_of(self.prediction_type, self.prediction(i, g), self.vp(i), facts.alpha, facts.sigma)

    def noise(self, i: int) -> np.ndarray:
        """The noise that the model predicts at step i, (n, c, h, w)."""
        facts = self.steps[i]
        return noise_of(self.prediction_type, self.prediction(i), self.vp(i), facts.alpha, facts.sigma)

    def guidance(self, i: int) -> np.ndarray | None:
        """cond - uncond at step i, (n, c, h, w); None without guidance."""
        return None if self.uncond is None or self.cond is None else self.cond[i] - self.uncond[i]

    @cached_property
    def beliefs(self) -> np.ndarray:
        """x0 of every step under the run's own guidance, (s, n, c, h, w)."""
        return np.stack([self.x0(i) for i in range(len(self.steps))])

    def change(self, i: int, k: int) -> float:
        """How far the belief about picture k moved since the step before: RMS of x0(i) - x0(i - 1), 0 at the first."""
        if i == 0:
            return 0.0
        return float(np.sqrt(np.mean(np.square(self.beliefs[i, k] - self.beliefs[i - 1, k]))))

    def shares(self, k: int) -> list[float]:
        """Share of all change of picture k that is done after each step, 0 to 1."""
        walked = np.cumsum([self.change(i, k) for i in range(len(self.steps))])
        whole = walked[-1] if len(walked) else 0.0
        return [float(x / whole) for x in walked] if whole > 0 else [1.0] * len(walked)

    def phases(self, k: int) -> list[Phase]:
        """What happens around each step of picture k, told from how far its belief still is from the last one.

        Coarse is the latent averaged over blocks, fine is the rest; both distances are shares of the largest.  The
        layout counts as decided once the coarse distance stays below a quarter, and what is left is detail; once
        all that is left is below a tenth, the picture is being finished.
        """
        if not self.steps:
            return []
        coarse = coarse_of(self.beliefs[:, k])
        near, whole = _distance(coarse), _distance(self.beliefs[:, k])
        layout, detail = _settled(near, LAYOUT_LEFT), _settled(whole, DETAIL_LEFT)
        return [_phase(i, layout, detail, near[i], whole[i]) for i in range(len(self.steps))]

    @property
    def gap(self) -> float:
        """Largest difference between the last x0 and the final latents: some samplers end beside their last belief."""
        return float(np.max(np.abs(self.beliefs[-1] - self.final))) if self.steps else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = [self.x_t, self.final, self.to_rgb, *(a for a in (self.cond, self.uncond) if a is not None)]
        pictures = [*(jpeg for row in self.frames for jpeg in row), *self.finals]
        return sum(array.nbytes for array in arrays) + sum(len(data) for data in pictures)

    # -- files -------------------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Write ``<id>.safetensors`` and then ``<id>.json`` into ``folder``, each complete or not at all.

        Raises:
            OSError: if a file cannot be written.
        """
        from safetensors.numpy import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"x_t": self.x_t, "final": self.final, "to_rgb": self.to_rgb}
        arrays |= {name: a for name, a in (("cond", self.cond), ("uncond", self.uncond)) if a is not None}
        for name, blobs in (("frames", [jpeg for row in self.frames for jpeg in row]), ("finals", self.finals)):
            arrays[name] = np.frombuffer(b"".join(blobs), dtype=np.uint8).copy()
            arrays[f"{name}_ends"] = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
        _write(folder / f"{self.id}.safetensors", save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        _write(folder / f"{self.id}.json", json.dumps(self._facts(), indent=1).encode())

    def _facts(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "id": self.id,
            "request": self.request.model_dump(mode="json"),
            "created": self.created,
            "total": self.total,
            "prediction_type": self.prediction_type,
            "exploding": self.exploding,
            "steps": [[step.timestep, step.sigma, step.alpha] for step in self.steps],
            "pictures": [{"path": str(p.path), "seed": p.seed} for p in self.pictures],
            "model_name": self.model_name,
            "model_licence": self.model_licence,
            "seconds": self.seconds,
        }

    @classmethod
    def load(cls, folder: Path | str, trace_id: str) -> Trace:
        """Read a saved trace; no file is trusted further than its shapes can be checked.

        Raises:
            TraceError: if there is no such trace, or its files are broken.
        """
        if not _ID.fullmatch(trace_id):
            raise TraceError(f"{trace_id[:64]!r} is no name of a recorded run; open one from a finished picture.")
        folder = Path(folder)
        try:
            data = _read(folder / f"{trace_id}.safetensors", MAX_FILE_BYTES)
            facts = json.loads(_read(folder / f"{trace_id}.json", 2**20))
            return _assemble(cls, trace_id, facts, data)
        except FileNotFoundError:
            raise TraceError("This run is no longer kept; make the picture again to look inside.") from None
        except Exception as error:
            log.info("Trace %s cannot be read: %s", trace_id, error)
            raise TraceError("The record of this run is damaged; make the picture again to look inside.") from None


def coarse_of(x: np.ndarray) -> np.ndarray:
    """Latents (s, c, h, w) averaged over blocks, about four along the shorter side: the layout."""
    block = max(1, min(x.shape[-2:]) // COARSE_PARTS)
    h, w = x.shape[-2] // block, x.shape[-1] // block
    cut = x[..., : h * block, : w * block]
    return cut.reshape(*x.shape[:-2], h, block, w, block).mean(axis=(-3, -1))


def _distance(x: np.ndarray) -> list[float]:
    """How far each of (s, ...) is from the last one, as a share of the largest distance."""
    far = np.sqrt(np.mean(np.square(x - x[-1]).reshape(len(x), -1), axis=1))
    return [float(d) for d in far / far.max()] if far.max() > 0 else [0.0] * len(x)


def _settled(distance: list[float], limit: float) -> int:
    """The first step from which on the distance stays at or below ``limit``."""
    above = [i for i, d in enumerate(distance) if d > limit]
    return above[-1] + 1 if above else 0


def _phase(i: int, layout: int, detail: int, near: float, whole: float) -> Phase:
    if i < layout:
        way = f"In the belief, the rough arrangement is {1 - near:.0%} of the way to where it ends."
        return Phase("Finding the layout", way)
    if i < detail:
        return Phase("Detail", f"The layout is decided ({1 - near:.0%} of the way); shapes and edges are worked out.")
    return Phase("Finishing", f"Little changes now: the belief is {1 - whole:.0%} of the way to where it ends.")


def _write(target: Path, data: bytes) -> None:
    with appearing(target, sync=False) as file:
        file.write(data)


def _read(path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return path.read_bytes()


def _assemble(cls: type[Trace], trace_id: str, facts: dict[str, Any], data: bytes) -> Trace:
    from safetensors.numpy import load

    if facts["version"] != VERSION or facts["id"] != trace_id:
        raise ValueError("another version or another trace")
    arrays = load(data)
    request = GenerationRequest.model_validate_json(json.dumps(facts["request"]))
    steps = tuple(StepFacts(i, float(t), float(s), float(a)) for i, (t, s, a) in enumerate(facts["steps"]))
    n, shape = request.num_images, arrays["x_t"].shape
    floats = [arrays[name] for name in ("x_t", "cond", "uncond") if name in arrays]
    if "cond" not in arrays and ("uncond" in arrays or facts["prediction_type"] != OWN):
        raise ValueError("predictions are missing")
    if len(shape) != 5 or shape[:2] != (len(steps), n) or any(a.shape != shape for a in floats):
        raise ValueError("shapes do not fit together")
    if arrays["final"].shape != shape[1:] or arrays["to_rgb"].shape != (shape[2] + 1, 3):
        raise ValueError("shapes do not fit together")
    if any(a.dtype != np.float32 for a in (*floats, arrays["final"], arrays["to_rgb"])):
        raise ValueError("arrays are not float32")
    flat = _cut(arrays["frames"], arrays["frames_ends"])
    if len(flat) != len(steps) * n:
        raise ValueError("frames are missing")
    return cls(
        id=trace_id,
        request=request,
        created=float(facts["created"]),
        total=int(facts["total"]),
        prediction_type=str(facts["prediction_type"]),
        exploding=bool(facts["exploding"]),
        steps=steps,
        x_t=arrays["x_t"],
        cond=arrays.get("cond"),
        uncond=arrays.get("uncond"),
        final=arrays["final"],
        frames=tuple(tuple(flat[i * n : (i + 1) * n]) for i in range(len(steps))),
        pictures=tuple(Picture(Path(p["path"]), int(p["seed"])) for p in facts["pictures"]),
        finals=tuple(_cut(arrays["finals"], arrays["finals_ends"])),
        to_rgb=arrays["to_rgb"],
        model_name=str(facts["model_name"]),
        model_licence=str(facts["model_licence"]),
        seconds=float(facts["seconds"]),
    )


def _cut(data: np.ndarray, ends: np.ndarray) -> list[bytes]:
    if len(ends) and (ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] != len(data)):
        raise ValueError("pictures are cut wrongly")
    raw = data.tobytes()
    starts = [0, *ends.tolist()][: len(ends)]  # none of a run that was stopped
    return [raw[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]


class TraceStore:
    """Traces by id: the recently used in memory, all on disk.  Thread-safe.

    Args:
        folder: where the files are.
        memory_bytes: kept in memory; the least recently used go first, the newest always stays.
        disk_bytes: kept on disk; the oldest files go first.
    """

    def __init__(self, folder: Path | str, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> None:
        self.folder = Path(folder)
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._held: OrderedDict[str, Trace] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, trace: Trace) -> None:
        """Keep a trace.  A full disk costs the file, not the generation: the trace then lives in memory alone."""
        self._hold(trace)
        try:
            trace.save(self.folder)
            self._tidy(trace.id)
        except OSError as error:
            log.warning("The steps of a run could not be written (%s); they are kept until the program ends.", error)

    def get(self, trace_id: str) -> Trace | None:
        """The trace with this id, or None when it is unknown, dropped or damaged."""
        with self._lock:
            if trace_id in self._held:
                self._held.move_to_end(trace_id)
                return self._held[trace_id]
        try:
            trace = Trace.load(self.folder, trace_id)
        except TraceError:
            return None
        self._hold(trace)
        return trace

    def _hold(self, trace: Trace) -> None:
        with self._lock:
            self._held[trace.id] = trace
            self._held.move_to_end(trace.id)
            held = sum(t.nbytes for t in self._held.values())
            while held > self._memory_bytes and len(self._held) > 1:
                held -= self._held.popitem(last=False)[1].nbytes

    def _tidy(self, newest: str) -> None:
        """Delete the oldest files beyond the limit, never the newest trace's."""
        files = [(p.stat().st_mtime, p.stat().st_size, p) for p in self.folder.glob("*.safetensors")]
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda entry: entry[:2]):
            if used <= self._disk_bytes:
                return
            if path.stem != newest:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                used -= size


class Recorder:
    """Collects the steps of one run; costs a copy of four small arrays a step."""

    def __init__(self, trace_id: str, request: GenerationRequest, created: float) -> None:
        self._id, self._request, self._created = trace_id, request, created
        self._facts: list[StepFacts] = []
        self._x_t: list[np.ndarray] = []
        self._cond: list[np.ndarray] = []
        self._uncond: list[np.ndarray] = []
        self._frames: list[tuple[bytes, ...]] = []
        self._last: Step | None = None

    @property
    def request(self) -> GenerationRequest:
        """What the run was asked for."""
        return self._request

    @property
    def steps(self) -> int:
        """How many steps were added."""
        return len(self._facts)

    def add(self, step: Step, frames: tuple[bytes, ...]) -> None:
        """Keep a step and the JPEGs that were shown of it; one whose latents have no place on a grid is left out."""
        if not frames:
            return
        self._facts.append(StepFacts(step.index, float(step.timestep), step.sigma, step.alpha))
        self._x_t.append(_array(step.x_t))
        if step.cond is not None:
            self._cond.append(_array(step.cond))
        if step.uncond is not None:
            self._uncond.append(_array(step.uncond))
        self._frames.append(frames)
        self._last = step

    def finish(self, model: Any, pictures: tuple[Picture, ...], finals: tuple[bytes, ...], seconds: float) -> Trace:
        """The trace of what was added; at least one step must have been.

        Args:
            model: the loaded model (its scheduler's configuration, its colour map, its card).
            pictures: the stored pictures, none when the run was stopped.
            finals: each as small PNG or JPEG bytes.
            seconds: the run's length.
        """
        assert self._last is not None
        return Trace(
            id=self._id,
            request=self._request,
            created=self._created,
            total=self._last.total,
            prediction_type=prediction_type_of(model.scheduler_config),
            exploding=SCHEDULERS[self._request.sampling.scheduler].exploding,
            steps=tuple(self._facts),
            x_t=np.stack(self._x_t),
            cond=np.stack(self._cond) if self._cond else None,
            uncond=np.stack(self._uncond) if self._uncond else None,
            final=_array(self._last.x_next),
            frames=tuple(self._frames),
            pictures=pictures,
            finals=finals,
            to_rgb=model.latents.to_rgb(),
            model_name=model.card.name,
            model_licence=model.card.licence,
            seconds=seconds,
        )


def _array(x: Any) -> np.ndarray:
    return x.detach().float().cpu().numpy().copy()
