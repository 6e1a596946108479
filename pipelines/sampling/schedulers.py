"""The samplers: a table of diffusers' schedulers, what each supports, and the algebra of alpha and sigma.

To add a scheduler, add a line to ``SCHEDULERS``.  Only ``build_scheduler`` imports diffusers, so that the page can
offer the choices without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.request import MAX_STEPS, InvalidRequest
from pipelines.sampling.advice import Advice

if TYPE_CHECKING:
    import torch

    from pipelines.events import Step
    from pipelines.request import GenerationRequest, Sampling

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# Flow matching (Lipman et al. 2022, arXiv:2210.02747): x_t = (1 - sigma) x0 + sigma eps; the model predicts eps - x0.
FLOW_PREDICTION = "flow_prediction"
# Of diffusers' pipelines that run their own denoising loop, with their own scheduler.
OWN_LOOP = "own"


class TimestepOptions(Protocol):
    """The part of ``pipelines.model.Model`` that shifts the schedule."""

    def timestep_options(self, num_inference_steps: int, width: int, height: int) -> dict[str, Any]:
        """Further arguments of the scheduler's ``set_timesteps`` besides the number of steps."""
        ...


@dataclass(frozen=True)
class SchedulerSpec:
    """A diffusers scheduler with its options, and what the user should know about it.

    Attributes:
        class_name: name of a class in ``diffusers``.
        label: name on the page.
        about: one plain sentence for the page.
        options: override the model's saved scheduler configuration.
        stochastic: whether each step draws new noise from the request's generators.
        max_steps: the most steps that it can run, 1 to 150.
        variance_exploding: whether its latents are x0 + sigma * eps, not alpha * x0 + sigma * eps.
        prediction_types: the prediction types that its ``step`` accepts.
        supports_zero_snr: whether it honours a schedule that ends in pure noise (Lin et al. 2023, arXiv:2305.08891).
        calls: how often a step calls the model; the last one calls it once.
        advice: what lists of samplers say about it.
    """

    class_name: str
    label: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False
    max_steps: int = MAX_STEPS
    variance_exploding: bool = False
    prediction_types: tuple[str, ...] = PREDICTION_TYPES
    supports_zero_snr: bool = True
    calls: int = 1
    advice: Advice = field(kw_only=True)

    def model_calls(self, steps: int) -> int:
        """How often so many steps call the model, guidance not counted."""
        return max(self.calls * steps - (self.calls - 1), 1)


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
            advice=Advice("variety, for the patient", 100, 150),
        ),
        "ddim": SchedulerSpec(
            "DDIMScheduler",
            "DDIM",
            "The first sampler without fresh noise (Song et al. 2021): plain and predictable.",
            advice=Advice("plain and predictable", 30, 50),
        ),
        "pndm": SchedulerSpec(
            "PNDMScheduler",
            "PNDM",
            "Remembers the last four steps (Liu et al. 2022); calls the model once more than asked.",
            {"skip_prk_steps": True},
            prediction_types=_EPS_OR_V,
            supports_zero_snr=False,
            advice=Advice("smooth pictures", 25, 50),
        ),
        "euler": SchedulerSpec(
            "EulerDiscreteScheduler",
            "Euler",
            "The simplest step along the slope (Karras et al. 2022): fast and dependable.",
            _NO_KARRAS,
            variance_exploding=True,
            advice=Advice("simple and dependable", 20, 30),
        ),
        "euler_a": SchedulerSpec(
            "EulerAncestralDiscreteScheduler",
            "Euler ancestral",
            "Euler with fresh noise at every step: livelier, and it never settles on one picture.",
            stochastic=True,
            variance_exploding=True,
            prediction_types=_EPS_OR_V,
            advice=Advice("lively, the most variety", 20, 40, starred=True),
        ),
        "heun": SchedulerSpec(
            "HeunDiscreteScheduler",
            "Heun",
            "Corrects each Euler step with a second look: twice the model calls, more exact.",
            _NO_KARRAS,
            calls=2,
            variance_exploding=True,
            supports_zero_snr=False,
            advice=Advice("exact, at twice the time", 10, 20),
        ),
        "dpmpp_2m": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M",
            "Learns from the step before (Lu et al. 2022): good pictures in 15 to 25 steps.",
            {**_DPMPP, **_NO_KARRAS},
            advice=Advice("clean pictures soon", 15, 25, starred=True),
        ),
        "dpmpp_2m_sde": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M SDE",
            "DPM++ 2M with fresh noise at every step: more detail, less repeatable between step counts.",
            {**_DPMPP, **_NO_KARRAS, "algorithm_type": "sde-dpmsolver++"},
            stochastic=True,
            advice=Advice("rich in detail", 20, 30),
        ),
        "dpmpp_2m_karras": SchedulerSpec(
            "DPMSolverMultistepScheduler",
            "DPM++ 2M Karras",
            "DPM++ 2M that spends more of its steps on fine detail (Karras et al. 2022).",
            {**_DPMPP, **_KARRAS},
            supports_zero_snr=False,
            advice=Advice("fine detail soon", 15, 25),
        ),
        "dpm2_karras": SchedulerSpec(
            "KDPM2DiscreteScheduler",
            "DPM2 Karras",
            "Looks half a step ahead: twice the model calls, with more steps on fine detail.",
            _KARRAS,
            calls=2,
            variance_exploding=True,
            prediction_types=_EPS_OR_V,
            supports_zero_snr=False,
            advice=Advice("fine detail, at twice the time", 10, 20),
        ),
        "unipc": SchedulerSpec(
            "UniPCMultistepScheduler",
            "UniPC",
            "Predicts and corrects with one model call a step (Zhao et al. 2023): good in few steps.",
            {**_NO_KARRAS, "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"},
            advice=Advice("the fewest steps", 8, 15, starred=True),
        ),
        "lms": SchedulerSpec(
            "LMSDiscreteScheduler",
            "LMS",
            "Fits a curve through the last four slopes: smooth, needs some 20 steps.",
            _NO_KARRAS,
            variance_exploding=True,
            supports_zero_snr=False,
            advice=Advice("smooth pictures", 20, 40),
        ),
        "deis": SchedulerSpec(
            "DEISMultistepScheduler",
            "DEIS",
            "Extrapolates the noise over time (Zhang and Chen 2023): good in few steps.",
            {**_NO_KARRAS, "solver_order": 2, "solver_type": "logrho", "algorithm_type": "deis"},
            supports_zero_snr=False,
            advice=Advice("few steps", 10, 20),
        ),
        "lcm": SchedulerSpec(
            "LCMScheduler",
            "LCM",
            "For models distilled to a few steps (Luo et al. 2023); other models turn out soft.",
            {"original_inference_steps": 50},
            stochastic=True,
            max_steps=50,
            advice=Advice("models distilled to few steps", 1, 8),
        ),
        "flow_euler": SchedulerSpec(
            "FlowMatchEulerDiscreteScheduler",
            "Flow Euler",
            "Follows a straight path from noise to picture (Esser et al. 2024): what flow models are trained for.",
            _NO_KARRAS,
            prediction_types=(FLOW_PREDICTION,),
            advice=Advice("flow models, straight on", 20, 30),
        ),
        "flow_heun": SchedulerSpec(
            "FlowMatchHeunDiscreteScheduler",
            "Flow Heun",
            "Flow Euler that corrects each step with a second look: twice the model calls, more exact.",
            calls=2,
            prediction_types=(FLOW_PREDICTION,),
            advice=Advice("exact, at twice the time", 10, 20),
        ),
        OWN_LOOP: SchedulerSpec(
            "",
            "The model's own",
            "This model runs a loop of its own, with the sampler that it was published with.",
            prediction_types=(OWN_LOOP,),
            advice=Advice("what it was published with"),
        ),
    }
)


