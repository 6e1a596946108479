"""Accuracy over samples seen.

python -m pocket.evaluate.curve                    draws ``curve.json`` as ``curve.svg``
python -m pocket.evaluate.curve --runs FOLDER      measures the snapshots of a run that have not been measured yet
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pocket.paths import ROOT

FILE = ROOT / "curve.json"
CHART = ROOT / "curve.svg"
PROMPTS = 100
STEPS = 25
LINES = {
    "top5": ("among the first five", "#9a9a9a"),
    "top1": ("thing", "#2f6fde"),
    "thing": ("thing", "#2f6fde"),
    "surroundings": ("surroundings", "#3c9d5a"),
    "medium": ("medium", "#d9822b"),
}


def points(file: Path = FILE) -> list[dict]:
    """What has been measured: samples, and shares of what was recognised, in order."""
    return json.loads(file.read_text()) if file.exists() else []


def samples_seen() -> int:
    """How many samples the shipped weights have seen."""
    return points()[-1]["samples"] if points() else 0


def snapshots(runs: Path) -> Iterator[tuple[int, str]]:
    """Samples seen and names of a run's snapshots, in order."""
    found = [(int(file.stem.removeprefix("unet-")), file.stem) for file in runs.glob("unet-*.pt")]
    yield from sorted(found)


def measure(runs: Path, prompts: int = PROMPTS) -> list[dict]:
    """Draw the first held-out prompts with each snapshot that has no point yet, and ask the judge."""
    from pocket.evaluate import attributes, figures
    from pocket.train import export
    from pocket.train.checkpoints import Checkpoints
    from pocket.world.artwork import Artwork
    from pocket.world.captions import caption
    from pocket.world.renderer import Renderer

    file, renderer = runs / "curve.json", Renderer(Artwork())
    judge, samples = attributes.train(renderer), figures.held_out_samples("scene", renderer.things, prompts)
    for seen, name in snapshots(runs):
        if any(point["samples"] == seen for point in points(file)):
            continue
        pipeline, size = export.build_pipeline(Checkpoints(runs), renderer.things, name)
        draw = figures.drawer(figures.sampler(pipeline), STEPS, figures.GUIDANCE, size)
        answers = attributes.answer(judge, draw([caption(sample, renderer.things) for sample in samples]))
        point = {"samples": seen, "px": size, **figures.shares("scene", samples, answers)}
        file.write_text(json.dumps([*points(file), point], indent=0) + "\n")
        print(point, flush=True)
    return points(file)


def chart(file: Path = FILE, target: Path = CHART) -> None:
    """Draw what was recognised over millions of samples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for key, (label, colour) in LINES.items():
        judged = [point for point in points(file) if key in point]
        if judged:
            seen, shares = zip(*((point["samples"] / 1e6, 100 * point[key]) for point in judged), strict=True)
            axes.plot(seen, shares, color=colour, label=label, marker=".")
    axes.set(xlabel="million samples seen", ylabel="recognised (%)", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(target, metadata={"Date": None})


def main(argv: list[str] | None = None) -> None:
    """Draw the shipped curve, or measure and draw a run's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="the folder of a run")
    options = parser.parse_args(argv)
    if options.runs is None:
        chart()
    else:
        measure(options.runs)
        chart(options.runs / "curve.json", options.runs / "curve.svg")


if __name__ == "__main__":
    main()
