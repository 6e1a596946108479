"""Ask the page for its status bar, as the page does every few seconds."""

from __future__ import annotations

from benchmarks.running_program import Answer, BrowserClient


def poll_status(visit: BrowserClient, session: str) -> Answer:
    """What the foot of the page says, as a page of this name hears it."""
    status = next(part["id"] for part in visit.config["components"] if part["props"].get("elem_id") == "status")
    clock = next(fn for fn in visit.config["dependencies"] if status in fn["outputs"])
    body = {"fn_index": clock["id"], "data": [None] * len(clock["inputs"]), "session_hash": session}
    return visit.post("/run/predict", body)
