"""The page as a whole: head, tabs, status line, endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import api, denoising, image_to_image, models, share, text_to_image, words
from ui.making import SECRET, Page
from ui.reel import Films
from ui.statusbar import statusbar
from ui.theme import theme

if TYPE_CHECKING:
    from pipelines.backend import Backend
    from presets.library import Library
    from ui.sharing import Sharing

# One line a tab: its id, its name and the function that builds it.
TABS: Mapping[str, tuple[str, Callable[[Page], None]]] = {
    "text-to-image": ("Text to image", text_to_image.build),
    "image-to-image": ("Image to image", image_to_image.build),
    "denoising": ("Denoising", denoising.build),
    "models": ("Models", models.build),
    "share": ("Share", share.build),
}

# Pages waiting at once; copies of pictures in Gradio's cache are looked at every hour and dropped after a day.
MAX_WAITING = 128
CACHE_SECONDS = (3600, 86400)
# Ids of what a visitor looks at are forgotten after a day without the page.
STATE_SECONDS = 86400
# Pages that Gradio remembers at once: each is a copy of the page's settings, half a megabyte, kept until others need
# the room. A page that is looked at speaks up every few seconds and stays; of others only what they showed is lost.
SESSIONS = 128
TITLE = "Diffusion Playground"
HERE = Path(__file__).resolve().parent
STYLES = ("page.css", "player.css", "panels.css", "variations.css", "image.css", "models.css", "share.css", "live.css")


def build(
    backend: Backend, library: Library, default_model: str, pictures_dir: Path, sharing: Sharing | None = None
) -> gr.Blocks:
    """The page for this backend; nothing is loaded before someone opens it."""
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=CACHE_SECONDS) as demo:
        gr.HTML(html_template=f"<h1>{TITLE}</h1>", js_on_load=None, elem_id="head", apply_default_css=False)
        job, links, *made = (remembered(name) for name in ("job", "chain", *(f"{tab}-made" for tab in TABS)))
        opened, sent, picked = (gr.State(None, time_to_live=STATE_SECONDS) for _ in range(3))
        bundled, films = words.recording(library.cards[default_model]), Films()
        with gr.Tabs(selected=next(iter(TABS)), elem_id="tabs") as tabs:
            for (name, (label, make)), mine in zip(TABS.items(), made, strict=True):
                with gr.Tab(label, id=name, elem_id=f"tab-{name}") as tab:
                    states = (job, mine, links, opened, sent, picked)
                    here = (demo, backend, library, default_model, pictures_dir, tab, tabs)
                    make(Page(*here, *states, bundled, films, sharing))
        statusbar(backend.status)
        for block in demo.blocks.values():
            api.fetch_nothing(block)
        api.add(backend, library.cards, default_model, films)
    # Closed, so that nobody goes round the queue's bounds.
    demo.queue(api_open=False, max_size=MAX_WAITING)
    return demo


def remembered(name: str) -> gr.BrowserState:
    """What a browser remembers under a name."""
    return gr.BrowserState(None, storage_key=f"diffusion-playground-{name}", secret=SECRET)


def launch_options() -> dict[str, Any]:
    """What ``launch`` must be given for the page to look and behave as designed."""
    return {
        "theme": theme(),
        "css": "\n".join((HERE / name).read_text(encoding="utf-8") for name in STYLES if (HERE / name).exists()),
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        # Each page that watches a job holds a thread while it waits.
        "max_threads": MAX_WAITING,
        "state_session_capacity": SESSIONS,
        "max_file_size": "20mb",
    }
