"""Share: a link for others, with a password, and what they do with it."""

from __future__ import annotations

import io
from typing import Any

import gradio as gr

from pipelines.blocklist import NOTE, BlockList
from pipelines.request import InvalidRequest
from ui.making import QUICK, WATCH, Page
from ui.panel import carried, script
from ui.plain import sentence
from ui.sharing import Shared, Sharing
from ui.visiting import visitor

WHAT = (
    "Whoever has the link and the password can make pictures on this computer and see their own. They see no file, no "
    "setting and nobody else's pictures, wait behind you, and are limited to a share of each hour."
)
GUEST = "Only the owner of this computer shares this page: open the link that the program printed when it started."
BLOCKED = "Words that nobody may ask for"
BLOCKED_HELP = "One word or phrase a line; it holds for guests and for you. Guests do not see the list."
_TEMPLATE = """
<section class="share" aria-label="Share">
  <p class="sentence" data-part="what"></p>
  <p class="sentence problem" data-part="problem" role="alert" hidden></p>
  <p data-part="wait" role="status" hidden>Making the link. This can take half a minute.</p>
  <div class="link" data-part="link" hidden>
    <img data-part="code" alt="QR code of the link">
    <dl>
      <dt>Link</dt><dd><a data-part="url" target="_blank" rel="noopener noreferrer"></a>
        <button type="button" class="quiet" data-copy="url">Copy</button></dd>
      <dt>Password</dt><dd><code data-part="password"></code>
        <button type="button" class="quiet" data-copy="password">Copy</button></dd>
      <dt>Ends by itself</dt><dd data-part="left"></dd>
      <dt>Guests now</dt><dd data-part="guests"></dd>
      <dt>Pictures by guests</dt><dd data-part="pictures"></dd>
    </dl>
  </div>
  <div class="keys-row">
    <button type="button" class="quiet main" data-do="start">Share this page</button>
    <button type="button" class="quiet" data-do="pause" hidden>Pause guests</button>
    <button type="button" class="quiet" data-do="resume" hidden>Let guests in again</button>
    <button type="button" class="quiet" data-do="stop" hidden>Stop sharing</button>
  </div>
  <p data-part="said" role="status"></p>
</section>
"""


def build(page: Page) -> None:
    """Lay the tab out and wire it up."""
    sharing = page.sharing
    panel = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=script("share.js"), elem_id="share", apply_default_css=False
    )

    with gr.Column(elem_id="blocked", visible=False) as box:
        words = gr.Textbox(label=BLOCKED, info=BLOCKED_HELP, lines=4, max_lines=12, elem_id="blocked-words")
        said = sentence(elem_id="blocked-said")
        save = gr.Button("Save the list", size="sm", elem_id="blocked-save")

    def open_list() -> tuple[Any, Any]:
        mine = visitor().owner
        return gr.Column(visible=mine), page.backend.blocked.text or NOTE if mine else ""

    def keep_list(text: Any) -> str:
        return saved(page.backend.blocked, text)

    page.tab.select(open_list, None, [box, words], **QUICK)
    save.click(keep_list, [words], [said], **WATCH)

    def tick() -> dict[str, Any]:
        return shown(sharing.look() if sharing else None, sharing is not None and visitor().owner)

    def act(data: gr.EventData) -> dict[str, Any]:
        return answer(sharing, carried(data, "do", ""))

    gr.on([panel.tick, page.tab.select], tick, None, [panel], **QUICK)
    panel.act(act, None, [panel], **WATCH)


def answer(sharing: Sharing | None, do: Any) -> dict[str, Any]:
    """Do what a button asks for, if it is the owner's."""
    if sharing is None or not visitor().owner:
        return shown(None, False)
    done = {
        "start": sharing.start,
        "stop": sharing.stop,
        "pause": lambda: sharing.pause(True),
        "resume": lambda: sharing.pause(False),
    }
    return shown(done[do]() if isinstance(do, str) and do in done else sharing.look(), True)


def saved(blocked: BlockList, text: Any) -> str:
    """Keep another list of words; what is said of that."""
    if not visitor().owner:
        return GUEST
    try:
        blocked.write(text if isinstance(text, str) else "")
    except InvalidRequest as problem:
        return str(problem)
    except OSError as error:
        return f"The list could not be written ({error.strerror}); free some space and try again."
    return "Saved; it counts from now on."


def shown(now: Shared | None, owner: bool) -> dict[str, Any]:
    """The component's value; of a link nobody but the owner is told."""
    if now is None or not owner:
        return {"owner": False, "what": GUEST}
    value: dict[str, Any] = {"owner": True, "what": WHAT, "state": now.state, "problem": now.problem}
    if now.state == "on":
        value |= {"url": now.url, "password": now.password, "left": left(now.seconds_left), "guests": now.guests}
        value |= {"pictures": now.pictures, "paused": now.paused, "code": code(now.url)}
    return value


def left(seconds: float) -> str:
    """How long a link lasts at most, as people say it."""
    days, rest = divmod(int(seconds), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute")]
    words = [f"{n} {word}{'s' * (n != 1)}" for n, word in parts if n][:2]
    return f"in at most {' and '.join(words) or 'a minute'}"


def code(url: str) -> str:
    """The QR code of an address as a data URI."""
    import segno

    file = io.BytesIO()
    segno.make(url, error="m").save(file, kind="svg", scale=4, border=2, dark="#000", light="#fff")
    import base64

    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")
