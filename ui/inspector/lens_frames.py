"""A trace -> values of the player: the predicted x0 at once, then each further lens as it is rendered.

A value holds what is new; the last one repeats everything while that is small, so that a value that the browser
missed does no harm.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.jobs.backend import QueryFailed
from pipelines.prompt import A1111
from pipelines.request_errors import TRY_AGAIN
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.trace import lenses
from pipelines.trace.lens_files import encode_frame
from pipelines.trace.phases import find_phases
from ui.components import phrases
from ui.components.data_uri import data_uri
from ui.components.frame_cache import FrameCache
from ui.components.next_steps import next_step
from ui.inspector import questions
from ui.inspector.origins import lens as best_guess

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.request import GenerationRequest
    from pipelines.trace.lenses import Decode
    from pipelines.trace.trace import Trace

# The two lenses that a run opens with: the noisy input and the predicted x0.
VIEWS = ("x_t", "x0")
REPEAT_BYTES = 3_000_000
# Lenses that are drawn within such a time travel together.
VALUE_SECONDS = 0.2
SAME_LATENT = 1e-4


def render_lenses(trace: Trace, k: int, decode: Decode, frame_cache: FrameCache) -> Iterator[dict[str, Any]]:
    """The values that follow ``first_value``: lens by lens, quick ones together, then everything once more.

    Args:
        trace: what is shown; ``k`` is the picture.
        decode: turns latents into pictures with the model; when it fails, the trace's own colour map draws.
        frame_cache: lenses rendered before are taken from here, new ones are put there.
    """
    decode = memoised(decode)
    # Grids of numbers need no decoder: they do not wait for the lenses that do.
    names = sorted(_names(trace), key=lambda name: (name not in VIEWS, not lenses.LENSES[name].crisp))
    known = [name for name in names if _drawn_during_run(trace, k, name) or frame_cache.get(trace, k, name) is not None]
    drawn = {name: lens_frames(trace, k, name, decode, frame_cache)[0] for name in known}
    coarse: dict[str, str] = {}
    first = first_value(trace, k)["lenses"]
    fresh = {name: lens for name, lens in drawn.items() if name not in first}
    yield {**_head(trace, k), "text": _progress(len(drawn), len(names)), "lenses": fresh}
    fresh, sent = {}, time.monotonic()
    for name in names:
        if name in drawn:
            continue
        drawn[name], problem = lens_frames(trace, k, name, decode, frame_cache)
        fresh[name] = drawn[name]
        if problem:
            coarse[name] = problem
        # The page takes longer over a value than a small model over a lens.
        if name in VIEWS or len(drawn) == len(names) or time.monotonic() - sent > VALUE_SECONDS:
            head = {**_head(trace, k, coarse), "text": _progress(len(drawn), len(names))}
            yield {**head, "lenses": fresh}
            fresh, sent = {}, time.monotonic()
    if sum(_size(lens["frames"]) for lens in drawn.values()) <= REPEAT_BYTES:
        yield {**first_value(trace, k), **_head(trace, k, coarse), "lenses": drawn}


def memoised(decode: Decode) -> Decode:
    """A decoder that keeps its results: several lenses draw over the same pictures."""
    known: dict[bytes, list[Image.Image]] = {}

    def ask(latents: np.ndarray) -> list[Image.Image]:
        key = hashlib.sha256(np.ascontiguousarray(latents).data).digest()
        if key not in known:
            known[key] = decode(latents)
        return known[key]

    return ask


def is_complete(trace: Trace, k: int, frame_cache: FrameCache) -> bool:
    """Whether ``first_value`` holds every lens, so that nothing need be drawn."""
    known = (_drawn_during_run(trace, k, name) or frame_cache.get(trace, k, name) for name in _names(trace))
    return all(frames is not None for frames in known)


def first_value(trace: Trace, k: int, frame_cache: FrameCache | None = None) -> dict[str, Any]:
    """The first value of a run: its facts, the lenses that the trace holds as pictures, and those of the cache."""
    cached = {name: frame_cache.get(trace, k, name) for name in _names(trace)} if frame_cache else {}
    known = {name: {"crisp": lenses.LENSES[name].crisp, "frames": rows} for name, rows in cached.items() if rows}
    return {
        **_head(trace, k),
        "guided": trace.uncond is not None,
        "steps": step_facts(trace, k),
        "about": {name: _about(name) for name in _names(trace)},
        "order": list(_names(trace)),
        "lenses": {
            **known,
            "x0": {"crisp": False, "frames": _uris(trace.frames, k)},
            **({"x_t": {"crisp": False, "frames": _uris(trace.noisy, k)}} if trace.noisy else {}),
        },
        "views": list(VIEWS),
        "size": [trace.request.width, trace.request.height],
        "picture": data_uri(trace.finals[k]) if k < len(trace.finals) else "",
        "settings": settings(trace, k),
        "guidance": trace.request.sampling.guidance_scale,
        "at": trace.loudest_step(k),
        "play": False,
    }


def complete_value(trace: Trace, k: int, decode: Decode, frame_cache: FrameCache) -> dict[str, Any]:
    """A whole run in one value, as the HTML export holds it: it plays, and the questions are asked."""
    drawn, coarse, decode = {}, {}, memoised(decode)
    for name in _names(trace):
        drawn[name], problem = lens_frames(trace, k, name, decode, frame_cache)
        if problem:
            coarse[name] = problem
    asked = questions.questions(trace, k, on_page=False)
    begin = {"at": 0, "play": True}
    value = {**first_value(trace, k), **_head(trace, k, coarse), "lenses": drawn, "questions": asked, **begin}
    return best_guess.added(value, frame_cache.get(trace, k, best_guess.NAME))


def empty_value(run: str, text: str, title: str = "") -> dict[str, Any]:
    """A value with nothing to play yet."""
    return {
        "run": run, "title": title, "text": text, "note": "", "total": 0, "guided": False, "steps": [], "about": {},
        "order": [], "lenses": {}, "views": list(VIEWS), "picture": "", "settings": [], "play": False,
    }  # fmt: skip


def step_facts(trace: Trace, k: int) -> list[dict[str, Any]]:
    """The figures of each step for the readouts and the API; an infinite signal-to-noise ratio is None."""
    shares, phases = trace.cumulative_change(k), find_phases(trace, k)
    return [
        {
            "t": step.timestep,
            "alpha_bar": step.alpha_bar,
            "sigma": step.sigma,
            "snr": finite_or_none(step.snr),
            "change": trace.change(i, k),
            "share": shares[i],
            "phase": phases[i].name,
            "words": phases[i].words,
        }
        for i, step in enumerate(trace.steps)
    ]


def finite_or_none(value: float) -> float | None:
    """The number, or None if JSON cannot hold it."""
    return value if math.isfinite(value) else None


def lens_frames(trace: Trace, k: int, name: str, decode: Decode, frame_cache: FrameCache) -> tuple[dict[str, Any], str]:
    """A lens as data URIs, and a sentence if the model was not available for it."""
    lens, problem = lenses.LENSES[name], ""
    frames = _drawn_during_run(trace, k, name) or frame_cache.get(trace, k, name)
    if frames is None:
        images, problem = render(trace, k, name, decode)
        frames = [frame_uri(image, lens.crisp) for image in images]
        if not problem:
            frame_cache.put(trace, k, name, frames)
    return {"crisp": lens.crisp, "frames": frames}, problem


def render(trace: Trace, k: int, name: str, decode: Decode) -> tuple[list[Image.Image], str]:
    """One picture a step through a lens, and a sentence if the model was not available for it."""
    try:
        return lenses.render(trace, name, k, decode), ""
    except QueryFailed as failed:
        problem = f"{failed} The lenses use a linear colour map instead, so they look coarser."
        return lenses.render(trace, name, k, lambda latents: lenses.project(trace, latents)), problem


def _drawn_during_run(trace: Trace, k: int, name: str) -> list[str] | None:
    """The frames of a lens that were decoded with the run; None for other lenses."""
    if trace.rough:
        return None
    guess = "x0" if trace.uncond is None or trace.frames_guidance == 1 else "guided"
    rows = {guess: trace.frames, "x_t": trace.noisy}.get(name)
    return _uris(rows, k) if rows else None


def _uris(rows: Sequence[Sequence[bytes]], k: int) -> list[str]:
    return [data_uri(row[k]) for row in rows]


def frame_uri(image: Image.Image, crisp: bool) -> str:
    """A frame as a data URI: exact where single pixels count, else a small JPEG."""
    return data_uri(encode_frame(image, crisp))


def settings(trace: Trace, k: int) -> list[tuple[str, str]]:
    """What the picture was made with, as (label, text)."""
    request = trace.request
    sampling = request.sampling
    spec = SCHEDULERS.get(sampling.scheduler)
    rows = [
        ("Prompt", request.prompt_of(k)),
        ("Drawn words", ", ".join(request.drawn_for(k))),
        ("Styles", ", ".join(request.typed.styles) if request.typed else ""),
        ("Negative prompt", request.negative_prompt),
        ("Form of the prompts", "A1111's" if request.prompt_syntax == A1111 else ""),
        ("Model", trace.model_name or request.model),
        ("LoRA", phrases.loras_used(request)),
        ("Steps", str(sampling.num_inference_steps)),
        ("Scheduler (sampler)", spec.label if spec else sampling.scheduler),
        ("Guidance scale (CFG)", f"{sampling.guidance_scale:g}"),
        ("Seed", str(request.seeds[k])),
        *_init_rows(request),
        *_fork_rows(request),
        *_blend_rows(request, k),
        ("Size", f"{request.width} x {request.height}"),
        ("Made in", phrases.seconds(trace.seconds) if trace.seconds else ""),
    ]
    return [(label, text) for label, text in rows if text]


def _fork_rows(request: GenerationRequest) -> list[tuple[str, str]]:
    """Where a fork left another run, and that run's prompt if it was another one."""
    fork = request.fork
    if fork is None:
        return []
    other = f"; its prompt: {fork.original.prompt}" if fork.original.prompt != request.prompt else ""
    return [("Left another run", f"after {fork.step} step{'s' * (fork.step != 1)}{other}")]


