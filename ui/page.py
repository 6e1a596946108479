"""The page as a whole: head, tabs, status line, endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from pipelines.hub.digests import LocalDigests
from pipelines.images.decoding_slots import DecodingSlots
from presets.user_presets import UserPresets
from ui import api
from ui.api.publishing import refuse_addresses
from ui.components import phrases
from ui.components.assets import asset
from ui.components.frame_cache import FrameCache
from ui.components.gradio_events import CONCURRENT
from ui.context import BUNDLED, PageContext
from ui.form import picture_settings
from ui.form.sections import SECTIONS
from ui.server.http.history_files import history_route
from ui.server.middleware import outermost
from ui.shell.address import address, place
from ui.shell.brand import brand
from ui.shell.card_notice import card_notice
from ui.shell.early_tabs import early_tabs
from ui.shell.keys import keys
from ui.shell.page_blocks import PageBlocks
from ui.shell.session_states import keep_no_descriptions
from ui.shell.status_bar import status_bar
from ui.shell.theme import reading_face, theme
from ui.tabs import compare, denoising, image_to_image, learn, models, share, teach, text_to_image
from ui.tabs import history as history_tab

if TYPE_CHECKING:
    from history.store import History
    from pipelines.jobs.backend import Backend
    from pipelines.trace.trace import Trace
    from presets.library import ModelLibrary
    from ui.server.access import Access
    from ui.server.sharing import Sharing


@dataclass(frozen=True)
class TabEntry:
    """A tab of the page.

    Attributes:
        label: what the user reads.
        build: lays the tab out and attaches its events.
        css: its style sheets, by their paths inside ``ui``.
    """

    label: str
    build: Callable[[PageContext], None]
    css: tuple[str, ...] = ()


# By id, in the order of the page; to add a tab, write a file and add its entry.
TABS: Mapping[str, TabEntry] = {
    "text-to-image": TabEntry("Text to image", text_to_image.build),
    "image-to-image": TabEntry("Image to image", image_to_image.build, ("tabs/image_to_image/image_to_image.css",)),
    "denoising": TabEntry(
        "Denoising",
        denoising.build,
        (
            "inspector/player.css",
            "inspector/panels.css",
            "inspector/questions.css",
            "inspector/words/words.css",
            "inspector/origins/origins.css",
            "inspector/forks/fork.css",
            "tabs/denoising.css",
        ),
    ),
    "compare": TabEntry("Compare", compare.build, compare.STYLES),
    "learn": TabEntry("Learn", learn.build, learn.STYLES),
    "teach": TabEntry("Teach", teach.build, teach.STYLES),
    "history": TabEntry("History", history_tab.build, history_tab.STYLES),
    "models": TabEntry("Models", models.build, ("tabs/models.css",)),
    "share": TabEntry("Share", share.build, ("tabs/share.css",)),
}

# Events in the queue at once.
MAX_WAITING = 128
# Largest upload; Gradio's own default is no limit.
MAX_FILE_SIZE = "20mb"
# Ids of what a page shows are forgotten a day after it was closed.
STATE_SECONDS = 86400
# Browser pages that Gradio remembers at once. An open page sends a request every few seconds and stays; of a closed one
# only what it showed is lost.
SESSIONS = 128
# Gradio asks for a secret; a job's id cannot be guessed.
SECRET = "diffusion-playground"
TITLE = "Diffusion Playground"
HEAD_SCRIPTS = ("shell/tab_states.js", "shell/signed_out.js")


def build(
    backend: Backend,
    library: ModelLibrary,
    default_model: str,
    pictures_dir: Path,
    sharing: Sharing | None = None,
    history: History | None = None,
) -> gr.Blocks:
    """The page for this backend; no model is loaded before it is opened."""
    keep_no_descriptions()
    backend.guest_bytes.watch(Path(get_upload_folder()))
    with PageBlocks(title=TITLE, fill_width=True, analytics_enabled=False) as demo:
        card_notice(demo, backend.status)
        head = brand("head")
        # Outside of the tabs: Gradio reads a browser state inside a tab only when that tab is first opened.
        latest_job, source_history = remembered("job"), remembered("chain")
        tab_jobs = {name: remembered(f"{name}-made") for name in TABS}
        opened, sent_image, picked_model, taken, shown = (gr.State(None, time_to_live=STATE_SECONDS) for _ in range(5))
        card = library.cards[default_model]
        bundled = phrases.recording(card)
        frame_cache = FrameCache(ready=phrases.ready_lenses(card, bundled))
        export_slots = history.export_slots if history else DecodingSlots()
        presets = UserPresets.of(pictures_dir.parent)
        digests = LocalDigests(pictures_dir.parent / "memory" / "digests.json")
        built: dict[str, gr.Tab] = {}
        with gr.Tabs(selected=next(iter(TABS)), elem_id="tabs") as tabs:
            for name, entry in TABS.items():
                with gr.Tab(entry.label, id=name, elem_id=f"tab-{name}") as tab:
                    built[name] = tab
                    app = (demo, backend, library, default_model, pictures_dir, tab, tabs)
                    jobs = (latest_job, tab_jobs[name], source_history)
                    states = (opened, sent_image, picked_model, taken, shown, bundled, frame_cache)
                    context = PageContext(*app, *jobs, *states, sharing, export_slots, history, presets, digests)
                    entry.build(context)
        picture_settings.build(context)
        status_bar(backend.status)
        keys()
        early_tabs(built)
        follow_address(tabs, opened, bundled)
        for block in demo.blocks.values():
            refuse_addresses(block)
        note = context.note_source
        api.add(api.Endpoints(backend, library.cards, default_model, frame_cache, note, export_slots))
        demo.report_progress_on(head)
    # Closed, so that no client bypasses the queue's limits.
    demo.queue(api_open=False, max_size=MAX_WAITING)
    return demo


def follow_address(tabs: gr.Tabs, opened: gr.State, bundled: Trace | None) -> None:
    """Open the tab and the run that the address names."""

    def go(data: gr.EventData) -> tuple[Any, Any]:
        found = place(data, TABS)
        if found is None:
            return gr.skip(), gr.skip()
        tab, run, picture = found
        name = BUNDLED if bundled and run == bundled.id else run
        return gr.Tabs(selected=tab), {"id": name, "picture": picture} if run and tab == "denoising" else gr.skip()

    address().go(go, None, [tabs, opened], **CONCURRENT)


def remembered(name: str) -> gr.BrowserState:
    """A state that the browser stores under a name, for each of its tabs (``shell/tab_states.js``)."""
    return gr.BrowserState(None, storage_key=f"diffusion-playground-{name}", secret=SECRET)


def styles() -> list[str]:
    """Every style sheet of the page, by its path inside ``ui``."""
    tabs = [path for entry in TABS.values() for path in entry.css]
    return [
        "page.css",
        "components/pills.css",
        "shell/keys.css",
        "shell/card_notice.css",
        "components/stage.css",
        "components/recent_pictures.css",
        "form/form.css",
        "form/choosing/choosing.css",
        "form/prompt/prompt.css",
        "form/picture_settings/panel.css",
        "form/styles/styles.css",
        *tabs,
        *(path for entry in SECTIONS.values() for path in entry.css),
    ]


def launch_options(access: Access | None = None, history: History | None = None) -> dict[str, Any]:
    """Keyword arguments of Gradio's ``launch`` for this page, but for host and port.

    Args:
        access: who may come in; None lets everyone in, as in a notebook.
        history: whose pictures are served.
    """
    return {
        "theme": theme(),
        "css": asset(*styles()),
        # In the head, so that they run before Gradio reads the browser states; Gradio drops fonts from its style sheet.
        "head": f"<style>{reading_face()}</style><script>{asset(*HEAD_SCRIPTS)}</script>",
        "footer_links": [],
        "share": False,  # ``ui.server.sharing`` does that
        "quiet": True,
        "prevent_thread_lock": True,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        # The page shows its own errors all the same; guests learn nothing of others.
        "show_error": False,
        # Each page that watches a job holds a thread while it waits.
        "max_threads": MAX_WAITING,
        "state_session_capacity": SESSIONS,
        "max_file_size": MAX_FILE_SIZE,
        "root_path": (access.root_url or access.root_path) if access else "",
        "app_kwargs": {
            "lifespan": outermost(access),
            **({"routes": [history_route(history)]} if history else {}),
        },
    }
