"""Lenses: ways to look at each step of a trace.  To add a lens, add one function and one entry in ``LENSES``.

NumPy and Pillow only: a lens that needs pixels gets a function that decodes latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace, TraceData

# Latents (n, c, h, w) to n images.
Decode = Callable[[np.ndarray], list[Image.Image]]
Render = Callable[["Trace", int, Decode], list[Image.Image]]

# Largest factor by which changes of pixels are amplified, so that a run without change shows none.
MAX_GAIN = 8.0
# The line between channels, and the heat map from dark blue to pale yellow: more is brighter, in greyscale too.
GRID_COLOUR = np.array([15, 118, 110], np.float32)
HEAT_COLOURS = np.array([[12, 12, 40], [86, 25, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


PREDICTIONS: frozenset[TraceData] = frozenset({"predictions"})
GUIDANCE: frozenset[TraceData] = frozenset({"guidance"})


@dataclass(frozen=True)
class Lens:
    """A way to look at a step.

    Attributes:
        title: in everyday words; ``term`` is the field's.
        about: two sentences for a beginner.
        paper, link: where it comes from.
        render: trace, image k, decode -> one image a step.
        needs: what the trace must hold besides the latents; the lens is offered where all of it is there.
        crisp: whether its images are grids of numbers, to be enlarged without smoothing.
    """

    title: str
    term: str
    about: str
    paper: str
    link: str
    render: Render
    needs: frozenset[TraceData] = frozenset()
    crisp: bool = False


def predicted_x0(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 of each step for the prompt, without guidance, decoded."""
    return decode(_per_step(trace, k, trace.guess))


