"""Record one real generation for the page's first visit: ``pocket/recording/first.safetensors`` and ``.json``.

    python -m pocket.record ["a red apple on a yellow background"] [--seed 6]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from pipelines.trace import Trace
from pocket import data

FOLDER = data.ROOT / "recording"
NAME = "first"


def record(prompt: str, seed: int) -> Trace:
    """Run the backend as the page does and keep the steps."""
    from pipelines.backend import LocalBackend
    from pipelines.manager import PipelineManager
    from pipelines.request import make_request
    from presets.catalogue import load

    cards = load()
    card = next(c for c in cards if c.id == "pocket")
    quality = card.qualities[card.default_quality]
    request = make_request(
        model=card.id, prompt=prompt, width=card.width, height=card.height, scheduler=quality.scheduler,
        num_inference_steps=quality.num_inference_steps, guidance_scale=card.guidance_scale, seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(PipelineManager(cards, device="cpu"), Path(folder) / "pictures")
        try:
            job = backend.submit(request)
            end = list(job.events())[-1]
            trace = backend.trace(job.id)
        finally:
            backend.close()
    if trace is None or not trace.finals:
        raise SystemExit(f"The run did not finish: {end}")
    # The picture's file was temporary; the trace holds the picture itself.
    return dataclasses.replace(trace, id=NAME, pictures=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a red apple on a yellow background")
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    record(options.prompt, options.seed).save(FOLDER)


if __name__ == "__main__":
    main()
