"""The images that runs of one browser started from: each "use as input" adds one, and a click goes back to it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from history.database import HistoryUnavailable
from pipelines.events import Finished
from pipelines.images import geometry
from pipelines.images.uploads import read_upload
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.context import BUNDLED, PageContext
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.images.uploads import UserUploads
    from ui.tabs.image_to_image.source import Source

# Images that are remembered; the oldest results go first, the very first image stays.
MAX_ITEMS = 24
SIDE = 72
# Key of the one that is in use, where it is not the last.
IN_USE = "now"
YOURS, RESULT, EXAMPLE = "Yours", "Result", "Example"
SENT_GONE = "That image is no longer here. Make it again, or upload one."
# What is offered on entering is taken by the browser, and only if no image is there by then: an upload is faster.
_TAKE_OFFER = """(offer, image) => {
  const same = { __type__: 'update' };
  return offer?.image && !image ? [offer.image, offer.links, offer.shown] : [same, same, same];
}"""
_TEMPLATE = """
<section class="source-history" aria-label="Images that you started from" hidden>
  <p class="sentence">Images that you started from. Click one to go back to it.</p>
  <ol></ol>
</section>
"""


def source_history() -> gr.HTML:
    """The component; its event ``back`` carries the ``id`` of a stored image."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("tabs/image_to_image/source_history.js"),
        elem_id="source-history",
        apply_default_css=False,
    )


def read(links: Any) -> list[dict[str, str]]:
    """What a browser remembers, checked: ids with labels; anything malformed is dropped."""
    if not isinstance(links, list):
        return []
    fits = [link for link in links if isinstance(link, dict) and isinstance(link.get("id"), str)]
    return [
        {"id": link["id"], "label": str(link.get("label", ""))[:40], **({IN_USE: "yes"} if link.get(IN_USE) else {})}
        for link in fits[:MAX_ITEMS]
    ]


def marked(links: Any, name: str) -> list[dict[str, str]]:
    """The history with the image in use marked, unless it is the last one: a reload brings it back."""
    found = [{key: text for key, text in link.items() if key != IN_USE} for link in read(links)]
    for link in found[:-1]:
        if link["id"] == name:
            link[IN_USE] = "yes"
    return found


def add(links: Any, name: str, kind: str) -> list[dict[str, str]]:
    """The history with one more image; one that is there already keeps its place.

    Args:
        links: what the browser remembers.
        name: id of the stored image.
        kind: YOURS, RESULT or EXAMPLE.
    """
    found = marked(links, name)
    if any(link["id"] == name for link in found):
        return found
    # After the highest, not the count: the oldest may have gone.
    numbers = [number(link["label"]) for link in found if link["label"].startswith(kind)]
    label = kind if kind == EXAMPLE else f"{kind} {max(numbers, default=0) + 1}"
    return [*found[:1], *found[1:][-(MAX_ITEMS - 2) :], {"id": name, "label": label}]


def number(label: str) -> int:
    """The number that a label ends with, or 0."""
    end = label.rpartition(" ")[2]
    return int(end) if end.isascii() and end.isdigit() else 0


def value(links: Any, inputs: UserUploads, now: Any) -> dict[str, Any]:
    """The component's value; images that are gone are left out.

    Args:
        links: what the browser remembers.
        inputs: the store of the images.
        now: id of the image in use.
    """
    items = []
    for link in read(links):
        try:
            uri = thumbnail_uri(inputs.get(link["id"]), SIDE)
            items.append({"id": link["id"], "label": link["label"], "uri": uri})
        except InvalidRequest:
            continue
    return {"items": items, "now": now if isinstance(now, str) else ""}


