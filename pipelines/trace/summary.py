"""A recorded run in a list: its request, its length and one picture, read without its arrays."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from pipelines.request import GenerationRequest
from pipelines.system.bounded_json import read_json_file
from pipelines.trace.serialization import MAX_JSON_BYTES, split_blobs
from pipelines.trace.trace import Trace, TraceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TraceSummary:
    """A recorded run.

    Attributes:
        id: the job's.
        request: what was asked for.
        created: seconds since the epoch.
        steps, total: the steps that were made, of those that were asked for.
        image: its first picture, or the last guess of a run that was stopped; a PNG or JPEG, empty if there is none.
    """

    id: str
    request: GenerationRequest
    created: float
    steps: int
    total: int
    image: bytes


def summarise(trace: Trace) -> TraceSummary:
    """The summary of a trace."""
    last = trace.frames[-1][0] if trace.frames and trace.frames[-1] else b""
    image = trace.finals[0] if trace.finals else last
    return TraceSummary(trace.id, trace.request, trace.created, len(trace.steps), trace.total, image)


def read_summary(folder: Path, trace_id: str) -> TraceSummary:
    """The summary of a saved trace; only the pictures of its file are read.

    Raises:
        TraceError: if its files are not there or broken.
    """
    from safetensors import SafetensorError, safe_open

    try:
        facts = read_json_file(folder / f"{trace_id}.json", MAX_JSON_BYTES, finite=False)
        created, total = float(facts["created"]), int(facts["total"])
        if not math.isfinite(created):
            raise ValueError("no date")
        request = GenerationRequest.model_validate_json(json.dumps(facts["request"]))
        steps = len(facts["steps"])
        with safe_open(folder / f"{trace_id}.safetensors", framework="numpy") as file:
            images = split_blobs(file.get_tensor("finals"), file.get_tensor("finals_ends"))
            if not images:
                images = split_blobs(file.get_tensor("frames"), file.get_tensor("frames_ends"))[-request.num_images :]
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, SafetensorError) as error:
        log.info("Trace %s cannot be listed: %s", trace_id, error)
        raise TraceError("The record of this run is damaged or gone.") from None
    return TraceSummary(trace_id, request, created, steps, total, images[0] if images else b"")
