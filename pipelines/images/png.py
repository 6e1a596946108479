"""Finished images as PNG files that hold the request that made them."""

from __future__ import annotations

import io
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipelines.images.file_texts import FileTexts, read_texts
from pipelines.images.provenance import xmp_packet
from pipelines.prompt import COMPEL
from pipelines.prompt.compel import to_a1111
from pipelines.request import MAX_SEED, GenerationRequest, InvalidRequest, fields_of_picture
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import Image, PngImagePlugin

CHUNK = "diffusion_playground"
VERSION = 1
# Where AUTOMATIC1111's name of a sampler is another than the page's.
A1111_SAMPLERS = {"euler_a": "Euler a", "pndm": "PLMS"}
MAX_BYTES = 256 * 2**20


def save_png(
    image: Image.Image,
    folder: Path,
    request: GenerationRequest,
    seed: int,
    facts: Mapping[str, Any] | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    mark: str = "",
) -> Path:
    """Write ``image`` into ``folder`` with its settings inside and return the path.

    The file appears complete or not at all (``atomic_write``).  Names sort by time (UTC) and end in random letters, so
    that they are unique and cannot be guessed.

    Args:
        image: the pixels; nothing of ``image.info`` is written.
        folder: must exist.
        request: the request of the run.
        seed: the seed of this image (request.sampling.seed + k).
        facts: more to record, JSON values only (seconds, device, versions).
        sign: adds a signature as the last thing (``pipelines.images.signing``); what it raises passes through.
        mark: the end of the name, before the ending.

    Raises:
        OSError: if the file cannot be written.
    """
    signed = sign(png_bytes(image, request, seed, facts or {})) if sign else None
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    target = folder / f"{stamp}-{seed}-{secrets.token_hex(6)}{mark}.png"
    with atomic_write(target) as file:
        if signed is not None:
            file.write(signed)
        else:
            _write(image, file, request, seed, facts or {})
    return target


def png_bytes(image: Image.Image, request: GenerationRequest, seed: int, facts: Mapping[str, Any]) -> bytes:
    """The file that ``save_png`` writes, as bytes."""
    file = io.BytesIO()
    _write(image, file, request, seed, facts)
    return file.getvalue()


def _write(image: Image.Image, file: BinaryIO, request: GenerationRequest, seed: int, facts: Mapping[str, Any]) -> None:
    info = text_chunks(parameters_text(request, seed, facts), metadata_json(request, seed, facts), xmp_packet(request))
    image.save(file, format="PNG", pnginfo=info)


@dataclass(frozen=True)
class PictureRecord:
    """What a picture's file says of how it was made.

    Attributes:
        request: of its run.
        seed: of this picture.
        facts: JSON values: seconds, device, versions.
    """

    request: GenerationRequest
    seed: int
    facts: Mapping[str, Any]

    @property
    def place(self) -> int:
        """The picture's number in its run, from 0."""
        return _place(self.facts, self.request)


def _place(facts: Mapping[str, Any], request: GenerationRequest) -> int:
    found = facts.get("picture", 0)
    return found if isinstance(found, int) and 0 <= found < request.num_images else 0


def read_request(path: Path | str) -> GenerationRequest:
    """The request that makes the image at ``path`` again: one image, with that image's own seed.

    Raises:
        InvalidRequest: if this program wrote nothing into the file, or a newer version did.
        FileNotFoundError: if there is no such file.
    """
    record = read_record(path)
    try:
        return single_image_request(record.request, record.seed, record.place)
    except ValueError:
        raise InvalidRequest("image", _nothing_in(path)) from None


def _nothing_in(path: Path | str) -> str:
    return f"{Path(path).name} holds no settings of the Diffusion Playground; choose a picture that was saved by it."


def read_record(path: Path | str) -> PictureRecord:
    """What the PNG, JPEG or WebP at ``path`` says of how it was made; raises as ``read_request``."""
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise InvalidRequest("image", f"{path.name} is larger than {MAX_BYTES >> 20} MB; choose a smaller picture.")
    record = record_of(read_texts(path.read_bytes()), path.name)
    if record is None:
        raise InvalidRequest("image", _nothing_in(path))
    return record


def record_of(texts: FileTexts, name: str = "This picture") -> PictureRecord | None:
    """What this program wrote into a file, None if it wrote nothing that can be read.

    Raises:
        InvalidRequest: if a newer version wrote it.
    """
    note = texts.maker_note.rstrip(b"\0").removeprefix(CHUNK.encode() + b"\0")
    text = texts.texts.get(CHUNK) or (note if len(note) < len(texts.maker_note) else b"")
    try:
        found = parse_json(text)
        if found["version"] != VERSION:
            raise InvalidRequest("image", f"{name} was saved by another version; update the Diffusion Playground.")
        request, facts = GenerationRequest.model_validate_json(json.dumps(found["request"])), found.get("facts", {})
        return PictureRecord(request, _seed(found["seed"]), facts if isinstance(facts, dict) else {})
    except InvalidRequest:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _seed(found: Any) -> int:
    """The seed in a record; raises ValueError for what is none."""
    if not isinstance(found, int) or not 0 <= found <= MAX_SEED:
        raise ValueError("no seed is negative, a fraction, or so large")
    return found


