"""The source image of a run: what the model gets of it, and how the result is pasted back into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.images import geometry
from pipelines.images.masks import MARKED
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.images.uploads import UploadStore


@dataclass(frozen=True, eq=False)
class SourceImage:
    """The uploaded image of a request, and the part that the model gets.

    Attributes:
        original: the uploaded image, RGB.
        model_image: the model's input, RGB of the request's width and height.
        mask: of the original's size, "L", white is repainted; None repaints all.
        model_mask: the mask at ``model_image``'s size, or None.
        box: the part of the original that ``model_image`` shows, or None for all of it.
        feather: of the request.
    """

    original: Image.Image
    model_image: Image.Image
    mask: Image.Image | None
    model_mask: Image.Image | None
    box: tuple[int, int, int, int] | None
    feather: int

    def paste_back(self, painted: Image.Image) -> Image.Image:
        """The finished image in its place: outside the mask every pixel is the original's."""
        if self.mask is None:
            return painted
        if self.box is not None:
            from PIL import Image

            left, top, right, bottom = self.box
            part = painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            painted = self.original.copy()
            painted.paste(part, (left, top))
        return geometry.composite(self.original, painted, geometry.feather_mask(self.mask, self.feather))


def load_source(request: GenerationRequest, inputs: UploadStore) -> SourceImage:
    """The uploaded image and mask of a request.

    Raises:
        InvalidRequest: if either was deleted, or does not fit.
    """
    from PIL import Image

    init = request.init
    if init is None:
        raise InvalidRequest("image", "init is missing; choose a picture to start from.")
    original = inputs.get(init.image).convert("RGB")
    mask = _mask(inputs, init.mask, original) if init.mask else None
    size = (request.width, request.height)
    if mask is not None and init.only_masked:
        box = geometry.crop_box(mask, init.padding, aspect=size)
        model_image = original.crop(box).resize(size, Image.Resampling.LANCZOS)
        model_mask = mask.crop(box).resize(size, Image.Resampling.NEAREST)
        return SourceImage(original, model_image, mask, model_mask, box, init.feather)
    if original.size != size:
        raise InvalidRequest(
            "image",
            f"The picture is {original.width} x {original.height} pixels and the result is to be {size[0]} x {size[1]} "
            "pixels; fit the picture to that size first.",
        )
    return SourceImage(original, original, mask, mask, None, init.feather)


def _mask(inputs: UploadStore, name: str, original: Image.Image) -> Image.Image:
    mask = inputs.get(name).convert("L")
    if mask.size != original.size:
        raise InvalidRequest(
            "mask",
            f"The mask is {mask.width} x {mask.height} pixels and the picture {original.width} x {original.height}; "
            "both must have the same size.",
        )
    # Before it is looked at: a mask that is dark all over would run and change nothing.
    mask = mask.point(lambda level: 255 if level >= MARKED else 0)
    if geometry.is_empty(mask):
        raise InvalidRequest("mask", "Nothing is marked on the picture; paint over the part that is to change.")
    return mask
