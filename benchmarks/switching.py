"""What switching back to a model that is still in memory costs, over loading it: at most a tenth.

    python -m benchmarks.switching [--model FOLDER_OR_ID ...] [--rounds 5]

By default the embedded model.  Prints JSON with seconds and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

MOST = 0.1


def measure(cards: list[Any], rounds: int, device: str = "auto") -> dict[str, float | bool]:
    """Median seconds until a model is lent: loaded from its files (the system may hold them), and switched back to."""
    from pipelines.models.manager import PipelineManager

    cold: list[float] = []
    warm: list[float] = []
    for k in range(rounds + 1):
        manager = PipelineManager(cards, device=device)
        for times in (cold, warm):
            for card in cards:
                start = time.perf_counter()
                with manager.lease(card.id):
                    seconds = time.perf_counter() - start
                if k:  # the first round imports the libraries
                    times.append(seconds)
        manager.unload()
    ratio = statistics.median(warm) / statistics.median(cold)
    return {
        "cold_seconds": round(statistics.median(cold), 4),
        "warm_seconds": round(statistics.median(warm), 6),
        "warm_over_cold": round(ratio, 5),
        "below_a_tenth": ratio < MOST,
    }


def through_ram(cards: list[Any], rounds: int) -> dict[str, float | bool]:
    """The same on a GPU, where each switch brings a model back from RAM and puts the other one there."""
    from pipelines.models.manager import PipelineManager

    with PipelineManager(cards[:1]).lease(cards[0].id) as model:
        budget = int(1.5 * model.size_bytes)
    manager = PipelineManager(cards[:2], budget_bytes=budget)
    cold, warm = [], []
    for k in range(rounds + 1):
        for card in cards[:2]:
            start = time.perf_counter()
            with manager.lease(card.id):
                (warm if k else cold).append(time.perf_counter() - start)
    ratio = statistics.median(warm) / statistics.median(cold)
    return {"ram_to_gpu_over_cold": round(ratio, 5), "ram_to_gpu_below_a_tenth": ratio < MOST}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=["pocket"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    from presets.catalogue import card_for, load

    known = load()
    cards = [card_for(name, known) for name in options.model]
    found = measure(cards, options.rounds, options.device)
    import torch

    if len(cards) > 1 and torch.cuda.is_available():
        found |= through_ram(cards, options.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
