"""``make evaluate``: how well pocket and pocket-turbo draw what they are asked, as JSON, and contact sheets as PNG.

    python -m pocket.evaluate [--models pocket turbo] [--steps 1 2 4 8 25] [--count 200] [--parts ...]

The prompts are held-out (concept, colour) pairs: the model has seen the concept and the colour, never together.
Two judges look: a classifier that was trained on renders of the artwork (``judge``) and the nearest render in pixels
(``nearest``), which was not trained at all.
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
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from pipelines.training_sample.alignment import border, box
from pocket.evaluate import classifier, curve
from pocket.evaluate.nearest import Nearest
from pocket.paths import ROOT, TURBO, WEIGHTS
from pocket.train.pictures import to_tensor
from pocket.world import plain
from pocket.world.artwork import STYLES, fetch
from pocket.world.grammar import article, plural
from pocket.world.vocabulary import load_concepts

GUIDANCE = 4.0
PARTS = ("steps", "styles", "sizes", "pairs", "words", "autoencoder")
# Longer side as a share of the canvas.  In renders of the first style it is 0.27 to 0.39 where the caption says small,
# 0.58 to 0.76 where it names no size and 0.77 to 0.90 where it says large (1st to 99th percentile).
SMALLER, LARGER = 0.5, 0.77


def background_name(pixels: np.ndarray) -> str:
    """The named colour nearest to the median of the border: pixels are uint8 (h, w, 3)."""
    median = np.array(border(pixels))
    return min(plain.COLOURS, key=lambda name: float(np.square(np.array(plain.COLOURS[name]) - median).sum()))


@torch.inference_mode()
def reconstruction_psnr(pipeline: StableDiffusionPipeline, count: int = 400) -> float:
    """Mean PSNR in dB of encode-decode on fresh pictures, of all sizes, styles and pairs."""
    pictures = plain.Pictures(seed=99)
    x = to_tensor(np.stack([pictures.draw()[1] for _ in range(count)]))
    psnr = []
    for part in x.split(50):
        y = pipeline.vae.decode(pipeline.vae.encode(part).latents).sample.clamp(-1, 1)
        psnr += [10 * math.log10(4 / e.item()) for e in (y - part).square().mean((1, 2, 3))]
    return float(np.mean(psnr))


def draw(pipeline: StableDiffusionPipeline, prompts: list[str], steps: int, guidance: float) -> list[np.ndarray]:
    """One picture a prompt, seed = the prompt's place in the list."""
    pictures: list[np.ndarray] = []
    for k in range(0, len(prompts), 25):
        part = prompts[k : k + 25]
        seeds = [torch.Generator().manual_seed(k + i) for i in range(len(part))]
        pictures += [
            np.asarray(image)
            for image in pipeline(
                part,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=seeds,
            ).images
        ]
    return pictures


