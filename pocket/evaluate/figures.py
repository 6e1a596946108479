"""How well a model draws scenes, media, colours, pairs and counts that were held out, as JSON.

    python -m pocket.evaluate.figures [--weights FOLDER] [--turbo FOLDER] [--steps 25] [--count 400] [--parts ...]

Each figure is printed with the judge's figure for clean renders of the same samples, which no model can beat.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionPipeline
from PIL import Image

from pocket.evaluate import attributes, classifier
from pocket.evaluate.nearest import Nearest
from pocket.paths import RUNS, WEIGHTS
from pocket.train.autoencoder import decibels
from pocket.train.pictures import Drawn, to_tensor
from pocket.world.artwork import Artwork
from pocket.world.captions import caption
from pocket.world.colours import BACKGROUNDS, THING_COLOURS, can_be_recoloured
from pocket.world.media import MEDIA
from pocket.world.renderer import Renderer
from pocket.world.samples import RELATIONS, Sample, held_out
from pocket.world.scenes import SCENES
from pocket.world.vocabulary import Concept, load_things

GUIDANCE = 4.0
ARTICLE = (
    "a watercolor painting of a japanese temple at sunset",
    "a golden retriever in space",
    "a purple dragon",
    "two cats",
)


def held_out_samples(kind: str, things: list[Concept], count: int) -> list[Sample]:
    """So many samples of a kind, all held out and always the same."""
    rng, found = np.random.default_rng([31, KINDS.index(kind)]), []
    while len(found) < count:
        sample = _sample(kind, len(found), things, rng)
        if sample is not None:
            found.append(sample)
    return found


def _sample(kind: str, number: int, things: list[Concept], rng: np.random.Generator) -> Sample | None:
    """A random sample of a kind, or None where it is not held out."""
    thing, other = (int(i) for i in rng.choice(len(things), 2, replace=False))
    name, seed = things[thing].name, int(rng.integers(2**31))
    is_plain = kind in ("plain", "small") or (kind in ("colour", "pair", "count") and number % 2)
    places = list(BACKGROUNDS if is_plain else SCENES)
    where = places[int(rng.integers(len(places)))]
    sample = Sample(thing, where, seed)
    if kind == "colour":
        colour = list(THING_COLOURS)[int(rng.integers(len(THING_COLOURS)))]
        fits = can_be_recoloured(name) and held_out(name, colour + " thing")
        return dataclasses.replace(sample, colour=colour) if fits else None
    if not held_out(name, where):
        return None
    if kind == "scene":
        return dataclasses.replace(sample, medium=list(MEDIA)[number % len(MEDIA)])
    if kind == "pair":
        return dataclasses.replace(sample, other=other, relation=RELATIONS[number % len(RELATIONS)])
    if kind == "count":
        return dataclasses.replace(sample, count=1 + number // 2 % 3)
    return dataclasses.replace(sample, size="small") if kind == "small" else sample


KINDS = ("plain", "scene", "colour", "pair", "count", "small")
PARTS = (*KINDS, "autoencoder")
# What is asked of each kind: the attribute, or the thing.
ASKED = {
    "plain": ("thing", "surroundings"),
    "scene": ("thing", "surroundings", "medium"),
    "colour": ("thing", "colour"),
    "pair": ("both",),
    "count": ("count",),
    "small": ("thing",),
}


def is_right(question: str, sample: Sample, answers: dict[str, list], k: int) -> bool:
    """Whether the judge's answer about the k-th picture is what its sample shows."""
    if question == "thing":
        return answers["thing"][k][0] == sample.thing
    if question == "both":
        return set(answers["thing"][k][:2]) == {sample.thing, sample.other}
    return answers[question][k] == getattr(sample, question)


def shares(kind: str, samples: list[Sample], answers: dict[str, list]) -> dict[str, float]:
    """The share of right answers to each question of a kind."""
    return {
        question: round(float(np.mean([is_right(question, s, answers, k) for k, s in enumerate(samples)])), 4)
        for question in ASKED[kind]
    }


