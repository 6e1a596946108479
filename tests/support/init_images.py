"""Init images without an upload store."""

from __future__ import annotations

from typing import Any

from pipelines.images.inpainting import SourceImage
from pipelines.sampling.image_to_image import InitLatents, encode_init_image


def encode_source(model: Any, source: SourceImage) -> InitLatents:
    """The latents of a source image, as the worker encodes it."""
    return encode_init_image(model, source.model_image, source.model_mask)