# Schedulers of models that predict the noise, v or the image; not those of flow matching and own loops.
DIFFUSION_SCHEDULERS = tuple(
    name for name, spec in SCHEDULERS.items() if set(spec.prediction_types) & set(PREDICTION_TYPES)
)


def incompatibility(
    name: str, prediction_type: str | None, terminal_snr_zero: bool, num_inference_steps: int | None = None
) -> str:
    """Why a scheduler cannot run a model, as one sentence, or "" when it can.

    Args:
        name: key of ``SCHEDULERS``.
        prediction_type: what the model predicts; None when all that is known before it loads is that it is an ordinary
            diffusion model.
        terminal_snr_zero: whether the model's schedule ends in pure noise (``rescale_betas_zero_snr``).
        num_inference_steps: requested steps, or None to not check them.
    """
    if name not in SCHEDULERS:
        return f"scheduler is {name[:64]!r}; allowed: {', '.join(SCHEDULERS)}."
    spec = SCHEDULERS[name]
    known = (*PREDICTION_TYPES, FLOW_PREDICTION, OWN_LOOP)
    if prediction_type is not None and prediction_type not in known:
        return f"This model predicts {prediction_type!r}; only {', '.join(known[:-1])} can be sampled here."
    if prediction_type is None and name not in DIFFUSION_SCHEDULERS:
        return f"{spec.label} is for models of another kind; choose another scheduler."
    if prediction_type is not None and prediction_type not in spec.prediction_types:
        return f"{spec.label} cannot run a model that predicts {prediction_type!r}; choose another scheduler."
    if terminal_snr_zero and prediction_type == "epsilon":
        return "This model predicts epsilon on a schedule that ends in pure noise, where no scheduler can start."
    if terminal_snr_zero and not spec.supports_zero_snr:
        return f"{spec.label} cannot follow this model's schedule, which ends in pure noise; choose another scheduler."
    if num_inference_steps is not None and num_inference_steps > spec.max_steps:
        return f"num_inference_steps is {num_inference_steps}; {spec.label} allows at most {spec.max_steps}."
    return ""


