"""Save panel: what the left lens shows, as a file that plays elsewhere and knows its settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from pipelines import lenses
from pipelines.exports import EXPORTS, export
from ui import reel
from ui.capsule import capsule
from ui.panel import Panel, carried, chosen, script

if TYPE_CHECKING:
    from pipelines.lenses import Decode
    from pipelines.trace import Trace
    from ui.making import Page

log = logging.getLogger(__name__)
CAPSULE = "capsule"
# What each kind is good for; the order is that of the buttons.
ABOUT: Mapping[str, str] = {
    "gif": "Plays nearly everywhere; 256 colours.",
    "webp": "Moves like a GIF, smaller and in full colour.",
    "mp4": "A video, for slides and messages.",
    "filmstrip": "Every step side by side in one PNG.",
    CAPSULE: "One web page with this player, every lens and the settings. Opens anywhere, needs no network.",
}
_BUTTON = '<li><button type="button" class="quiet" data-kind="{kind}">Save {label}</button><p>{about}</p></li>'
_TEMPLATE = """
<section class="keep" aria-label="Save">
  <p class="sentence">Saves every step as the left picture shows it now:
    <b data-part="lens">What the model believes</b>. The settings are stored in the file.</p>
  <ul>{buttons}</ul>
  <p class="state" data-part="state" role="status"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  <ul class="files" data-part="files"></ul>
</section>
"""


def credits(trace: Trace) -> list[str]:
    """Who and what made this run."""
    licence = f" Licence: {trace.model_licence}." if trace.model_licence else ""
    return [
        f"Made by a diffusion model: {trace.model_name or trace.request.model}.{licence}",
        "Recorded with the Diffusion Playground.",
    ]


def packed(trace: Trace, k: int, kind: str, lens: str, decode: Decode, films: reel.Films) -> tuple[str, bytes]:
    """A file for picture ``k`` through a lens: its name and its bytes.

    Raises:
        KeyError: if there is no such kind or lens.
    """
    name = stem(trace, k)
    if kind == CAPSULE:
        return f"{name}.html", capsule(reel.whole(trace, k, decode, films), credits(trace)).encode()
    sort, seen = EXPORTS[kind], lenses.LENSES[lens]
    images, _ = reel.draw(trace, k, lens, decode)
    return f"{name}-{lens}{sort.suffix}", export(kind, images, trace, k, f"{seen.title} ({seen.term})")


def stem(trace: Trace, k: int) -> str:
    """A file name from the prompt's first words and the seed, safe on every system."""
    words = "-".join(re.findall(r"[a-z0-9]+", trace.request.prompt.lower())[:6])[:48]
    return f"{words or 'picture'}-{trace.request.seeds[k]}"


def saved(make: Callable[[], tuple[str, bytes]], what: str, kind: str) -> dict[str, Any]:
    """What a saving script is answered: a file (``make`` says its name and bytes), or a sentence if there is none.

    Args:
        what, kind: for the log.
    """
    try:
        name, content = make()
    except (OSError, ValueError, RuntimeError):
        log.exception("Saving %s as %s failed", what, kind)
        return {"problem": "The file could not be made; try again, or save it as another kind."}
    return {"name": name, "bytes": len(content), "file": stored(name, content)}


def stored(name: str, data: bytes) -> dict[str, Any]:
    """Bytes as a file that Gradio serves."""
    path = save_bytes_to_cache(data, name, get_upload_folder())
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _template() -> str:
    labels = {**{kind: sort.label for kind, sort in EXPORTS.items()}, CAPSULE: "Capsule"}
    buttons = "".join(_BUTTON.format(kind=kind, label=labels[kind], about=about) for kind, about in ABOUT.items())
    return _TEMPLATE.format(buttons=buttons)


def build(page: Page, opened: gr.State) -> Panel:
    """The panel: a button a kind; the file is downloaded and its link stays."""
    panel = gr.HTML(
        None,
        html_template=_template(),
        js_on_load=script("saving.js", "keep.js"),
        elem_id="keep",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = chosen(page, value)
        # Each trace starts with an empty list of files.
        return ({"run": reel.run_of(*found), "lenses": lens_titles(found[0])} if found else None,)

    def make(value: Any, data: gr.EventData) -> dict[str, Any]:
        found = chosen(page, value)
        kind, lens, ask = (str(carried(data, name, "")) for name in ("kind", "lens", "ask"))
        if found is None:
            return {"ask": ask[:40], "problem": "There is nothing to save yet; make a picture first."}
        trace, k = found
        known = {"run": reel.run_of(trace, k), "lenses": lens_titles(trace), "ask": ask[:40]}
        if kind not in ABOUT or lens not in lenses.available(trace):
            return {**known, "problem": "This cannot be saved; choose a lens and press one of the buttons."}

        def file() -> tuple[str, bytes]:
            return packed(trace, k, kind, lens, page.decode(trace), page.films)

        return {**known, **saved(file, trace.id, kind)}

    panel.export(make, [opened], [panel], show_progress="hidden", api_visibility="private", concurrency_limit=2)
    return Panel(refresh, [panel])


def lens_titles(trace: Trace) -> dict[str, str]:
    """Lens -> its title and term."""
    return {name: f"{lenses.LENSES[name].title} ({lenses.LENSES[name].term})" for name in lenses.available(trace)}
