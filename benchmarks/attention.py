"""Where the attention of pocket's words lies, measured against what it drew.

    python -m benchmarks.attention [--model pocket] [--count 100] [--steps 25] [--threads 1]

Two things: "a cat next to a rocket on a red background"; the left thing's map should lie on the left half, the other's
on the right (of pairs that were held out in training).  One thing: its map should lie on it, that of the background's
colour around it; the picture's own pixels say where the thing is.  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.model import Placement
from pipelines.models.families import loader
from pipelines.request import GenerationRequest, make_request
from pipelines.sampling.denoise import denoise
from pipelines.system.paths import PROJECT
from pipelines.trace.recorder import Recorder
from pipelines.trace.trace import Trace
from pipelines.trace.words.attention import AttentionMaps, attention_maps
from pocket.evaluate.nearest import border
from pocket.world import plain
from pocket.world.vocabulary import Concept
from presets.catalogue import card_for, load

# A pixel belongs to the thing where a channel is so far from the border's colour.
FAR = 48
STEPS_AT_ONCE = 8


def vocabulary(model: Any) -> list[Concept]:
    """What the model can draw, by the file of its card."""
    entries = json.loads((PROJECT / model.card.vocabulary).read_text(encoding="utf-8"))
    return [Concept(entry["name"], entry["name"]) for entry in entries]


def run(model: Any, request: GenerationRequest) -> tuple[Trace, np.ndarray]:
    """A recorded run and its picture, uint8 (h, w, 3)."""
    recorder = Recorder("run", request, 0.0)
    for step in denoise(model, request):
        recorder.add(step, (b"",))
    with torch.inference_mode():
        [image] = model.latents.decode(step.x_next)
    return recorder.finish(model, (), (), 0.0), np.asarray(image.convert("RGB"))


@torch.inference_mode()
def maps_of(model: Any, trace: Trace) -> AttentionMaps:
    """The attention of every step."""
    found = None
    for start in range(0, len(trace.steps), STEPS_AT_ONCE):
        part = attention_maps(model, trace, 0, range(start, min(start + STEPS_AT_ONCE, len(trace.steps))))
        found = part if found is None else found.followed_by(part)
    assert found is not None
    return found


def map_of(found: AttentionMaps, name: str, last: bool = False) -> np.ndarray:
    """The mean over the steps of the words of a name, (h, w); of its last occurrence where it is there twice."""
    texts, wanted = [word.text for word in found.words], name.lower().replace(" ", "")
    spans = [(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if "".join(texts[i:j]) == wanted]
    if not spans:
        raise LookupError(name)
    start, end = spans[-1 if last else 0]
    return found.combined()[:, start:end].sum(1).mean(0)


def left_share(each: np.ndarray) -> float:
    """The left half's share of a map."""
    return float(each[:, : each.shape[1] // 2].sum() / each.sum())


def mask_of(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where the thing is, as the share of each cell that it covers, (h, w)."""
    away = np.abs(pixels.astype(int) - np.array(border(pixels))).max(-1) > FAR
    cells = Image.fromarray((255 * away).astype(np.uint8)).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(cells, np.float32) / 255


def drawn(model: Any, prompts: Sequence[str], steps: int) -> Iterator[tuple[str, AttentionMaps, np.ndarray]]:
    """Each prompt with its attention and its picture."""
    for seed, prompt in enumerate(prompts):
        request = make_request(
            model=model.card.id, prompt=prompt, width=model.card.width, height=model.card.height, seed=seed,
            scheduler=model.card.qualities[model.card.default_quality].scheduler, num_inference_steps=steps,
            guidance_scale=model.card.guidance_scale,
        )  # fmt: skip
        trace, pixels = run(model, request)
        yield prompt, maps_of(model, trace), pixels


def two_things(model: Any, count: int, steps: int) -> dict[str, Any]:
    """How often each of two things' maps lies on its own half; a map that knows nothing does so every second time."""
    concepts = vocabulary(model)
    samples = plain.held_out_twos(concepts, count)
    prompts = [plain.caption(concepts[s.concept], None, s.colour, other=concepts[s.other]) for s in samples]
    rows = []
    for sample, (_, found, _) in zip(samples, drawn(model, prompts, steps), strict=True):
        names = concepts[sample.concept].name, concepts[sample.other].name
        rows.append([left_share(map_of(found, names[0])), left_share(map_of(found, names[1], last=True))])
    left, right = np.array(rows).T
    return {
        "prompts": count,
        "first_word_on_the_left": share(left > 0.5),
        "second_word_on_the_right": share(right < 0.5),
        "both_on_their_own_half": share((left > 0.5) & (right < 0.5)),
        "first_word_further_left_than_second": share(left > right),
        "left_share_of_first_and_second": [round(float(each.mean()), 3) for each in (left, right)],
    }


def one_thing(model: Any, count: int, steps: int) -> dict[str, Any]:
    """How often the thing's map lies on the thing, and that of the background's colour around it."""
    concepts = vocabulary(model)
    samples = plain.held_out_pairs(concepts)[:count]
    prompts = [plain.caption(concepts[i], None, colour) for i, colour in samples]
    rows = []
    for (i, colour), (_, found, pixels) in zip(samples, drawn(model, prompts, steps), strict=True):
        mask = mask_of(pixels, found.size)
        if not 0.02 < mask.mean() < 0.9:
            continue
        thing, ground = map_of(found, concepts[i].name), map_of(found, colour, last=True)
        peak = np.unravel_index(thing.argmax(), thing.shape)
        rows.append([contrast(thing, mask), contrast(ground, mask), float(mask[peak])])
    thing, ground, peak = np.array(rows).T
    return {
        "prompts": count,
        "with_a_mask": len(rows),
        "thing_stronger_on_the_thing": share(thing > 1),
        "colour_stronger_beside_it": share(ground < 1),
        "peak_of_the_thing_on_it": share(peak > 0.5),
        "ratio_on_to_beside_of_thing_and_colour": [round(float(np.median(each)), 2) for each in (thing, ground)],
    }


def contrast(each: np.ndarray, mask: np.ndarray) -> float:
    """The mean of a map on the thing over that around it."""
    on, beside = (float((each * part).sum() / part.sum()) for part in (mask, 1 - mask))
    return on / beside


def share(found: np.ndarray) -> float:
    """The share of what is true."""
    return round(float(np.mean(found)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    card = card_for(options.model, load())
    model = loader(card.family)(card, Placement("cpu", "float32", "sdpa"), lambda part, done, total: None)
    found = {
        "model": card.id,
        "steps": options.steps,
        "two_things": two_things(model, options.count, options.steps),
        "one_thing": one_thing(model, options.count, options.steps),
        "seconds": round(time.perf_counter() - started),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