def load(name: str, weights: Path = WEIGHTS) -> tuple[StableDiffusionPipeline, float]:
    """A model by its name, and the guidance scale that it is meant for."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    if name == "turbo":
        pipeline.unet = UNet2DConditionModel.from_pretrained(TURBO / "unet")
        pipeline.scheduler = LCMScheduler.from_pretrained(TURBO / "scheduler")
        return pipeline, 1.0
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline, GUIDANCE


class PlainEvaluation:
    """One model in front of both judges."""

    def __init__(self, pipeline: StableDiffusionPipeline, guidance: float, count: int) -> None:
        self.pipeline, self.guidance, self.count = pipeline, guidance, count
        self.concepts = load_concepts(fetch())
        self.classifier, self.nearest = classifier.train(), Nearest(self.concepts)
        self.pairs = plain.held_out_pairs(self.concepts)[:count]

    def draw(self, prompts: list[str], steps: int) -> list[np.ndarray]:
        return draw(self.pipeline, prompts, steps, self.guidance)

    @torch.inference_mode()
    def guesses(self, pictures: list[np.ndarray]) -> list[list[int]]:
        """The classifier's concepts from the likeliest on."""
        shown = classifier.shrink(to_tensor(np.stack(pictures)))
        return [row.tolist() for part in shown.split(50) for row in self.classifier(part).argsort(1, descending=True)]

    def plain(self, steps: int, sheet: Path | None = None) -> dict:
        """The held-out prompts at so many steps."""
        pictures = self.draw([plain.caption(self.concepts[i], None, c) for i, c in self.pairs], steps)
        if sheet:
            rows = [np.concatenate(pictures[k : k + 8], axis=1) for k in range(0, min(64, self.count), 8)]
            Image.fromarray(np.concatenate(rows)).save(sheet, quality=88)
        wanted, orders = [i for i, _ in self.pairs], self.guesses(pictures)
        near = [self.nearest.ranked(p, c)[0] for p, (_, c) in zip(pictures, self.pairs, strict=True)]
        missed = [
            f"{plain.caption(self.concepts[i], None, c)}: {self.concepts[o[0]].name}"
            for o, (i, c) in zip(orders, self.pairs, strict=True)
            if o[0] != i
        ]
        return {
            "colour": mean(background_name(p) == c for p, (_, c) in zip(pictures, self.pairs, strict=True)),
            "concept_top1": mean(o[0] == i for o, i in zip(orders, wanted, strict=True)),
            "concept_top5": mean(i in o[:5] for o, i in zip(orders, wanted, strict=True)),
            "concept_top1_nearest": mean(n == i for n, i in zip(near, wanted, strict=True)),
            "missed": missed[:12],
        }

    def styled(self, style: str, steps: int) -> dict:
        """Held-out prompts that name a style: concept by the classifier, style by the nearest render."""
        pictures = self.draw([plain.caption(self.concepts[i], style, c) for i, c in self.pairs], steps)
        seen = [self.nearest.style_of(p, c, i) for p, (i, c) in zip(pictures, self.pairs, strict=True)]
        return {
            "concept_top1": mean(o[0] == i for o, (i, _) in zip(self.guesses(pictures), self.pairs, strict=True)),
            "style": mean(s == style for s in seen),
        }

    def sized(self, size: str, steps: int) -> dict:
        """Held-out prompts with a size word: concept, and whether the thing's longer side is as asked."""
        pictures = self.draw([plain.caption(self.concepts[i], None, c, size=size) for i, c in self.pairs], steps)
        sides = [longer_side(p) for p in pictures]
        return {
            "concept_top1": mean(o[0] == i for o, (i, _) in zip(self.guesses(pictures), self.pairs, strict=True)),
            "size": mean(side < SMALLER if size == "small" else side > LARGER for side in sides),
        }

    def twos(self, steps: int) -> dict:
        """Held-out pairs of concepts: each half of the picture is judged alone."""
        samples = plain.held_out_twos(self.concepts, self.count)
        named = [(self.concepts[s.concept], self.concepts[s.other or 0], s.colour) for s in samples]
        pictures = self.draw([plain.caption(one, None, c, other=two) for one, two, c in named], steps)
        left = [o[0] == s.concept for o, s in zip(self.guesses([half(p, 0) for p in pictures]), samples, strict=True)]
        right = [o[0] == s.other for o, s in zip(self.guesses([half(p, 1) for p in pictures]), samples, strict=True)]
        return {
            "left": mean(left),
            "right": mean(right),
            "both": mean(a and b for a, b in zip(left, right, strict=True)),
            "colour": mean(background_name(p) == s.colour for p, s in zip(pictures, samples, strict=True)),
        }

    def worded(self, kind: str, steps: int) -> dict:
        """Other words for the concepts: a synonym each (of those that have one), or the plural."""
        pairs = plain.held_out_pairs(self.concepts)
        chosen = [(i, c) for i, c in pairs if kind == "plural" or self.concepts[i].synonyms][: self.count]
        prompts = [f"{self._other_word(kind, i, k)} on {article(c)} background" for k, (i, c) in enumerate(chosen)]
        orders = self.guesses(self.draw(prompts, steps))
        return {
            "concept_top1": mean(o[0] == i for o, (i, _) in zip(orders, chosen, strict=True)),
            "concept_top5": mean(i in o[:5] for o, (i, _) in zip(orders, chosen, strict=True)),
        }

    def _other_word(self, kind: str, index: int, k: int) -> str:
        concept = self.concepts[index]
        if kind == "plural":
            return plural(concept.name)
        return article(concept.synonyms[k % len(concept.synonyms)])


