"""How strongly a prompt moves the first prediction: a sign of memorisation (Wen et al. 2024, arXiv:2407.21720)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.sampling.schedulers import noise_from_prediction

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.trace.trace import Trace
    from pipelines.training_sample.library import Ask
    from pipelines.training_sample.recipe import SampleRecipe

# Prompts of the training that a run's prompt is compared with, and how many the model is asked at once.
REFERENCES, BATCH = 64, 8
# A memorised picture's prompt pulls more strongly than nearly all others, and far more than the median of them.  Of 80
# plain prompts, half of them pairs that training never showed, the strongest pulls 1.88 times as much as the median
# (``benchmarks.origins``); one in eight is above 95% of the others, so this share alone says nothing.
UNUSUAL, STRONG = 0.95, 2.0


@dataclass(frozen=True)
class Pull:
    """The magnitude of the text-conditional noise prediction at the first step.

    Attributes:
        own: of the run's prompt.
        others: of prompts that the model was trained on, from the same noise.
    """

    own: float
    others: tuple[float, ...]

    @property
    def above(self) -> float:
        """The share of the others that are weaker, 0 to 1."""
        return sum(other < self.own for other in self.others) / len(self.others)

    @property
    def ratio(self) -> float:
        """The run's own as a multiple of the others' median."""
        return self.own / float(np.median(self.others))

    @property
    def unusual(self) -> bool:
        """Whether it is a sign of a memorised picture."""
        return self.above > UNUSUAL and self.ratio > STRONG


def why_not(trace: Trace) -> str:
    """Why a run has no gauge, in one sentence; "" if it has one."""
    request = trace.request
    if request.at_step(0) is not request:
        return (
            "This run left another one after its first steps, which belong to that one; open that run to see its gauge."
        )
    if trace.uncond is None or trace.cond is None:
        return "This run was made without guidance, so the prediction without the prompt was not recorded."
    if request.negative_prompt.strip():
        return "This run had a negative prompt, so the prediction without any prompt was not recorded."
    if request.init is not None or request.loras or request.controls or request.reference is not None:
        return "This run began with a picture or used add-ons, so other prompts cannot be compared with it."
    return ""


def recorded(trace: Trace, k: int) -> float:
    """||eps(x_T, prompt) - eps(x_T, "")|| of picture k, as recorded at the first step."""
    assert trace.cond is not None and trace.uncond is not None
    cond, uncond = (half[0, k : k + 1] for half in (trace.cond, trace.uncond))
    return float(magnitudes(trace.prediction_type, cond, uncond, _first(trace, k))[0])


def reference(trace: Trace, k: int, prompts: list[str]) -> Any:
    """What asks a model for the magnitudes of other prompts at the same first step: model -> list of numbers."""

    def ask(model: Model) -> list[float]:
        import torch

        assert trace.uncond is not None
        # The controls of a job that runs meanwhile have another size; these prompts take none.
        conditioning = model.encode_prompt(prompts)
        x = torch.from_numpy(np.repeat(trace.variance_preserving(0)[k : k + 1], len(prompts), 0)).float()
        place = model.placement.device
        t = torch.full((len(prompts),), trace.steps[0].timestep, device=place)
        cond = model.predict(x.to(place), t, conditioning, trace.request.sampling.guidance_scale).cpu().numpy()
        uncond = trace.uncond[0, k : k + 1]
        return [float(one) for one in magnitudes(trace.prediction_type, cond, uncond, _first(trace, k))]

    return ask


def reference_prompts(recipe: SampleRecipe) -> list[str]:
    """Plain captions of the sample's first pictures."""
    draws = (recipe.draw(np.random.default_rng((recipe.seed, k))) for k in range(REFERENCES))
    return [recipe.caption(shown) for shown in draws]


def pull_of(trace: Trace, k: int, recipe: SampleRecipe, ask: Ask) -> Pull:
    """The pull of a run's prompt and of prompts of the training, a few at a time; ``why_not`` says nothing."""
    prompts, others = reference_prompts(recipe), []
    for start in range(0, len(prompts), BATCH):
        few = prompts[start : start + BATCH]
        work = len(few) * trace.request.width * trace.request.height
        others += ask(trace.request.model, reference(trace, k, few), work)
    return Pull(recorded(trace, k), tuple(others))


def _first(trace: Trace, k: int) -> tuple[np.ndarray, float, float]:
    """x_t, alpha and sigma of the first step."""
    step = trace.steps[0]
    return trace.variance_preserving(0)[k : k + 1], step.alpha, step.sigma


def magnitudes(kind: str, cond: np.ndarray, uncond: np.ndarray, first: tuple[np.ndarray, float, float]) -> np.ndarray:
    """||eps(cond) - eps(uncond)||, the 2-norm over all latents of each row of ``cond`` (n, c, h, w): (n,)."""
    with_prompt, without = (noise_from_prediction(kind, prediction, *first) for prediction in (cond, uncond))
    return np.linalg.norm((with_prompt - without).reshape(len(cond), -1).astype(np.float64), axis=1)
