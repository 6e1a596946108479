"""Models: what is loaded where, what is on this machine, what can be downloaded, and adding a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from pipelines.hub.errors import DownloadError
from pipelines.model import CannotLoad
from pipelines.models import safety_checker
from pipelines.models.manager import ModelBusy
from pipelines.models.placement import NoSuchDevice
from pipelines.models.preflight import gb
from pipelines.models.residency import DISK, GPU, NOT_HERE_YET
from pipelines.request import InvalidRequest
from pipelines.system.text import hide_paths
from presets.fits import FITS, PARTLY, TOO_LARGE
from presets.json_files import CatalogueError
from presets.library import MemoryGauge, ModelLibrary, ModelRow
from presets.prediction_choices import AS_IN_FILE
from ui.components.assets import asset
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.message import message
from ui.context import PageContext
from ui.server.current_user import current_user

PROBLEMS = (ModelBusy, InvalidRequest, CannotLoad, DownloadError, CatalogueError, NoSuchDevice, OSError)
# Example prompts that are shown for a model.
EXAMPLES = 4
READ_ONLY = (
    "Only the owner of this computer can change anything here: open the link that the program printed when it started."
)
ADD = "Add a model of your own"
ADD_HELP = (
    "The name of a model on the Hugging Face hub (owner/name), the address of its page, a diffusers folder, or a "
    ".safetensors file on this computer. Its files are checked, not loaded."
)
# What the page says about a model's own safety checker, by its state.
SAFETY = {
    safety_checker.ON: "its safety checker checks every finished picture",
    safety_checker.OFF: "its safety checker is switched off (--no-safety-checker)",
    safety_checker.MISSING: "its safety checker is missing, so nothing is checked",
    safety_checker.NONE: "has no safety checker",
}
# The groups of the list: how a model fits, title and help.
GROUPS = (
    (FITS, "Fits this computer", ""),
    (
        PARTLY,
        "Fits with parts in RAM",
        "Larger than the graphics card: parts wait in RAM and stream in, which is slower.",
    ),
    (TOO_LARGE, "Does not fit this computer", "May run very slowly, or not at all."),
)
# What a checkpoint predicts, for models whose file may not say it: choice -> label.
PREDICTS = {
    AS_IN_FILE: "what its file says",
    "epsilon": "noise (epsilon)",
    "v": "v",
    "v-zsnr": "v, from pure noise (zero terminal SNR)",
}
_TEMPLATE = """
<section class="models" aria-label="Models">
  <p class="sentence" data-part="note" hidden></p>
  <div data-part="groups"><p class="sentence">Looking for models.</p></div>
