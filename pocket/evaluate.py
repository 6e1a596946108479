"""``make evaluate``: how well pocket draws what it is asked, as JSON, and a contact sheet as PNG.

The prompts are held-out (concept, colour) pairs: the model has seen the concept and the colour, never together.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from pocket import data, judge, vae
from pocket.export import WEIGHTS


def background_name(pixels: np.ndarray) -> str:
    """The named colour nearest to the median of the border: pixels are uint8 (h, w, 3)."""
    border = np.concatenate([pixels[:5].reshape(-1, 3), pixels[-5:].reshape(-1, 3),
                             pixels[:, :5].reshape(-1, 3), pixels[:, -5:].reshape(-1, 3)])
    median = np.median(border, axis=0)
    return min(data.COLOURS, key=lambda name: float(np.square(np.array(data.COLOURS[name]) - median).sum()))


@torch.inference_mode()
def reconstruction_psnr(pipeline: StableDiffusionPipeline, count: int = 400) -> float:
    """Mean PSNR in dB of encode-decode on fresh pictures."""
    x = vae.Pictures(seed=99).batch(count)
    psnr = []
    for part in x.split(50):
        y = pipeline.vae.decode(pipeline.vae.encode(part).latents).sample.clamp(-1, 1)
        psnr += [10 * math.log10(4 / e.item()) for e in (y - part).square().mean((1, 2, 3))]
    return float(np.mean(psnr))


def draw(pipeline: StableDiffusionPipeline, prompts: list[str], steps: int, guidance: float) -> list[np.ndarray]:
    """One picture a prompt, seed = the prompt's place in the list."""
    pictures: list[np.ndarray] = []
    for k in range(0, len(prompts), 25):
        part = prompts[k:k + 25]
        seeds = [torch.Generator().manual_seed(k + i) for i in range(len(part))]
        pictures += [np.asarray(image) for image in pipeline(
            part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, height=128, width=128,
        ).images]
    return pictures


def evaluate(folder: Path, count: int, steps: int, guidance: float, sheet: Path | None,
             style: str | None = None) -> dict:
    """All figures of the evaluation; see the README for what each means."""
    concepts = data.load_concepts(data.fetch())
    classifier = judge.train()
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    pairs = data.held_out_pairs(concepts)[:count]
    prompts = [data.caption(concepts[i], style, colour) for i, colour in pairs]
    pictures = draw(pipeline, prompts, steps, guidance)
    with torch.inference_mode():
        order = classifier(judge.shrink(vae.to_tensor(np.stack(pictures)))).argsort(1, descending=True)
    if sheet:
        rows = [np.concatenate(pictures[k:k + 8], axis=1) for k in range(0, min(64, count), 8)]
        Image.fromarray(np.concatenate(rows)).save(sheet)
    return {
        "vae_psnr_db": round(reconstruction_psnr(pipeline), 2),
        "colour_accuracy": float(np.mean([background_name(p) == c for p, (_, c) in zip(pictures, pairs, strict=True)])),
        "concept_top1": float(np.mean([i == o[0].item() for o, (i, _) in zip(order, pairs, strict=True)])),
        "concept_top5": float(np.mean([i in o[:5].tolist() for o, (i, _) in zip(order, pairs, strict=True)])),
        "classifier_top1_on_real": round(judge.top1_on_real(classifier), 4),
        "concepts": len(concepts),
        "prompts": len(prompts),
        "steps": steps,
        "guidance_scale": guidance,
        "style": style,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=200, help="held-out prompts, at most 560")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--style", choices=list(data.STYLES), help="name a style in the prompts (default: none)")
    parser.add_argument("--sheet", type=Path, default=data.ROOT / "contact_sheet.png")
    options = parser.parse_args()
    stdout, sys.stdout = sys.stdout, sys.stderr
    figures = evaluate(options.weights, options.count, options.steps, options.guidance, options.sheet, options.style)
    print(json.dumps(figures, indent=2), file=stdout)


if __name__ == "__main__":
    main()
