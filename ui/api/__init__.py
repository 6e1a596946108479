"""The endpoints for Python and HTTP users: pictures, their denoising steps, forks and attention."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import FileData
from gradio.utils import get_upload_folder
from pydantic import ValidationError

from pipelines.cards import ModelCard
from pipelines.events import Announced, Cancelled, Failed, Finished
from pipelines.images import geometry
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.images.masks import mask_from_picture
from pipelines.images.uploads import upload_id
from pipelines.jobs.backend import QueryFailed, QueueFull
from pipelines.request import MAX_SIDE, GenerationRequest, InitImage, InvalidRequest, first_error
from pipelines.trace.forks import fork_of
from ui.api import comparison
from ui.api.publishing import NOT_UPLOADED, calling_user, publish, with_signature
from ui.api.settings import FORK_SETTINGS, IMAGE_SETTINGS, INPAINT_SETTINGS, SETTINGS, SYNTAX, CallValues, resolve
from ui.components import stage_updates
from ui.form import controls
from ui.inspector import export, lens_frames
from ui.inspector.words.packing import as_numbers
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.images.uploads import UserUploads
    from pipelines.jobs.backend import Backend
    from pipelines.jobs.job import Job
    from pipelines.trace.lenses import Decode
    from pipelines.trace.trace import Trace
    from ui.components.frame_cache import FrameCache

# note_source(uploads, original): these uploads were made from that picture (``PageContext.note_source``).
NoteSource = Callable[[Collection[str], str], None]


@dataclass(frozen=True)
class Endpoints:
    """The endpoints; each method takes the values of one call by name, None for those left out."""

    backend: Backend
    cards: Mapping[str, ModelCard]
    default_model: str
    frame_cache: FrameCache
    note_source: NoteSource = lambda uploads, original: None
    export_slots: DecodingSlots = field(default_factory=DecodingSlots)

    def text_to_image(self, given: CallValues) -> tuple[list[Any], dict[str, Any]]:
        """Pictures from a prompt."""
        _, done = run_to_end(self.backend, lambda: self._request(given))
        return results(done)

    def denoising_steps(self, given: CallValues) -> tuple[dict[str, Any], Any, Any]:
        """Pictures from a prompt, with their steps and two files of the first picture."""
        job, done = run_to_end(self.backend, lambda: self._request(given))
        trace = self.backend.trace(job.id, current_user())
        if trace is None:
            raise gr.Error("The steps of this picture were not kept; try again.", print_exception=False)
        decode = decoder(self.backend, trace.request.model)
        files = []
        for kind in ("webp", export.CAPSULE):
            with self.export_slots.hold(current_user().guest):
                name, content = export.export_file(trace, 0, kind, "x0", decode, self.frame_cache)
                self.backend.guest_bytes.charge(current_user().guest, len(content))
                files.append(export.served_bytes(name, content))
        told = {"run": job.id, "request": done.request.model_dump(mode="json"), "steps": step_records(trace)}
        return told, files[0], files[1]

    def fork(self, given: CallValues) -> tuple[list[Any], dict[str, Any]]:
        """Pictures of a run that leaves another one at a step."""

        def build_request() -> GenerationRequest:
            run, step = given["run"], controls.int_if_whole(given["step"])
            trace = self.backend.trace(run, current_user()) if isinstance(run, str) else None
            if trace is None:
                raise InvalidRequest(
                    "run", "The steps of this run are no longer kept, or it is not yours; make it again."
                )
            changes = {name: given[name] for name in FORK_SETTINGS if name != "noise_seed"}
            return fork_of(trace, step, controls.int_if_whole(given["noise_seed"]), **changes)

        job, done = run_to_end(self.backend, build_request)
        files, request = results(done)
        return files, {"run": job.id, "request": request}

    def attention(self, given: CallValues) -> tuple[list[Any], dict[str, Any]]:
        """Pictures from a prompt, with which word drew what in the first of them."""
        job, done = run_to_end(self.backend, lambda: self._request(given))
        trace = self.backend.trace(job.id, current_user())
        if trace is None or not trace.steps:
            raise gr.Error("The steps of this picture were not kept; try again.", print_exception=False)
        try:
            found = self.backend.queries.of(current_user()).words.attention(trace, 0, range(len(trace.steps)))
        except QueryFailed as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        files, request = results(done)
        return files, {"request": request, **as_numbers(found)}

    def image_to_image(self, given: CallValues) -> tuple[list[Any], dict[str, Any]]:
        """Pictures from an image."""

        def build_request() -> GenerationRequest:
            inputs = self._inputs()
            with inputs.slot():
                original, request = read_image(given["image"], "image", inputs), self._request(given)
                image = inputs.put(fitted(original, request, given["fit"], given["colour"]))
                init = init_image(self.cards[request.model], image=image, strength=given["strength"])
                self._note_source(image, original)
                return self._request(given, init)

        _, done = run_to_end(self.backend, build_request)
        return results(done)

    def inpaint(self, given: CallValues) -> tuple[list[Any], dict[str, Any]]:
        """A part of an image, repainted."""
        crop = bool(given["only_masked"])
        how = {name: given[name] for name in ("strength", "feather", "only_masked", "padding")}

        def build_request() -> GenerationRequest:
            request, inputs = self._request(given), self._inputs()
            with inputs.slot():
                original, part = read_image_and_mask(given["image"], given["mask"], inputs)
                picture = fitted(original, request, given["fit"], given["colour"], crop)
                part = fitted(mask_from_picture(part), request, given["fit"], "black", crop).convert("L")
                stored = {"image": inputs.put(picture), "mask": inputs.put(part)}
                self._note_source(stored["image"], original)
                return self._request(given, init_image(self.cards[request.model], **stored, **how))

        _, done = run_to_end(self.backend, build_request)
        return results(done)

    def _note_source(self, image: str, original: Image.Image) -> None:
        """A picture of the history stays the parent of what is made from a crop of it."""
        self.note_source((image,), upload_id(geometry.flatten(original)))

    def _inputs(self) -> UserUploads:
        return self.backend.inputs.of(current_user().guest)

    def _request(self, given: CallValues, init: InitImage | None = None) -> GenerationRequest:
        settings = {name: given[name] for name in (*SETTINGS, *SYNTAX) if name != "model"}
        values = {**settings, "init": init}
        adapters = self.backend.adapters
        return resolve(self.cards, self.default_model, given["prompt"], given["model"], values, adapters)


def init_image(card: ModelCard, **values: Any) -> InitImage:
    """Where a run of this model starts; what is None has its default.

    Raises:
        InvalidRequest: with one sentence.
    """
    given = {name: controls.int_if_whole(value) for name, value in values.items() if value is not None}
    try:
        return InitImage(**{"strength": card.strength, **given})
    except ValidationError as error:
        raise InvalidRequest(*first_error(error)) from None


def read_image_and_mask(image: Any, mask: Any, inputs: UserUploads) -> tuple[Image.Image, Image.Image]:
    """The image and the mask of a request, of one size.

    Raises:
        InvalidRequest: with one sentence.
    """
    picture, part = read_image(image, "image", inputs), read_image(mask, "mask", inputs)
    if picture.size != part.size:
        sizes = [f"{one.width} x {one.height}" for one in (part, picture)]
        raise InvalidRequest("mask", f"mask has {sizes[0]} pixels and image {sizes[1]}; both must have the same size.")
    return picture, part


def read_image(file: Any, name: str, inputs: UserUploads) -> Image.Image:
    """The image that a client uploaded, RGB or RGBA.

    Raises:
        InvalidRequest: with one sentence; also for any file that is not an upload.
    """
    if file is None:
        raise InvalidRequest(name, f"{name} is missing; upload a PNG, JPEG or WebP.")
    try:
        path = Path(file["path"]).resolve()
        stored = path.is_relative_to(Path(get_upload_folder()).resolve()) and path.is_file()
    except (TypeError, KeyError, ValueError, OSError):
        stored = False
    if not stored:
        raise InvalidRequest(name, f"{name} must be an upload. {NOT_UPLOADED}")
    return inputs.read(path).image


def fitted(
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
    return geometry.limit_size(image, colour)


def results(done: Finished) -> tuple[list[Any], dict[str, Any]]:
    """The saved files, and the request with everything resolved."""
    return [stage_updates.served_file(picture) for picture in done.pictures], done.request.model_dump(mode="json")


def decoder(backend: Backend, model: str) -> Decode:
    """Decodes latents with this model, for the current user."""
    queries = backend.queries.of(current_user())
    return lambda latents: queries.decode(model, latents)


def step_records(trace: Trace) -> list[dict[str, Any]]:
    """The steps as JSON: index, timestep, sigma, alpha_bar, snr (null where infinite), change (of the first picture).

    ``change`` is the root mean square of the difference to the x0 of the step before, in latents.
    """
    return [
        {
            "index": step.index,
            "timestep": step.timestep,
            "sigma": step.sigma,
            "alpha_bar": step.alpha_bar,
            "snr": lens_frames.finite_or_none(step.snr),
            "change": trace.change(i, 0),
        }
        for i, step in enumerate(trace.steps)
    ]


def run_to_end(backend: Backend, build_request: Callable[[], GenerationRequest]) -> tuple[Job, Finished]:
    """Run a request to its end.

    Args:
        build_request: makes the request, or raises InvalidRequest.

    Raises:
        gr.Error: with one sentence, if it is wrong, fails or is stopped.
    """
    user = calling_user()
    try:
        job = backend.submit(build_request(), user, watched=False)
    except (InvalidRequest, QueueFull) as problem:
        raise gr.Error(str(problem), print_exception=False) from None
    for event in job.events():
        match event:
            case Announced(Finished() as event) | (Finished() as event):
                if not event.pictures:  # the disk took none, as the first note says
                    raise gr.Error(event.notes[0], print_exception=False)
                return job, event
            case Failed(message):
                raise gr.Error(message, print_exception=False)
            case Cancelled():
                raise gr.Error("The picture was stopped before it was done.", print_exception=False)
    raise gr.Error("The picture was not finished; try again.", print_exception=False)


def add(endpoints: Endpoints) -> None:
    """Add the endpoints to the page under construction."""
    returned = "Returns the saved PNG files and the request with everything resolved."
    publish(
        with_signature(endpoints.text_to_image, {"prompt": str}, {**SETTINGS, **SYNTAX}),
        "text_to_image",
        "Makes pictures from a prompt. What is left out or null comes from the model's defaults; a seed that is "
        f"left out is drawn. prompt_syntax is compel, (word)1.3, or a1111, (word:1.3). Prompts are sent as they are, "
        f"without styles and wildcards. {returned}",
    )
    publish(
        with_signature(endpoints.denoising_steps, {"prompt": str}, {**SETTINGS, **SYNTAX}),
        "denoising_steps",
        "Makes pictures as /text_to_image does and returns how: the request with its steps (index, timestep, "
        "sigma, alpha_bar, snr, change), an animated WebP of the predicted x0, and a capsule, one HTML file that "
        "plays every lens. Both files show the first picture.",
    )
    publish(
        with_signature(endpoints.attention, {"prompt": str}, {**SETTINGS, **SYNTAX}),
        "attention",
        "Makes pictures as /text_to_image does and returns which word drew what in the first of them: the words (word, "
        "kind, tokens), and shares, [step][word][row][column], the share of each place's attention that goes to "
        "the word, averaged over layers and heads.",
    )
    publish(
        with_signature(endpoints.fork, {"run": str, "step": int}, FORK_SETTINGS),
        "fork",
        "Leaves a run at a step and goes on differently: run is what /denoising_steps and /fork return by that name, "
        "step how many of its steps are kept, from 0. What is left out stays; a prompt names its LoRAs. scheduler "
        "passes the same noise level; noise_seed draws new noise, for samplers that draw any. With nothing changed the "
        "result is the original's. Returns the saved PNG files, and a JSON with run and request.",
    )
    comparison.add(endpoints.backend, endpoints.cards, endpoints.default_model, endpoints.export_slots)
    publish(
        with_signature(endpoints.image_to_image, {"image": FileData, "prompt": str}, {**IMAGE_SETTINGS, **SYNTAX}),
        "image_to_image",
        "Makes pictures from an image (an uploaded PNG, JPEG or WebP) and a prompt. strength, 0 to 1, says how far "
        "from it (0.6; pocket 0.4, its turbo 0.5); fit, crop, pad or stretch, how an image of another shape gets width "
        "x height; colour (#rrggbb) is put beneath transparency and around a padded image. The rest is as in "
        "/text_to_image. "
        f"{returned}",
    )
    publish(
        with_signature(
            endpoints.inpaint, {"image": FileData, "mask": FileData, "prompt": str}, {**INPAINT_SETTINGS, **SYNTAX}
        ),
        "inpaint",
        "Repaints a part of an image: mask is an image of the same size, white (or one bright colour) on black where "
        "it is repainted, or white with that part erased; every other pixel stays as it is. feather, 0 to 64 pixels "
        "(0), softens the edge inwards; only_masked works on a crop "
        "around the mask, with padding, 0 to 256 pixels (32), around it, and the result has the size of the image, "
        f"{MAX_SIDE} pixels a side at most. The rest is as in /image_to_image. {returned}",
    )
