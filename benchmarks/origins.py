"""The figures behind "the nearest training pictures" and the gauge of memorisation on real runs, to choose thresholds.

    python -m benchmarks.origins [--prompts 40] [--steps 8] [--json FILE]

Runs of pocket: pairs of thing and colour that training showed, pairs that it held out, and prompts that name nothing of
it.  For each, how near the nearest training drawing is, whether it is of the prompt's thing, and how strongly the
prompt pulls the first prediction, in comparison with prompts of the training (Wen et al. 2024, arXiv:2407.21720).
A memorised picture is pretended by the training's own drawings, pasted as training pastes them, in place of results.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from PIL import Image

from benchmarks.rows.workshop import Bench, Workshop, has_openvino, open_workshop
from pipelines.training_sample import memorisation
from pipelines.training_sample.nearest import OTHER, SAME
from pipelines.training_sample.recipe import SampleRecipe, held_out

# Prompts that name nothing of the training; the model draws something all the same.
UNKNOWN = ("a cathedral", "a handwritten letter", "an x-ray of a hand", "a street at night", "a knitted sweater")
SHARES = (0, 5, 25, 50, 75, 95, 100)


def prompts(recipe: SampleRecipe, count: int) -> dict[str, list[tuple[str, str]]]:
    """Prompts of each kind, with the name of the thing that they ask for."""
    chance = np.random.default_rng(5)
    kinds: dict[str, list[tuple[str, str]]] = {"trained": [], "held out": []}
    while min(map(len, kinds.values())) < count:
        thing, colour = str(chance.choice(recipe.names)), str(chance.choice(list(recipe.colours)))
        kind = "held out" if held_out([thing], colour) else "trained"
        if len(kinds[kind]) < count:
            kinds[kind].append((f"{recipe.things[thing]} {recipe.backgrounds[colour]}", thing))
    # By background, whose references are made once.
    found = {kind: sorted(each, key=lambda one: one[0].split(" on ")[-1]) for kind, each in kinds.items()}
    return {**found, "unknown": [(text, "") for text in UNKNOWN[: max(1, count // 4)]]}


def measure(shop: Workshop, prompt: str, thing: str, steps: int) -> dict[str, Any]:
    """One run: distance of the nearest drawing, whether it is of this thing, and the prompt's pull."""
    backend, model = shop.backend, shop.card.id
    job = shop.backend.submit(shop.request(steps, prompt=prompt, scheduler="dpmpp_2m"))
    list(job.events())
    trace = backend.trace(job.id)
    pixels = np.asarray(Image.open(io.BytesIO(trace.finals[0])).convert("RGB"))
    near = backend.training_samples.nearest(model, pixels, 5, backend.queries.ask)
    recipe = backend.training_samples.recipe(model)
    pull = memorisation.pull_of(trace, 0, recipe, backend.queries.ask)
    return {
        "prompt": prompt, "nearest": near[0].thing, "distance": near[0].distance, "own": near[0].thing == thing,
        "among_five": any(one.thing == thing for one in near), "above": pull.above, "ratio": pull.ratio,
        "unusual": pull.unusual,
    }  # fmt: skip


def copies(shop: Workshop, count: int) -> list[float]:
    """Distances of training pictures of one thing from their drawings: what a memorised picture would have."""
    samples, found = shop.backend.training_samples, []
    recipe = samples.recipe(shop.card.id)
    for k in range(recipe.count):
        if len(found) == count:
            break
        if recipe.draw(np.random.default_rng((recipe.seed, k))).other is None:
            pixels = samples.picture(shop.card.id, k)
            found.append(samples.nearest(shop.card.id, pixels, 1, shop.backend.queries.ask)[0].distance)
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles."""
    return {f"p{share}": round(float(np.percentile(values, share)), 3) for share in SHARES}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one kind of prompt."""
    return {
        "runs": len(rows),
        "nearest_is_the_things_own": round(float(np.mean([row["own"] for row in rows])), 3),
        "own_among_five": round(float(np.mean([row["among_five"] for row in rows])), 3),
        "distance": spread([row["distance"] for row in rows]),
        "called_the_same": round(float(np.mean([row["distance"] <= SAME for row in rows])), 3),
        "called_near_to_none": round(float(np.mean([row["distance"] > OTHER for row in rows])), 3),
        "pull_over_median": spread([row["ratio"] for row in rows]),
        "stronger_than_share": spread([row["above"] for row in rows]),
        "called_memorised": round(float(np.mean([row["unusual"] for row in rows])), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(compiled=Path(folder) if has_openvino() else None)
        with open_workshop(bench) as shop:
            recipe = shop.backend.training_samples.recipe(shop.card.id)
            kinds = prompts(recipe, options.prompts)
            rows = {
                kind: [measure(shop, prompt, thing, options.steps) for prompt, thing in asked]
                for kind, asked in kinds.items()
            }
            report = {
                **{kind: summary(each) for kind, each in rows.items()},
                "training pictures": {"distance": spread(copies(shop, options.prompts))},
                "minutes": round((time.monotonic() - started) / 60, 1), "load": os.getloadavg()[0],
            }  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"report": report, "rows": rows}, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
