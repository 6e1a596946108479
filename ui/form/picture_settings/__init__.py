"""Settings of a picture that is dropped on the page, pasted or chosen: they are shown, and chosen ones are taken over.

Nothing runs by itself, and nothing of the file is kept: each event names the uploaded file, which is read again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.images.file_texts import read_texts
from pipelines.images.geometry import flatten
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.uploaded_file import uploaded_file
from ui.form.picture_settings.reading import PARTS, Known, fields_of, rows_of, settings_of, unread_text
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pathlib import Path

    from history.readers.settings import ForeignSettings
    from ui.context import PageContext

TEXT_TAB, IMAGE_TAB = "text-to-image", "image-to-image"
SIDE = 320
GONE = "This file is not here any more; choose the picture again."
NOTHING = "This picture holds no settings that can be read. It can still be a picture to start from."
READING = "Files here are compared with the hashes in the picture; what is found appears below."
NOTHING_CHOSEN = "Nothing is chosen; mark what you want to take over."
_TEMPLATE = """
<div class="drop-here" data-part="here" hidden><p>Drop the picture to see its settings</p></div>
<input type="file" data-part="file" accept="image/png,image/jpeg,image/webp" aria-label="A picture to read" hidden>
<dialog class="picture-settings" data-part="dialog" aria-label="Settings of a picture">
  <header><h2>Settings of a picture</h2>
    <button type="button" class="quiet" data-part="close">Close</button></header>
  <div class="read" data-part="read" tabindex="0" role="group" aria-label="What the picture says">
    <div class="about"><div class="mat"><img data-part="picture" alt="" hidden></div>
      <div><p class="name" data-part="name"></p><p class="sentence" data-part="program"></p>
        <p class="sentence" data-part="said" role="status"></p></div></div>
    <table data-part="table" hidden><thead><tr><th scope="col">Take over</th><th scope="col">In the picture</th>
      <th scope="col">Here</th></tr></thead><tbody data-part="rows"></tbody></table>
    <details data-part="unused-box" hidden><summary data-part="unused-title"></summary>
      <dl data-part="unused"></dl></details>
    <details data-part="text-box" hidden><summary>The text as it stands in the file</summary>
      <pre data-part="text" tabindex="0"></pre></details>
  </div>
  <footer data-part="foot" hidden>
    <label class="check"><input type="checkbox" data-part="source"> Use the picture to start from</label>
    <label class="into">into <select data-part="to"><option value="text-to-image">Text to image</option>
      <option value="image-to-image">Image to image</option></select></label>
    <button type="button" class="primary-act" data-part="take">Take over</button>
  </footer>
</dialog>
"""


def build(page: PageContext) -> None:
    """Lay the panel out, closed, and attach its events.

    ``look`` carries ``path``, an uploaded file; ``take`` also ``parts`` (of ``PARTS``), ``to`` (a tab) and ``source``,
    whether the picture is what image to image starts from.  Answers carry the ``ask`` of their question.
    """
    panel = gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("form/picture_settings/panel.js"),
        elem_id="picture-settings",
        elem_classes="keys-host",
        apply_default_css=False,
    )

    def look(data: gr.EventData) -> dict[str, Any]:
        return {**answered(lambda: shown(page, file_of(data))), "ask": asked(data)}

    def take(data: gr.EventData) -> tuple[Any, ...]:
        found = answered(lambda: taken(page, data))
        others = [found.pop(name, gr.skip()) for name in ("tab", "image", "settings")]
        return (*others, {**found, "ask": asked(data)})

    panel.look(look, None, [panel], trigger_mode="multiple", **UNQUEUED)
    outputs = [page.tabs, page.sent_image, page.taken_settings, panel]
    # Queued, although quick: Gradio announces the change of a state only there.
    panel.take(take, None, outputs, trigger_mode="multiple", **CONCURRENT)


def asked(data: gr.EventData) -> str:
    """The number of a question."""
    return str(event_value(data, "ask", ""))[:40]


def answered(answer: Any) -> dict[str, Any]:
    """An answer, or ``problem`` with one sentence."""
    try:
        found: dict[str, Any] = answer()
        return found
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    except OSError:
        return {"problem": GONE}


def file_of(data: gr.EventData) -> Path:
    """The uploaded file that an event names; raises InvalidRequest."""
    found = uploaded_file(event_value(data, "path", None))
    if found is None:
        raise InvalidRequest("image", GONE)
    return found


def known(page: PageContext) -> Known:
    """What is on this computer."""
    return Known(page.library.available(), page.backend.adapters.loras(), page.digests)


def read(page: PageContext, path: Path) -> tuple[Any, ForeignSettings | None, bytes]:
    """A file's pixels within the user's bounds, its settings, and its bytes; raises InvalidRequest, OSError."""
    inputs = page.inputs
    with inputs.slot():
        image = inputs.read(path).image
        data = path.read_bytes()
        return image, settings_of(data), data


def shown(page: PageContext, path: Path) -> dict[str, Any]:
    """What the panel shows of a file."""
    image, found, data = read(page, path)
    here = known(page)
    # Guests do not set this computer to work; what was read before is known to them, too.
    reading = found is not None and current_user().owner and here.look_for(found)
    rows = rows_of(found, here) if found else []
    return {
        "picture": thumbnail_uri(flatten(image), SIDE),
        "size": [image.width, image.height],
        "program": found.program if found else "",
        "said": (READING if reading else "") if found else NOTHING,
        "reading": reading,
        "rows": [[row.part, row.label, row.theirs, row.ours, row.fits] for row in rows],
        "unused": [list(pair) for pair in found.unused.items()] if found else [],
        "text": found.text if found else unread_text(read_texts(data)),
    }


def taken(page: PageContext, data: gr.EventData) -> dict[str, Any]:
    """The tab that is opened, and what is sent there; raises InvalidRequest, OSError."""
    image, found, _ = read(page, file_of(data))
    wanted = event_value(data, "parts", [])
    parts = [part for part in PARTS if isinstance(wanted, list) and part in wanted]
    source = event_value(data, "source", False) is True
    tab = IMAGE_TAB if source or event_value(data, "to", "") == IMAGE_TAB else TEXT_TAB
    fields = fields_of(found, parts, known(page)) if found else {}
    if not fields and not source:
        return {"problem": NOTHING_CHOSEN}
    # The time, so that the same can be taken over twice.
    sent: dict[str, Any] = {"tab": gr.Tabs(selected=tab), "done": True}
    if fields:
        sent["settings"] = {"tab": tab, "fields": fields, "at": time.time()}
    if source:
        sent["image"] = {"upload": page.inputs.put(flatten(image)), "at": time.time()}
    return sent
