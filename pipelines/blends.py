"""Variations and blends: pictures that start between two noises, or are told something between two prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.conditioning import Conditioning
    from pipelines.request import GenerationRequest

CPU = torch.device("cpu")
# Below this sine of the angle the great circle through two noises is a straight line, or not to be found.
PARALLEL = 1e-4


def slerp(a: torch.Tensor, b: torch.Tensor, weight: float | Sequence[float]) -> torch.Tensor:
    """Go along the arc from one noise to another: (sin((1 - w) theta) a + sin(w theta) b) / sin(theta).

    Theta is the angle between a picture's two noises, all of its numbers taken as one vector (Shoemake 1985, Animating
    Rotation with Quaternion Curves, SIGGRAPH).  Two independent noises of many numbers stand at nearly a right angle,
    where the squares of both factors add up to 1: what lies between them is as strong as the noise that the model was
    trained on.  A straight line would pass through noise that is too weak (0.7 times as strong half way).

    Args:
        a, b: (n, c, h, w) each; a first dimension of 1 is used for all pictures.
        weight: 0 gives ``a`` and 1 gives ``b``, both bit for bit; one number, or one a picture.

    Returns:
        (n, c, h, w); a straight line where the noises are nearly parallel, since no arc is defined there.
    """
    a, b = torch.broadcast_tensors(a, b)
    w = torch.as_tensor(weight, dtype=torch.float64).expand(len(a))
    theta = _angles(a, b)
    arc = theta.sin()
    straight = arc < PARALLEL
    arc = arc.masked_fill(straight, 1.0)
    from_a = torch.where(straight, 1 - w, ((1 - w) * theta).sin() / arc)
    from_b = torch.where(straight, w, (w * theta).sin() / arc)
    return _each(from_a, a) * a + _each(from_b, b) * b


def generators_for(request: GenerationRequest) -> list[torch.Generator]:
    """A CPU generator a picture, from the seeds that the pictures start from."""
    return [torch.Generator().manual_seed(seed) for seed in request.seeds]


def noise_for(request: GenerationRequest, shape: Sequence[int], generators: list[torch.Generator]) -> torch.Tensor:
    """The noise that each picture starts from.

    Picture k starts from noise(seed + k); as a variation from slerp(noise(seed), noise(variation.seed + k), strength);
    in a blend of n from slerp(noise(seed), noise(interpolation.seed), k / (n - 1)), or from noise(seed) if only the
    prompt changes.  Whatever is drawn later comes from the same generators: at strength 0 a variation is the plain
    picture of its seed, and at strength 1 that of the other seed unless the sampler draws fresh noise.

    Args:
        request: what to make.
        shape: (n, c, h, w) of the latents.
        generators: of ``generators_for``; each is drawn from once.

    Returns:
        Standard normal noise, float32 (n, c, h, w) on the CPU, the same on every device.
    """
    noise = _draw(generators, shape)
    others = other_seeds(request)
    if others is None:
        return noise
    return slerp(noise, _draw([torch.Generator().manual_seed(seed) for seed in others], shape), weights(request))


def told_for(model: Any, request: GenerationRequest, guided: bool) -> Conditioning:
    """What the model is told of each picture, after what guidance compares it with.

    Picture k of a blend of n between two prompts is told the straight mix (1 - w) c1 + w c2, w = k / (n - 1).  Straight
    and not along an arc: the text encoder ends with a layer norm, so each token's vector already has its own centre
    and length, and the UNet reads them through linear maps (keys and values of its cross-attention), which turn a mix
    of two texts into the same mix of what they say.

    Args:
        model: what ``PipelineManager.lease`` yields.
        request: what to make.
        guided: whether the model is also asked with the negative prompt.

    Returns:
        n prompts, or 2 n when guided: the unconditional half comes first.
    """
    n, blend = request.num_images, request.interpolation
    cond = model.encode_prompt([request.prompt]).repeat(n)
    if blend is not None and blend.prompt is not None:
        cond = cond.mix(model.encode_prompt([blend.prompt]), weights(request))
    if not guided:
        return cond
    return model.encode_prompt([request.negative_prompt], negative=True).repeat(n).then(cond)


def other_seeds(request: GenerationRequest) -> list[int] | None:
    """The seed of the noise that each picture goes towards, None where there is none."""
    if request.variation is not None:
        return [request.variation.seed + k for k in range(request.num_images)]
    if request.interpolation is not None and request.interpolation.seed is not None:
        return [request.interpolation.seed] * request.num_images
    return None


def weights(request: GenerationRequest) -> list[float]:
    """How far each picture goes, 0 to 1."""
    n = request.num_images
    if request.variation is not None:
        return [request.variation.strength] * n
    return [k / max(n - 1, 1) for k in range(n)]


def _draw(generators: list[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    return randn_tensor(tuple(shape), generator=generators, device=CPU, dtype=torch.float32)


def _angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angle between each picture's two noises, float64 (n,); 0 where one of them is all zeros."""
    a, b = a.double().flatten(1), b.double().flatten(1)
    lengths = a.norm(dim=1) * b.norm(dim=1)
    cosine = (a * b).sum(dim=1) / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(lengths > 0, cosine.clamp(-1, 1).arccos(), 0.0)


def _each(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number a picture, shaped to be multiplied with (n, ...)."""
    return values.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))
