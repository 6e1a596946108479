"""The image-to-image tab, laid out without events, and images of noise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from history.store import History
from pipelines.images.uploads import UploadStore
from pipelines.request import GenerationRequest
from tests.support.site import tiny_card
from ui.components.frame_cache import FrameCache
from ui.context import PageContext
from ui.form.form import FormValues
from ui.tabs import image_to_image
from ui.tabs.image_to_image import source
from ui.tabs.image_to_image.prepared_image import PreparedImage


def noise_image(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """An image of which no two pixels are alike."""
    draws = np.random.default_rng(seed)
    return Image.fromarray(draws.integers(0, 256, (height, width, len(mode)), dtype=np.uint8))


class SourceTab:
    """The tab with what its controls hold."""

    def __init__(self, inputs: UploadStore, history: History | None = None) -> None:
        card = tiny_card(Path("x"))
        nothing: Any = None
        backend: Any = SimpleNamespace(inputs=inputs, trace=lambda name, who: None, find=lambda name, who: None)
        backend.adapters = SimpleNamespace(loras=tuple, controlnets=tuple, ip_adapters=tuple)
        library: Any = SimpleNamespace(cards={"tiny": card}, available=lambda: [card])
        with gr.Blocks():
            self.page = PageContext(
                nothing, backend, library, "tiny", Path("x"), nothing, nothing,
                gr.BrowserState(), gr.BrowserState(), gr.BrowserState(), *(gr.State() for _ in range(5)), None,
                FrameCache(), history=history,
            )  # fmt: skip
            self.form, self.source, self.views = image_to_image.lay_out(self.page)
        self.inputs = inputs
        components = self.form.inputs | self.source.preparation_inputs
        self.values: dict[Any, Any] = {c: getattr(c, "value", None) for c in components}
        self.hold(upload=None, prepared=None, mask=None)

    def hold(self, **changes: Any) -> None:
        """Put values into the source's controls, each by name."""
        self.values |= {getattr(self.source, name): value for name, value in changes.items()}

    def prepare(self, **changes: Any) -> PreparedImage | None:
        """Put values into the controls and prepare the image as the tab does."""
        self.hold(**changes)
        prepared = source.prepare(self.source, self.form, self.values)
        self.hold(prepared=prepared)
        return prepared

    def request(self) -> GenerationRequest:
        return self.form.request(FormValues(self.values))

    def stored(self, name: str | None) -> np.ndarray:
        return np.asarray(self.inputs.get(name or ""))
