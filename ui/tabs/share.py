"""Share: a public link with a password, and what guests do with it."""

from __future__ import annotations

import io
from typing import Any

import gradio as gr

from pipelines.jobs.prompt_blocklist import NOTE, BlockList
from pipelines.request import InvalidRequest
from ui.components.assets import asset
from ui.components.data_uri import data_uri
from ui.components.gradio_events import CONCURRENT, UNQUEUED, event_value
from ui.components.message import message
from ui.context import PageContext
from ui.server.current_user import current_user
from ui.server.network import NetworkShare
from ui.server.sharing import ShareStatus, Sharing

WHAT = (
    "Guests who have the link and the password can make pictures on this computer and see their own. They see no "
    "files, settings or pictures of others, wait behind you in the queue, and get a limited share of each hour."
)
GUEST = "Only the owner of this computer can share this page: open the link that the program printed when it started."
BLOCKED = "Blocked words"
BLOCKED_HELP = (
    "One word or phrase per line; prompts that contain one are refused, yours too. Guests do not see the list. Only "
    "models with a safety checker of their own check pictures: the Models tab says which."
)
NETWORK = "Phones and computers in the same Wi-Fi open this address in their browser."
NO_NETWORK = (
    "Now the page listens on this computer alone. To open it to your network, stop the program and start it like this; "
    "it then prints a password for guests."
)
_TEMPLATE = """
<section class="share" aria-label="Share">
  <p class="sentence" data-part="what"></p>
  <div class="way" data-part="network" hidden>
    <h2>In the same Wi-Fi</h2>
    <p class="sentence" data-part="network-about"></p>
    <div class="link" data-part="network-on" hidden>
      <img data-part="network-code" alt="QR code of the address">
      <dl>
        <dt>Address</dt><dd><a data-part="network-url" target="_blank" rel="noopener noreferrer"></a>
          <button type="button" class="quiet" data-copy="network-url">Copy</button></dd>
        <dt data-part="network-name" hidden>Name</dt><dd data-part="network-user" hidden></dd>
        <dt data-part="network-word">Password</dt>
        <dd data-part="network-secret"><code data-part="network-password"></code>
          <button type="button" class="quiet" data-copy="network-password">Copy</button></dd>
      </dl>
    </div>
    <p class="command" data-part="network-off" hidden><code data-part="network-command"></code>
      <button type="button" class="quiet" data-copy="network-command">Copy</button></p>
  </div>
  <div class="way" data-part="public" hidden>
    <h2>Anywhere, by a public link</h2>
    <p class="sentence">The link leads through Gradio's share service and ends when you stop it.</p>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p>
    <p data-part="wait" role="status" hidden></p>
    <div class="link" data-part="link" hidden>
      <img data-part="code" alt="QR code of the link">
      <dl>
        <dt>Link</dt><dd><a data-part="url" target="_blank" rel="noopener noreferrer"></a>
          <button type="button" class="quiet" data-copy="url">Copy</button></dd>
        <dt>Password</dt><dd><code data-part="password"></code>
          <button type="button" class="quiet" data-copy="password">Copy</button></dd>
        <dt>Expires</dt><dd data-part="left"></dd>
        <dt>Guests now</dt><dd data-part="guests"></dd>
        <dt>Pictures by guests</dt><dd data-part="pictures"></dd>
      </dl>
    </div>
    <div class="keys-row">
      <button type="button" class="quiet main" data-do="start">Share this page</button>
      <button type="button" class="quiet" data-do="pause" hidden>Pause guests</button>
      <button type="button" class="quiet" data-do="resume" hidden>Let guests in</button>
      <button type="button" class="quiet" data-do="stop" hidden>Stop sharing</button>
    </div>
  </div>
  <p data-part="said" role="status"></p>
</section>
"""


