"""Record one real generation for the page's first visit: ``pocket/recording/first.safetensors`` and ``.json``.

Its lenses are drawn, too, into ``first.lenses.safetensors``, so that a first look inside waits for nothing.

python -m pocket.train.recording ["a red apple on a yellow background"] [--seed 6]
python -m pocket.train.recording --lenses    draws the lenses of the recording that is there again
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.trace import lenses
from pipelines.trace.lens_files import LENSES_SUFFIX, encode_frame, save_lenses
from pipelines.trace.serialization import load_trace, save_trace
from pocket.paths import ROOT

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from pipelines.jobs.local import LocalBackend
    from pipelines.trace.trace import Trace

FOLDER = ROOT / "recording"
NAME = "first"
# The trace itself has these as pictures.
DRAWN = ("x0", "x_t")


@contextmanager
def running_backend() -> Iterator[LocalBackend]:
    """The backend as the page uses it, with a pictures' folder that is not kept."""
    from pipelines.jobs.local import LocalBackend
    from pipelines.models.manager import PipelineManager
    from presets.catalogue import load

    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(PipelineManager(load(), device="cpu"), Path(folder) / "pictures")
        try:
            yield backend
        finally:
            backend.close()


def record(backend: LocalBackend, prompt: str, seed: int) -> Trace:
    """Make a picture as the page does and keep the steps."""
    from pipelines.request import make_request
    from presets.catalogue import load

    card = next(c for c in load() if c.id == "pocket")
    quality = card.qualities[card.default_quality]
    request = make_request(
        model=card.id,
        prompt=prompt,
        width=card.width,
        height=card.height,
        scheduler=quality.scheduler,
        num_inference_steps=quality.num_inference_steps,
        guidance_scale=card.guidance_scale,
        seed=seed,
    )
    job = backend.submit(request)
    end = list(job.events())[-1]
    trace = backend.trace(job.id)
    if trace is None or not trace.finals:
        raise SystemExit(f"The run did not finish: {end}")
    # The picture's file was temporary; the trace holds the picture itself.
    return dataclasses.replace(trace, id=NAME, pictures=())


def draw_lenses(backend: LocalBackend, trace: Trace) -> dict[str, list[bytes]]:
    """The frames of each lens that was not drawn during the run."""

    def decode(latents: np.ndarray) -> list[Image.Image]:
        return backend.queries.decode(trace.request.model, latents)

    names = [name for name in lenses.available_lenses(trace) if name not in DRAWN]
    return {
        name: [encode_frame(image, lenses.LENSES[name].crisp) for image in lenses.render(trace, name, 0, decode)]
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", nargs="?", default="a red apple on a yellow background")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--lenses", action="store_true", help="only draw the lenses again")
    options = parser.parse_args()
    with running_backend() as backend:
        if not options.lenses:
            save_trace(record(backend, options.prompt, options.seed), FOLDER)
        trace = load_trace(FOLDER, NAME)
        save_lenses(trace, draw_lenses(backend, trace), FOLDER / f"{NAME}{LENSES_SUFFIX}")


if __name__ == "__main__":
    main()
