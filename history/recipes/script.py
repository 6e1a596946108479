"""An entry as a script for diffusers alone that makes the same picture."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from history.recipes import loop, lora_layers, model, own_loop, prompts, sampler, start
from history.recipes.plan import FLUX, OWN, SD3, XL, Materials, NoScript, Plan, plan_of
from history.recipes.reasons import refuse
from pipelines.images import geometry
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from history.entries import EntryDetail
    from pipelines.images.inpainting import SourceImage

GONE = "The picture that this one was made from is no longer kept, so the script would have nothing to start from."
IMAGE_PROMPT = "image-prompt.png"
# Bytes of a configuration file; a tokenizer's words are the largest.
MAX_CONFIG = 8 * 2**20
EAGER = (
    "The picture was made by {engine}; this script computes with PyTorch, so that pixels may differ by single steps of "
    "255."
)


@dataclass(frozen=True, eq=False)
class Script:
    """A script, and the files that it needs next to it: pictures, and a configuration.

    Attributes:
        text: Python.
        files: by their names.
    """

    text: str
    files: Mapping[str, bytes]


def write(detail: EntryDetail, materials: Materials) -> Script:
    """Write an entry as a script.

    Raises:
        NoScript: if no script makes its picture; with one sentence for the user.
    """
    plan = plan_of(detail, materials)
    refuse(plan)
    try:
        source = start.source_of(plan)
        inputs = _inputs(plan, source)
    except InvalidRequest:
        raise NoScript(GONE) from None
    body = own_loop.body(plan, _threads(plan)) if plan.family == OWN else _body(plan, source)
    files = {name: _png(image) for name, image in inputs.items()}
    files |= _config(plan) if plan.is_single_file else {}
    files |= lora_layers.files(plan) if plan.loras and not model.has_plain_loras(plan) else {}
    return Script(header(plan) + body, files)


def header(plan: Plan) -> str:
    """What the script is, what it needs, and how the picture was made, as comments."""
    made = datetime.fromtimestamp(plan.detail.entry.created, UTC)
    engine, notes = plan.fact("engine", "torch"), []
    if engine != "torch":
        notes.append(EAGER.format(engine="OpenVINO" if engine == "openvino" else engine))
    if plan.facts.get("compile") or plan.facts.get("ladder"):
        notes.append("It was made with torch.compile or less memory, so that pixels may differ by single steps of 255.")
    if plan.count > 1:
        notes.append(f"Of the run's {plan.count} pictures it is picture-{plan.detail.entry.place + 1}.png.")
    if not plan.materials.shows_paths and not plan.is_on_hub:
        notes.append("Write the folder of the model, and of files that are added to it, where they are named below.")
    lines = [
        f"The picture {plan.detail.entry.id} of the Diffusion Playground, made again by diffusers alone.",
        "It writes the loop of diffusers' pipelines out, so that each line can be read and changed.",
        "",
        f"Needs:  {_pip(plan)}",
        f"Model:  {plan.card.name} ({_versions(plan)})".replace("\n", " "),
        f"Made:   {made:%Y-%m-%d %H:%M} UTC on {plan.device} in {plan.dtype}",
        *notes,
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in map(_one_line, lines)) + "\n"


def _body(plan: Plan, source: SourceImage | None) -> str:
    """The sections of the script, in the order of the work."""
    sections = [
        ("What to make", f"{_constants(plan)}"),
        ("The model, and what is added to it", model.loading(plan) + model.adapters(plan) + _scales(plan)),
        ("The sampler: which noise levels are visited, and how one goes from each to the next", sampler.sampler(plan)),
        ("The prompt", prompts.encoding(plan)),
        ("What the loop begins with", start.start(plan, source) + loop.before(plan)),
        ("Denoising", loop.loop(plan, source)),
        ("From latents to pixels", loop.pictures(plan, source)),
    ]
    text = "".join(f"\n# -- {title} --\n\n{text.strip()}\n" for title, text in sections)
    return _imports(plan) + re.sub(r"\n{4,}", "\n\n\n", text)


def _constants(plan: Plan) -> str:
    request = plan.request
    return (
        f'HERE = Path(__file__).parent\nDEVICE, DTYPE = "{plan.device}", torch.{plan.dtype}\n{model.paths(plan)}\n'
        f"{prompts.constants(plan)}\nWIDTH, HEIGHT = {request.width}, {request.height}\n"
        f"STEPS = {request.sampling.num_inference_steps}\nGUIDANCE = {request.sampling.guidance_scale!r}\n"
        f"SEEDS = {list(request.seeds)!r}  # one a picture\n"
    )


def _scales(plan: Plan) -> str:
    return "# Latents are scaled to about the spread of the noise.\nSCALE = pipe.vae.config.scaling_factor\n" + (
        "SHIFT = pipe.vae.config.shift_factor or 0.0\n" if plan.family in (SD3, FLUX) else ""
    )


def _imports(plan: Plan) -> str:
    names = {model.pipeline_class(plan), sampler.class_name(plan), *(["ControlNetModel"] if plan.controlnets else [])}
    single = any(not one.path.is_dir() for one in plan.controlnets)
    layered = plan.loras and not model.has_plain_loras(plan)
    names |= set(model.shared_parts(plan).values()) if plan.card.rest else set()
    compel = "Compel, ReturnedEmbeddingsType" if plan.family == XL else "Compel"
    lines = [
        "import json" if layered else "", "from pathlib import Path", "",
        "import numpy as np" if _uses_numpy(plan) else "", "import torch",
        f"from compel import {compel}" if prompts.form_of(plan) == prompts.COMPEL else "",
        f"from diffusers import {', '.join(sorted(names))}",
        "from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint" if single else "",
        "from PIL import Image" if plan.request.init or plan.controlnets or plan.image_prompt else "",
        "from safetensors.torch import load_file" if plan.loras or single else "",
        "from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection" if plan.image_prompt else "",
    ]  # fmt: skip
    kept = [line for k, line in enumerate(lines) if line or k == 2]
    return "\n".join(kept) + "\n\ntorch.set_grad_enabled(False)  # nothing is trained here\n" + _threads(plan)


def _threads(plan: Plan) -> str:
    """As many threads as the program used: how they share a sum decides how it is rounded."""
    found = plan.facts.get("threads")
    known = isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= 1024
    return f"torch.set_num_threads({found})  # so that sums are rounded as they were\n" if known else ""


def _uses_numpy(plan: Plan) -> bool:
    return bool(plan.request.init or plan.controlnets or "np." in sampler.timesteps(plan))


def _inputs(plan: Plan, source: SourceImage | None) -> dict[str, Image.Image]:
    """The pictures next to the script."""
    found: dict[str, Image.Image] = {}
    if source is not None:
        found[start.SOURCE] = source.original
        if source.box is not None:
            found[start.INPUT] = source.model_image
        if source.mask is not None and source.model_mask is not None:
            found[start.MASK] = source.model_mask
            found[start.BLEND] = geometry.feather_mask(source.mask, source.feather)
    for k, control in enumerate(plan.request.controls):
        found[loop.control_file(k)] = plan.materials.adapters.control_map(
            control, plan.request.width, plan.request.height, "cpu"
        )
    if plan.request.reference is not None:
        found[IMAGE_PROMPT] = plan.materials.upload(plan.request.reference.image)
    return found


def _config(plan: Plan) -> dict[str, bytes]:
    """The configuration of a model in a single file, which holds weights alone."""
    folder = Path(plan.card.config)
    try:
        paths = [path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_file()]
        texts = [path for path in paths if path.suffix in (".json", ".txt") and path.stat().st_size <= MAX_CONFIG]
        return {f"config/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in sorted(texts)}
    except OSError:
        raise NoScript(f"The configuration of {plan.card.name} cannot be read; restart the program.") from None


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _pip(plan: Plan) -> str:
    found: Any = plan.facts.get("libraries")
    known = found if isinstance(found, dict) else {}
    names = ["torch", "diffusers", "transformers", *(["peft"] if plan.loras and model.has_plain_loras(plan) else [])]
    pinned = [f"{name}=={known[name]}" if isinstance(known.get(name), str) else name for name in names]
    more = ["accelerate", "safetensors", "pillow", "numpy"]
    more += ["scipy"] if plan.request.sampling.scheduler == "lms" else []
    more += ["compel"] if plan.family != OWN and prompts.form_of(plan) == prompts.COMPEL else []
    return "pip install " + " ".join([*pinned, *more])


def _versions(plan: Plan) -> str:
    found: Any = plan.facts.get("model")
    known = found if isinstance(found, dict) else {}
    hashes: Any = known.get("sha256")
    files = [f"SHA-256 of {name} {digest}" for name, digest in hashes.items()] if isinstance(hashes, dict) else []
    revision = known.get("revision")
    return ", ".join([f"revision {revision}"] * bool(revision) + files) or "its version was not recorded"


def _one_line(text: str) -> str:
    """A comment's text; no character of it can end the comment."""
    return "".join(c if c.isprintable() else " " for c in text)[:2000]
