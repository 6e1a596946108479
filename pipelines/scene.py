"""A stored picture as a run sees it, and how what was painted goes back into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import geometry
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.uploads import Inputs


@dataclass(frozen=True, eq=False)
class Scene:
    """A stored picture as a run sees it.

    Attributes:
        original: the stored picture, RGB.
        picture: what the model is given, RGB of the request's width and height.
        mask: of the original's size, "L", white is repainted; None repaints all.
        seen_mask: the mask at ``picture``'s size, or None.
        box: the part of the original that ``picture`` shows, or None for all of it.
        feather: of the request.
    """

    original: Image.Image
    picture: Image.Image
    mask: Image.Image | None
    seen_mask: Image.Image | None
    box: tuple[int, int, int, int] | None
    feather: int

    def put_back(self, painted: Image.Image) -> Image.Image:
        """A finished picture in its place: outside the mask every pixel is the original's."""
        if self.mask is None:
            return painted
        if self.box is not None:
            left, top, right, bottom = self.box
            part = painted.resize((right - left, bottom - top), _lanczos())
            painted = self.original.copy()
            painted.paste(part, (left, top))
        return geometry.composite(self.original, painted, geometry.feathered(self.mask, self.feather))


def scene(request: GenerationRequest, inputs: Inputs) -> Scene:
    """The stored picture and mask of a request.

    Raises:
        InvalidRequest: if either is gone, or does not fit.
    """
    init = request.init
    if init is None:
        raise InvalidRequest("init is missing; choose a picture to start from.")
    original = inputs.get(init.image).convert("RGB")
    mask = _mask(inputs, init.mask, original) if init.mask else None
    size = (request.width, request.height)
    if mask is not None and init.only_masked:
        box = geometry.crop_box(mask, init.padding, aspect=size)
        picture, seen = original.crop(box).resize(size, _lanczos()), mask.crop(box).resize(size, _nearest())
        return Scene(original, picture, mask, seen, box, init.feather)
    if original.size != size:
        raise InvalidRequest(
            f"The picture is {original.width} x {original.height} pixels and the result is to be {size[0]} x {size[1]} "
            "pixels; fit the picture to that size first."
        )
    return Scene(original, original, mask, mask, None, init.feather)


def _mask(inputs: Inputs, name: str, original: Image.Image) -> Image.Image:
    mask = inputs.get(name).convert("L")
    if mask.size != original.size:
        raise InvalidRequest(
            f"The mask is {mask.width} x {mask.height} pixels and the picture {original.width} x {original.height}; "
            "both must have the same size."
        )
    if geometry.is_empty(mask):
        raise InvalidRequest("Nothing is marked on the picture; paint over the part that is to change.")
    return mask.point(lambda level: 255 if level >= 128 else 0)


def _lanczos() -> Any:
    from PIL import Image

    return Image.Resampling.LANCZOS


def _nearest() -> Any:
    from PIL import Image

    return Image.Resampling.NEAREST
