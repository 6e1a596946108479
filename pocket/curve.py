"""Accuracy over samples seen, measured while the model trains and kept in ``curve.json``.

    python -m pocket.curve        draws it as ``curve.svg``
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler

from pocket import data, judge, text, vae

EVERY = 50_000
PROMPTS = 100
STEPS = 25
GUIDANCE = 4.0
FILE = data.ROOT / "curve.json"
CHART = data.ROOT / "curve.svg"


def points() -> list[dict]:
    """What has been measured: samples, top1 and top5, in order."""
    return json.loads(FILE.read_text()) if FILE.exists() else []


def samples_seen() -> int:
    """How many samples the shipped weights have seen."""
    return points()[-1]["samples"] if points() else 0


class Curve:
    """Draws the first held-out prompts every 50,000 samples and asks the judge."""

    def __init__(self, concepts: list[data.Concept]) -> None:
        self.pairs = data.held_out_pairs(concepts)[:PROMPTS]
        self.prompts = [data.caption(concepts[i], None, colour) for i, colour in self.pairs]
        self.judge, self.decoder = judge.train(), vae.load().decoder
        self.reached: int | None = None

    def look(self, trainer) -> None:
        """Add a point to the file if this step has crossed a multiple of 50,000 samples."""
        if self.reached == (reached := trainer.training.seen // EVERY):
            return
        first, self.reached = self.reached is None, reached
        if first:
            return
        top1, top5 = self.measure(trainer)
        point = {"samples": trainer.training.seen, "top1": round(top1, 3), "top5": round(top5, 3)}
        FILE.write_text(json.dumps([*points(), point], indent=0) + "\n")
        print(f"\n{point}", flush=True)

    @torch.inference_mode()
    def measure(self, trainer) -> tuple[float, float]:
        """Share of the prompts whose concept the judge guesses first, and among its first five."""
        latents = draw(trainer.training.average, trainer.tokenizer, self.prompts) / trainer.scaling
        pictures = torch.cat([self.decoder(part).clamp(-1, 1) for part in latents.split(25)])
        order = self.judge(judge.shrink(pictures)).argsort(1, descending=True)
        wanted = [i for i, _ in self.pairs]
        return (
            float(np.mean([o[0].item() == i for o, i in zip(order, wanted, strict=True)])),
            float(np.mean([i in o[:5].tolist() for o, i in zip(order, wanted, strict=True)])),
        )


@torch.inference_mode()
def draw(modules: torch.nn.ModuleDict, tokenizer, prompts: list[str]) -> torch.Tensor:
    """Scaled latents (n, 24, 8, 8) of the prompts by DDIM, seed = the prompt's place in the list."""
    from pocket import unet

    scheduler = DDIMScheduler.from_config(unet.build_scheduler().config)
    scheduler.set_timesteps(STEPS)
    x = torch.stack([
        torch.randn((vae.CHANNELS, 8, 8), generator=torch.Generator().manual_seed(i)) for i in range(len(prompts))
    ])
    hidden = modules["text"](text.token_ids(tokenizer, ["", *prompts]))[0]
    without, with_text = hidden[:1].expand(len(prompts), -1, -1), hidden[1:]
    for t in scheduler.timesteps:
        v = modules["unet"](torch.cat([x, x]), t, torch.cat([without, with_text])).sample
        unguided, guided = v.chunk(2)
        x = scheduler.step(unguided + GUIDANCE * (guided - unguided), t, x).prev_sample
    return x


def chart(target: Path = CHART) -> None:
    """Draw the points that the classifier judged: share of the prompts over millions of samples."""
    from matplotlib.figure import Figure

    judged = [point for point in points() if "top1" in point]
    seen = [point["samples"] / 1e6 for point in judged]
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for key, label, colour in (("top5", "among the first five", "#9a9a9a"), ("top1", "first guess", "#2f6fde")):
        axes.plot(seen, [100 * point[key] for point in judged], color=colour, label=label, marker=".")
    axes.set(xlabel="million samples seen", ylabel="concept recognised (%)", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    chart()
