"""The previews of the styles that come with pocket and its turbo, each drawn by the model itself.

    python -m pocket.style_thumbnails

Writes ``presets/prompts/thumbnails``, one WebP file for each style and model.  Run it after ``styles.toml`` or the
weights have changed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Threads of OpenMP that spin while they wait starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from PIL import Image

from pipelines.events import Failed, Finished
from pipelines.jobs.local import LocalBackend
from pipelines.models.manager import PipelineManager
from presets.catalogue import load
from presets.prompts.style_previews import SHIPPED, encode, preview_request, shipped_name
from presets.prompts.styles import shipped


def main() -> None:
    """Draw and write all of them."""
    cards, styles = load(), shipped()
    wanted = [(card, style) for card in cards for style in styles if card.id in style.models]
    SHIPPED.mkdir(exist_ok=True)
    for path in SHIPPED.glob("*.webp"):
        path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(PipelineManager(cards, device="cpu"), Path(folder) / "pictures", threads=1)
        for card, style in wanted:
            *_, last = backend.submit(preview_request(card, style)).events()
            if not isinstance(last, Finished):
                raise SystemExit(last.message if isinstance(last, Failed) else f"{style.name} was not drawn.")
            (SHIPPED / shipped_name(card, style)).write_bytes(encode(Image.open(last.pictures[0].path)))
        backend.close()
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())
    print(f"{len(wanted)} previews, {size} bytes")


if __name__ == "__main__":
    main()
