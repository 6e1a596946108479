"""The runs that forked from one another, as a tree around the opened one."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ui.components import phrases
from ui.components.data_uri import thumbnail_uri
from ui.context import BUNDLED
from ui.server.current_user import current_user

if TYPE_CHECKING:
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

# The latest runs in which relatives are looked for, those that are drawn, and the side of a picture, pixels.
SEARCHED, DRAWN, SIDE = 120, 40, 128


def tree_value(page: PageContext, trace: Trace) -> dict[str, Any]:
    """What ``components/family.js`` draws: members with their generation, and links with words; empty without forks.

    A run that is no longer kept is left out, and what came from it with it.
    """
    bundled = page.bundled_trace
    runs: dict[str, tuple[GenerationRequest, bytes]] = {
        run.id: (run.request, run.image) for run in page.backend.runs(SEARCHED, current_user())
    }
    if bundled is not None and bundled.finals:
        runs[bundled.id] = (bundled.request, bundled.finals[0])
    runs.setdefault(trace.id, (trace.request, trace.finals[0] if trace.finals else trace.frames[-1][0]))
    # The forks of one run by the step at which they left it, as a strip of all steps makes a few of them first.
    late_first = sorted(runs.items(), key=lambda run: -_kept_steps(run[1][0]))
    parents = {name: request.fork.run for name, (request, _) in late_first if request.fork}
    found = relatives(trace.id, parents, runs)
    depths = {run: found[run] for run in drawn(trace.id, parents, found)}

    def name_of(run: str) -> str:
        return BUNDLED if bundled is not None and run == bundled.id else run

    members = [
        {
            "id": name_of(run),
            "title": _title(runs[run][0]),
            "depth": depths[run],
            "picture": small_picture(runs[run][1]),
        }
        for run in depths
    ]
    links = [
        (name_of(parents[run]), name_of(run), _words(runs[run][0])) for run in depths if parents.get(run) in depths
    ]
    more = len(found) - len(depths)
    words = f"{len(depths)} of {len(found)} are drawn; the others are in the history." if more else ""
    return {"members": members if len(members) > 1 else [], "links": links, "now": name_of(trace.id), "more": words}


def drawn(start: str, parents: Mapping[str, str], found: Mapping[str, int]) -> list[str]:
    """The runs of a tree that are drawn: the first ones, and in any case ``start`` and the runs that it came from."""
    path, run = [start], start
    while (run := parents.get(run, "")) in found and run not in path:
        path.append(run)
    others = [run for run in found if run not in path][: max(0, DRAWN - len(path))]
    chosen = {*path, *others}
    return [run for run in found if run in chosen]


def relatives(start: str, parents: dict[str, str], known: Sequence[str] | dict[str, Any]) -> dict[str, int]:
    """Every run of the tree that ``start`` is in, with its generation (0 for its own), the oldest generation first."""
    root, up, seen = start, 0, {start}
    while (before := parents.get(root, "")) in known and before not in seen:
        root, up = before, up - 1
        seen.add(root)
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found, waiting = {root: up}, [root]
    while waiting:
        here = waiting.pop(0)
        for child in reversed(children.get(here, [])):  # the oldest first
            if child not in found:
                found[child] = found[here] + 1
                waiting.append(child)
    return found


def _kept_steps(request: GenerationRequest) -> int:
    return request.fork.step if request.fork else 0


def _title(request: GenerationRequest) -> str:
    if request.fork is None:
        return phrases.heading(request)
    return f"{phrases.heading(request)} (after step {request.fork.step}: {phrases.fork_changes(request)})"


def _words(request: GenerationRequest) -> str:
    return f"after step {request.fork.step} leaves" if request.fork else ""


def small_picture(data: bytes) -> str:
    """A small copy as a data URI, or "" if there is no picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return thumbnail_uri(image, SIDE)
    except OSError:
        return ""
