"""The samplers: a table of names, what each supports, and the algebra of alpha and sigma.

torch and diffusers are imported only by ``build``, so that the page can offer the choices without them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.request import MAX_STEPS

if TYPE_CHECKING:
    import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# Flow matching (Lipman et al. 2022, arXiv:2210.02747): x_t = (1 - sigma) x0 + sigma eps; the model predicts eps - x0.
FLOW = "flow_prediction"
# A pipeline of diffusers that runs its own loop, with its own scheduler.
OWN = "own"


@dataclass(frozen=True)
class SchedulerSpec:
    """A diffusers scheduler with its options, and what a person should know about it.

    Attributes:
        class_name: of a class in ``diffusers``.
        label: the page's name.
        about: one plain sentence.
        options: override the model's saved scheduler configuration.
        stochastic: whether each step draws new noise from the request's generators.
        max_steps: the most steps that it can run.
        exploding: holds latents as x0 + sigma * eps (variance exploding), not as alpha * x0 + sigma * eps.
        predicts: the prediction types that its ``step`` knows.
        zero_snr: whether it honours a schedule that ends in pure noise.
    """

    class_name: str
    label: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False
    max_steps: int = MAX_STEPS
    exploding: bool = False
    predicts: tuple[str, ...] = PREDICTION_TYPES
    zero_snr: bool = True


_EPS_OR_V = ("epsilon", "v_prediction")
# Options are complete, so that a model saved with another sampler's options does not change what a name means.
_NO_KARRAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS = {**_NO_KARRAS, "use_karras_sigmas": True}
_DPMPP = {"solver_order": 2, "solver_type": "midpoint", "algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"}

SCHEDULERS: Mapping[str, SchedulerSpec] = MappingProxyType(
    {
        "ddpm": SchedulerSpec(
            "DDPMScheduler",
            "DDPM",
            "The original sampler (Ho et al. 2020): adds fresh noise at every step and wants many of them.",
            stochastic=True,
        ),
        "ddim": SchedulerSpec(
            "DDIMScheduler", "DDIM", "The first sampler without fresh noise (Song et al. 2021): plain and predictable."
        ),
        "pndm": SchedulerSpec(
            "PNDMScheduler",
            "PNDM",
            "Remembers the last four steps (Liu et al. 2022); calls the model once more than asked.",
            {"skip_prk_steps": True},
            predicts=_EPS_OR_V,
            zero_snr=False,
        ),
        "euler": SchedulerSpec(
            "EulerDiscreteScheduler",
            "Euler",
            "The simplest step along the slope (Karras et al. 2022): fast and dependable.",
            _NO_KARRAS,
            exploding=True,
        ),
        "euler_a": SchedulerSpec(
            "EulerAncestralDiscreteScheduler",
            "Euler ancestral",
            "Euler with fresh noise at every step: livelier, and it never settles on one picture.",
            stochastic=True,
            exploding=True,
            predicts=_EPS_OR_V,
        ),
        "heun": SchedulerSpec(
            "HeunDiscreteScheduler",
            "Heun",
            "Corrects each Euler step with a second look: twice the model calls, more exact.",
            _NO_KARRAS,
            exploding=True,
            zero_snr=False,
        ),
        "dpmpp_2m": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M",
            "Learns from the step before (Lu et al. 2022): good pictures in 15 to 25 steps.",
            {**_DPMPP, **_NO_KARRAS},
        ),
        "dpmpp_2m_sde": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M SDE",
            "DPM++ 2M with fresh noise at every step: more detail, less repeatable between step counts.",
            {**_DPMPP, **_NO_KARRAS, "algorithm_type": "sde-dpmsolver++"},
            stochastic=True,
        ),
        "dpmpp_2m_karras": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M Karras",
            "DPM++ 2M that spends more of its steps on fine detail (Karras et al. 2022).",
            {**_DPMPP, **_KARRAS},
            zero_snr=False,
        ),
        "dpm2_karras": SchedulerSpec(
            "KDPM2DiscreteScheduler",
            "DPM2 Karras",
            "Looks half a step ahead: twice the model calls, with more steps on fine detail.",
            _KARRAS,
            exploding=True,
            predicts=_EPS_OR_V,
            zero_snr=False,
        ),
        "unipc": SchedulerSpec(
            "UniPCMultistepScheduler",
            "UniPC",
            "Predicts and corrects with one model call a step (Zhao et al. 2023): good in few steps.",
            {**_NO_KARRAS, "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"},
        ),
        "lms": SchedulerSpec(
            "LMSDiscreteScheduler",
            "LMS",
            "Fits a curve through the last four slopes: smooth, needs some 20 steps.",
            _NO_KARRAS,
            exploding=True,
            zero_snr=False,
        ),
        "deis": SchedulerSpec(
            "DEISMultistepScheduler",
            "DEIS",
            "Extrapolates the noise over time (Zhang and Chen 2023): good in few steps.",
            {**_NO_KARRAS, "solver_order": 2, "solver_type": "logrho", "algorithm_type": "deis"},
            zero_snr=False,
        ),
        "lcm": SchedulerSpec(
            "LCMScheduler",
            "LCM",
            "For models distilled to a few steps (Luo et al. 2023); other models turn out soft.",
            {"original_inference_steps": 50},
            stochastic=True,
            max_steps=50,
        ),
        "flow_euler": SchedulerSpec(
            "FlowMatchEulerDiscreteScheduler",
            "Flow Euler",
            "Follows a straight path from noise to picture (Esser et al. 2024): what flow models are trained for.",
            _NO_KARRAS,
            predicts=(FLOW,),
        ),
        "flow_heun": SchedulerSpec(
            "FlowMatchHeunDiscreteScheduler",
            "Flow Heun",
            "Flow Euler that corrects each step with a second look: twice the model calls, more exact.",
            predicts=(FLOW,),
        ),
        OWN: SchedulerSpec(
            "",
            "The model's own",
            "This model runs a loop of its own, with the sampler that it was published with.",
            predicts=(OWN,),
        ),
    }
)


# Those of ordinary diffusion models, which predict the noise, v or the picture.
DIFFUSION = tuple(name for name, spec in SCHEDULERS.items() if set(spec.predicts) & set(PREDICTION_TYPES))


def why_not(
    name: str, prediction_type: str | None, terminal_snr_zero: bool, num_inference_steps: int | None = None
) -> str:
    """Why a scheduler cannot run a model, as one sentence, or "" when it can.

    Args:
        name: key of ``SCHEDULERS``.
        prediction_type: what the model predicts; None when all that is known before it loads is that it is an ordinary
            diffusion model.
        terminal_snr_zero: whether the model's schedule ends in pure noise (``rescale_betas_zero_snr``).
        num_inference_steps: requested steps, or None to leave them out of the question.
    """
    if name not in SCHEDULERS:
        return f"scheduler is {name[:64]!r}; allowed: {', '.join(SCHEDULERS)}."
    spec = SCHEDULERS[name]
    known = (*PREDICTION_TYPES, FLOW, OWN)
    if prediction_type is not None and prediction_type not in known:
        return f"This model predicts {prediction_type!r}; only {', '.join(known[:-1])} can be sampled here."
    if prediction_type is None and name not in DIFFUSION:
        return f"{spec.label} is for models of another kind; choose another scheduler."
    if prediction_type is not None and prediction_type not in spec.predicts:
        return f"{spec.label} cannot run a model that predicts {prediction_type!r}; choose another scheduler."
    if terminal_snr_zero and prediction_type == "epsilon":
        return "This model predicts epsilon on a schedule that ends in pure noise, where no scheduler can start."
    if terminal_snr_zero and not spec.zero_snr:
        return f"{spec.label} cannot follow this model's schedule, which ends in pure noise; choose another scheduler."
    if num_inference_steps is not None and num_inference_steps > spec.max_steps:
        return f"num_inference_steps is {num_inference_steps}; {spec.label} allows at most {spec.max_steps}."
    return ""


def prepare(scheduler: Any, model: Any, request: Any, device: Any = None) -> None:
    """Set the timesteps of a request; models that shift their schedule by the picture's size say how."""
    wishes = model.timing(request.sampling.num_inference_steps, request.width, request.height)
    known = inspect.signature(scheduler.set_timesteps).parameters
    wishes = {name: value for name, value in wishes.items() if name in known}
    if "sigmas" in wishes:
        scheduler.set_timesteps(device=device, **wishes)
    else:
        scheduler.set_timesteps(request.sampling.num_inference_steps, device=device, **wishes)


