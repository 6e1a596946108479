"""Lenses: ways to look at each step of a trace.  A lens is one function and one line in ``LENSES``.

NumPy and Pillow alone: a lens that needs pixels is handed a function that decodes latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pipelines.trace import Trace

# Latents (n, c, h, w) to n pictures.
Decode = Callable[[np.ndarray], list[Image.Image]]
Render = Callable[["Trace", int, Decode], list[Image.Image]]

# The change of a pixel is drawn this many times as strong at most, so that a run that hardly moves stays calm.
MOST_GAIN = 8.0
# The line between channels; then heat: dark blue, violet, orange, pale yellow: brighter is more, in grey as well.
LINE = np.array([15, 118, 110], np.float32)
HEAT = np.array([[12, 12, 40], [86, 25, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


@dataclass(frozen=True)
class Lens:
    """A way to look at a step.

    Attributes:
        title: in everyday words; ``term`` is the field's.
        about: two sentences for someone who is new to it.
        paper, link: where it comes from.
        render: trace, picture k, decode -> one picture a step.
        crisp: its pictures are grids of numbers, to be enlarged without smoothing.
    """

    title: str
    term: str
    about: str
    paper: str
    link: str
    render: Render
    crisp: bool = False


def belief(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 of each step, decoded."""
    return decode(trace.beliefs[:, k])