def check_scheduler(sampling: Sampling, prediction_type: str | None, terminal_snr_zero: bool) -> None:
    """Raise InvalidRequest, with the field at fault, unless the scheduler can run a model; see ``incompatibility``."""
    if reason := incompatibility(sampling.scheduler, prediction_type, terminal_snr_zero):
        raise InvalidRequest("scheduler", reason)
    if reason := incompatibility(sampling.scheduler, prediction_type, terminal_snr_zero, sampling.num_inference_steps):
        raise InvalidRequest("num_inference_steps", reason)


def set_timesteps(scheduler: Any, model: TimestepOptions, request: GenerationRequest) -> None:
    """Set the scheduler's timesteps for a request, on the CPU; a model may shift its schedule by the image's size."""
    steps = request.sampling.num_inference_steps
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    options = model.timestep_options(steps, request.width, request.height)
    options = {name: value for name, value in options.items() if name in accepted}
    if "sigmas" in options:
        scheduler.set_timesteps(**options)
    else:
        scheduler.set_timesteps(steps, **options)


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A new diffusers scheduler for one request (multistep schedulers carry state).

    Args:
        name: key of ``SCHEDULERS``.
        config: the model's saved scheduler configuration, of any scheduler class.

    Raises:
        KeyError: if the name is not in the table.
    """
    import diffusers

    spec = SCHEDULERS[name]
    # DDIM and DDPM clip x0 to [-1, 1] by default, which is right for pixels and wrong for latents.
    return getattr(diffusers, spec.class_name).from_config({"clip_sample": False, **config, **spec.options})


def is_variance_exploding(scheduler: Any) -> bool:
    """Whether a scheduler's latents are x0 + sigma * eps (Song et al. 2021, arXiv:2011.13456, VE)."""
    return any(s.variance_exploding and s.class_name == type(scheduler).__name__ for s in SCHEDULERS.values())


def is_flow(scheduler: Any) -> bool:
    """Whether x_t = (1 - sigma) x0 + sigma eps: flow matching (Lipman et al. 2022, arXiv:2210.02747)."""
    return type(scheduler).__name__.startswith("FlowMatch")


def scheduler_prediction_type(scheduler: Any) -> str:
    """The prediction type that a scheduler's ``step`` expects."""
    return FLOW_PREDICTION if is_flow(scheduler) else scheduler.config.prediction_type


def prediction_type_of(config: Mapping[str, Any]) -> str:
    """The prediction type of a model, by its saved scheduler configuration."""
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FLOW_PREDICTION
    return config.get("prediction_type", "epsilon")