def build(name: str, config: Mapping[str, Any]) -> Any:
    """A fresh diffusers scheduler for one request (multistep schedulers carry state).

    Args:
        name: key of ``SCHEDULERS``.
        config: the model's saved scheduler configuration, of whichever class.

    Raises:
        KeyError: if the name is not in the table.
    """
    import diffusers

    spec = SCHEDULERS[name]
    # DDIM and DDPM clip x0 to [-1, 1] unless told otherwise, which is right for pixels and wrong for latents.
    return getattr(diffusers, spec.class_name).from_config({"clip_sample": False, **config, **spec.options})


def is_exploding(scheduler: Any) -> bool:
    """Whether a scheduler holds latents as x0 + sigma * eps."""
    return any(s.exploding and s.class_name == type(scheduler).__name__ for s in SCHEDULERS.values())


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler goes along straight paths, x_t = (1 - sigma) x0 + sigma eps."""
    return type(scheduler).__name__.startswith("FlowMatch")


def kind_of(scheduler: Any) -> str:
    """What a scheduler takes the model's output for."""
    return FLOW if is_flow(scheduler) else scheduler.config.prediction_type


def prediction_type_of(config: Mapping[str, Any]) -> str:
    """What a model predicts, by its saved scheduler configuration."""
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FLOW
    return config.get("prediction_type", "epsilon")


