"""Models: what is loaded where, what is on this machine, what can be fetched, and adding one's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from pipelines.device import NoSuchDevice
from pipelines.families import CannotLoad
from pipelines.hub import CannotFetch
from pipelines.manager import AWAY, DISK, GPU, Busy
from pipelines.memory import gb
from pipelines.request import InvalidRequest
from presets.library import Gauge, Library, Row
from presets.reading import CatalogueError
from ui.making import QUICK, WATCH, Page
from ui.panel import carried, script
from ui.plain import sentence
from ui.visiting import visitor

PROBLEMS = (Busy, InvalidRequest, CannotLoad, CannotFetch, CatalogueError, NoSuchDevice, OSError)
# Example prompts that are shown of a model.
EXAMPLES = 4
READ_ONLY = (
    "Only the owner of this computer changes anything here: open the link that the program printed when it started."
)
ADD = "Add a model of your own"
ADD_HELP = (
    "The name of a model on the Hugging Face hub (owner/name), the address of its page, a diffusers folder, or a "
    ".safetensors file on this computer. It is looked at, not loaded."
)
_TEMPLATE = """
<section class="models" aria-label="Models">
  <p class="sentence" data-part="note" hidden></p>
  <div data-part="groups"><p class="sentence">Looking for models.</p></div>
