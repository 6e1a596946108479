"""Save panel: what the left lens shows, as a file that plays elsewhere and holds the settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from pipelines.images.provenance import digital_source_type
from pipelines.request import InvalidRequest
from pipelines.system.guest_bytes import NoBytesLeft
from pipelines.trace import lenses
from pipelines.trace.export import EXPORTS, export
from ui.components.assets import asset
from ui.components.frame_cache import FrameCache
from ui.components.gradio_events import CONCURRENT, event_value
from ui.inspector import lens_frames
from ui.inspector.html_export import html_export
from ui.inspector.panel import Panel, opened_trace
from ui.inspector.words.attention import capsule_value

if TYPE_CHECKING:
    from pipelines.trace.lenses import Decode
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

log = logging.getLogger(__name__)
CAPSULE = "capsule"
# What each format is good for; the order is that of the buttons.
ABOUT: Mapping[str, str] = {
    "gif": "Plays nearly everywhere; 256 colours.",
    "webp": "Moves like a GIF, smaller and in full colour.",
    "mp4": "A video, for slides and messages.",
    "filmstrip": "Every step side by side in one PNG.",
    CAPSULE: "One web page with this player, the questions, every lens and the settings; needs no network.",
}
_BUTTON = '<li><button type="button" class="quiet" data-kind="{kind}">Save {label}</button><p>{about}</p></li>'
_TEMPLATE = """
<section class="export" aria-label="Save">
  <p class="sentence">Saves every step as the left picture shows it now:
    <b data-part="lens">The model's guess</b>. The settings are stored in the file.</p>
  <ul>{buttons}</ul>
  <p class="state" data-part="state" role="status"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  <ul class="files" data-part="files"></ul>
</section>
"""


def credit_lines(trace: Trace) -> list[str]:
    """Model, licence and program of this run, one sentence each."""
    licence = f" Licence: {trace.model_licence}." if trace.model_licence else ""
    return [
        f"Made by a diffusion model: {trace.model_name or trace.request.model}.{licence}",
        "Recorded with the Diffusion Playground.",
    ]


def export_file(
    trace: Trace, k: int, kind: str, lens: str, decode: Decode, frame_cache: FrameCache
) -> tuple[str, bytes]:
    """A file for picture ``k`` through a lens: its name and its bytes.

    Raises:
        KeyError: if there is no such kind or lens.
    """
    name = file_stem(trace, k)
    if kind == CAPSULE:
        page = html_export(
            {**lens_frames.complete_value(trace, k, decode, frame_cache), **capsule_value(trace, k, frame_cache)},
            credit_lines(trace),
            digital_source_type(trace.request),
        )
        return f"{name}.html", page.encode()
    sort, seen = EXPORTS[kind], lenses.LENSES[lens]
    images, _ = lens_frames.render(trace, k, lens, decode)
    return f"{name}-{lens}{sort.suffix}", export(kind, images, trace, k, f"{seen.title} ({seen.term})")


def file_stem(trace: Trace, k: int) -> str:
    """A file name from the prompt's first words and the seed, safe on every system."""
    words = "-".join(re.findall(r"[a-z0-9]+", trace.request.prompt.lower())[:6])[:48]
    return f"{words or 'picture'}-{trace.request.seeds[k]}"


def save_answer(
    make: Callable[[], tuple[str, bytes]], what: str, kind: str, page: PageContext | None = None
) -> dict[str, Any]:
    """The answer to a saving script: a file (``make`` returns its name and bytes), or a sentence if that failed.

    Args:
        make: makes the file.
        what, kind: for the log.
        page: knows what the current user may still write; None for no limit.
    """
    try:
        with page.export_slot() if page else nullcontext():
            if page:
                page.charge(0)
            name, content = make()
            if page:
                page.charge(len(content))
            return {"name": name, "bytes": len(content), "file": served_bytes(name, content)}
    except (NoBytesLeft, InvalidRequest) as problem:
        return {"problem": str(problem)}
    except (OSError, ValueError, RuntimeError):
        log.exception("Saving %s as %s failed", what, kind)
        return {"problem": "The file could not be made; try again, or choose another format."}


def served_bytes(name: str, data: bytes) -> dict[str, Any]:
    """Bytes as a file that Gradio serves."""
    path = save_bytes_to_cache(data, name, get_upload_folder())
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _template() -> str:
    labels = {**{kind: sort.label for kind, sort in EXPORTS.items()}, CAPSULE: "Capsule"}
    buttons = "".join(_BUTTON.format(kind=kind, label=labels[kind], about=about) for kind, about in ABOUT.items())
    return _TEMPLATE.format(buttons=buttons)


def build(page: PageContext) -> Panel:
    """The panel: a button a format; the file is downloaded and its link stays."""
    panel = gr.HTML(
        None,
        html_template=_template(),
        js_on_load=asset("components/saving.js", "inspector/export.js"),
        elem_id="export",
        apply_default_css=False,
    )

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        # Each trace starts with an empty list of files.
        return ({"run": lens_frames.run_key(*found), "lenses": lens_titles(found[0])} if found else None,)

    def make(value: Any, data: gr.EventData) -> dict[str, Any]:
        found = opened_trace(page, value)
        kind, lens, ask = (str(event_value(data, name, "")) for name in ("kind", "lens", "ask"))
        if found is None:
            return {"ask": ask[:40], "problem": "There is nothing to save yet; make a picture first."}
        trace, k = found
        known = {"run": lens_frames.run_key(trace, k), "lenses": lens_titles(trace), "ask": ask[:40]}
        if kind not in ABOUT or lens not in lenses.available_lenses(trace):
            return {**known, "problem": "This cannot be saved; choose a lens and press one of the buttons."}

        def file() -> tuple[str, bytes]:
            return export_file(trace, k, kind, lens, page.decode(trace), page.frame_cache)

        return {**known, **save_answer(file, trace.id, kind, page)}

    panel.export(make, [page.opened], [panel], **CONCURRENT)
    return Panel(refresh, [panel])


def lens_titles(trace: Trace) -> dict[str, str]:
    """Lens -> its title and term."""
    return {
        name: f"{lenses.LENSES[name].title} ({lenses.LENSES[name].term})" for name in lenses.available_lenses(trace)
    }
