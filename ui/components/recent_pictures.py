"""The last pictures of a browser, in a strip next to each stage; one click opens one with its timeline.

The browser keeps the small copies: they survive a reload and a restart, and no one else sees them.
"""

from __future__ import annotations

import gradio as gr

from ui.components.assets import asset

_TEMPLATE = """
<section class="recent" aria-label="Recent pictures">
  <h2>Recent</h2>
  <p class="empty" data-part="empty">Your pictures gather here. Click one to see its timeline again.</p>
  <div class="grid" data-part="list" role="group" aria-label="Recent pictures"></div>
  <a class="all" href="#/history">All pictures</a>
  <p class="empty" data-part="wait" role="status"></p>
</section>
"""


def recent_pictures(prefix: str = "") -> gr.HTML:
    """The component; its event ``pick`` carries ``run``, the id of a job, and ``picture``, from 0."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("components/recent_pictures.js"),
        elem_id=f"{prefix}recent",
        elem_classes="recent-column",
        apply_default_css=False,
    )