def mean(values) -> float:
    """The share of what is true, to four digits."""
    return round(float(np.mean(list(values))), 4)


def longer_side(pixels: np.ndarray) -> float:
    """The longer side of what is in a picture, as a share of the canvas."""
    left, top, right, bottom = box(pixels, border(pixels))
    return max(right - left, bottom - top) / len(pixels)


def half(pixels: np.ndarray, which: int) -> np.ndarray:
    """The left (0) or right half of a picture (h, w, 3), in the middle of a canvas of the same size and colour."""
    w = pixels.shape[1]
    canvas = np.empty_like(pixels)
    canvas[:] = border(pixels)
    canvas[:, w // 4 : w // 4 + w // 2] = pixels[:, which * (w // 2) : (which + 1) * (w // 2)]
    return canvas


def evaluate(name: str, weights: Path, count: int, steps: list[int], parts: list[str], sheet: Path | None) -> dict:
    """The figures of one model that were asked for; see the model card for what each means."""
    pipeline, guidance = load(name, weights)
    subject, most = PlainEvaluation(pipeline, guidance, count), 25 if name == "pocket" else 4
    found: dict = {"prompts": len(subject.pairs), "concepts": len(subject.concepts), "guidance_scale": guidance}
    if "steps" in parts:
        found["steps"] = {n: subject.plain(n, sheet if n == most else None) for n in steps}
    if "styles" in parts:
        found["styles"] = {style: subject.styled(style, most) for style in STYLES}
    if "sizes" in parts:
        found["sizes"] = {size: subject.sized(size, most) for size in plain.SIZE_WORDS}
    if "pairs" in parts:
        found["pairs"] = subject.twos(most)
    if "words" in parts:
        found["words"] = {kind: subject.worded(kind, most) for kind in ("synonym", "plural")}
    if "autoencoder" in parts and name == "pocket":
        found["autoencoder_psnr_db"] = round(reconstruction_psnr(pipeline), 2)
        found["samples_seen"] = curve.samples_seen()
        found["classifier_top1_on_real"] = round(classifier.top1_on_real(subject.classifier), 4)
        found["nearest_top1_on_real"] = nearest_on_real(subject.nearest)
    return found


def nearest_on_real(nearest: Nearest, count: int = 300) -> float:
    """How often the second judge is right about renders."""
    pictures, right = plain.Pictures(seed=4712), []
    while len(right) < count:
        sample, pixels = pictures.draw()
        if sample.other is None:
            right.append(nearest.ranked(pixels, sample.colour)[0] == sample.concept)
    return mean(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=("pocket", "turbo"), help="default: those that are there")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=200, help="held-out prompts")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 25])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sheets", type=Path, default=ROOT, help="a folder for the contact sheets")
    options = parser.parse_args()
    names = options.models or ["pocket", *(["turbo"] if TURBO.is_dir() else [])]
    sheets = {"pocket": options.sheets / "contact_sheet.webp", "turbo": options.sheets / "contact_sheet_turbo.webp"}
    stdout, sys.stdout = sys.stdout, sys.stderr
    figures = {
        name: evaluate(name, options.weights, options.count, options.steps, options.parts, sheets[name])
        for name in names
    }
    print(json.dumps(figures, indent=2), file=stdout)


if __name__ == "__main__":
    main()
