"""The part of a script that makes what the loop begins with: noise, or a picture with noise over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from history.recipes.plan import FLUX, SD3, Plan
from pipelines.images.inpainting import SourceImage, load_source
from pipelines.sampling.initial_noise import mix_weights, target_seeds

if TYPE_CHECKING:
    from PIL import Image

SOURCE, INPUT, MASK, BLEND = "source.png", "model-input.png", "mask.png", "blend.png"
_NOISE = """
# A generator on the CPU gives the same noise on every device.
generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
shape = (1, pipe.vae.config.latent_channels, HEIGHT // pipe.vae_scale_factor, WIDTH // pipe.vae_scale_factor)
"""
_DRAW = "noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])\n"
_MIX = '''

def between(a, b, share):
    """The arc from one noise to another (Shoemake 1985): unlike on a straight line, its strength stays the same."""
    x, y = a.double().flatten(), b.double().flatten()
    angle = (torch.dot(x, y) / (x.norm() * y.norm())).clamp(-1, 1).arccos()
    if angle.sin() < 1e-4:  # equal noises: there is no arc between them
        return (1 - share) * a + share * b
    return (torch.sin((1 - share) * angle) / angle.sin()).to(a) * a + (torch.sin(share * angle) / angle.sin()).to(a) * b


'''
_ENCODE = """
# The picture as latents, as the autoencoder (VAE) sees it.
picture = Image.open(HERE / "{file}").convert("RGB")
pixels = torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
"""
_MOMENTS = '''

def sample(pixels):
    """A sample of the latents for each picture of the run; the autoencoder gives their mean and their spread."""
    seen = pipe.vae.encode(pixels.to(DEVICE, pipe.vae.dtype))
    if hasattr(seen, "latents"):  # a tiny autoencoder, which has no spread
        return ({tiny} * SCALE).repeat(len(SEEDS), 1, 1, 1)
    mean, spread = {mean} * SCALE, seen.latent_dist.std.float() * SCALE
    draws = [torch.randn(mean.shape, generator=generator).to(DEVICE) for generator in generators]
    return torch.cat([mean + spread * draw for draw in draws])


'''
# The picture comes first in the sum: the order decides how its numbers lie in memory, and so how a network rounds.
_AT_LEVEL = '''

def at_level(t):
    """The picture's latents with as much noise over them as a timestep has."""
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    share, level = (scheduler.scale_noise(*pair).reshape(()) for pair in ((one, t, none), (none, t, one)))
    return share * clean + level * noise


'''
_MASK = """
# White is repainted: every latent that the mask touches.
mask = torch.from_numpy(np.asarray(Image.open(HERE / "{file}").convert("L")) > 0)[None, None].float()
cells = torch.nn.functional.max_pool2d(mask, pipe.vae_scale_factor).to(DEVICE)
"""


def source_of(plan: Plan) -> SourceImage | None:
    """The source picture of a plan, prepared as for the model; raises InvalidRequest if it is gone."""
    return load_source(plan.request, _Inputs(plan)) if plan.request.init is not None else None  # type: ignore[arg-type]


class _Inputs:
    """The uploads of a plan, as ``load_source`` asks for them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def get(self, name: str) -> Image.Image:
        return self._plan.materials.upload(name)


def begins_with_noise(plan: Plan) -> bool:
    """Whether the run begins with pure noise: without a picture, or where the whole schedule repaints a part."""
    init = plan.request.init
    return init is None or init.noise_only or (init.mask is not None and init.strength == 1)


def start(plan: Plan, source: SourceImage | None) -> str:
    """The latents that the loop begins with."""
    parts = [_NOISE.lstrip()]
    if source is not None:
        parts.append(_picture(plan, source))
    parts.append(_noise(plan))
    if source is not None and plan.inpaints:
        parts.append("around = sample(pixels * (1 - mask))  # the picture without the part that is repainted\n")
    if source is not None and plan.family in (SD3, FLUX):
        parts.append(_AT_LEVEL)
    parts.append(_first(plan))
    return "".join(parts)


def _picture(plan: Plan, source: SourceImage) -> str:
    shifted = plan.family in (SD3, FLUX)
    tiny, mean = ("({} - SHIFT)" if shifted else "{}").format("seen.latents.float()"), "seen.latent_dist.mean.float()"
    parts = [_ENCODE.format(file=INPUT if source.box is not None else SOURCE)]
    parts.append(_MOMENTS.format(tiny=tiny, mean=f"({mean} - SHIFT)" if shifted else mean))
    if source.model_mask is not None:
        parts.append(_MASK.format(file=MASK).lstrip())
    if not (begins_with_noise(plan) and plan.inpaints):
        parts.append("clean = sample(pixels)\n")
    return "".join(parts)


def _noise(plan: Plan) -> str:
    others = target_seeds(plan.request)
    if others is None:
        return _DRAW.rstrip() + ".to(DEVICE)\n"
    return (
        f"{_MIX}{_DRAW}"
        "# Each picture's noise lies on the way to that of another seed.\n"
        f"ways = zip(noise.split(1), {others!r}, {mix_weights(plan.request)!r})\n"
        "noise = torch.cat([\n"
        "    between(a, torch.randn(shape, generator=torch.Generator().manual_seed(seed)), share) for a, seed, share in"
        " ways\n"
        "]).to(DEVICE)\n"
    )


def _first(plan: Plan) -> str:
    flow, init = plan.family in (SD3, FLUX), plan.request.init
    if init is None:
        return (
            "x, steps = noise, scheduler.timesteps\n"
            if flow
            else ("x, steps = noise * float(scheduler.init_noise_sigma), scheduler.timesteps\n")
        )
    left_out = plan.request.sampling.num_inference_steps - plan.request.steps_run
    lines = [
        f"\n# Strength {init.strength:g}: of {plan.request.sampling.num_inference_steps} steps the last "
        f"{plan.request.steps_run} are run.\n"
        f"first = {left_out} * scheduler.order\n"
        'if hasattr(scheduler, "set_begin_index"):\n    scheduler.set_begin_index(first)\n'
        "steps = scheduler.timesteps[first:]\n"
    ]
    if begins_with_noise(plan):
        lines.append("x = noise\n" if flow else "x = noise * float(scheduler.init_noise_sigma)\n")
    else:
        lines.append(f"x = {noised('steps[:1]', flow)}\n")
    return "".join(lines)


def noised(t: str, flow: bool) -> str:
    """The picture's latents with noise over them, at a timestep."""
    return f"at_level({t})" if flow else f"scheduler.add_noise(clean, noise, {t})"