</section>
"""
_GAUGES = '<section class="gauges" aria-label="Memory"></section>'


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    library = page.library
    with gr.Row(elem_id="models-desk"):
        plain = {"apply_default_css": False}
        shelf = gr.HTML(None, html_template=_TEMPLATE, js_on_load=script("models.js"), elem_id="models", **plain)
        gauges = gr.HTML(None, html_template=_GAUGES, js_on_load=script("gauges.js"), elem_id="gauges", **plain)
        with gr.Column(elem_id="add-model", visible=library.manages):
            name = gr.Textbox(label=ADD, info=ADD_HELP, max_length=500, max_lines=1, elem_id="add-name")
            problem = sentence(elem_id="add-problem", alert=True)
            add = gr.Button("Add", size="sm", elem_id="add-button")
            extras = sentence(elem_id="extras")
    wire(page, shelf, gauges)
    page.tab.select(lambda: others(page), None, [extras], **QUICK)

    def adding(text: Any) -> tuple[Any, str, dict[str, Any]]:
        if not manages(library):
            return gr.skip(), READ_ONLY, shown(library)
        if not str(text or "").strip():
            return gr.skip(), "Type the name of a model first: a hub id, a folder or a .safetensors file.", gr.skip()
        try:
            card = library.add(str(text))
        except PROBLEMS as error:
            return gr.skip(), str(error), gr.skip()
        return "", "", {**shown(library), "look": card.id}

    here = {**WATCH, "show_progress_on": [problem]}
    gr.on([add.click, name.submit], adding, [name], [name, problem, shelf], **here)


def wire(page: Page, shelf: gr.HTML, gauges: gr.HTML) -> None:
    """The list asks how things are, has things done, and sends models to the other tabs."""
    library = page.library

    def tick() -> tuple[Any, Any]:
        return shown(library), [gauge(found) for found in library.gauges()]

    def act(data: gr.EventData) -> dict[str, Any]:
        model, do, sure = (carried(data, field, "") for field in ("model", "do", "sure"))
        asked = answer(library, model, do, sure is True)
        # The time, for a browser is not told of a value that is the same as before.
        return {**shown(library, soon=not asked), "ask": asked, "at": time.time()}

    def use(data: gr.EventData) -> tuple[Any, Any]:
        model, k = carried(data, "model", ""), carried(data, "example", None)
        card = library.cards.get(model) if isinstance(model, str) else None
        if card is None:
            return gr.skip(), gr.skip()
        tab = "text-to-image" if "text-to-image" in card.tasks else "image-to-image"
        example = card.prompts[k] if isinstance(k, int) and 0 <= k < len(card.prompts) else ""
        # The time, so that the same model can be chosen twice.
        return gr.Tabs(selected=tab), {"model": card.id, "prompt": example, "tab": tab, "at": time.time()}

    gr.on([shelf.tick, page.tab.select], tick, None, [shelf, gauges], **QUICK)
    shelf.act(act, None, [shelf], **WATCH)
    shelf.use(use, None, [page.tabs, page.picked], **WATCH)


# -- what is done --------------------------------------------------------------------------------------------------


def manages(library: Library) -> bool:
    """Whether whoever asks may change anything here."""
    return library.manages and visitor().owner


def answer(library: Library, model: Any, do: Any, sure: bool) -> dict[str, Any]:
    """Do what a button asks for, or ask back first.

    Returns:
        ``{}``, or ``{"model", "do", "sentences", "yes"}``: what to tell and, if it may go on, what the button says.
    """
    if not manages(library):
        return _told(model, do, [READ_ONLY])
    known = isinstance(model, str) and isinstance(do, str) and do in _DO and model in library.cards
    if not known:
        return _told(model, do, ["This model is not on the list any more; choose another."])
    try:
        return _DO[do](library, model, sure) or {}
    except PROBLEMS as error:
        return _told(model, do, [str(error)])


def _told(model: Any, do: Any, sentences: list[str], yes: str = "") -> dict[str, Any]:
    return {"model": str(model)[:512], "do": str(do)[:20], "sentences": sentences, "yes": yes}


def _load(library: Library, model: str, sure: bool) -> dict[str, Any] | None:
    ahead = library.check(model)
    if not ahead.ok:
        return _told(model, "load", list(ahead.sentences))
    if not ahead.fits and not sure:
        return _told(model, "load", list(ahead.sentences), "Load it all the same")
    library.load(model)
    return None


def _fetch(library: Library, model: str, sure: bool) -> dict[str, Any] | None:
    if sure:
        library.fetch(model)
        return None
    card, ahead = library.cards[model], library.check(model)
    terms = [f"Its licence: {card.licence}."]
    if card.gated:
        terms.append(
            "Its makers ask you to agree to their terms on its page first; then make a token there, put it into the "
            "environment as HF_TOKEN and start this program again."
        )
    return _told(model, "fetch", [*ahead.sentences, *terms], f"Download {gb(ahead.download)}" if ahead.ok else "")


def _delete(library: Library, model: str, sure: bool) -> dict[str, Any] | None:
    card = library.cards[model]
    if not sure:
        size = gb(next(row.disk for row in library.rows() if row.card.id == model))
        shared = [other.name for other in library.cards.values() if other.source == card.source and other.id != model]
        others = f", and for {' and '.join(shared)}, which shares its files" if shared else ""
        words = [
            f"This deletes {size} of {card.name} from this disk{others}.",
            "Other programs that use the same cache lose it too. It can be fetched again; your pictures stay.",
        ]
        return _told(model, "delete", words, f"Delete {size}")
    return _told(model, "delete", [f"{gb(library.delete(model))} of {card.name} were deleted."])


_DO: Mapping[str, Callable[[Library, str, bool], dict[str, Any] | None]] = {
    "load": _load,
    "fetch": _fetch,
    "delete": _delete,
    "unload": lambda library, model, sure: library.unload(model),
    "stop": lambda library, model, sure: library.stop(model),
    "keep": lambda library, model, sure: library.pin(model, True),
    "let-go": lambda library, model, sure: library.pin(model, False),
    "forget": lambda library, model, sure: library.forget(model),
}


def others(page: Page) -> str:
    """How many files for models there are besides, and where more of them go."""
    if not manages(page.library):
        return ""
    backend = page.backend
    counts = [(len(backend.loras()), "LoRA"), (len(backend.controls()), "ControlNet")]
    counts.append((len(backend.adapters()), "IP-Adapter"))
    found = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts)
    return (
        f"Found besides: {found}. More of them go into the folders loras, embeddings, controlnets, ip_adapters and "
        f"annotators of {page.pictures_dir.parent}."
    )


# -- what is shown -------------------------------------------------------------------------------------------------


def shown(library: Library, soon: bool = False) -> dict[str, Any]:
    """The list's value; ``soon`` if something is about to change."""
    rows = library.rows()
    return {
        "note": "" if manages(library) else READ_ONLY,
        "busy": soon or any(row.loading or (row.download and not row.download.problem) for row in rows),
        "rows": [row_value(row, manages(library)) for row in rows],
    }


