"""A comparison as a file: the labelled sheet, a zip of everything, a capsule, or an animation from noise to the end."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

from PIL import Image

from pipelines.grid.sheet import Labels, sheet, sheet_png
from pipelines.request import InvalidRequest
from pipelines.trace.export import EXPORTS, export
from ui.inspector.export import CAPSULE, file_stem
from ui.tabs.compare.capsule import capsule
from ui.tabs.compare.cells import CLEAN, LOUD, final_picture, level
from ui.tabs.compare.templates import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.grid.plan import Grid
    from pipelines.grid.sheet import Place
    from pipelines.trace.trace import Trace

# Noise levels of an animation, and the longer side of its pictures.
LEVELS, LONGEST = 24, 1280
NOTHING = "There is no finished picture in this comparison yet; let it finish, or make another one."


def saved(labels: Labels, plan: Grid | None, traces: Mapping[Place, Trace], kind: str) -> tuple[str, bytes]:
    """The file's name and bytes.

    Args:
        labels: the values around the pictures.
        plan: makes the comparison again; None for two runs that were chosen.
        traces: the runs by place.
        kind: one of ``KINDS``.

    Raises:
        InvalidRequest: if there is nothing to save, or no such kind.
    """
    pictures = {place: picture for place, trace in traces.items() if (picture := final_picture(trace)) is not None}
    if not pictures or kind not in KINDS:
        raise InvalidRequest("", NOTHING)
    first = next(trace for place, trace in traces.items() if place in pictures)
    stem = f"compare-{file_stem(first, 0)}"
    if kind == "sheet":
        return f"{stem}.png", sheet_png(labels, first.request, pictures)
    if kind == "zip":
        return f"{stem}.zip", zipped(labels, plan, traces)
    if kind == CAPSULE:
        return f"{stem}.html", capsule(plan, traces).encode()
    frames = [_small(sheet(labels, at_level(traces, share / (LEVELS - 1)))) for share in range(LEVELS)]
    frames.append(_small(sheet(labels, pictures)))
    return f"{stem}{EXPORTS[kind].suffix}", export(kind, frames, first, 0, "Compared by noise level", crisp=False)


def at_level(traces: Mapping[Place, Trace], share: float) -> dict[Place, Image.Image]:
    """Each run's noisy picture at one noise level, 0 (noise) to 1: its last step that is no cleaner."""
    found = {}
    wanted = LOUD + share * (CLEAN - LOUD) + 1e-6
    for place, trace in traces.items():
        rows = trace.noisy or trace.frames
        reached = [i for i in range(min(len(trace.steps), len(rows))) if level(trace.steps[i]) <= wanted]
        if rows:
            found[place] = Image.open(io.BytesIO(rows[reached[-1] if reached else 0][0])).convert("RGB")
    return found


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return image


def zipped(labels: Labels, plan: Grid | None, traces: Mapping[Place, Trace]) -> bytes:
    """Every picture, the labelled sheet, and the plan as JSON, which makes the comparison again."""
    file, rows = io.BytesIO(), []
    pictures: dict[Place, Image.Image] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for place, trace in sorted(traces.items()):
            picture = final_picture(trace)
            if picture is None:
                continue
            pictures[place] = picture
            name = "page{}-row{}-column{}.png".format(*(n + 1 for n in place))
            stored = trace.pictures[0].path if trace.pictures else None
            # The file that was saved, as it is, or what the run's record keeps of it.
            packed.writestr(name, stored.read_bytes() if stored and stored.is_file() else trace.finals[0])
            rows.append({"file": name, "at": list(place), "run": trace.id})
        first = next(trace for place, trace in traces.items() if place in pictures)
        packed.writestr("sheet.png", sheet_png(labels, first.request, pictures))
        about = {"comparison": plan.model_dump(mode="json") if plan else None, "pictures": rows}
        packed.writestr("comparison.json", json.dumps(about, indent=2))
    return file.getvalue()
