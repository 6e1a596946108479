"""A trace -> values of the player ("reels"): the first beliefs at once, then each further lens as it is drawn.

A reel holds what is new; the last one of an opening repeats everything while that is small, so that a value the
browser missed is made good.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import lenses
from pipelines.backend import LookFailed
from pipelines.schedulers import SCHEDULERS
from ui import words

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.lenses import Decode
    from pipelines.request import GenerationRequest
    from pipelines.trace import Trace

# The two lenses that a run opens with: what the model is given, and what it makes of it.
VIEWS = ("x_t", "x0")
KEEP_BYTES = 64 * 1024 * 1024
REPEAT_BYTES = 3_000_000
FRAME_SIDE = 256
SMALL_SIDE = 64
SAME_AS_LAST = 1e-4


@dataclass
class Films:
    """Lenses that were drawn before, as data URIs; the least recently used go when they grow too large."""

    limit: int = KEEP_BYTES
    _kept: OrderedDict[tuple[str, int, str], list[str]] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, trace: Trace, k: int, name: str) -> list[str] | None:
        """The frames of a lens for picture ``k``, or None."""
        with self._lock:
            frames = self._kept.get((trace.id, k, name))
            if frames is not None:
                self._kept.move_to_end((trace.id, k, name))
            return frames

    def put(self, trace: Trace, k: int, name: str, frames: list[str]) -> None:
        """Keep the frames of a lens."""
        with self._lock:
            self._bytes -= _size(self._kept.pop((trace.id, k, name), []))
            self._kept[trace.id, k, name] = frames
            self._bytes += _size(frames)
            while self._bytes > self.limit and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def unroll(trace: Trace, k: int, decode: Decode, films: Films) -> Iterator[dict[str, Any]]:
    """The reels that follow ``opening``: one a lens, then everything once more.

    Args:
        trace: what is shown; ``k`` is the picture.
        decode: turns latents into pictures with the model; when it fails, the trace's own colour map draws.
        films: lenses that are there already are taken from here, drawn ones are put there.
    """
    decode = remembered(decode)
    names = sorted(_names(trace), key=lambda name: name not in VIEWS)
    known = [name for name in names if name == "x0" or films.get(trace, k, name) is not None]
    drawn = {name: lens_frames(trace, k, name, decode, films)[0] for name in known}
    problem = ""
    fresh = {name: lens for name, lens in drawn.items() if name != "x0"}
    yield {**_head(trace, k), "text": _progress(len(drawn), len(names)), "lenses": fresh}
    for name in names:
        if name in drawn:
            continue
        drawn[name], failed = lens_frames(trace, k, name, decode, films)
        problem = problem or failed
        head = {**_head(trace, k, problem), "text": _progress(len(drawn), len(names))}
        yield {**head, "lenses": {name: drawn[name]}}
    if sum(_size(lens["frames"]) for lens in drawn.values()) <= REPEAT_BYTES:
        yield {**opening(trace, k), **_head(trace, k, problem), "lenses": drawn}


def remembered(decode: Decode) -> Decode:
    """The same answers, but what was decoded once is not decoded again: several lenses draw over the same pictures."""
    known: dict[bytes, list[Image.Image]] = {}

    def ask(latents: np.ndarray) -> list[Image.Image]:
        key = hashlib.sha256(np.ascontiguousarray(latents)).digest()
        if key not in known:
            known[key] = decode(latents)
        return known[key]

    return ask


def opening(trace: Trace, k: int) -> dict[str, Any]:
    """The first reel of a run: its facts, and what the model believed, which the trace holds as pictures."""
    return {
        **_head(trace, k),
        "guided": trace.uncond is not None,
        "steps": steps(trace, k),
        "about": {name: _about(name) for name in _names(trace)},
        "order": list(_names(trace)),
        "lenses": {"x0": {"crisp": False, "frames": beliefs(trace, k)}},
        "views": list(VIEWS),
        "picture": picture_uri(trace.finals[k]) if k < len(trace.finals) else "",
        "settings": settings(trace, k),
        "play": True,
    }


def whole(trace: Trace, k: int, decode: Decode, films: Films) -> dict[str, Any]:
    """Everything of a run in one reel, as a capsule holds it."""
    drawn, note, decode = {}, "", remembered(decode)
    for name in _names(trace):
        drawn[name], problem = lens_frames(trace, k, name, decode, films)
        note = note or problem
    return {**opening(trace, k), **_head(trace, k, note), "lenses": drawn}


def waiting(run: str, text: str, title: str = "") -> dict[str, Any]:
    """A reel with nothing to play yet."""
    return {
        "run": run, "title": title, "text": text, "note": "", "total": 0, "guided": False, "steps": [], "about": {},
        "order": [], "lenses": {}, "views": list(VIEWS), "picture": "", "settings": [], "play": False,
    }  # fmt: skip


def steps(trace: Trace, k: int) -> list[dict[str, Any]]:
    """What the readouts and the endpoint say of each step; an infinite signal-to-noise ratio is None."""
    shares, phases = trace.shares(k), trace.phases(k)
    return [
        {
            "t": step.timestep,
            "alpha_bar": step.alpha_bar,
            "sigma": step.sigma,
            "snr": finite(step.snr),
            "change": trace.change(i, k),
            "share": shares[i],
            "phase": phases[i].name,
            "words": phases[i].words,
        }
        for i, step in enumerate(trace.steps)
    ]


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def lens_frames(trace: Trace, k: int, name: str, decode: Decode, films: Films) -> tuple[dict[str, Any], str]:
    """A lens as data URIs, and a sentence when the model could not be had for it."""
    lens, problem = lenses.LENSES[name], ""
    frames = beliefs(trace, k) if name == "x0" else films.get(trace, k, name)
    if frames is None:
        images, problem = draw(trace, k, name, decode)
        frames = [image_uri(image, lens.crisp) for image in images]
        if not problem:
            films.put(trace, k, name, frames)
    return {"crisp": lens.crisp, "frames": frames}, problem


def draw(trace: Trace, k: int, name: str, decode: Decode) -> tuple[list[Image.Image], str]:
    """One picture a step through a lens, and a sentence when the model could not be had for it."""
    try:
        return lenses.render(trace, name, k, decode), ""
    except LookFailed as failed:
        problem = f"{failed} The lenses are drawn by a plain colour map instead, so they look coarser."
        return lenses.render(trace, name, k, lambda latents: lenses.project(trace, latents)), problem


def beliefs(trace: Trace, k: int) -> list[str]:
    """The frames that were shown while the picture was made."""
    return [picture_uri(frames[k]) for frames in trace.frames]


def picture_uri(data: bytes) -> str:
    """PNG or JPEG bytes as a data URI."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def image_uri(image: Image.Image, crisp: bool) -> str:
    """A frame as a data URI: exact where single pixels count, else a small JPEG."""
    file = io.BytesIO()
    # A JPEG would blur the colours of pictures that are this small.
    if crisp or max(image.size) <= SMALL_SIDE:
        image.save(file, format="PNG", optimize=True)
    else:
        if max(image.size) > FRAME_SIDE:
            image = image.copy()
            image.thumbnail((FRAME_SIDE, FRAME_SIDE))
        image.save(file, format="JPEG", quality=80)
    return picture_uri(file.getvalue())


