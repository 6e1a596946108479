"""A strip of a run's timeline: what remains of it once its trace is dropped to keep within the disk's share."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import TYPE_CHECKING

from history.database import Database, HistoryUnavailable
from history.folders import Folders
from pipelines.system.atomic_files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.trace.trace import Trace

log = logging.getLogger(__name__)
MAX_BYTES = 15_000
# Frames of a strip and their height in pixels.
FRAMES, HEIGHT = 8, 72
# JPEG qualities that are tried until a strip is small enough; beyond them it is scaled down.
QUALITIES = (80, 65, 50, 35)


class StripArchive:
    """Makes a strip of each picture of a dropped trace; a ``pipelines.trace.store.TraceArchive``.

    A strip is one JPEG with frames of the model's guess side by side; its comment is JSON: which steps they show, of
    how many, and the number of frames.
    """

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database, self._folders = database, folders
        self._lock = threading.Lock()

    def last_to_drop(self) -> frozenset[str]:
        """Ids of the traces that are dropped after all others: those of favourites."""
        try:
            rows = self._database.read("SELECT DISTINCT run FROM entries WHERE favourite AND deleted IS NULL")
        except HistoryUnavailable:
            return frozenset()
        return frozenset(row[0] for row in rows)

    def dropping(self, trace: Trace) -> None:
        """Write the strips of a trace that is about to be dropped; never raises."""
        try:
            rows = self._database.read(
                "SELECT place FROM entries WHERE run = ? AND run != '' AND file != ''", (trace.id,)
            )
            for place in {int(row[0]) for row in rows if row[0] < len(trace.finals)}:
                self._write(trace, place)
        except (HistoryUnavailable, OSError, ValueError) as problem:
            log.warning("The strip of run %s could not be written: %s", trace.id, problem)

    def _write(self, trace: Trace, place: int) -> None:
        data = strip_of(trace, place)
        with self._lock:
            self._folders.create(self._folders.strips)
            with atomic_write(self._folders.strip(trace.id, place), sync=False) as file:
                file.write(data)


def strip_of(trace: Trace, place: int) -> bytes:
    """The strip of one picture of a trace, a JPEG of at most ``MAX_BYTES``.

    Raises:
        ValueError: if the trace has no steps.
    """
    from PIL import Image

    total = len(trace.steps)
    if not total:
        raise ValueError("a run without steps has no strip")
    chosen = sorted({round(k * (total - 1) / max(min(FRAMES, total) - 1, 1)) for k in range(min(FRAMES, total))})
    frames = []
    for step in chosen:
        with Image.open(io.BytesIO(trace.frames[step][place]), formats=("JPEG", "PNG")) as opened:
            width = max(1, round(opened.width * HEIGHT / opened.height))
            frames.append(opened.convert("RGB").resize((width, HEIGHT)))
    sheet = Image.new("RGB", (sum(frame.width for frame in frames), HEIGHT))
    for k, frame in enumerate(frames):
        sheet.paste(frame, (sum(each.width for each in frames[:k]), 0))
    about = {"steps": [trace.steps[step].index for step in chosen], "total": trace.total, "frames": len(frames)}
    return _encode(sheet, json.dumps(about))


def _encode(sheet: Image.Image, comment: str) -> bytes:
    while True:
        for quality in QUALITIES:
            file = io.BytesIO()
            sheet.save(file, format="JPEG", quality=quality, optimize=True, comment=comment)
            if file.tell() <= MAX_BYTES:
                return file.getvalue()
        sheet = sheet.resize((max(1, sheet.width * 2 // 3), max(1, sheet.height * 2 // 3)))