class Evaluation:
    """The judges, and the pictures of one model that they look at."""

    def __init__(self, draw: Callable[[list[str]], np.ndarray], renderer: Renderer) -> None:
        self.draw, self.renderer, self.things = draw, renderer, renderer.things

    @cached_property
    def judge(self) -> attributes.Attributes:
        return attributes.train(self.renderer)

    @cached_property
    def nearest(self) -> Nearest:
        return Nearest(self.things)

    @cached_property
    def classifier(self) -> torch.nn.Module:
        return classifier.train(load=load_things, checkpoint=RUNS / "classifier-things.pt")

    def kind(self, kind: str, count: int) -> dict:
        """Figures of a kind of prompt, and what the judge says of renders of the same samples."""
        samples = held_out_samples(kind, self.things, count)
        pictures = self.draw([caption(sample, self.things) for sample in samples])
        renders = np.stack([self.renderer.draw(sample) for sample in samples])
        found = {
            "figures": shares(kind, samples, attributes.answer(self.judge, pictures)),
            "of renders": shares(kind, samples, attributes.answer(self.judge, renders)),
        }
        if kind == "plain":
            found["figures"] |= self.plain(samples, pictures)
            found["of renders"] |= self.plain(samples, renders)
        return found

    @torch.inference_mode()
    def plain(self, samples: list[Sample], pictures: np.ndarray) -> dict[str, float]:
        """What the two judges of plain backgrounds say."""
        small = torch.cat([classifier.shrink(attributes.view(part)) for part in np.array_split(pictures, 20)])
        guesses = torch.cat([self.classifier(part).argmax(1) for part in small.split(50)]).tolist()
        near = [self.nearest.ranked(p, s.surroundings)[0] for p, s in zip(pictures, samples, strict=True)]
        return {
            "classifier": round(float(np.mean([g == s.thing for g, s in zip(guesses, samples, strict=True)])), 4),
            "nearest render": round(float(np.mean([n == s.thing for n, s in zip(near, samples, strict=True)])), 4),
        }


@torch.inference_mode()
def reconstruction(vae, renderer: Renderer, count: int) -> dict[str, float]:
    """PSNR in dB of encoding and decoding, by medium, of so many pictures each."""
    source, found = Drawn(renderer, (99,)), {}
    for medium in MEDIA:
        samples = [dataclasses.replace(source.sample(), medium=medium) for _ in range(count)]
        values = []
        for sample in samples:
            x = to_tensor(renderer.draw(sample)[None])
            y = vae.decode(vae.encode(x).latents).sample.clamp(-1, 1)
            values.append(decibels((y - x).square().mean()).item())
        found[medium] = round(float(np.mean(values)), 2)
    return found


def load(weights: Path, turbo: Path | None) -> tuple[StableDiffusionPipeline, float]:
    """A model with its sampler, and the guidance scale that it is meant for."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    if turbo is None:
        return sampler(pipeline), GUIDANCE
    pipeline.load_lora_weights(turbo)
    pipeline.fuse_lora()
    pipeline.scheduler = LCMScheduler.from_pretrained(turbo / "scheduler")
    return pipeline, 1.0


def sampler(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """The pipeline with DDIM."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline


def drawer(
    pipeline: StableDiffusionPipeline, steps: int, guidance: float, size: int = 256
) -> Callable[[list[str]], np.ndarray]:
    """A function that draws one picture a prompt, seed = the prompt's place in the list: (n, size, size, 3)."""

    def draw(prompts: list[str]) -> np.ndarray:
        pictures: list[np.ndarray] = []
        for k in range(0, len(prompts), 20):
            part = prompts[k : k + 20]
            seeds = [torch.Generator().manual_seed(k + i) for i in range(len(part))]
            images = pipeline(
                part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, height=size, width=size
            ).images
            pictures += [np.asarray(image) for image in images]
        return np.stack(pictures)

    return draw


def contact_sheet(draw: Callable[[list[str]], np.ndarray], things: list[Concept], file: Path) -> None:
    """The article's sentences and the first held-out prompts of scenes, 64 in all."""
    prompts = [*ARTICLE, *(caption(s, things) for s in held_out_samples("scene", things, 60))]
    pictures = draw(prompts)
    rows = [np.concatenate(pictures[k : k + 8], axis=1) for k in range(0, 64, 8)]
    Image.fromarray(np.concatenate(rows)).resize((1024, 1024), Image.Resampling.LANCZOS).save(file)


def main(argv: list[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--turbo", type=Path, help="a folder with a LoRA, which is put on")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--count", type=int, default=400, help="held-out prompts of each kind")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sheet", type=Path, help="a file for a contact sheet")
    options = parser.parse_args(argv)
    stdout, sys.stdout = sys.stdout, sys.stderr
    pipeline, guidance = load(options.weights, options.turbo)
    draw, renderer = drawer(pipeline, options.steps, guidance), Renderer(Artwork())
    evaluation = Evaluation(draw, renderer)
    found: dict = {"prompts": options.count, "steps": options.steps, "guidance_scale": guidance}
    found |= {kind: evaluation.kind(kind, options.count) for kind in KINDS if kind in options.parts}
    if "autoencoder" in options.parts:
        found["autoencoder_psnr_db"] = reconstruction(pipeline.vae, renderer, max(1, options.count // 8))
    if options.sheet:
        contact_sheet(draw, renderer.things, options.sheet)
    print(json.dumps(found, indent=2), file=stdout)


if __name__ == "__main__":
    main()
