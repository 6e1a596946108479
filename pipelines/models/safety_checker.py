"""A model's own safety checker: a network saved with it that classifies finished pictures.

Stable Diffusion 1.x has one (a CLIP that compares a picture with seventeen hidden concepts; Rando et al. 2022, "Red-
Teaming the Stable Diffusion Safety Filter", arXiv:2210.04610, says what it sees and what it misses).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.system.bounded_json import read_json_file

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.model import Model

PART, READER = "safety_checker", "feature_extractor"
# The state of a model's checker.
ON, OFF, NONE, MISSING = "on", "off", "none", "missing"
_CLASS = "StableDiffusionSafetyChecker"
_WEIGHTS = "*.safetensors"


class SafetyChecker:
    """A loaded safety checker.

    Args:
        network: of diffusers' StableDiffusionSafetyChecker.
        reader: turns pictures into what it sees, (n, 3, side, side).
    """

    def __init__(self, network: Any, reader: Any) -> None:
        self.network, self._reader = network, reader

    def __call__(self, images: Sequence[Image.Image]) -> tuple[bool, ...]:
        """Whether each picture is to be withheld."""
        import numpy as np
        import torch

        weight = next(self.network.parameters())
        pixels = self._reader([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        # It blackens what it is given; the pictures themselves stay out of its hands.
        blank = [np.zeros((1, 1, 3)) for _ in images]
        with torch.inference_mode():
            _, found = self.network(clip_input=pixels.to(weight.device, weight.dtype), images=blank)
        return tuple(bool(one) for one in found)


def black_out(model: Model, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures as they may be shown: those that the model's safety checker withholds are black."""
    from PIL import Image as pillow

    pairs = zip(images, model.withheld_by_checker(images), strict=True)
    return [pillow.new("RGB", image.size) if withheld else image for image, withheld in pairs]


def state_of(source: Path | str, wanted: bool = True) -> str:
    """Whether a model on this machine has a checker that is used: ON, OFF, NONE or MISSING (named, but not there).

    Args:
        source: a diffusers folder, or a single file, which never has one.
        wanted: whether checkers are to be used.
    """
    folder = Path(source)
    try:
        named = read_json_file(folder / "model_index.json").get(PART)
    except (OSError, ValueError, AttributeError):
        return NONE
    if not isinstance(named, list) or len(named) != 2 or not named[1]:
        return NONE
    if not wanted:
        return OFF
    return ON if named[1] == _CLASS and any((folder / PART).glob(_WEIGHTS)) else MISSING
