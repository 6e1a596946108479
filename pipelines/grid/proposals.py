"""The values that a comparison proposes: the present one and others around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.request import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS

# Values that are proposed: the present one and four around it.
PROPOSED = 5
# The samplers that are proposed first: each of another kind.
_FAMILIAR = ("ddim", "euler", "dpmpp_2m", "euler_a", "heun", "unipc", "ddpm")


@dataclass(frozen=True)
class Bounds:
    """What the model allows, for proposals.

    Attributes:
        schedulers: keys of the samplers that can be used.
        models: ids of the models that can be used.
        size_factor: width and height are multiples of it.
    """

    schedulers: Sequence[str] = tuple(SCHEDULERS)
    models: Sequence[str] = ()
    size_factor: int = 8


def around(now: float, values: Sequence[float], low: float, high: float) -> list[str]:
    """The present value among others, each once, in order."""
    near = sorted({round(min(max(value, low), high), 2) for value in (*values, now)})
    return [f"{value:g}" for value in near]


def samplers(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present sampler and others, each of another kind."""
    now = request.sampling.scheduler
    others = [key for key in (*_FAMILIAR, *bounds.schedulers) if key in bounds.schedulers and key != now]
    return [SCHEDULERS[key].label if key in SCHEDULERS else key for key in dict.fromkeys((now, *others))][:PROPOSED]


def guidance(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Scales from no guidance to three times the present one."""
    g = request.sampling.guidance_scale
    others = (1, (1 + g) / 2, 1.75 * g, 3 * g) if g > 1 else (1, 2, 4, 8)
    return around(g, [round(2 * value) / 2 for value in others], 0, MAX_GUIDANCE)


def steps(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Fewer steps by halves, and twice as many."""
    n = request.sampling.num_inference_steps
    others = (n // 8 or 1, n // 4 or 1, n // 2 or 1, 2 * n) if n >= 8 else (1, 2, 4, 8, 16)
    return around(n, others, 1, MAX_STEPS)


def seeds(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present seed and those that follow."""
    first = min(request.sampling.seed, MAX_SEED - PROPOSED + 1)
    return [str(first + k) for k in range(PROPOSED)]


def strengths(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """From little of the image to nearly nothing of it."""
    now = request.init.strength if request.init else 0.5
    return around(now, (0.2, 0.4, 0.6, 0.8), 0.05, 1)[:PROPOSED]


def sizes(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present size, smaller and larger."""
    factor = bounds.size_factor
    scaled = [
        tuple(max(factor, min(2048 // factor * factor, round(side * s / factor) * factor)) for side in (w, h))
        for s in (0.5, 0.75, 1, 1.5, 2)
        for w, h in [(request.width, request.height)]
    ]
    return [f"{w}x{h}" for w, h in dict.fromkeys(scaled)]


def negative_prompts(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Without a negative prompt, with the present one, and with the prompt's own longest words."""
    longest = sorted(set(re.findall(r"[^\W\d_]{3,}", request.prompt)), key=len, reverse=True)
    return list(dict.fromkeys(("", request.negative_prompt, *longest)))[:PROPOSED]


def words(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The prompt's first word, which others are to replace."""
    found = re.search(r"[^\W\d_]{3,}", request.prompt)
    return [f"{found[0]}\0{found[0]}"] if found else []
