"""The table of tabs: one entry is enough to add one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from pipelines.jobs.backend import BackendStatus
from tests.support.site import tiny_card
from ui import page
from ui.context import PageContext
from ui.page import TABS, TabEntry


def test_a_tab_is_added_with_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[PageContext] = []

    def build(context: PageContext) -> None:
        built.append(context)
        gr.Markdown("Hello")

    monkeypatch.setattr(page, "TABS", {"hello": TabEntry("Hello", build, ("tabs/hello.css",))})
    watched: list[Path] = []
    quota = SimpleNamespace(watch=watched.append)
    backend: Any = SimpleNamespace(status=lambda: BackendStatus("ready", "tiny", "Ready"), guest_bytes=quota)
    library: Any = SimpleNamespace(cards={"tiny": tiny_card(Path("x"))})
    blocks = page.build(backend, library, "tiny", tmp_path)
    (context,) = built
    assert (context.tab.id, context.tab.label, context.blocks) == ("hello", "Hello", blocks)
    assert context.tab_job.storage_key == "diffusion-playground-hello-made"
    assert "tabs/hello.css" in page.styles()
    # What is served is copied into Gradio's folder, whose disk may be another one.
    assert watched == [Path(get_upload_folder())]
    # All events report to one component, or each message of a run costs the page a walk over its whole tree.
    assert len({tuple(fn.show_progress_on or ()) for fn in blocks.fns.values()} - {()}) == 1
    assert all(fn.show_progress_on for fn in blocks.fns.values())


def test_ids_and_storage_keys_stay() -> None:
    """Browsers remember them."""
    assert list(TABS) == [
        "text-to-image",
        "image-to-image",
        "denoising",
        "compare",
        "learn",
        "teach",
        "history",
        "models",
        "share",
    ]
    assert page.remembered("job").storage_key == "diffusion-playground-job"


def test_every_style_sheet_is_there_once() -> None:
    styles = page.styles()
    assert len(styles) == len(set(styles))
    assert all((Path(page.__file__).parent / path).is_file() for path in styles)
    ui = Path(page.__file__).parent
    # Pages without Gradio have a sheet of their own.
    own = {"server/plain_page.css"}
    assert set(styles) | own == {path.relative_to(ui).as_posix() for path in ui.rglob("*.css")}
