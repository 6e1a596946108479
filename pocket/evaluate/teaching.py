"""How well pocket is taught: ten invented shapes, each taught by itself, and what is forgotten meanwhile; as JSON.

    python -m pocket.evaluate.teaching [--shapes 10] [--old 100] [--preset balanced] [--sheet FILE]

Six pictures of a shape on six colours are taught with their words ("a zorp on a yellow background").  Then the shape
is asked for on colours that it was not taught on.  It counts as drawn where the nearest of all drawings, after
alignment (``nearest.Nearest``), is this shape: among the ten and all things that pocket knows.  Old prompts are judged
in the same way, before and after.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.training.fine_tuning.checkpoints import RunFolder
from pipelines.training.fine_tuning.examples import request_for
from pipelines.training.fine_tuning.settings import TeachingSettings
from pipelines.training.fine_tuning.teaching import Teaching
from pipelines.training_sample.alignment import ALIGNMENTS, border, cut_out
from pocket.evaluate import invented
from pocket.evaluate.nearest import Nearest
from pocket.world import plain
from pocket.world.artwork import fetch
from pocket.world.grammar import article
from pocket.world.vocabulary import load_concepts

MODEL = "pocket"
TAUGHT_ON = ("yellow", "white", "pink", "green", "grey", "sky blue")
ASKED_ON = ("orange", "black", "purple")


class Judge:
    """The nearest of all drawings: the invented shapes and the artwork.

    Args:
        artwork: whether to compare with the artwork, too, which takes a minute to render.
    """

    def __init__(self, artwork: bool = True) -> None:
        self.concepts = load_concepts(fetch()) if artwork else []
        self._nearest = Nearest(self.concepts) if artwork else None

    def invented(self, pixels: np.ndarray, colour: str) -> str:
        """The invented shape that a picture shows; "" where something that pocket knew is nearer."""
        background = plain.COLOURS[colour]
        aligned = cut_out(pixels, border(pixels), ALIGNMENTS)
        distances = {}
        for word in invented.SHAPES:
            reference = cut_out(invented.pixels(invented.picture(word, background)), background)
            distances[word] = float(np.square(reference - aligned).sum(1).min())
        word = min(distances, key=lambda each: distances[each])
        known = self._nearest.distances(pixels, colour).min() if self._nearest else np.inf
        return word if distances[word] <= known else ""

    def is_old(self, pixels: np.ndarray, colour: str, concept: int) -> bool:
        """Whether a picture shows a thing that pocket knows."""
        assert self._nearest is not None
        return self._nearest.ranked(pixels, colour)[0] == concept


def given(word: str) -> list[Image.Image]:
    """Pictures of a shape, of several sizes and places."""
    draw = np.random.default_rng(1)
    found = []
    for colour in TAUGHT_ON:
        size, (right, down) = draw.uniform(0.7, 0.9), draw.uniform(-0.04, 0.04, 2).tolist()
        found.append(invented.picture(word, plain.COLOURS[colour], size, (right, down)))
    return found


def teach(model: Any, word: str, folder: Path, **options: Any) -> Teaching:
    """Teach one shape to the end, as the page does."""
    import torch

    captions = tuple(f"a {word} on {article(colour)} background" for colour in TAUGHT_ON)
    run, settings = (
        RunFolder(folder),
        TeachingSettings(MODEL, word, captions, f"a {word} on {article(ASKED_ON[0])} background", **options),
    )
    run.begin(settings, given(word))
    teaching = Teaching(run, settings)
    while teaching.state not in ("done", "failed"):
        with torch.inference_mode():
            teaching.part(model)
    return teaching


def draw(model: Any, prompt: str, seed: int) -> np.ndarray:
    """A picture in the balanced quality, uint8 (h, w, 3)."""
    from pipelines.sampling.denoise import denoise

    *_, last = denoise(model, request_for(model.card, prompt, seed, "balanced"))
    return invented.pixels(model.latents.decode(last.x_next)[0])


def old_prompts(judge: Judge, count: int) -> list[tuple[str, str, int]]:
    """Prompts of things that pocket knows with their colours and concepts."""
    rng, colours = np.random.default_rng(5), list(plain.COLOURS)
    chosen = rng.choice(len(judge.concepts), count, replace=count > len(judge.concepts)).tolist()
    found = []
    for k in chosen:
        colour = colours[rng.integers(len(colours))]
        found.append((f"{article(judge.concepts[k].name)} on {article(colour)} background", colour, k))
    return found


def old_accuracy(model: Any, judge: Judge, old: Sequence[tuple[str, str, int]]) -> int:
    """How many old prompts are drawn right."""
    return sum(
        judge.is_old(draw(model, prompt, 100 + k), colour, concept) for k, (prompt, colour, concept) in enumerate(old)
    )


def measure(words: Sequence[str], old_count: int, preset: str, changed: Any = ()) -> tuple[dict[str, Any], list[Any]]:
    """The figures, and a row of pictures a shape."""
    from pipelines.models.manager import PipelineManager
    from presets.catalogue import load

    judge, manager = Judge(old_count > 0), PipelineManager(load(), device="cpu")
    found, sheet = [], []
    with manager.lease(MODEL) as model:
        old = old_prompts(judge, old_count)
        before = old_accuracy(model, judge, old)
        for word in words:
            each, row = measure_one(model, judge, word, old, preset=preset, changed=tuple(changed))
            found.append(each)
            sheet.append(row)
            print(json.dumps(each), flush=True)
    result = {
        "preset": preset,
        "shapes": len(found),
        "drawn": sum(each["drawn"][0] for each in found),
        "of_all_colours": sum(sum(each["drawn"]) for each in found) / (len(found) * len(ASKED_ON)),
        "old_prompts": old_count,
        "old_before": before,
        "old_after": [each["old"] for each in found],
        "each": found,
    }
    return result, sheet


def measure_one(model: Any, judge: Judge, word: str, old: Sequence[Any], **options: Any) -> tuple[dict[str, Any], Any]:
    """Teach one shape; its figures and its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        teaching = teach(model, word, Path(folder) / "run-00001", **options)
        took = time.process_time() - began
    assert teaching._training is not None, teaching.problem
    taught = teaching._training.way.model
    made = [draw(taught, f"a {word} on {article(colour)} background", 7) for colour in ASKED_ON]
    seen = [judge.invented(pixels, colour) for pixels, colour in zip(made, ASKED_ON, strict=True)]
    found = {
        "word": word,
        "drawn": [each == word for each in seen],
        "seen": seen,
        "training_s": round(teaching._training.seconds, 1),
        "redraws_s": round(teaching.redraw_seconds, 1),
        "own_s": round(teaching.own_seconds, 1),
        "cpu_s": round(took, 1),
        "old": old_accuracy(taught, judge, old),
        "loss": round(teaching._training.curve[-1], 4),
    }
    shape = invented.pixels(invented.picture(word, plain.COLOURS["white"]))
    return found, [shape, *made, *(draw(taught, prompt, 100 + k) for k, (prompt, *_) in enumerate(old[:3]))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=len(invented.SHAPES))
    parser.add_argument("--old", type=int, default=100)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--changed", type=json.loads, default={}, help='such as {"steps": 60}')
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    words = list(invented.SHAPES)[: options.shapes]
    result, sheet = measure(words, options.old, options.preset, options.changed.items())
    print(json.dumps(result, indent=1))
    if options.sheet:
        Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in sheet])).save(options.sheet)


if __name__ == "__main__":
    main()
