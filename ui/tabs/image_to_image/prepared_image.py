"""The source image as a run needs it: stored, and fitted to the request's size or extended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines.images import geometry
from pipelines.images.uploads import upload_id
from pipelines.request import MAX_SIDE, InvalidRequest

if TYPE_CHECKING:
    from pipelines.images.uploads import Upload, UserUploads

# What is changed: the whole image, the part that is marked (inpainting), or what lies beyond it (outpainting).
WHOLE, INPAINT, OUTPAINT = "whole", "part", "beyond"
# Images are shown at least this large where Gradio's own components show them.
SHOWN_SIDE = 512


@dataclass(frozen=True)
class PreparedImage:
    """A source image that is ready for a run; hashable, since Gradio compares the values of a state by their hash.

    Attributes:
        mode: WHOLE, INPAINT or OUTPAINT.
        image: id of the stored image that the run starts from.
        fitted: id of the stored image at the request's size, whose noise levels the strength strip shows.
        size: width and height of the request, pixels.
        original: the id that the whole image has or would have, before anything was done to it.
        mask: id of the stored mask of an extended canvas, or None.
        notes: what was done to the file, for the user.
    """

    mode: str
    image: str
    fitted: str
    size: tuple[int, int]
    original: str = ""
    mask: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What was done to the image, in words."""
        width, height = self.size
        grown = [f"The canvas is {width} x {height} pixels now."] if self.mode == OUTPAINT else []
        return " ".join([*self.notes, *grown])


@dataclass(frozen=True)
class Preparation:
    """How an uploaded file becomes a PreparedImage.

    Attributes:
        mode: WHOLE, INPAINT or OUTPAINT.
        size: width and height of the request, pixels.
        fit, colour: how an image of another shape gets that size (``geometry.fit``).
        only_masked: of INPAINT, whether the image keeps its own size.
        edges: of OUTPAINT, pixels to add left, right, above and below.
        size_factor: sizes of the model are multiples of this.
        focus: which part a crop keeps (``geometry.fit``).
    """

    mode: str
    size: tuple[int, int]
    fit: str
    colour: str
    only_masked: bool
    edges: tuple[int, int, int, int]
    size_factor: int
    focus: tuple[float, float] = geometry.CENTRE

    @property
    def crops(self) -> bool:
        """Whether a part of an image of another shape is left out."""
        return self.fit == "crop" and not (self.mode == INPAINT and self.only_masked)

    def prepare(self, path: str, inputs: UserUploads) -> PreparedImage:
        """Read, fit or extend the file at ``path``, and store the result; raises InvalidRequest."""
        with inputs.slot():
            return self._prepare(inputs.read(path), inputs)

    def _prepare(self, upload: Upload, inputs: UserUploads) -> PreparedImage:
        original = upload_id(geometry.flatten(upload.image))
        fitted = geometry.fit(upload.image, *self.size, self.fit, self.colour, self.focus)
        if self.mode == OUTPAINT:
            canvas, mask = geometry.outpaint_canvas(fitted, *self.edges, self.size_factor)
            name = inputs.put(canvas)
            return PreparedImage(self.mode, name, name, canvas.size, original, inputs.put(mask), tuple(upload.notes))
        fitted_id = image_id = inputs.put(fitted)
        if self.mode == INPAINT and self.only_masked:
            image_id = inputs.put(geometry.limit_size(upload.image, self.colour))
        return PreparedImage(self.mode, image_id, fitted_id, self.size, original, notes=tuple(upload.notes))


def pixels(value: Any, field: str, name: str) -> int:
    """A number of pixels that a browser sent; raises InvalidRequest, whose sentence begins with ``name``."""
    if value is None:
        raise InvalidRequest(field, f"{name} is empty; give a number of pixels.")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_SIDE:
        raise InvalidRequest(field, f"{name} is {str(value)[:20]}; give a whole number up to {MAX_SIDE}.")
    return int(value)


def enlarged(image: Image.Image) -> Image.Image:
    """An image that is large enough to be compared: a small one a whole number of times as large."""
    scale = max(1, SHOWN_SIDE // max(image.size))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)
