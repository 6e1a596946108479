"""The recorded runs of the user in a row of small pictures; a click opens one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from pipelines.trace.summary import summarise
from ui.components import phrases
from ui.components.assets import asset
from ui.components.data_uri import thumbnail_uri
from ui.context import BUNDLED
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.trace.summary import TraceSummary
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# Runs in the row, and the side of a picture, pixels.
MOST, SIDE = 24, 88
NO_PROMPT, RECORDED = "A run without a prompt", "The recorded run that comes with the model"
_TEMPLATE = """
<nav class="past" aria-label="Past runs" hidden>
<button type="button" class="quiet" data-part="latest" hidden>Open the latest run</button>
<b>Past runs</b><ol data-part="list"></ol></nav>
"""


def past_runs() -> gr.HTML:
    """The component; its event ``pick`` carries ``run``, the id of a run."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=asset("inspector/past_runs.js"),
        elem_id="past",
        apply_default_css=False,
    )


def past_runs_value(page: PageContext, opened: Any, kept: Sequence[str] = ()) -> dict[str, Any]:
    """The component's value: the latest runs of the current user, then the one that comes with the model.

    Args:
        page: knows the runs.
        opened: value of the page's opened run, or None.
        kept: ids of runs that are listed even if they are older, as long as they are recorded.
    """
    rows = [_row(run) for run in page.backend.runs(MOST, current_user())]
    missing = [run for run in dict.fromkeys(kept) if run != BUNDLED and run not in {row["id"] for row in rows}]
    rows += [_row(summarise(trace)) for run in missing if (trace := page.trace({"id": run})) is not None]
    if page.bundled_trace is not None and page.bundled_trace.finals:
        rows.append(_bundled_row(page.bundled_trace))
    now = opened.get("id") if isinstance(opened, dict) else ""
    return {"runs": rows, "now": now, "gone": is_gone(page, opened)}


def is_gone(page: PageContext, opened: Any) -> bool:
    """Whether a run was opened by name that is not kept any more."""
    named = opened.get("id") if isinstance(opened, dict) else None
    if named in (None, "", BUNDLED):
        return False
    job = page.find_job(named)
    return (job is None or job.done) and page.trace(opened) is None


def _row(run: TraceSummary) -> dict[str, str]:
    steps = f"{run.steps} step{'s' * (run.steps != 1)}"
    stopped = f"stopped after {run.steps} of {run.total} steps"
    title = phrases.heading(run.request) or NO_PROMPT
    about = f"{title}, {steps if run.steps == run.total else stopped}, seed {run.request.sampling.seed}"
    return {"id": run.id, "title": about, "uri": _picture(run.image)}


def _bundled_row(trace: Trace) -> dict[str, str]:
    return {"id": BUNDLED, "title": f"{RECORDED}: {phrases.heading(trace.request)}", "uri": _picture(trace.finals[0])}


def _picture(data: bytes) -> str:
    """A small copy as a data URI, or "" if there is no picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return thumbnail_uri(image, SIDE)
    except OSError:
        return ""
