"""The table of panels: one file and one entry make a panel of the denoising tab."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from tests.support.known_trace import stand
from ui.inspector.panel import Panel
from ui.inspector.panels import PANELS, PanelSpec
from ui.tabs import denoising


def test_a_panel_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    def build(page: Any) -> Panel:
        shown = gr.Textbox(elem_id="dummy")
        built.append(page)
        return Panel(lambda opened: ("seen",), [shown])

    monkeypatch.setattr(denoising, "PANELS", {**PANELS, "dummy": PanelSpec("Dummy", build)})
    page: Any = stand()
    with gr.Blocks() as page.blocks:
        page.opened = gr.State(None)
        page.frame_cache = SimpleNamespace()
        inspector = denoising.lay_out(page)
    assert built == [page]
    assert len(inspector.panels) == len(PANELS) + 1 and inspector.panels[-1].refresh(None) == ("seen",)
    assert inspector.outputs[-1].elem_id == "dummy"