def gauge(found: Gauge) -> dict[str, Any]:
    """A bar: what is taken by each model, by everything else, and what is free."""
    models = sum(size for _, size in found.models)
    others = max(0, found.total - found.free - models)
    share = 100 / max(found.total, 1)
    parts = [{"name": name, "text": f"{name} {gb(size)}", "share": size * share} for name, size in found.models]
    return {
        "name": found.name,
        "text": f"{gb(found.free)} of {gb(found.total)} are free",
        "parts": [*parts, {"name": "", "text": f"all other programs {gb(others)}", "share": others * share}],
    }


def row_value(row: Row, manages: bool) -> dict[str, Any]:
    """One model as the page shows it."""
    card, load = row.card, row.download
    return {
        "id": card.id,
        "name": card.name,
        "about": card.about,
        "group": "away" if row.state.where == AWAY else "disk" if row.state.where == DISK else "memory",
        "where": where_words(row),
        "facts": facts(row),
        "licence": card.licence,
        "link": card.link if card.link.startswith(("https://", "http://")) else "",
        "prompts": list(card.prompts[:EXAMPLES]) if row.state.where != AWAY else [],
        "usable": row.state.where != AWAY,
        "progress": load.text if load and not load.problem else row.loading,
        "share": 100 * load.done / load.total if load and load.total else None,
        "problem": (load.problem if load else "") or row.problem,
        "buttons": [list(button) for button in buttons(row)] if manages else [],
    }


def where_words(row: Row) -> str:
    """Where a model is, in few words."""
    state, size = row.state, gb(row.state.bytes)
    place = {GPU: f"In graphics memory, {size}", DISK: "On this machine", AWAY: "Not here"}
    words = place.get(state.where, f"In memory, {size}")
    if state.where == AWAY and row.disk:
        words = f"{gb(row.disk)} of it are here"
    return words + (", in use" if state.in_use else "") + (", kept" if state.pinned else "")


def facts(row: Row) -> list[str]:
    """What else there is to know of a model."""
    card, state = row.card, row.state
    found = [f"{gb(row.disk)} on disk"] if row.disk and state.where != AWAY else []
    if card.memory_bytes:
        found.append(f"needs about {gb(card.memory_bytes)} of memory for {card.width} x {card.height}")
    if state.where == AWAY and card.download_bytes:
        found.append(f"download about {gb(card.download_bytes)}")
    if state.precision:
        found.append(f"runs in {state.precision} with {'SDPA' if state.attention == 'sdpa' else state.attention}")
    found += [f"to fit into memory: {', '.join(state.rungs)}"] if state.rungs else []
    return [*found, *([state.note] if state.note else [])]


def buttons(row: Row) -> list[tuple[str, str]]:
    """What can be done with a model now: (name for ``answer``, label)."""
    if row.loading or (row.download and not row.download.problem):
        return [("stop", "Stop")]
    where = row.state.where
    found: list[tuple[str, str]] = []
    if where == AWAY:
        found.append(("fetch", "Go on downloading" if row.disk else "Download"))
    elif where == DISK:
        found.append(("load", "Load"))
    else:
        found.append(("unload", "Unload"))
        found.append(("let-go", "Let go") if row.state.pinned else ("keep", "Keep loaded"))
    if row.from_hub and row.disk:
        found.append(("delete", "Delete"))
    if row.mine:
        found.append(("forget", "Take off the list"))
    return found