def settings(trace: Trace, k: int) -> list[tuple[str, str]]:
    """What the picture was made with, as (label, text)."""
    request = trace.request
    sampling = request.sampling
    spec = SCHEDULERS.get(sampling.scheduler)
    rows = [
        ("Prompt", request.prompt),
        ("Left out (negative prompt)", request.negative_prompt),
        ("Model", trace.model_name or request.model),
        ("Added to the model (LoRA)", words.worn(request)),
        ("Steps", str(sampling.num_inference_steps)),
        ("Scheduler (sampler)", spec.label if spec else sampling.scheduler),
        ("Guidance scale (CFG)", f"{sampling.guidance_scale:g}"),
        ("Seed", str(request.seeds[k])),
        *_begun(request),
        *_between(request, k),
        ("Size", f"{request.width} x {request.height}"),
        ("Made in", words.seconds(trace.seconds) if trace.seconds else ""),
    ]
    return [(label, text) for label, text in rows if text]


def _begun(request: GenerationRequest) -> list[tuple[str, str]]:
    """Where a run began that started from a picture, and which part of it was drawn anew."""
    init = request.init
    if init is None:
        return []
    share = f"{init.strength:g}: the last {request.steps_run} of {request.sampling.num_inference_steps} steps"
    rows = [("Drawn anew (strength)", share)]
    if init.noise_only:
        rows.append(("Began with", "the noise alone, without the picture"))
    if init.mask is not None:
        around = f"{init.padding} pixels" if init.padding else "nothing"
        rows.append(("Part (mask)", f"enlarged, with {around} around it" if init.only_masked else "painted over"))
        rows.append(("Soft edge (feather)", f"{init.feather} pixels" if init.feather else "none"))
    return rows


def _between(request: GenerationRequest, k: int) -> list[tuple[str, str]]:
    """How far picture k of variations or of a blend is on its way, and where to."""
    rows, mix, blend = [], words.mixed(request, k), request.interpolation
    if mix is not None:
        rows.append(("Noise", f"{mix[1]:.0%} of the way to seed {mix[0]}"))
    if blend is not None and blend.prompt is not None:
        rows += [("Other prompt", blend.prompt), ("Way to it", f"{k / (request.num_images - 1):.0%}")]
    return rows


def note(trace: Trace) -> str:
    """The one thing about this run that a careful reader would stumble over."""
    done, total = len(trace.steps), trace.total
    if done < total:
        return f"Stopped after {done} of {total} steps, so there is no finished picture."
    if trace.gap > SAME_AS_LAST:
        return (
            "With this scheduler the last belief is not quite the finished picture: it mixes in earlier steps "
            f"(largest difference of a latent number {trace.gap:.2g})."
        )
    return ""


def run_of(trace: Trace, k: int) -> str:
    """The name of a run on the player: another picture of the same trace is another run."""
    return f"{trace.id}:{k}"


def _head(trace: Trace, k: int, problem: str = "") -> dict[str, Any]:
    said = [text for text in (note(trace), problem) if text]
    return {
        "run": run_of(trace, k),
        "title": words.heading(trace.request),
        "text": "",
        "note": " ".join(said),
        "total": trace.total,
    }


def _progress(done: int, count: int) -> str:
    """What the player says while lenses are drawn; nothing once all are there."""
    return f"Drawing the lenses: {done} of {count}" if done < count else ""


def _names(trace: Trace) -> Sequence[str]:
    return lenses.available(trace)


def _about(name: str) -> dict[str, str]:
    lens = lenses.LENSES[name]
    return {part: getattr(lens, part) for part in ("title", "term", "about", "paper", "link")}


def _size(frames: Sequence[str]) -> int:
    return sum(len(frame) for frame in frames)