@dataclass(frozen=True, eq=False)
class SourceHistory:
    """Event handlers; each answers with the image, the history, the component's value and an error."""

    page: PageContext

    def add(self, image: Image.Image, links: Any, kind: str) -> tuple[Any, ...]:
        """Use an image, and remember it."""
        inputs = self.page.inputs
        name = inputs.put(image)
        more = add(links, name, kind)
        return image, more, value(more, inputs, name), ""

    def upload(self, path: Any, links: Any) -> tuple[Any, ...]:
        """Remember an uploaded image; what is wrong with it is said when it is prepared."""
        inputs = self.page.inputs
        try:
            with inputs.slot():
                found = geometry.limit_size(inputs.read(path).image) if path else None
                return self.unchanged() if found is None else (gr.skip(), *self.add(found, links, YOURS)[1:])
        except InvalidRequest:
            return self.unchanged()

    def receive(self, sent: Any, links: Any) -> tuple[Any, ...]:
        """Use a result that was sent here."""
        image = sent_image(self.page, sent)
        try:
            kind = YOURS if isinstance(sent, dict) and "upload" in sent else RESULT
            return self.add(image, links, kind) if image else self.unchanged(SENT_GONE)
        except InvalidRequest as problem:
            return self.unchanged(str(problem))

    def back(self, links: Any, data: gr.EventData) -> tuple[Any, ...]:
        """Use the image that was clicked."""
        try:
            return self.use(links, str(event_value(data, "id", "")))
        except InvalidRequest as problem:
            return self.unchanged(str(problem))

    def enter(self, path: Any, links: Any, sent: Any) -> dict[str, Any] | None:
        """On entering without an image: this browser's one in use or its latest, else the model's own.

        Returns:
            ``image`` as a file that Gradio serves, ``links`` and ``shown``, the component's value; None for nothing.
        """
        # An image that was sent here is on its way, or was: these links may not know of it yet.
        found = None if path or sent else self._latest(links)
        if found is None:
            return None
        image, more, shown, _ = found
        file = save_pil_to_cache(image, get_upload_folder(), format="png")
        return {"image": {"path": file, "meta": {"_type": "gradio.FileData"}}, "links": more, "shown": shown}

    def _latest(self, links: Any) -> tuple[Any, ...] | None:
        found = read(links)
        for link in [*(link for link in found if IN_USE in link), *reversed(found)]:
            with suppress(InvalidRequest):
                return self.use(found, link["id"])
        first = sent_image(self.page, {"id": BUNDLED, "picture": 0})
        with suppress(InvalidRequest):
            return self.add(first, [], EXAMPLE) if first else None
        return None

    def use(self, links: Any, name: str) -> tuple[Any, ...]:
        """An image of the history; raises InvalidRequest if it is gone."""
        inputs = self.page.inputs
        return inputs.get(name), marked(links, name), value(links, inputs, name), ""

    def unchanged(self, error: str | None = None) -> tuple[Any, ...]:
        """Nothing changes but the error, if there is one."""
        return (gr.skip(), gr.skip(), gr.skip(), gr.skip() if error is None else error)


def wire(page: PageContext, source: Source, component: gr.HTML) -> None:
    """Remember each image that is uploaded or sent here, and go back to one with a click."""
    history, links = SourceHistory(page), page.source_history
    outputs = [source.upload, links, component, source.error]
    source.upload.input(history.upload, [source.upload, links], outputs, **CONCURRENT)
    page.sent_image.change(history.receive, [page.sent_image, links], outputs, **CONCURRENT)
    component.back(history.back, [links], outputs, **CONCURRENT)
    offer = gr.HTML(None, html_template="<i></i>", js_on_load=None, elem_classes="keys", apply_default_css=False)
    offered = page.tab.select(history.enter, [source.upload, links, page.sent_image], [offer], **CONCURRENT)
    offered.then(None, [offer, source.upload], outputs[:3], js=_TAKE_OFFER, **UNQUEUED)


def sent_image(page: PageContext, sent: Any) -> Image.Image | None:
    """The picture that was sent here: an upload, an entry's, the saved file, or the copy in its trace."""
    if not isinstance(sent, dict):
        return None
    if isinstance(sent.get("upload"), str):
        with suppress(InvalidRequest):
            return page.inputs.get(sent["upload"])
        return None
    if isinstance(sent.get("entry"), str):
        return entry_picture(page, sent["entry"])
    job, k = page.find_job(sent.get("id")), sent.get("picture", 0)
    trace = page.trace(sent)
    candidates: list[Callable[[], Any]] = []
    match job.poll() if job is not None else []:
        case [*_, Finished(pictures=saved, drafts=unsaved)]:
            candidates += [lambda: saved[k].path, lambda: io.BytesIO(unsaved[k])]
    if trace is not None:
        candidates += [lambda: trace.pictures[k].path, lambda: io.BytesIO(trace.finals[k])]
    for candidate in candidates:
        try:
            with Image.open(candidate()) as image:
                return image.convert("RGB")
        except (OSError, IndexError, TypeError):
            continue
    return None


def entry_picture(page: PageContext, entry_id: str) -> Image.Image | None:
    """The picture of an entry of the history, which may be another program's file."""
    if page.history is None:
        return None
    with suppress(InvalidRequest, HistoryUnavailable):
        found = page.history.detail(current_user(), entry_id)
        if found is not None and found.picture is not None:
            return geometry.flatten(read_upload(found.picture).image)
    return None