def guided_x0(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 of each step with the run's guidance, decoded; early on it leaves the range of pictures."""
    return decode(trace.x0s[:, k])


def noisy_latents(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x_t of each step, decoded; samplers that hold x0 + sigma * eps are rescaled first."""
    return decode(_per_step(trace, k, trace.variance_preserving))


def predicted_noise(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """The predicted eps of each step, decoded."""
    return decode(_per_step(trace, k, trace.noise))


def x0_change(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 against the step before, in pixels around middle grey; one gain for the whole trace."""
    pixels = np.stack([np.asarray(image.convert("RGB"), np.float32) for image in decode(trace.x0s[:, k])])
    moved = np.diff(pixels, axis=0, prepend=pixels[:1])
    strong = float(np.percentile(np.abs(moved[1:]), 99)) if len(moved) > 1 else 0.0
    gain = min(MAX_GAIN, 127.0 / strong) if strong > 0 else 1.0
    return [_to_image(128 + gain * one) for one in moved]


def latent_channels(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """The channels of x_t side by side in grey, one scale for the whole trace, a line of one cell between them."""
    latents = np.nan_to_num(_per_step(trace, k, trace.variance_preserving), posinf=0, neginf=0)
    scale = float(np.percentile(np.abs(latents), 99.5)) or 1.0
    grey = (np.clip(latents / scale, -1, 1) + 1) * 127.5
    across = int(np.ceil(np.sqrt(latents.shape[1])))
    return [_grid(one, across) for one in grey]


def guidance_direction(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """||cond - uncond|| over the channels of each latent, as a heat map over a dimmed x0; one scale for the trace."""
    if trace.cond is None or trace.uncond is None:
        return []
    # A run that overflowed holds numbers that are not finite.
    pull = np.nan_to_num(np.linalg.norm(trace.cond[:, k] - trace.uncond[:, k], axis=1), posinf=0)
    top = float(np.percentile(pull, 99.5)) or 1.0
    seen = decode(trace.x0s[:, k])
    return [_heat_map(np.clip(one / top, 0, 1), image) for one, image in zip(pull, seen, strict=True)]


def latent_colours(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 of each step, one colour a latent."""
    return project(trace, trace.x0s[:, k])


# In the order of the page.
LENSES: Mapping[str, Lens] = MappingProxyType(
    {
        "x0": Lens(
            "The model's guess",
            "predicted x0",
            "The model's answer to your prompt alone, before guidance, with all noise gone. Early on it is a blur, the "
            "average of all that still fits; it sharpens as fewer pictures remain possible.",
            "Song et al. 2021",
            "https://arxiv.org/abs/2010.02502",
            predicted_x0,
            needs=PREDICTIONS,
        ),
        "guided": Lens(
            "With guidance, as computed",
            "predicted x0 under guidance",
            "The guess that the sampler really uses: pushed away from what the model would draw without your prompt. "
            "Early on the push goes beyond any possible picture, so colours turn neon or black; later both agree.",
            "Ho and Salimans 2022",
            "https://arxiv.org/abs/2207.12598",
            guided_x0,
            needs=PREDICTIONS | GUIDANCE,
        ),
        "x_t": Lens(
            "What the model is given",
            "noisy latent x_t, decoded",
            "The mix of picture and noise that goes into the model at this step. "
            "It starts as nothing but noise drawn by chance, and each step makes it a little more picture.",
            "Ho et al. 2020",
            "https://arxiv.org/abs/2006.11239",
            noisy_latents,
        ),
        "noise": Lens(
            "The noise it found",
            "predicted noise, decoded",
            "The part of the mix that the model takes for noise, drawn as if it were a picture. "
            "Take it away from what the model was given, and what is left is the model's guess.",
            "Ho et al. 2020",
            "https://arxiv.org/abs/2006.11239",
            predicted_noise,
            needs=PREDICTIONS,
        ),
        "change": Lens(
            "What changed in this step",
            "difference of x0",
            "How the model's guess differs from the step before: grey means that nothing changed, colour shows what "
            "was added or taken away. The differences are made stronger to be seen, equally for all steps of this run.",
            "Song et al. 2021",
            "https://arxiv.org/abs/2010.02502",
            x0_change,
        ),
        "channels": Lens(
            "Raw latent channels",
            "latent channels",
            "The same mix as the model really holds it: a few small grids of numbers (channels), drawn from black "
            "(low) to white (high). No grid is a picture by itself; together they describe one.",
            "Rombach et al. 2022",
            "https://arxiv.org/abs/2112.10752",
            latent_channels,
            crisp=True,
        ),
        "guidance": Lens(
            "Where the prompt pulls",
            "guidance direction, cond minus uncond",
            "The model is asked twice, with your prompt and without it; bright cells are where the two answers differ "
            "most. Guidance pushes the picture further along this difference.",
            "Ho and Salimans 2022",
            "https://arxiv.org/abs/2207.12598",
            guidance_direction,
            needs=GUIDANCE,
        ),
        "latent": Lens(
            "The latent as colours",
            "latent space next to pixel space",
            "The model's guess before it is turned into pixels: one coloured cell stands for a whole patch of "
            "the picture. A second network (the autoencoder, VAE) turns such a small grid into the full picture.",
            "Rombach et al. 2022",
            "https://arxiv.org/abs/2112.10752",
            latent_colours,
            crisp=True,
        ),
    }
)


def available_lenses(trace: Trace) -> tuple[str, ...]:
    """The lenses that this trace holds the data for, in the order of the page."""
    return tuple(name for name, lens in LENSES.items() if lens.needs <= trace.provides)


def render(trace: Trace, name: str, k: int, decode: Decode) -> list[Image.Image]:
    """One image a step.

    Args:
        trace: the run; ``k`` is the image, from 0.
        name: key of ``LENSES``.
        decode: latents (n, c, h, w) to n images: a loaded model's decoder, or ``project`` without a model.
    """
    return LENSES[name].render(trace, k, decode)


def project(trace: Trace, latents: np.ndarray) -> list[Image.Image]:
    """rgb = z W + b: latents (n, c, h, w) to n images of w x h px by the trace's own linear map; needs no model."""
    rgb = np.einsum("nchw,cd->nhwd", latents, trace.to_rgb[:-1]) + trace.to_rgb[-1]
    return [_to_image((one + 1) * 127.5) for one in rgb]


def value_counts(trace: Trace) -> tuple[int, int]:
    """How many numbers one image takes as pixels, and as latents."""
    return 3 * trace.request.width * trace.request.height, int(np.prod(trace.final.shape[1:]))


def _per_step(trace: Trace, k: int, array: Callable[[int], np.ndarray]) -> np.ndarray:
    return np.stack([array(i)[k] for i in range(len(trace.steps))])


def _to_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).round().astype(np.uint8))


def _grid(maps: np.ndarray, across: int) -> Image.Image:
    """Grey maps (c, h, w) row by row, with a coloured line of one cell between them."""
    c, h, w = maps.shape
    down = -(-c // across)
    sheet = np.empty((down * (h + 1) - 1, across * (w + 1) - 1, 3), np.float32)
    sheet[:] = GRID_COLOUR
    for i, one in enumerate(maps):
        top, left = i // across * (h + 1), i % across * (w + 1)
        sheet[top : top + h, left : left + w] = one[..., None]
    return _to_image(sheet)


def _heat_map(values: np.ndarray, under: Image.Image) -> Image.Image:
    """Values (h, w) from 0 to 1 as a heat map of hard-edged blocks, blended over the image in grey."""
    at = values * (len(HEAT_COLOURS) - 1)
    low = np.minimum(at.astype(int), len(HEAT_COLOURS) - 2)
    colours = HEAT_COLOURS[low] + (at - low)[..., None] * (HEAT_COLOURS[low + 1] - HEAT_COLOURS[low])
    heat = _to_image(colours).resize(under.size, Image.Resampling.NEAREST)
    return Image.blend(under.convert("L").convert("RGB"), heat, 0.72)
