"""Finished pictures as PNG files that hold the request that made them."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import appearing
from pipelines.marks import xmp
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image, PngImagePlugin

CHUNK = "diffusion_playground"
VERSION = 1
MAX_PIXELS = 64 * 1024 * 1024


def save_png(
    image: Image.Image,
    folder: Path,
    request: GenerationRequest,
    seed: int,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``image`` into ``folder`` with its settings inside and return the path.

    The file appears complete or not at all: it is written beside its target, synced and renamed. Names sort by
    time (UTC) and end in random letters, so that they are unique and cannot be guessed.

    Args:
        image: the pixels; nothing of ``image.info`` is written.
        folder: made if it is not there.
        request: what was asked for.
        seed: the seed of this picture (request.sampling.seed + k).
        facts: more to record, JSON values only (seconds, device, versions).

    Raises:
        OSError: if the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    target = folder / f"{stamp}-{seed}-{secrets.token_hex(6)}.png"
    info = chunks(parameters(request, seed), record(request, seed, facts or {}), xmp(request))
    with appearing(target) as file:
        image.save(file, format="PNG", pnginfo=info)
    return target


def read_request(path: Path | str) -> GenerationRequest:
    """The request that makes the picture at ``path`` again: one picture, with that picture's own seed.

    Raises:
        InvalidRequest: if the file is no PNG of this project's, or of a newer version; one sentence.
        FileNotFoundError: if there is no such file.
    """
    from PIL import Image, UnidentifiedImageError

    nothing = f"{Path(path).name} holds no settings of the Diffusion Playground; choose a PNG that was saved by it."
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidRequest(f"{Path(path).name} has more than {MAX_PIXELS} pixels; choose a smaller picture.")
            found = json.loads(image.info[CHUNK])
        if found["version"] != VERSION:
            raise InvalidRequest(f"{Path(path).name} was saved by another version; update the Diffusion Playground.")
        request = GenerationRequest.model_validate_json(json.dumps(found["request"]))
        return alone(request, int(found["seed"]), int(found["facts"].get("picture", 0)))
    except InvalidRequest:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError, KeyError, TypeError, ValueError, SyntaxError):
        raise InvalidRequest(nothing) from None


def alone(request: GenerationRequest, seed: int, k: int) -> GenerationRequest:
    """The request that makes picture k of a request again, by itself where one picture can be.

    A picture between two prompts needs its neighbours: the whole request is given back.
    """
    variation, blend = request.variation, request.interpolation
    if blend is not None and blend.prompt is not None:
        return request
    values = {**request.model_dump(), "num_images": 1, "interpolation": None}
    values["sampling"]["seed"] = seed
    if variation is not None:
        values["variation"] = {"seed": variation.seed + k, "strength": variation.strength}
    if blend is not None:
        values["variation"] = {"seed": blend.seed, "strength": k / (request.num_images - 1)}
    return GenerationRequest.model_validate(values)


def parameters(request: GenerationRequest, seed: int) -> str:
    """The settings in the text form that other tools read (the ``parameters`` chunk of AUTOMATIC1111's web UI)."""
    spec = SCHEDULERS.get(request.sampling.scheduler)
    values = {
        "Steps": request.sampling.num_inference_steps,
        "Sampler": spec.label if spec else request.sampling.scheduler,
        "CFG scale": request.sampling.guidance_scale,
        "Seed": seed,
        "Size": f"{request.width}x{request.height}",
        "Model": request.model,
        **_more(request),
    }
    worn = "".join(f" <lora:{lora.name}:{lora.weight:g}>" for lora in request.loras)
    lines = [request.prompt + worn]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in values.items()))
    return "\n".join(lines)


def _more(request: GenerationRequest) -> dict[str, Any]:
    """What only some requests have, by the names that other tools use."""
    init, variation = request.init, request.variation
    found: dict[str, Any] = {}
    if init is not None:
        found["Denoising strength"] = init.strength
    if init is not None and init.mask:
        found["Mask blur"] = init.feather
    for k, control in enumerate(request.controls):
        found[f"ControlNet {k}"] = f"{control.net} {control.weight:g} ({control.kind})"
    if request.reference is not None:
        found["IP-Adapter"] = f"{request.reference.adapter} {request.reference.weight:g}"
    if variation is not None:
        found |= {"Variation seed": variation.seed, "Variation seed strength": variation.strength}
    return found


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ',:\n"') else value


def record(request: GenerationRequest, seed: int, facts: Mapping[str, Any]) -> str:
    """The settings as JSON: what ``read_request`` reads."""
    found = {"version": VERSION, "request": request.model_dump(mode="json"), "seed": seed, "facts": dict(facts)}
    return json.dumps(found)


def chunks(text: str, settings: str, mark: str) -> PngImagePlugin.PngInfo:
    """A PNG's text: ``parameters`` for other tools, ``record`` for us, and the mark of ``pipelines.marks.xmp``."""
    info = marked(mark)
    info.add_text("parameters", text)
    info.add_text(CHUNK, settings)
    return info


def marked(mark: str) -> PngImagePlugin.PngInfo:
    """A PNG's text that is nothing but the mark of ``pipelines.marks.xmp``."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", mark)
    return info