def build(page: PageContext) -> None:
    """Lay the tab out and attach its events."""
    sharing = page.sharing
    panel = gr.HTML(
        None, html_template=_TEMPLATE, js_on_load=asset("tabs/share.js"), elem_id="share", apply_default_css=False
    )

    with gr.Column(elem_id="blocked", visible=False) as blocked_group:
        blocked_words = gr.Textbox(label=BLOCKED, info=BLOCKED_HELP, lines=4, max_lines=12, elem_id="blocked-words")
        saved_note = message(elem_id="blocked-note")
        save = gr.Button("Save the list", size="sm", elem_id="blocked-save")

    def open_list() -> tuple[Any, Any]:
        owner = current_user().owner
        return gr.Column(visible=owner), page.backend.blocked.text or NOTE if owner else ""

    def save_list(text: Any) -> str:
        return save_blocked_words(page.backend.blocked, text)

    page.tab.select(open_list, None, [blocked_group, blocked_words], **UNQUEUED)
    save.click(save_list, [blocked_words], [saved_note], **CONCURRENT)

    def tick() -> dict[str, Any]:
        owner = sharing is not None and current_user().owner
        return panel_value(sharing.status() if sharing else None, owner, sharing.network if sharing else None)

    def act(data: gr.EventData) -> dict[str, Any]:
        return perform(sharing, event_value(data, "do", ""))

    gr.on([panel.tick, page.tab.select], tick, None, [panel], **UNQUEUED)
    panel.act(act, None, [panel], **CONCURRENT)


def perform(sharing: Sharing | None, do: Any) -> dict[str, Any]:
    """Do what a button asks for, if the current user is the owner."""
    if sharing is None or not current_user().owner:
        return panel_value(None, False)
    actions = {
        "start": sharing.start,
        "stop": sharing.stop,
        "pause": lambda: sharing.pause(True),
        "resume": lambda: sharing.pause(False),
    }
    status = actions[do]() if isinstance(do, str) and do in actions else sharing.status()
    return panel_value(status, True, sharing.network)


def save_blocked_words(blocked: BlockList, text: Any) -> str:
    """Save the blocked words; returns a sentence about it."""
    if not current_user().owner:
        return GUEST
    try:
        blocked.write(text if isinstance(text, str) else "")
    except InvalidRequest as problem:
        return str(problem)
    except OSError as error:
        return f"The list could not be written ({error.strerror}); free some space and try again."
    return "Saved. It applies from now on."


def panel_value(status: ShareStatus | None, owner: bool, network: NetworkShare | None = None) -> dict[str, Any]:
    """The component's value; only the owner learns of a link."""
    if status is None or not owner:
        return {"owner": False, "what": GUEST}
    value: dict[str, Any] = {"owner": True, "what": WHAT, "state": status.state, "problem": status.problem}
    value["attempt"] = status.attempt
    value["network"] = network_value(network or NetworkShare())
    if status.state == "on":
        value |= {
            "url": status.url,
            "password": status.password,
            "left": time_left(status.seconds_left),
            "guests": status.guests,
        }
        value |= {"pictures": status.pictures, "paused": status.paused, "code": qr_code(status.url)}
    return value


def network_value(network: NetworkShare) -> dict[str, str]:
    """What the panel says of the same network."""
    if not network.url:
        return {"about": NO_NETWORK, "command": network.command}
    return {
        "about": NETWORK, "url": network.url, "user": network.user, "password": network.password,
        "code": qr_code(network.url),
    }  # fmt: skip


def time_left(seconds: float) -> str:
    """How long a link lasts at most, in words."""
    days, rest = divmod(int(seconds), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute")]
    words = [f"{n} {word}{'s' * (n != 1)}" for n, word in parts if n][:2]
    return f"in at most {' and '.join(words) or 'a minute'}"


def qr_code(url: str) -> str:
    """The QR code of an address as a data URI."""
    import segno

    file = io.BytesIO()
    segno.make(url, error="m").save(file, kind="svg", scale=4, border=2, dark="#000", light="#fff")
    return data_uri(file.getvalue(), "svg+xml")