def _init_rows(request: GenerationRequest) -> list[tuple[str, str]]:
    """Strength and mask of an image-to-image run."""
    init = request.init
    if init is None:
        return []
    share = f"{init.strength:g}: the last {request.steps_run} of {request.sampling.num_inference_steps} steps"
    rows = [("Strength", share)]
    if init.noise_only:
        rows.append(("Started from", "noise alone, without the image"))
    if init.mask is not None:
        around = f"{init.padding} pixels" if init.padding else "nothing"
        rows.append(("Mask", f"enlarged, with {around} around it" if init.only_masked else "painted"))
        rows.append(("Feather (soft edge)", f"{init.feather} pixels" if init.feather else "none"))
    return rows


def _blend_rows(request: GenerationRequest, k: int) -> list[tuple[str, str]]:
    """The seed or prompt that picture k of variations or of a blend goes towards, and how far."""
    rows, mix, blend = [], phrases.noise_blend(request, k), request.interpolation
    if mix is not None:
        rows.append(("Noise", f"{mix[1]:.0%} of the way to seed {mix[0]}"))
    if blend is not None and blend.prompt is not None:
        rows += [("Other prompt", blend.prompt), ("Blend", f"{k / (request.num_images - 1):.0%}")]
    return rows


def note(trace: Trace) -> str:
    """What is unusual about this run, in one sentence."""
    done, total = len(trace.steps), trace.total
    if done < total:
        return f"Stopped after {done} of {total} steps, so there is no finished picture."
    if trace.final_gap > SAME_LATENT:
        return (
            "With this scheduler the last guess is not quite the finished picture: it mixes in earlier steps "
            f"(largest difference of a latent number {trace.final_gap:.2g})."
        )
    return ""


def run_key(trace: Trace, k: int) -> str:
    """The player's key of a run: another picture of the same trace is another run."""
    return f"{trace.id}:{k}"


def _head(trace: Trace, k: int, coarse: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``coarse``: lenses for which the model was not available -> a sentence; the page offers to draw them again."""
    said = [text for text in (note(trace), next(iter((coarse or {}).values()), "")) if text]
    again = {"coarse": list(coarse), "again": next_step(TRY_AGAIN)["label"]} if coarse else {"coarse": []}
    return {
        "run": run_key(trace, k),
        "title": phrases.heading(trace.request),
        "text": "",
        "note": " ".join(said),
        "total": trace.total,
        **again,
    }


def _progress(done: int, count: int) -> str:
    """What the player says while lenses are rendered; empty once all are there."""
    return f"Rendering the lenses: {done} of {count}" if done < count else ""


def _names(trace: Trace) -> Sequence[str]:
    return lenses.available_lenses(trace)


def _about(name: str) -> dict[str, str]:
    lens = lenses.LENSES[name]
    return {part: getattr(lens, part) for part in ("title", "term", "about", "paper", "link")}


def _size(frames: Sequence[str]) -> int:
    return sum(len(frame) for frame in frames)
