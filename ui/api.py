"""The endpoints for Python and HTTP users: /text_to_image and /denoising_steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.backend import QueueFull
from pipelines.cards import ModelCard
from pipelines.events import Cancelled, Failed, Finished
from pipelines.request import GenerationRequest, InvalidRequest, make_request
from ui import controls, keep, reel, stream

if TYPE_CHECKING:
    from pipelines.backend import Backend, Job
    from pipelines.lenses import Decode
    from pipelines.trace import Trace
    from ui.reel import Films


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


def endpoint(
    backend: Backend, cards: Mapping[str, ModelCard], default_model: str
) -> Callable[..., tuple[list[Any], dict[str, Any]]]:
    """The function behind /text_to_image."""

    def text_to_image(
        prompt: str,
        negative_prompt: str | None = None,
        model: str | None = None,
        scheduler: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        num_images: int | None = None,
    ) -> tuple[list[Path], dict[str, Any]]:
        given = {
            "negative_prompt": negative_prompt, "scheduler": scheduler, "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale, "seed": seed, "width": width, "height": height, "num_images": num_images,
        }  # fmt: skip
        _, done = made(backend, cards, default_model, prompt, model, given)
        return [stream.stored(picture) for picture in done.pictures], done.request.model_dump(mode="json")

    return text_to_image


def steps_endpoint(
    backend: Backend, cards: Mapping[str, ModelCard], default_model: str, films: Films
) -> Callable[..., tuple[dict[str, Any], Any, Any]]:
    """The function behind /denoising_steps."""

    def denoising_steps(
        prompt: str,
        negative_prompt: str | None = None,
        model: str | None = None,
        scheduler: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        num_images: int | None = None,
    ) -> tuple[dict[str, Any], Path, Path]:
        given = {
            "negative_prompt": negative_prompt, "scheduler": scheduler, "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale, "seed": seed, "width": width, "height": height, "num_images": num_images,
        }  # fmt: skip
        job, done = made(backend, cards, default_model, prompt, model, given)
        trace = backend.trace(job.id)
        if trace is None:
            raise gr.Error("The steps of this picture were not kept; try again.", print_exception=False)
        decode = decoder(backend, trace.request.model)
        files = [keep.stored(*keep.packed(trace, 0, kind, "x0", decode, films)) for kind in ("webp", keep.CAPSULE)]
        return {"request": done.request.model_dump(mode="json"), "steps": told(trace)}, files[0], files[1]

    return denoising_steps


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


def made(
    backend: Backend,
    cards: Mapping[str, ModelCard],
    default_model: str,
    prompt: Any,
    model: Any,
    given: Mapping[str, Any],
) -> tuple[Job, Finished]:
    """Run a request to its end.

    Raises:
        gr.Error: with one sentence, if it is wrong, fails or is stopped.
    """
    try:
        job = backend.submit(resolve(cards, default_model, prompt, model, given))
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
    gr.api(
        endpoint(backend, cards, default_model),
        api_name="text_to_image",
        api_description=(
            "Makes pictures from a prompt. What is left out or null comes from the model's defaults; a seed that is "
            "left out is drawn. Returns the saved PNG files and the request with everything resolved."
        ),
        concurrency_limit=None,
    )
    gr.api(
        steps_endpoint(backend, cards, default_model, films),
        api_name="denoising_steps",
        api_description=(
            "Makes pictures as /text_to_image does and returns how: the request with its steps (index, timestep, "
            "sigma, alpha_bar, snr, change), an animated WebP of what the model believed, and a capsule, one HTML "
            "file that plays every lens. Both files show the first picture."
        ),
        concurrency_limit=None,
    )
