"""What a tab is given, with a tiny model and a backend that makes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from pipelines.images.uploads import UploadStore
from tests.support.site import tiny_card
from ui.components.frame_cache import FrameCache
from ui.context import PageContext


def form_page(tmp_path: Path) -> PageContext:
    """The context; call it inside of ``gr.Blocks``."""
    card, nothing = tiny_card(Path("x")), None
    backend: Any = SimpleNamespace(inputs=UploadStore(tmp_path / "inputs"))
    backend.adapters = SimpleNamespace(loras=tuple, controlnets=tuple, ip_adapters=tuple)
    library: Any = SimpleNamespace(cards={"tiny": card}, available=lambda: [card])
    states: list[Any] = [gr.BrowserState() for _ in range(4)] + [gr.State() for _ in range(4)]
    fixed: list[Any] = [nothing, backend, library, "tiny", tmp_path, nothing, nothing]
    return PageContext(*fixed, *states, None, FrameCache())