</section>
"""
_GAUGES = '<section class="gauges" aria-label="Memory"></section>'


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    library = page.library
    with gr.Row(elem_id="models-workspace"):
        options = {"apply_default_css": False}
        model_list = gr.HTML(
            None, html_template=_TEMPLATE, js_on_load=asset("tabs/models.js"), elem_id="models", **options
        )
        gauges = gr.HTML(
            None, html_template=_GAUGES, js_on_load=asset("tabs/memory_gauges.js"), elem_id="gauges", **options
        )
        with gr.Column(elem_id="add-model", visible=False) as add_group:
            name = gr.Textbox(label=ADD, info=ADD_HELP, max_length=500, max_lines=1, elem_id="add-name")
            problem = message(elem_id="add-problem", alert=True)
            add = gr.Button("Add", size="sm", elem_id="add-button")
            adapters = message(elem_id="adapter-counts")
    wire(page, model_list, gauges)

    def enter() -> tuple[Any, str]:
        mine = manages(library)
        return gr.Column(visible=mine), adapter_counts(page) if mine else ""

    page.tab.select(enter, None, [add_group, adapters], **UNQUEUED)

    def add_model(text: Any) -> tuple[Any, str, dict[str, Any]]:
        if not manages(library):
            return gr.skip(), READ_ONLY, list_value(library)
        if not str(text or "").strip():
            return gr.skip(), "Type the name of a model first: a hub id, a folder or a .safetensors file.", gr.skip()
        try:
            card = library.add(str(text))
        except PROBLEMS as error:
            return gr.skip(), str(error), gr.skip()
        return "", "", {**list_value(library), "look": card.id}

    here = {**CONCURRENT, "show_progress_on": [problem]}
    gr.on([add.click, name.submit], add_model, [name], [name, problem, model_list], **here)


def wire(page: PageContext, model_list: gr.HTML, gauges: gr.HTML) -> None:
    """The list is polled, its buttons act, and a chosen model goes to its tab."""
    library = page.library

    def tick() -> tuple[Any, Any]:
        return list_value(library), [gauge_value(gauge) for gauge in library.gauges()]

    def act(data: gr.EventData) -> dict[str, Any]:
        model, do, sure = (event_value(data, field, "") for field in ("model", "do", "sure"))
        asked = perform(library, model, do, sure is True)
        # The time, since Gradio does not send a value that is equal to the last one.
        return {**list_value(library, soon=not asked), "ask": asked, "at": time.time()}

    def use(data: gr.EventData) -> tuple[Any, Any]:
        model, k = event_value(data, "model", ""), event_value(data, "example", None)
        card = library.cards.get(model) if isinstance(model, str) else None
        if card is None:
            return gr.skip(), gr.skip()
        tab = "text-to-image" if "text-to-image" in card.tasks else "image-to-image"
        example = card.prompts[k] if isinstance(k, int) and 0 <= k < len(card.prompts) else ""
        # The time, so that the same model can be chosen twice.
        return gr.Tabs(selected=tab), {"model": card.id, "prompt": example, "tab": tab, "at": time.time()}

    gr.on([model_list.tick, page.tab.select], tick, None, [model_list, gauges], **UNQUEUED)
    model_list.act(act, None, [model_list], **CONCURRENT)
    model_list.use(use, None, [page.tabs, page.picked_model], **CONCURRENT)


# -- actions ---------------------------------------------------------------------------------------------------------


def manages(library: ModelLibrary) -> bool:
    """Whether the current user may change anything here."""
    return library.manages and current_user().owner


def perform(library: ModelLibrary, model: Any, do: Any, sure: bool) -> dict[str, Any]:
    """Do what a button asks for, or ask for confirmation first.

    Returns:
        ``{}``, or ``{"model", "do", "sentences", "yes"}``: what to say and, if it may go on, the label of the button.
    """
    if not manages(library):
        return _question(model, do, [READ_ONLY])
    known = isinstance(model, str) and isinstance(do, str) and do in _DO and model in library.cards
    if not known:
        return _question(model, do, ["This model is no longer on the list. Choose another."])
    try:
        return _DO[do](library, model, sure) or {}
    except PROBLEMS as error:
        return _question(model, do, [str(error)])


def _question(model: Any, do: Any, sentences: list[str], yes: str = "") -> dict[str, Any]:
    return {"model": str(model)[:512], "do": str(do)[:20], "sentences": sentences, "yes": yes}


def _load(library: ModelLibrary, model: str, sure: bool) -> dict[str, Any] | None:
    preflight = library.preflight(model)
    if not preflight.ok:
        return _question(model, "load", list(preflight.sentences))
    if not preflight.fits and not sure:
        return _question(model, "load", list(preflight.sentences), "Load anyway")
    library.load(model)
    return None


def _fetch(library: ModelLibrary, model: str, sure: bool) -> dict[str, Any] | None:
    if sure:
        library.download(model)
        return None
    card, preflight = library.cards[model], library.preflight(model)
    terms = [f"Its licence: {card.licence}."]
    if card.gated:
        terms.append(
            "Its authors ask you to accept their terms on its page first; then create a token there, put it into the "
            "environment as HF_TOKEN and start this program again."
        )
    return _question(
        model, "fetch", [*preflight.sentences, *terms], f"Download {gb(preflight.download)}" if preflight.ok else ""
    )


def _delete(library: ModelLibrary, model: str, sure: bool) -> dict[str, Any] | None:
    card = library.cards[model]
    if not sure:
        size = gb(next(row.disk for row in library.rows() if row.card.id == model))
        shared = [other.name for other in library.cards.values() if other.source == card.source and other.id != model]
        others = f", and for {' and '.join(shared)}, which shares its files" if shared else ""
        words = [
            f"This deletes {size} of {card.name} from this disk{others}.",
            "Other programs that use the same cache lose it too. It can be downloaded again; your pictures stay.",
        ]
        return _question(model, "delete", words, f"Delete {size}")
    return _question(model, "delete", [f"{gb(library.delete(model))} of {card.name} were deleted."])


def _choose_prediction(choice: str, library: ModelLibrary, model: str, sure: bool) -> None:
    library.choose_prediction(model, choice)


_DO: Mapping[str, Callable[[ModelLibrary, str, bool], dict[str, Any] | None]] = {
    "load": _load,
    "fetch": _fetch,
    "delete": _delete,
    "unload": lambda library, model, sure: library.unload(model),
    "stop": lambda library, model, sure: library.stop(model),
    "keep": lambda library, model, sure: library.pin(model, True),
    "let-go": lambda library, model, sure: library.pin(model, False),
    "forget": lambda library, model, sure: library.remove(model),
    **{f"predicts-{choice}": partial(_choose_prediction, choice) for choice in PREDICTS},
}


def adapter_counts(page: PageContext) -> str:
    """How many adapter files there are, and where to put more."""
    if not manages(page.library):
        return ""
    backend = page.backend
    counts = [(len(backend.adapters.loras()), "LoRA"), (len(backend.adapters.controlnets()), "ControlNet")]
    counts.append((len(backend.adapters.ip_adapters()), "IP-Adapter"))
    found = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts)
    return (
        f"Also found: {found}. Put more into the folders loras, embeddings, controlnets, ip_adapters and "
        f"annotators in {page.pictures_dir.parent}."
    )


# -- values ----------------------------------------------------------------------------------------------------------


def list_value(library: ModelLibrary, soon: bool = False) -> dict[str, Any]:
    """The list's value; ``soon``: whether something is about to change."""
    rows = library.rows()
    return {
        "groups": [list(group) for group in GROUPS],
        "note": "" if manages(library) else READ_ONLY,
        "busy": soon or any(row.loading or (row.download and not row.download.problem) for row in rows),
        "rows": [row_value(row, manages(library)) for row in rows],
    }


