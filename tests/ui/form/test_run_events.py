"""An earlier picture comes back with all that belongs to it, or with what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.support.form_page import form_page
from tests.support.known_trace import make_trace
from ui.components import stage_updates
from ui.form import run_events
from ui.tabs import text_to_image


def test_after_a_restart_a_blend_has_its_strip_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = make_trace("one", num_images=3, interpolation={"seed": 9})
    value = {"state": "done", "run": "one", "pictures": [{"file": f"{k}.png"} for k in range(3)]}
    with gr.Blocks():
        page: Any = form_page(tmp_path)
        form = text_to_image.lay_out(page)
    page.backend.find = lambda run, user: None
    page.backend.trace = lambda run, user: type("Kept", (), {"id": "one", "request": trace.request, "finals": [b"1"]})
    monkeypatch.setattr(stage_updates, "reopened", lambda trace: value)
    (updates,) = run_events.reopen(form, {"id": "one"})
    assert updates[form.stage] == value and updates[page.tab_job] == "one"
    assert [one["pictures"] for one in updates.values() if isinstance(one, dict) and "labels" in one] == [
        [{"file": "0.png"}, {"file": "1.png"}, {"file": "2.png"}]
    ]


def test_a_run_that_is_gone_leads_to_the_history(tmp_path: Path) -> None:
    with gr.Blocks():
        page: Any = form_page(tmp_path)
        form = text_to_image.lay_out(page)
    page.backend.find = page.backend.trace = lambda run, user: None
    (updates,) = run_events.reopen(form, {"id": "one"})
    said = updates[form.run_error]
    assert said["text"].startswith("This run is no longer kept") and said["to"] == "#/history"