def noisy(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x_t of each step, decoded; samplers that hold x0 + sigma * eps are rescaled first."""
    return decode(_each(trace, k, trace.vp))


def noise(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """The predicted eps of each step, decoded."""
    return decode(_each(trace, k, trace.noise))


def change(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 against the step before, in pixels around middle grey; one gain for the whole trace."""
    pixels = np.stack([np.asarray(image.convert("RGB"), np.float32) for image in decode(trace.beliefs[:, k])])
    moved = np.diff(pixels, axis=0, prepend=pixels[:1])
    strong = float(np.percentile(np.abs(moved[1:]), 99)) if len(moved) > 1 else 0.0
    gain = min(MOST_GAIN, 127.0 / strong) if strong > 0 else 1.0
    return [_picture(128 + gain * one) for one in moved]


def channels(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """The channels of x_t side by side in grey, one scale for the whole trace, a line of one cell between them."""
    latents = np.nan_to_num(_each(trace, k, trace.vp), posinf=0, neginf=0)
    scale = float(np.percentile(np.abs(latents), 99.5)) or 1.0
    grey = (np.clip(latents / scale, -1, 1) + 1) * 127.5
    across = int(np.ceil(np.sqrt(latents.shape[1])))
    return [_grid(one, across) for one in grey]


def guidance(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """|cond - uncond| over the channels of each cell, as heat over a dimmed x0; one scale for the whole trace."""
    if trace.cond is None or trace.uncond is None:
        return []
    # A run that overflowed and was stopped holds numbers without a place on the scale.
    pull = np.nan_to_num(np.linalg.norm(trace.cond[:, k] - trace.uncond[:, k], axis=1), posinf=0)
    top = float(np.percentile(pull, 99.5)) or 1.0
    seen = decode(trace.beliefs[:, k])
    return [_heat(np.clip(one / top, 0, 1), image) for one, image in zip(pull, seen, strict=True)]


def latent(trace: Trace, k: int, decode: Decode) -> list[Image.Image]:
    """x0 of each step as one colour a cell."""
    return project(trace, trace.beliefs[:, k])


# The order of the page.  One line a lens.
LENSES: Mapping[str, Lens] = MappingProxyType(
    {
        "x0": Lens(
            "What the model believes",
            "predicted x0",
            "The finished picture as the model imagines it at this step, with all noise taken away at once. "
            "Early on it is a blur, the average of all that might come; it sharpens as fewer pictures remain possible.",
            "Song et al. 2021",
            "https://arxiv.org/abs/2010.02502",
            belief,
        ),
        "x_t": Lens(
            "What the model is given",
            "noisy latent x_t, decoded",
            "The mix of picture and noise that goes into the model at this step. "
            "It starts as nothing but noise drawn by chance, and each step makes it a little more picture.",
            "Ho et al. 2020",
            "https://arxiv.org/abs/2006.11239",
            noisy,
        ),
        "noise": Lens(
            "The noise it found",
            "predicted noise, decoded",
            "The part of the mix that the model takes for noise, drawn as if it were a picture. "
            "Take it away from what the model was given, and what is left is what the model believes.",
            "Ho et al. 2020",
            "https://arxiv.org/abs/2006.11239",
            noise,
        ),
        "change": Lens(
            "What changed in this step",
            "difference of x0",
            "How the model's belief differs from the step before: grey means that nothing changed, colour shows what "
            "was added or taken away. The differences are made stronger to be seen, equally for all steps of this run.",
            "Song et al. 2021",
            "https://arxiv.org/abs/2010.02502",
            change,
        ),
        "channels": Lens(
            "The numbers themselves",
            "latent channels",
            "The same mix as the model really holds it: a few small grids of numbers (channels), drawn from black "
            "(low) to white (high). No grid is a picture by itself; together they describe one.",
            "Rombach et al. 2022",
            "https://arxiv.org/abs/2112.10752",
            channels,
            crisp=True,
        ),
        "guidance": Lens(
            "Where the prompt pulls",
            "guidance direction, cond minus uncond",
            "The model is asked twice, with your prompt and without it; bright cells are where the two answers differ "
            "most. Guidance pushes the picture further along this difference.",
            "Ho and Salimans 2022",
            "https://arxiv.org/abs/2207.12598",
            guidance,
        ),
        "latent": Lens(
            "The latent as colours",
            "latent space beside pixel space",
            "What the model believes, before it is turned into pixels: one coloured cell stands for a whole patch of "
            "the picture. A second network (the autoencoder, VAE) turns such a small grid into the full picture.",
            "Rombach et al. 2022",
            "https://arxiv.org/abs/2112.10752",
            latent,
            crisp=True,
        ),
    }
)


def available(trace: Trace) -> tuple[str, ...]:
    """The lenses that this trace has something to show for.

    Without guidance there is no direction; of a pipeline that runs its own loop only the latents are known.
    """
    if trace.cond is None:
        return "x_t", "change", "channels", "latent"
    return tuple(name for name in LENSES if name != "guidance" or trace.uncond is not None)


def render(trace: Trace, name: str, k: int, decode: Decode) -> list[Image.Image]:
    """One picture a step.

    Args:
        trace: what is looked at; ``k`` is the picture, from 0.
        name: key of ``LENSES``.
        decode: latents (n, c, h, w) to n pictures: a loaded model's, or ``project`` without one.
    """
    return LENSES[name].render(trace, k, decode)


def project(trace: Trace, latents: np.ndarray) -> list[Image.Image]:
    """Latents (n, c, h, w) to n pictures of w x h px by the trace's own linear map; needs no model."""
    rgb = np.einsum("nchw,cd->nhwd", latents, trace.to_rgb[:-1]) + trace.to_rgb[-1]
    return [_picture((one + 1) * 127.5) for one in rgb]


def counts(trace: Trace) -> tuple[int, int]:
    """How many numbers one picture takes as pixels, and as a latent."""
    return 3 * trace.request.width * trace.request.height, int(np.prod(trace.final.shape[1:]))


def _each(trace: Trace, k: int, look: Callable[[int], np.ndarray]) -> np.ndarray:
    return np.stack([look(i)[k] for i in range(len(trace.steps))])


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).round().astype(np.uint8))


def _grid(maps: np.ndarray, across: int) -> Image.Image:
    """Grey maps (c, h, w) row by row, with a coloured line of one cell between them."""
    c, h, w = maps.shape
    down = -(-c // across)
    sheet = np.empty((down * (h + 1) - 1, across * (w + 1) - 1, 3), np.float32)
    sheet[:] = LINE
    for i, one in enumerate(maps):
        top, left = i // across * (h + 1), i % across * (w + 1)
        sheet[top : top + h, left : left + w] = one[..., None]
    return _picture(sheet)


def _heat(share: np.ndarray, under: Image.Image) -> Image.Image:
    """Shares (h, w) from 0 to 1 as colours, each cell a plain block over the darkened grey of a picture."""
    at = share * (len(HEAT) - 1)
    low = np.minimum(at.astype(int), len(HEAT) - 2)
    colours = HEAT[low] + (at - low)[..., None] * (HEAT[low + 1] - HEAT[low])
    heat = _picture(colours).resize(under.size, Image.Resampling.NEAREST)
    return Image.blend(under.convert("L").convert("RGB"), heat, 0.72)