def single_image_request(request: GenerationRequest, seed: int, k: int) -> GenerationRequest:
    """The request that makes only image k of a request.

    An image between two prompts cannot be made alone: then it is the whole request.  No run is named in it.
    """
    variation, blend = request.variation, request.interpolation
    if blend is not None and blend.prompt is not None:
        return request
    values = {**request.model_dump(), **fields_of_picture(request, k), "interpolation": None}
    values["sampling"]["seed"] = seed
    if fork := request.fork:
        values["fork"] |= {
            "run": "",
            "original": single_image_request(fork.original, seed, k).model_dump(),
            "seed": None if fork.seed is None else fork.seed + k,
        }
    if variation is not None:
        values["variation"] = {"seed": variation.seed + k, "strength": variation.strength}
    if blend is not None:
        values["variation"] = {"seed": blend.seed, "strength": k / (request.num_images - 1)}
    return GenerationRequest.model_validate(values)


def _without_runs(request: GenerationRequest) -> GenerationRequest:
    """A request that names no run: a file does not tell who made it."""
    if request.fork is None:
        return request
    fork = request.fork.model_copy(update={"run": "", "original": _without_runs(request.fork.original)})
    return request.model_copy(update={"fork": fork})


def parameters_text(request: GenerationRequest, seed: int, facts: Mapping[str, Any] | None = None) -> str:
    """The settings in the text form that other tools read (the ``parameters`` chunk of AUTOMATIC1111's web UI).

    Args:
        request: of the run.
        seed: of this picture.
        facts: how it was made; the hashes of files in it are written in that form, too.
    """
    name, k = request.sampling.scheduler, _place(facts or {}, request)
    spec = SCHEDULERS.get(name)
    values = {
        "Steps": request.sampling.num_inference_steps,
        "Sampler": A1111_SAMPLERS.get(name) or (spec.label if spec else name),
        "CFG scale": request.sampling.guidance_scale,
        "Seed": seed,
        "Size": f"{request.width}x{request.height}",
        "Model": request.model,
        **_optional_parameters(request),
        **_typed_parameters(request, k),
        **_hashes(facts or {}),
    }
    loras = "".join(f" <lora:{lora.name}:{lora.weight:g}>" for lora in request.loras)
    prompt, negative = request.prompt_of(k), request.negative_prompt
    if request.prompt_syntax == COMPEL:
        prompt, negative = to_a1111(prompt), to_a1111(negative)
    lines = [prompt + loras]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in values.items()))
    return "\n".join(lines)


def _hashes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Model and LoRA hashes as AUTOMATIC1111 writes them: the first 10 and 12 digits of a file's SHA-256."""
    model, adapters = facts.get("model"), facts.get("adapters")
    files = model.get("sha256") if isinstance(model, dict) else None
    found: dict[str, Any] = {}
    if isinstance(files, dict) and len(files) == 1:
        found["Model hash"] = str(next(iter(files.values())))[:10]
    # Those of folders, whose names have a slash, are no LoRAs.
    loras = {name: one for name, one in adapters.items() if "/" not in name} if isinstance(adapters, dict) else {}
    if loras:
        found["Lora hashes"] = ", ".join(f"{name}: {str(digest)[:12]}" for name, digest in loras.items())
    return found


def _optional_parameters(request: GenerationRequest) -> dict[str, Any]:
    """The parameters that only some requests have, by the names that other tools use."""
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
    if request.fork is not None:
        found |= {"Fork step": request.fork.step, "Fork of": request.fork.original.prompt}
    if variation is not None:
        found |= {"Variation seed": variation.seed, "Variation seed strength": variation.strength}
    return found


def _typed_parameters(request: GenerationRequest, k: int) -> dict[str, Any]:
    """What image k's prompt was made from; "Template" as the extension Dynamic Prompts writes it."""
    if request.typed is None:
        return {}
    found = {
        "Template": request.typed.prompt, "Negative Template": request.typed.negative_prompt,
        "Styles": ", ".join(request.typed.styles), "Drawn": ", ".join(request.drawn_for(k)),
        "Negative drawn": ", ".join(request.typed.negative_drawn),
    }  # fmt: skip
    return {name: text for name, text in found.items() if text}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ',:\n"') else value


def metadata_json(request: GenerationRequest, seed: int, facts: Mapping[str, Any], ensure_ascii: bool = True) -> str:
    """The settings as JSON, for ``read_request``."""
    found = {
        "version": VERSION,
        "request": _without_runs(request).model_dump(mode="json"),
        "seed": seed,
        "facts": dict(facts),
    }
    return json.dumps(found, ensure_ascii=ensure_ascii)


def text_chunks(text: str, settings: str, xmp: str) -> PngImagePlugin.PngInfo:
    """A PNG's text chunks: ``parameters`` for other tools, our own JSON, and the XMP packet of ``provenance``."""
    info = xmp_chunk(xmp)
    info.add_text("parameters", text)
    info.add_text(CHUNK, settings)
    return info


def xmp_chunk(xmp: str) -> PngImagePlugin.PngInfo:
    """A PNG's text chunks with the XMP packet only (``pipelines.images.provenance.xmp_packet``)."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    return info
