"""The LoRAs on this machine as cards: preview, trigger words, base model, and the weight in the prompt."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.request import InvalidRequest
from pipelines.system.fingerprint import Stamp, file_stamp
from pipelines.system.lru import LruDict
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT

if TYPE_CHECKING:
    from pipelines.models.adapters.lora import LoraFile
    from ui.context import PageContext

# Pictures next to a LoRA's file, by the endings that other programs give them: ink.safetensors, ink.preview.png.
ENDINGS = tuple(f"{kind}.{ending}" for kind in (".preview", "") for ending in ("png", "jpg", "jpeg", "webp"))
# Longest side of a preview in pixels, and of how many LoRAs they are sent.
SIDE = 128
MAX_PREVIEWS = 60
_TEMPLATE = """
<div class="lora-cards" data-empty="yes">
  <input type="search" data-part="query" aria-label="Search the LoRAs" placeholder="Search" autocomplete="off" hidden>
  <div class="list" data-part="list"></div>
  <p class="sentence" data-part="none" role="status"></p>
</div>
"""


class LoraPreviews:
    """The pictures next to LoRA files, read once for each version.  Thread-safe.

    Args:
        page: whose slots bound how many files are decoded at once.
    """

    def __init__(self, page: PageContext) -> None:
        self._page = page
        self._known: LruDict[tuple[Path, Stamp], str] = LruDict(max_entries=4 * MAX_PREVIEWS)
        self._lock = threading.Lock()

    def get(self, file: LoraFile) -> str:
        """A LoRA's preview as a data URI; "" without one that can be read."""
        path = preview_file(file.path)
        if path is None:
            return ""
        try:
            key = path, file_stamp(path)
            with self._lock:
                if key in self._known:
                    return self._known[key]
            with self._page.inputs.slot():
                uri = thumbnail_uri(self._page.inputs.read(path).image, SIDE)
        except InvalidRequest:  # broken, or too large
            uri = ""
        except OSError:  # gone meanwhile
            return ""
        with self._lock:
            self._known[key] = uri
        return uri


def preview_file(lora: Path) -> Path | None:
    """The picture next to a LoRA's file, or None."""
    found = (lora.with_name(lora.stem + ending) for ending in ENDINGS)
    return next((path for path in found if path.is_file()), None)


def card(file: LoraFile, preview: str = "") -> dict[str, Any]:
    """What a card shows."""
    return {
        "name": file.name,
        "words": list(file.words),
        "base": f"Base model: {file.base}" if file.base else "Its file does not name its base model.",
        "problem": f"Cannot be used: it {file.problem}." if file.problem else "",
        "note": file.note,
        "preview": preview,
    }


def listing(files: Sequence[LoraFile], previews: LoraPreviews) -> Iterator[dict[str, Any]]:
    """The list without pictures, at once, and with them when they are read."""
    cards = [card(file) for file in files]
    yield {"cards": cards}
    pictures = [previews.get(file) for file in files[:MAX_PREVIEWS]]
    if any(pictures):
        seen = [{**each, "preview": picture} for each, picture in zip(cards, pictures, strict=False)]
        yield {"cards": [*seen, *cards[MAX_PREVIEWS:]]}


def lora_cards(prefix: str = "") -> gr.HTML:
    """The component: it asks for the list when its drawer opens, and writes tags into the prompt itself."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("form/prompt/box.js", "form/choosing/lora_tags.js", "form/choosing/lora_cards.js"),
        elem_id=f"{prefix}lora-cards",
        apply_default_css=False,
    )


def wire(page: PageContext, component: gr.HTML) -> None:
    """Answer with the LoRAs that are there now."""
    previews = LoraPreviews(page)

    def fill() -> Iterator[dict[str, Any]]:
        yield from listing(page.backend.adapters.loras(), previews)

    component.fill(fill, None, [component], **CONCURRENT)
