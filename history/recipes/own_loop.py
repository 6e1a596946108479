"""The script of a model that runs a loop of its own: one call of its pipeline."""

from __future__ import annotations

from history.recipes import model
from history.recipes.plan import Plan

_BODY = """
import inspect
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

{threads}HERE = Path(__file__).parent
MODEL = {model!r}
SEEDS = {seeds!r}  # one a picture

pipe = DiffusionPipeline.from_pretrained(MODEL, {options}).to({device!r})
pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
# A generator on the CPU gives the same noise on every device.
generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
values = {{
    "prompt": {prompt!r},
    "negative_prompt": {negative!r},
    "width": {width},
    "height": {height},
    "num_inference_steps": {steps},
    "guidance_scale": {guidance!r},
    "num_images_per_prompt": {each},
    "generator": generators if len(generators) > 1 else generators[0],
    "use_resolution_binning": False,  # the size is as it says, not one near it
}}
# Each pipeline of this kind knows some of these.
known = inspect.signature(pipe.__call__).parameters
images = pipe(**{{name: value for name, value in values.items() if name in known}}).images
for number, image in enumerate(images, start=1):
    image.save(HERE / f"picture-{{number}}.png")
"""


def body(plan: Plan, threads: str) -> str:
    """The script below its header; ``threads`` is the line that sets their number, or ""."""
    request = plan.request
    options = [f"dtype=torch.{plan.dtype}", "use_safetensors=True", *model.revision(plan)]
    options += [] if plan.is_on_hub else ["local_files_only=True"]
    return _BODY.lstrip().format(
        threads=threads, model=model.source(plan), seeds=list(request.seeds), options=", ".join(options),
        device=plan.device, prompt=list(request.prompts) or request.prompt,
        negative=[request.negative_prompt] * len(request.prompts) or request.negative_prompt,
        each=1 if request.prompts else "len(SEEDS)", width=request.width, height=request.height,
        steps=request.sampling.num_inference_steps, guidance=request.sampling.guidance_scale,
    )  # fmt: skip