def noised(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A picture's latents with the noise of timestep ``t`` (1 element), in the scheduler's own scale, (n, c, h, w)."""
    if is_flow(scheduler):
        return scheduler.scale_noise(clean, t, noise)
    return scheduler.add_noise(clean, noise, t)


def scaled(scheduler: Any, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The latents as the model wants to see them, (n, c, h, w)."""
    return x_t if is_flow(scheduler) else scheduler.scale_model_input(x_t, t)


def first_scale(scheduler: Any) -> float:
    """What pure noise is multiplied with to begin."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def alpha_sigma(scheduler: Any, t: float | torch.Tensor, step_index: int) -> tuple[float, float]:
    """Signal and noise level of step ``step_index`` at timestep ``t``.

    alpha^2 + sigma^2 = 1, and for flow matching alpha + sigma = 1.
    Exploding schedulers give s = sigma / alpha; alpha = 1 / sqrt(1 + s^2) (Karras et al. 2022, arXiv:2206.00364).
    """
    if is_flow(scheduler):
        sigma = float(scheduler.sigmas[step_index])
        return 1 - sigma, sigma
    if not hasattr(scheduler, "sigmas"):
        alpha_bar = float(scheduler.alphas_cumprod[int(t)])
        return alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    # DPM2 calls the model at every other step between two noise levels.
    between = step_index % 2 == 1 and hasattr(scheduler, "sigmas_interpol")
    s = float((scheduler.sigmas_interpol if between else scheduler.sigmas)[step_index])
    alpha = (1 + s * s) ** -0.5
    return alpha, s * alpha


def predict_x0(
    scheduler: Any, prediction: torch.Tensor, t: float | torch.Tensor, x_t: torch.Tensor, step_index: int
) -> torch.Tensor:
    """The picture that a prediction stands for (``x0_of``), from latents in the scheduler's own scale.

    Args:
        scheduler: made by ``build``, its timesteps set.
        prediction: the (guided) model output, (n, c, h, w).
        t: the timestep, 0 to 999.
        x_t: the latents in the scheduler's own scale, (n, c, h, w).
        step_index: position of ``t`` in the scheduler's timesteps.
    """
    alpha, sigma = alpha_sigma(scheduler, t, step_index)
    x_t = alpha * x_t if is_exploding(scheduler) else x_t
    return x0_of(kind_of(scheduler), prediction, x_t, alpha, sigma)


def x0_of(kind: str, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """x0 from a prediction of this kind, for x_t = alpha * x0 + sigma * eps; tensors or arrays of one shape.

    epsilon: x0 = (x_t - sigma * eps) / alpha.  v = alpha * eps - sigma * x0 (Salimans and Ho 2022,
    arXiv:2202.00512): x0 = alpha * x_t - sigma * v.  sample: x0 itself.  flow_prediction = eps - x0, where
    alpha = 1 - sigma: x0 = x_t - sigma * prediction.
    """
    if kind == "sample":
        return prediction
    if kind == FLOW:
        return x_t - sigma * prediction
    if kind == "v_prediction":
        return alpha * x_t - sigma * prediction
    return (x_t - sigma * prediction) / alpha


def noise_of(kind: str, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """The predicted eps, with the arguments of ``x0_of``; v: eps = sigma * x_t + alpha * v; flow: x_t + alpha * v."""
    if kind == FLOW:
        return x_t + alpha * prediction
    if kind == "epsilon":
        return prediction
    if kind == "v_prediction":
        return sigma * x_t + alpha * prediction
    return (x_t - alpha * prediction) / sigma