def add_noise(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x_t = alpha_t * clean + sigma_t * noise, in the scheduler's own scale (Ho et al. 2020, arXiv:2006.11239, eq. 4).

    Args:
        scheduler: made by ``build_scheduler``, its timesteps set.
        clean, noise: latents of the image and standard normal noise, (n, c, h, w) each, on any device.
        t: the timestep, (1,), 0 to 999, on the CPU.
    """
    import torch

    # The scheduler mixes two numbers: given GPU tensors, it would move its tables there and wait for them.
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    mix = scheduler.scale_noise if is_flow(scheduler) else scheduler.add_noise
    pairs = ((one, t, zero), (zero, t, one)) if is_flow(scheduler) else ((one, zero, t), (zero, one, t))
    alpha, sigma = (mix(*pair).reshape(()) for pair in pairs)
    return alpha * clean + sigma * noise


def scale_model_input(scheduler: Any, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x_t / sqrt(sigma^2 + 1) for variance-exploding schedulers, else x_t: the model's input, (n, c, h, w)."""
    return x_t if is_flow(scheduler) else scheduler.scale_model_input(x_t, t)


def init_noise_sigma(scheduler: Any) -> float:
    """The standard deviation of x_T in the scheduler's own scale."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def alpha_sigma(scheduler: Any, t: float | torch.Tensor, step_index: int) -> tuple[float, float]:
    """alpha = sqrt(alpha_bar_t), sigma = sqrt(1 - alpha_bar_t): signal and noise level of a step.

    Ho et al. 2020, arXiv:2006.11239.  Variance-exploding schedulers hold s = sigma / alpha: alpha = 1 / sqrt(1 + s^2)
    (Karras et al. 2022, arXiv:2206.00364).  In flow matching alpha = 1 - sigma (Lipman et al. 2022, arXiv:2210.02747).

    Args:
        scheduler: made by ``build_scheduler``, its timesteps set.
        t: the timestep, 0 to 999.
        step_index: position of ``t`` in the scheduler's timesteps.
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
    """The x0 of a prediction, as ``x0_from_prediction``, from latents in the scheduler's own scale.

    Args:
        scheduler: made by ``build_scheduler``, its timesteps set.
        prediction: the (guided) model output, (n, c, h, w).
        t: the timestep, 0 to 999.
        x_t: the latents in the scheduler's own scale, (n, c, h, w).
        step_index: position of ``t`` in the scheduler's timesteps.
    """
    alpha, sigma = alpha_sigma(scheduler, t, step_index)
    x_t = alpha * x_t if is_variance_exploding(scheduler) else x_t
    return x0_from_prediction(scheduler_prediction_type(scheduler), prediction, x_t, alpha, sigma)


def x0_from_prediction(prediction_type: str, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """x0 of x_t = alpha * x0 + sigma * eps.

    epsilon: x0 = (x_t - sigma * eps) / alpha (Ho et al. 2020, arXiv:2006.11239).
    v_prediction = alpha * eps - sigma * x0: x0 = alpha * x_t - sigma * v (Salimans and Ho 2022, arXiv:2202.00512).
    flow_prediction = eps - x0, where alpha = 1 - sigma: x0 = x_t - sigma * prediction (arXiv:2210.02747).
    sample: x0 itself.

    Args:
        prediction_type: one of ``PREDICTION_TYPES``, or ``FLOW_PREDICTION``.
        prediction, x_t: tensors or arrays of one shape, usually (n, c, h, w).
        alpha, sigma: levels of signal and noise, 0 to 1; numbers, or of a shape that broadcasts.
    """
    if prediction_type == "sample":
        return prediction
    if prediction_type == FLOW_PREDICTION:
        return x_t - sigma * prediction
    if prediction_type == "v_prediction":
        return alpha * x_t - sigma * prediction
    return (x_t - sigma * prediction) / alpha


def guess_of(step: Step, x_t: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """The model's guess of the picture for the prompt: x0 of the conditional prediction, latents (n, c, h, w).

    Guidance extrapolates, uncond + scale * (cond - uncond): at high noise its x0 leaves the range of pictures, although
    the sampler needs it.  Towards the end both are the same.

    Args:
        step: of the loop.
        x_t: its noisy latents as alpha * x0 + sigma * eps, (n, c, h, w).
        prediction_type: of the model.
    """
    if step.cond is None:
        return step.x0
    return x0_from_prediction(prediction_type, step.cond, x_t, step.alpha, step.sigma)


def noise_from_prediction(prediction_type: str, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """eps of x_t = alpha * x0 + sigma * eps; papers and arguments as for ``x0_from_prediction``.

    epsilon: the prediction itself.  v_prediction: eps = sigma * x_t + alpha * v.
    flow_prediction: eps = x_t + alpha * prediction.  sample: eps = (x_t - alpha * x0) / sigma.
    """
    if prediction_type == FLOW_PREDICTION:
        return x_t + alpha * prediction
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return sigma * x_t + alpha * prediction
    return (x_t - alpha * prediction) / sigma
