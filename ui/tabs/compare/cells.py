"""A recorded run as a cell of a comparison: its pictures from noise to the end, by noise level."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines.grid.axes import AXES
from pipelines.grid.sheet import Labels
from ui.components import phrases
from ui.components.data_uri import data_uri
from ui.inspector import lens_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipelines.grid.sheet import Place
    from pipelines.request import Control, GenerationRequest
    from pipelines.trace.trace import StepRecord, Trace

# The noise levels of the timeline: log of the signal-to-noise ratio; beyond it there is only noise, or hardly any.
LOUD, CLEAN = -10.0, 10.0
# Steps of a cell that are sent, by the number of cells.
FEW_CELLS, MANY_STEPS, FEW_STEPS = 8, 50, 10
MADE_IN, BEFORE = "Made in", " before leaving"
# Which setting a row of a run's settings is.
SETTING_OF = {
    "Guidance scale (CFG)": "guidance_scale", "Steps": "num_inference_steps", "Scheduler (sampler)": "scheduler",
    "Seed": "seed", "Negative prompt": "negative_prompt", "Size": "size", "Prompt": "prompt", "Model": "model",
}  # fmt: skip


def level(step: StepRecord) -> float:
    """log((alpha / sigma)^2) of a step's input, within ``LOUD`` and ``CLEAN``."""
    if step.sigma <= 0:
        return CLEAN
    ratio = (step.alpha / step.sigma) ** 2
    return min(max(math.log(ratio) if ratio > 0 else LOUD, LOUD), CLEAN)


def cell_value(trace: Trace, k: int = 0, count: int = 2) -> dict[str, Any]:
    """What the viewer shows of a run: a picture a step in both views with its noise level, the end, and its cost.

    Args:
        trace: the run; ``k`` is the picture.
        count: of the cells on view: of many, fewer steps are sent.
    """
    most = MANY_STEPS if count <= FEW_CELLS else FEW_STEPS
    rows = _thinned(min(len(trace.steps), len(trace.frames)), most)
    return {
        "run": trace.id,
        "picture": k,
        "state": "done" if trace.finals else "stopped",
        "levels": [round(level(trace.steps[i]), 3) for i in rows],
        "numbers": [i + 1 for i in rows],
        "noise": [round(1 - trace.steps[i].alpha_bar, 4) for i in rows],
        "guess": [data_uri(trace.frames[i][k]) for i in rows],
        "noisy": [data_uri(trace.noisy[i][k]) for i in rows] if trace.noisy else [],
        "end": data_uri(trace.finals[k]) if k < len(trace.finals) else "",
        "steps": len(trace.steps),
        "calls": calls_of(trace),
        "seconds": phrases.seconds(trace.seconds) if trace.seconds else "",
    }


def calls_of(trace: Trace) -> int:
    """How often the model was called, a step with guidance counting as two; of a fork, for its own steps."""
    return (len(trace.steps) - trace.taken_over) * (2 if trace.uncond is not None else 1)


