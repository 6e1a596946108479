"""The values that a comparison proposes: the present one and others around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.request import MAX_GUIDANCE, MAX_SEED, MAX_SIDE, MAX_STEPS, GenerationRequest
from pipelines.sampling.schedulers import SCHEDULERS

# Values that are proposed: the present one and four around it.
PROPOSED = 5
# The samplers that are proposed first: each of another kind.
_FAMILIAR = ("ddim", "euler", "dpmpp_2m", "euler_a", "heun", "unipc", "ddpm")

# Negative prompts where the prompt has few words of its own.
_COLOURS = ("red", "blue", "green", "yellow")


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
    """The present value and the first of the others that are different within the bounds, in order."""
    near = dict.fromkeys(round(min(max(value, low), high), 2) for value in (now, *values))
    return [f"{value:g}" for value in sorted(list(near)[:PROPOSED])]


def samplers(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present sampler and others, each of another kind."""
    now = request.sampling.scheduler
    others = [key for key in (*_FAMILIAR, *bounds.schedulers) if key in bounds.schedulers and key != now]
    return [SCHEDULERS[key].label if key in SCHEDULERS else key for key in dict.fromkeys((now, *others))][:PROPOSED]


def guidance(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Scales from no guidance to three times the present one."""
    g = request.sampling.guidance_scale
    others = (1, (1 + g) / 2, 1.75 * g, 3 * g) if g > 1 else (1, 2, 4, 8)
    return around(g, [*(round(2 * value) / 2 for value in others), 8, 4, 12], 0, MAX_GUIDANCE)


def steps(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Fewer steps by halves, and twice as many if the sampler can."""
    n, spec = request.sampling.num_inference_steps, SCHEDULERS.get(request.sampling.scheduler)
    others = (n // 8 or 1, n // 4 or 1, n // 2 or 1, 2 * n, 4) if n >= 8 else (1, 2, 8, 16, 4)
    return around(n, others, 1, spec.max_steps if spec else MAX_STEPS)


def seeds(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present seed and those that follow."""
    first = min(request.sampling.seed, MAX_SEED - PROPOSED + 1)
    return [str(first + k) for k in range(PROPOSED)]


def strengths(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """From little of the image to nothing of it."""
    now = request.init.strength if request.init else 0.5
    return around(now, (0.2, 0.8, 0.6, 0.4, 1), 0.05, 1)


def sizes(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The present size, smaller and larger."""
    factor = bounds.size_factor

    def scaled(by: float) -> tuple[int, int]:
        w, h = (round(side * by / factor) * factor for side in (request.width, request.height))
        return min(max(w, factor), MAX_SIDE // factor * factor), min(max(h, factor), MAX_SIDE // factor * factor)

    found = list(dict.fromkeys(map(scaled, (1, 0.5, 0.75, 1.5, 2, 0.25, 0.625, 3, 4))))[:PROPOSED]
    return [f"{w}x{h}" for w, h in sorted(found, key=lambda size: size[0] * size[1])]


def negative_prompts(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """Without a negative prompt, with the present one, and with the prompt's own longest words, then colours."""
    longest = sorted(dict.fromkeys(re.findall(r"[^\W\d_]{3,}", request.prompt)), key=len, reverse=True)
    return list(dict.fromkeys(("", request.negative_prompt, *longest, *_COLOURS)))[:PROPOSED]


def words(request: GenerationRequest, bounds: Bounds) -> list[str]:
    """The prompt's first word, which others are to replace."""
    found = re.search(r"[^\W\d_]{3,}", request.prompt)
    return [f"{found[0]}\0{found[0]}"] if found else []