def gauge_value(gauge: MemoryGauge) -> dict[str, Any]:
    """A bar: the memory of each model, of everything else, and what is free."""
    models = sum(size for _, size in gauge.models)
    others = max(0, gauge.total - gauge.free - models)
    share = 100 / max(gauge.total, 1)
    parts = [{"name": name, "text": f"{name} {gb(size)}", "share": size * share} for name, size in gauge.models]
    return {
        "name": gauge.name,
        "text": f"{gb(gauge.free)} of {gb(gauge.total)} free",
        "parts": [*parts, {"name": "", "text": f"all other programs {gb(others)}", "share": others * share}],
    }


def row_value(row: ModelRow, manages: bool) -> dict[str, Any]:
    """One row of the list; only who manages the models sees where they are on this computer."""
    card, load = row.card, row.download
    place = [f"stored at {card.source}"] if manages and not row.from_hub else []

    def shown(text: str) -> str:
        return text if manages else hide_paths(text, card.source)

    return {
        "id": card.id,
        "name": card.name,
        "about": card.about,
        "group": row.fit.kind,
        "where": where_words(row),
        "facts": [*(shown(fact) for fact in facts(row)), *place],
        "licence": card.licence,
        "link": card.link if card.link.startswith(("https://", "http://")) else "",
        "prompts": list(card.prompts[:EXAMPLES]) if row.state.where != NOT_HERE_YET else [],
        "usable": row.state.where != NOT_HERE_YET,
        "progress": shown(load.text if load and not load.problem else row.loading),
        "share": 100 * load.done / load.total if load and load.total else None,
        "problem": shown((load.problem if load else "") or row.problem),
        "buttons": [list(button) for button in buttons(row)] if manages else [],
        "predicts": [[f"predicts-{name}", label, name == row.prediction] for name, label in PREDICTS.items()]
        if manages and row.prediction
        else [],
    }


def where_words(row: ModelRow) -> str:
    """Where a model is."""
    state, size = row.state, gb(row.state.bytes)
    place = {GPU: f"In graphics memory, {size}", DISK: "On this machine", NOT_HERE_YET: "Not downloaded"}
    words = place.get(state.where, f"In memory, {size}")
    words += f" on {state.homes} devices" if state.homes > 1 else ""
    if state.where == NOT_HERE_YET and row.disk:
        words = f"{gb(row.disk)} downloaded"
    return words + (", making a picture" if state.in_use else "") + (", kept loaded" if state.pinned else "")


def facts(row: ModelRow) -> list[str]:
    """Facts about a model: sizes, precision, fallbacks, safety checker."""
    card, state = row.card, row.state
    found = [f"{gb(row.disk)} on disk"] if row.disk and state.where != NOT_HERE_YET else []
    if card.memory_bytes:
        found.append(f"needs about {gb(card.memory_bytes)} of memory for {card.width} x {card.height}")
    if state.where == NOT_HERE_YET and card.download_bytes:
        found.append(f"download about {gb(card.download_bytes)}")
    if state.precision:
        found.append(f"runs in {state.precision} with {'SDPA' if state.attention == 'sdpa' else state.attention}")
    found += [f"to fit into memory: {', '.join(state.fallbacks)}"] if state.fallbacks else []
    found += [row.fit.why.rstrip(".")] if row.fit.why else []
    found += [SAFETY[state.safety]] if state.safety in SAFETY else []
    return [*found, *([state.note] if state.note else [])]


def buttons(row: ModelRow) -> list[tuple[str, str]]:
    """The actions that a model allows now: (name for ``perform``, label)."""
    if row.loading or (row.download and not row.download.problem):
        return [("stop", "Stop")]
    where = row.state.where
    found: list[tuple[str, str]] = []
    if where == NOT_HERE_YET:
        found.append(("fetch", "Resume download" if row.disk else "Download"))
    elif where == DISK:
        found.append(("load", "Load"))
    else:
        found.append(("unload", "Unload"))
        found.append(("let-go", "Allow unloading") if row.state.pinned else ("keep", "Keep loaded"))
    if row.from_hub and row.disk:
        found.append(("delete", "Delete"))
    if row.added_by_user:
        found.append(("forget", "Remove from list"))
    return found
