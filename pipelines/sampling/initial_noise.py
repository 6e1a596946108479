"""The noise that images start from: from one seed, or between those of two seeds (variations, interpolations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from pipelines.request import GenerationRequest

# Below this sine of their angle, two vectors count as parallel: the arc is a straight line, or not defined.
MIN_SINE = 1e-4


def slerp(a: torch.Tensor, b: torch.Tensor, weight: float | Sequence[float]) -> torch.Tensor:
    """(sin((1 - w) theta) a + sin(w theta) b) / sin(theta): the arc from one noise to another.

    Shoemake 1985, Animating Rotation with Quaternion Curves, SIGGRAPH.  Theta is the angle between an image's two
    noises, each taken as one vector.  Independent noises of many elements are nearly orthogonal, so that the squares
    of both factors add up to 1: every point of the arc has the variance that the model was trained on.  On a straight
    line the standard deviation would fall to 0.7 half way.

    Args:
        a, b: noises, (n, c, h, w) each; a first dimension of 1 is used for all images.
        weight: w, 0 to 1; 0 gives ``a`` and 1 gives ``b``, both bit for bit; one number, or one an image.

    Returns:
        (n, c, h, w); a straight line where the noises are nearly parallel, since no arc is defined there.
    """
    import torch

    n = max(len(a), len(b))
    a, b = a.expand(n, *a.shape[1:]), b.expand(n, *b.shape[1:])
    w = torch.as_tensor(weight, dtype=torch.float64).expand(n)
    theta = _angles(a, b)
    sine = theta.sin()
    straight = sine < MIN_SINE
    sine = sine.masked_fill(straight, 1.0)
    from_a = torch.where(straight, 1 - w, ((1 - w) * theta).sin() / sine)
    from_b = torch.where(straight, w, (w * theta).sin() / sine)
    return _per_image(from_a, a) * a + _per_image(from_b, b) * b


def make_generators(request: GenerationRequest) -> list[torch.Generator]:
    """A CPU generator an image, with the image's own seed."""
    import torch

    return [torch.Generator().manual_seed(seed) for seed in request.seeds]


def draw_initial_noise(
    request: GenerationRequest, shape: Sequence[int], generators: list[torch.Generator]
) -> torch.Tensor:
    """eps_k = eps(seed + k), or slerp(eps(seed), eps(target_k), w_k) in a variation or an interpolation of seeds.

    A variation goes towards target_k = variation.seed + k by w_k = strength; an interpolation of n images towards
    target_k = interpolation.seed by w_k = k / (n - 1).  Later draws come from the same generators: at strength 0 a
    variation is the image of the request's seed, and at strength 1 that of the other seed unless the sampler is
    stochastic.

    Args:
        request: what to make.
        shape: (n, c, h, w) of the latents.
        generators: of ``make_generators``; each is drawn from once.

    Returns:
        Standard normal noise, float32 (n, c, h, w) on the CPU: the same on every device.
    """
    import torch

    noise = _draw(generators, shape)
    others = target_seeds(request)
    if others is None:
        return noise
    return slerp(noise, _draw([torch.Generator().manual_seed(seed) for seed in others], shape), mix_weights(request))


def target_seeds(request: GenerationRequest) -> list[int] | None:
    """The seed of the noise that each image's noise is mixed with, or None if it is not mixed."""
    if request.variation is not None:
        return [request.variation.seed + k for k in range(request.num_images)]
    if request.interpolation is not None and request.interpolation.seed is not None:
        return [request.interpolation.seed] * request.num_images
    return None


def mix_weights(request: GenerationRequest) -> list[float]:
    """w_k of each image: the variation's strength, or k / (n - 1)."""
    n = request.num_images
    if request.variation is not None:
        return [request.variation.strength] * n
    return [k / max(n - 1, 1) for k in range(n)]


def _draw(generators: list[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    noise: torch.Tensor = randn_tensor(
        tuple(shape), generator=generators, device=torch.device("cpu"), dtype=torch.float32
    )
    return noise


def _angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angle between each image's two noises, float64 (n,); 0 where one of them is all zeros."""
    import torch

    a, b = a.double().flatten(1), b.double().flatten(1)
    lengths = a.norm(dim=1) * b.norm(dim=1)
    cosine = (a * b).sum(dim=1) / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(lengths > 0, cosine.clamp(-1, 1).arccos(), 0.0)


def _per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One number an image, shaped to be multiplied with (n, ...)."""
    return values.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))
