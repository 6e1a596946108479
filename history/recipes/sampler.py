"""The part of a script that sets up the sampler: the exact scheduler with its configuration, and its timesteps."""

from __future__ import annotations

from typing import Any

from history.recipes.model import revision
from history.recipes.plan import FLUX, SD, SD3, Plan, literal
from pipelines.sampling.schedulers import SCHEDULERS

# StableDiffusionPipeline overrides these two: old files carry pixel-space defaults.
_OVERRIDES = {SD: {"clip_sample": False, "steps_offset": 1}}
_SHIFT = """
# Larger pictures shift the schedule towards noise (Esser et al. 2024, section 5.3.2).
config = scheduler.config
{tokens}
low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
base, most = config.get("base_shift", 0.5), config.get("max_shift", {most})
mu = base + (tokens - low) * (most - base) / (high - low)
"""


def class_name(plan: Plan) -> str:
    """The scheduler's class."""
    return SCHEDULERS[plan.request.sampling.scheduler].class_name


def is_stochastic(plan: Plan) -> bool:
    """Whether each step draws fresh noise."""
    return SCHEDULERS[plan.request.sampling.scheduler].stochastic


def sampler(plan: Plan) -> str:
    """Build the scheduler as the program does: the model's own schedule, with this sampler's options over it."""
    name, spec = class_name(plan), SCHEDULERS[plan.request.sampling.scheduler]
    options: dict[str, Any] = {**_OVERRIDES.get(plan.family, {}), **plan.card.scheduler_options, **spec.options}
    source = "REST" if plan.card.rest and not (plan.folder and (plan.folder / "scheduler").is_dir()) else "MODEL"
    source = "CONFIG" if plan.is_single_file else source
    given = [source, 'subfolder="scheduler"', *(revision(plan) if plan.is_on_hub else ["local_files_only=True"])]
    # Clipping is right for pixels and wrong for latents; DDIM and DDPM would do it.
    before = "" if "clip_sample" in options else '    "clip_sample": False,\n'
    rows = "".join(f"    {literal(key)}: {literal(value)},\n" for key, value in options.items())
    return (
        "# The model's own schedule, with what this sampler sets over it.\n"
        f"saved = {name}.load_config({', '.join(given)})\n"
        f"scheduler = {name}.from_config({{\n{before}    **saved,\n{rows}}})\n" + timesteps(plan)
    )


def timesteps(plan: Plan) -> str:
    """The noise levels that the run visits."""
    euler = plan.request.sampling.scheduler == "flow_euler"
    if plan.family == SD3 and euler and plan.config("scheduler").get("use_dynamic_shifting", True):
        size = "tokens = (WIDTH // (2 * pipe.vae_scale_factor)) * (HEIGHT // (2 * pipe.vae_scale_factor))"
        size = size.replace("2 *", "pipe.transformer.config.patch_size *")
        return _SHIFT.format(tokens=size, most=1.16).lstrip() + "scheduler.set_timesteps(STEPS, mu=mu)\n"
    if plan.family == FLUX and euler:
        size = "tokens = (WIDTH // (2 * pipe.vae_scale_factor)) * (HEIGHT // (2 * pipe.vae_scale_factor))"
        sigmas = "scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=mu)\n"
        return _SHIFT.format(tokens=size, most=1.15).lstrip() + sigmas
    return "scheduler.set_timesteps(STEPS)\n"
