"""The endpoints for Python and HTTP users: /text_to_image, /image_to_image, /inpaint and /denoising_steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import FileData
from gradio.context import get_blocks_context
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from pydantic import ValidationError

from pipelines import geometry, uploads
from pipelines.backend import QueueFull
from pipelines.cards import ModelCard
from pipelines.events import Cancelled, Failed, Finished
from pipelines.request import MAX_SIDE, GenerationRequest, InitImage, InvalidRequest, describe, make_request
from ui import controls, keep, reel, stream
from ui.visiting import visitor

if TYPE_CHECKING:
    from gradio.blocks import Block
    from PIL import Image

    from pipelines.backend import Backend, Job
    from pipelines.lenses import Decode
    from pipelines.trace import Trace
    from ui.reel import Films

# A call's values by name.
Given = Mapping[str, Any]
# What every endpoint takes beside a prompt and names of its own.
SETTINGS: Mapping[str, type] = {
    "negative_prompt": str, "model": str, "scheduler": str, "num_inference_steps": int, "guidance_scale": float,
    "seed": int, "width": int, "height": int, "num_images": int,
}  # fmt: skip
FROM_PICTURE: Mapping[str, type] = {"strength": float, **SETTINGS, "fit": str, "colour": str}
FROM_PART: Mapping[str, type] = {**FROM_PICTURE, "feather": int, "only_masked": bool, "padding": int}
# Where the page's own slider stands.
STRENGTH = 0.6
UNSENT = "Files are uploaded, not named: send it with handle_file of gradio_client, or to /gradio_api/upload first."


def resolve(
    cards: Mapping[str, ModelCard], default_model: str, prompt: Any, model: Any, given: Mapping[str, Any]
) -> GenerationRequest:
    """A request from what was given; what was not (None) comes from the model's card.

    Raises:
        InvalidRequest: with one sentence. Only ids of the catalogue name a model, never a path.
    """
    model = default_model if model is None else model
    card = cards.get(model) if isinstance(model, str) else None
    if card is None:
        shown = repr(model) if len(repr(model)) <= 60 else repr(model)[:57] + "..."
        raise InvalidRequest(f"model is {shown}; allowed: {', '.join(sorted(cards))}.")
    quality = card.qualities[card.default_quality]
    values: dict[str, Any] = {
        "width": card.width,
        "height": card.height,
        "scheduler": quality.scheduler,
        "num_inference_steps": quality.num_inference_steps,
        "guidance_scale": card.guidance_scale,
        "seed": controls.draw_seed(),
    }
    values.update({name: value for name, value in given.items() if value is not None})
    return make_request(model=card.id, prompt=prompt, **values)


@dataclass(frozen=True)
class Endpoints:
    """What answers the clients; each method takes the values of one call by name, None where one was left out."""

    backend: Backend
    cards: Mapping[str, ModelCard]
    default_model: str
    films: Films

    def text_to_image(self, given: Given) -> tuple[list[Any], dict[str, Any]]:
        """Pictures from a prompt."""
        _, done = made(self.backend, lambda: self._request(given))
        return answer(done)

    def denoising_steps(self, given: Given) -> tuple[dict[str, Any], Any, Any]:
        """Pictures from a prompt, and how they came: the steps, and two files of the first picture."""
        job, done = made(self.backend, lambda: self._request(given))
        trace = self.backend.trace(job.id, visitor())
        if trace is None:
            raise gr.Error("The steps of this picture were not kept; try again.", print_exception=False)
        decode = decoder(self.backend, trace.request.model)
        kinds = ("webp", keep.CAPSULE)
        files = [keep.stored(*keep.packed(trace, 0, kind, "x0", decode, self.films)) for kind in kinds]
        return {"request": done.request.model_dump(mode="json"), "steps": told(trace)}, files[0], files[1]

    def image_to_image(self, given: Given) -> tuple[list[Any], dict[str, Any]]:
        """Pictures from a picture."""

        def ask() -> GenerationRequest:
            picture = placed(opened(given["image"], "image"), self._request(given), given["fit"], given["colour"])
            return self._request(given, start(image=self.backend.inputs.put(picture), strength=given["strength"]))

        _, done = made(self.backend, ask)
        return answer(done)

    def inpaint(self, given: Given) -> tuple[list[Any], dict[str, Any]]:
        """A part of a picture anew."""
        crop, put = bool(given["only_masked"]), self.backend.inputs.put
        how = {name: given[name] for name in ("strength", "feather", "only_masked", "padding")}

        def ask() -> GenerationRequest:
            plain = self._request(given)
            picture, part = pair(given["image"], given["mask"])
            picture = placed(picture, plain, given["fit"], given["colour"], crop)
            part = placed(part, plain, given["fit"], "black", crop).convert("L")
            return self._request(given, start(image=put(picture), mask=put(part), **how))

        _, done = made(self.backend, ask)
        return answer(done)

    def _request(self, given: Given, init: InitImage | None = None) -> GenerationRequest:
        settings = {name: given[name] for name in SETTINGS if name != "model"}
        return resolve(self.cards, self.default_model, given["prompt"], given["model"], {**settings, "init": init})


def signed(work: Callable[[Given], Any], needed: Mapping[str, Any], optional: Mapping[str, Any]) -> Callable[..., Any]:
    """``work`` as a function with these arguments by name and type, which is what Gradio makes its description from.

    Gradio counts one result, whatever ``work`` returns: a client gets a tuple as a list.
    """
    types = {**needed, **{name: kind | None for name, kind in optional.items()}}

    def call(*values: Any) -> Any:
        return work(dict(zip(types, values, strict=True)))

    parameters = [
        Parameter(
            name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=Parameter.empty if name in needed else None
        )
        for name, kind in types.items()
    ]
    call.__signature__ = Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {**types, "return": Any}
    return call


def start(**values: Any) -> InitImage:
    """Where a run starts; what is None has its default.

    Raises:
        InvalidRequest: with one sentence.
    """
    given = {name: controls.whole(value) for name, value in values.items() if value is not None}
    try:
        return InitImage(**{"strength": STRENGTH, **given})
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None


def pair(image: Any, mask: Any) -> tuple[Image.Image, Image.Image]:
    """The picture and the mask of a request, of one size.

    Raises:
        InvalidRequest: with one sentence.
    """
    picture, part = opened(image, "image"), opened(mask, "mask")
    if picture.size != part.size:
        sizes = [f"{one.width} x {one.height}" for one in (part, picture)]
        raise InvalidRequest(f"mask has {sizes[0]} pixels and image {sizes[1]}; both must have the same size.")
    return picture, part


def opened(file: Any, name: str) -> Image.Image:
    """The picture that a client uploaded, RGB or RGBA.

    Raises:
        InvalidRequest: with one sentence; also for every file that did not come here as an upload.
    """
    if file is None:
        raise InvalidRequest(f"{name} is missing; upload a PNG, JPEG or WebP.")
    try:
        path = Path(file["path"]).resolve()
        stored = path.is_relative_to(Path(get_upload_folder()).resolve()) and path.is_file()
    except (TypeError, KeyError, ValueError, OSError):
        stored = False
    if not stored:
        raise InvalidRequest(f"{name} cannot be taken like this. {UNSENT}")
    return uploads.read(path).image


def placed(
    image: Image.Image, request: GenerationRequest, fit: Any, colour: Any, own_size: bool = False
) -> Image.Image:
    """A picture as RGB of the request's size or, for a crop around a mask, of its own, ``MAX_SIDE`` at most.

    Raises:
        InvalidRequest: if there is no such fit or colour.
    """
    fit, colour = "crop" if fit is None else str(fit), geometry.WHITE if colour is None else colour
    fitted = geometry.fit(image, request.width, request.height, fit, colour)
    if not own_size:
        return fitted
    return geometry.bounded(image, colour)


def answer(done: Finished) -> tuple[list[Any], dict[str, Any]]:
    """The saved files, and the request with everything resolved."""
    return [stream.stored(picture) for picture in done.pictures], done.request.model_dump(mode="json")


def decoder(backend: Backend, model: str) -> Decode:
    """What turns latents into pictures with this model."""
    return lambda latents: backend.decode(model, latents)


def told(trace: Trace) -> list[dict[str, Any]]:
    """The steps as JSON: index, timestep, sigma, alpha_bar, snr (null where infinite), change (of the first picture).

    ``change`` is the root mean square of the difference to the belief of the step before, in latents.
    """
    return [
        {
            "index": step.index,
            "timestep": step.timestep,
            "sigma": step.sigma,
            "alpha_bar": step.alpha_bar,
            "snr": reel.finite(step.snr),
            "change": trace.change(i, 0),
        }
        for i, step in enumerate(trace.steps)
    ]


def made(backend: Backend, ask: Callable[[], GenerationRequest]) -> tuple[Job, Finished]:
    """Run a request to its end.

    Args:
        ask: makes the request, or raises InvalidRequest.

    Raises:
        gr.Error: with one sentence, if it is wrong, fails or is stopped.
    """
    who = visitor()
    if not who.programs:
        raise gr.Error("Programs may not ask here; use the page.", print_exception=False)
    try:
        job = backend.submit(ask(), who)
    except (InvalidRequest, QueueFull) as problem:
        raise gr.Error(str(problem), print_exception=False) from None
    for event in job.events():
        match event:
            case Finished():
                return job, event
            case Failed(message):
                raise gr.Error(message, print_exception=False)
            case Cancelled():
                raise gr.Error("The picture was stopped before it was done.", print_exception=False)
    raise gr.Error("The picture was not finished; try again.", print_exception=False)


def add(backend: Backend, cards: Mapping[str, ModelCard], default_model: str, films: Films) -> None:
    """Put the endpoints into the page that is being built."""
    asked = Endpoints(backend, cards, default_model, films)
    told = "Returns the saved PNG files and the request with everything resolved."
    publish(
        signed(asked.text_to_image, {"prompt": str}, SETTINGS),
        "text_to_image",
        "Makes pictures from a prompt. What is left out or null comes from the model's defaults; a seed that is "
        f"left out is drawn. {told}",
    )
    publish(
        signed(asked.denoising_steps, {"prompt": str}, SETTINGS),
        "denoising_steps",
        "Makes pictures as /text_to_image does and returns how: the request with its steps (index, timestep, "
        "sigma, alpha_bar, snr, change), an animated WebP of what the model believed, and a capsule, one HTML "
        "file that plays every lens. Both files show the first picture.",
    )
    publish(
        signed(asked.image_to_image, {"image": FileData, "prompt": str}, FROM_PICTURE),
        "image_to_image",
        "Makes pictures from a picture (an uploaded PNG, JPEG or WebP) and a prompt. strength, 0 to 1, says how much "
        "is drawn anew (0.6); fit, crop, pad or stretch, how a picture of another shape gets width x height; colour "
        f"(#rrggbb) is put beneath transparency and around a padded picture. The rest is as in /text_to_image. {told}",
    )
    publish(
        signed(asked.inpaint, {"image": FileData, "mask": FileData, "prompt": str}, FROM_PART),
        "inpaint",
        "Draws a part of a picture anew: mask is a picture of the same size, white where it is repainted; every other "
        "pixel stays as it is. feather, 0 to 64 pixels (0), softens the edge inwards; only_masked works on a crop "
        "around the mask, with padding, 0 to 256 pixels (32), around it, and the result has the size of the picture, "
        f"{MAX_SIDE} pixels a side at most. The rest is as in /image_to_image. {told}",
    )


def publish(function: Callable[..., Any], name: str, about: str) -> None:
    """Put one endpoint into the page that is being built, with inputs that fetch nothing."""
    added = gr.api(function, api_name=name, api_description=about, concurrency_limit=None)
    page = get_blocks_context()
    for number in added["inputs"]:
        page.blocks[number].async_move_resource_to_block_cache = uploaded


def fetch_nothing(block: Block) -> None:
    """Have a part of the page refuse addresses: Gradio downloads what any value names as the path of a file."""

    async def moved(path: Any) -> str | None:
        return await move(await uploaded(path))

    move = block.async_move_resource_to_block_cache
    block.async_move_resource_to_block_cache = moved  # type: ignore[method-assign]


async def uploaded(path: Any) -> str | None:
    """A file's path as it is; Gradio's own would download an address that a client names.

    Gradio has refused paths outside its folder of uploads before.

    Raises:
        gr.Error: with one sentence, for an address.
    """
    if is_http_url_like(str(path)):
        raise gr.Error(f"Addresses are not opened here. {UNSENT}", print_exception=False)
    return path