def _thinned(count: int, most: int) -> list[int]:
    """All steps, or an even choice with both ends."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def final_picture(trace: Trace, k: int = 0) -> Image.Image | None:
    """The finished picture as the trace keeps it, or None."""
    if k >= len(trace.finals):
        return None
    return Image.open(io.BytesIO(trace.finals[k])).convert("RGB")


def differing(one: tuple[Trace, int], other: tuple[Trace, int]) -> list[dict[str, Any]]:
    """The settings in which two runs differ, each with both values."""
    sides = [dict([*lens_frames.settings(trace, k), *_further(trace.request)]) for trace, k in (one, other)]
    # What came before a fork is compared with what came before another one.
    both = all(trace.request.fork for trace, _ in (one, other))
    names = [name for name in dict.fromkeys([*sides[0], *sides[1]]) if both or not name.endswith(BEFORE)]
    rows = _rows(sides, [name for name in names if name != MADE_IN])
    # What has no words of its own is named as in the record, so that nothing passes as the same.
    fields = [_fields(_alone(*each)) for each in (one, other)]
    return rows or _rows(fields, {**fields[0], **fields[1]})


def _rows(sides: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[dict[str, Any]]:
    pairs = {name: [str(side.get(name, "none")) for side in sides] for name in names}
    return [{"label": name, "values": values} for name, values in pairs.items() if values[0] != values[1]]


def _further(request: GenerationRequest) -> list[tuple[str, str]]:
    """Settings that the list of a run's settings leaves out, as (label, text)."""
    init, reference, fork = request.init, request.reference, request.fork
    rows = [("Your image", _upload(init.image))] if init else []
    if init and init.mask:
        rows.append(("Painted mask", _upload(init.mask)))
    rows += [(f"ControlNet {number}", _control(control)) for number, control in enumerate(request.controls, 1)]
    if reference:
        rows.append(("IP-Adapter", f"{reference.adapter} {reference.weight:g}, {_upload(reference.image)}"))
    if fork:
        old = fork.original
        rows += [
            ("New noise after leaving", "none" if fork.seed is None else f"seed {fork.seed}"),
            (f"Guidance scale{BEFORE}", f"{old.sampling.guidance_scale:g}"),
            (f"Negative prompt{BEFORE}", old.negative_prompt or "none"),
            (f"Sampler{BEFORE}", phrases.label_of(old.sampling.scheduler)),
            (f"LoRA{BEFORE}", phrases.loras_used(old) or "none"),
        ]
    return rows


def _control(control: Control) -> str:
    share = f"{control.start:.0%} to {control.end:.0%} of the steps"
    return f"{control.net} {control.weight:g}, {control.kind}, {share}, {_upload(control.image)}"


def _upload(name: str) -> str:
    """What two images are told apart by: the beginning of the hash of their pixels."""
    return f"image {name[:8]}"


def _alone(trace: Trace, k: int) -> dict[str, Any]:
    """The record of the request for one picture of a run, without what changes no picture."""
    request = trace.request
    record = request.model_dump(mode="json", exclude={"typed", "prompts", "num_images"})
    record |= {"prompt": request.prompt_of(k), "seed": request.seeds[k]}
    record["sampling"].pop("seed")
    fork = record.get("fork")
    while fork:
        fork.pop("run", None)
        for name in ("typed", "prompts", "num_images"):
            fork["original"].pop(name, None)
        fork = fork["original"].get("fork")
    return record


def _fields(record: Any, name: str = "") -> dict[str, Any]:
    """The single values of a record by the path to them, such as "init strength"."""
    if isinstance(record, list):
        record = {str(number): value for number, value in enumerate(record, 1)}
    if not isinstance(record, dict):
        return {name: record}
    return {
        path: value
        for key, part in record.items()
        for path, value in _fields(part, f"{name} {key.replace('_', ' ')}".strip()).items()
    }


def row_of(cells: Mapping[tuple[int, int, int], Trace], page: int, row: int, columns: int) -> Sequence[Trace] | None:
    """The runs of one row, or None unless all are there."""
    found = [cells.get((page, row, column)) for column in range(columns)]
    return [trace for trace in found if trace is not None] if all(found) else None


def two_value(first: Trace, second: Trace) -> dict[str, Any]:
    """The viewer's value of two runs side by side, with what differs."""
    rows, request = differing((first, 0), (second, 0)), first.request
    label = rows[0]["label"] if len(rows) == 1 else ""
    does = AXES[SETTING_OF[label]].does if label in SETTING_OF else ""
    return {
        "name": f"two {first.id} {second.id}",
        "state": "done",
        "shape": [1, 1, 2],
        "axes": {"x": {"label": label, "does": does, "values": two_names(rows)}},
        "plan": "",
        "size": [request.width, request.height],
        "cells": [{"at": [0, 0, i], **cell_value(trace)} for i, trace in enumerate((first, second))],
        "differs": rows,
        "sentence": "" if rows else "The two runs have the same settings.",
    }


def two_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands above each of two runs: the one setting that differs, else A and B."""
    return list(rows[0]["values"]) if len(rows) == 1 else ["A", "B"]


def two_labels(traces: Mapping[Place, Trace]) -> Labels:
    """The labels of two runs on a sheet."""
    both = [traces[place] for place in sorted(traces)][:2]
    return Labels(two_names(differing((both[0], 0), (both[1], 0)))) if len(both) == 2 else Labels(["A"])
