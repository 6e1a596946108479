"""The traces of a server: the recently used ones in memory, all of them on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from pipelines.system.lru import LruDict
from pipelines.trace.serialization import load_trace, save_trace
from pipelines.trace.summary import TraceSummary, read_summary, summarise
from pipelines.trace.trace import Trace, TraceError

log = logging.getLogger(__name__)

MEMORY_BYTES = 16 * 2**20
DISK_BYTES = 2 * 2**30
# Summaries that stay in memory: lists are asked for again and again.
KEEP_SUMMARIES = 256


class TraceArchive(Protocol):
    """Who is told of traces that are dropped to keep within the limit on disk."""

    def last_to_drop(self) -> Collection[str]:
        """Ids of the traces that are dropped after all others."""

    def dropping(self, trace: Trace) -> None:
        """A trace is about to be dropped; never raises."""


class TraceStore:
    """Traces by id: the recently used in memory, all on disk.  Thread-safe.

    Args:
        folder: where the files are.
        memory_bytes: limit in memory; the least recently used are dropped first, the newest always stays.
        disk_bytes: limit on disk; the oldest files are deleted first.
        archive: says which are deleted last, and is told before one is; None for no such.
    """

    def __init__(
        self,
        folder: Path | str,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
        archive: TraceArchive | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._archive = archive
        self._disk_bytes = disk_bytes
        self._in_memory: LruDict[str, Trace] = LruDict(max_bytes=memory_bytes, size=lambda trace: trace.nbytes)
        # Those in use by any thread: many that open one large trace share it.
        self._in_use: WeakValueDictionary[str, Trace] = WeakValueDictionary()
        self._summaries: LruDict[str, TraceSummary] = LruDict(KEEP_SUMMARIES)
        self._lock = threading.RLock()

    def put(self, trace: Trace, on_disk: bool = True) -> None:
        """Store a trace; if the disk is full, or not ``on_disk``, in memory only, and the archive is told at once."""
        self._remember(trace)
        if not on_disk:
            self.drop(trace)
            return
        try:
            save_trace(trace, self.folder)
            self._delete_oldest(trace.id)
        except OSError as error:
            log.warning("The steps of a run could not be written (%s); they are kept until the program ends.", error)
            self.drop(trace)

    def drop(self, trace: Trace) -> None:
        """Tell the archive of a trace that is not written."""
        if self._archive is not None:
            self._archive.dropping(trace)

    def get(self, trace_id: str) -> Trace | None:
        """The trace with this id, or None when it is unknown, dropped or damaged."""
        with self._lock:
            found = self._in_memory.get(trace_id) or self._in_use.get(trace_id)
            if found is None:
                try:
                    found = load_trace(self.folder, trace_id)
                except TraceError:
                    return None
            self._remember(found)
            return found

    def recent(self, allowed: Callable[[str], bool], count: int) -> list[TraceSummary]:
        """The latest traces with these ids, newest first; damaged ones are left out."""
        when = {path.stem: file_time(path) for path in self.folder.glob("*.json") if allowed(path.stem)}
        with self._lock:
            when |= {name: trace.created for name, trace in self._in_use.items() if allowed(name) and name not in when}
        found: list[TraceSummary] = []
        for name in sorted(when, key=when.__getitem__, reverse=True):
            if len(found) == count:
                break
            found += self._summary(name)
        return found

    def _summary(self, name: str) -> list[TraceSummary]:
        """The summary of a trace, or nothing if it cannot be read."""
        with self._lock:
            if name not in self._summaries:
                trace = self._in_use.get(name)
                try:
                    self._summaries[name] = summarise(trace) if trace is not None else read_summary(self.folder, name)
                except TraceError:
                    return []
            return [self._summaries[name]]

    def _remember(self, trace: Trace) -> None:
        with self._lock:
            self._in_memory[trace.id] = self._in_use[trace.id] = trace

    def _delete_oldest(self, newest: str) -> None:
        """Delete the oldest files beyond the limit, never the newest trace's."""
        files = [(p.stat().st_mtime, p.stat().st_size, p) for p in self.folder.glob("*.safetensors")]
        used = sum(size for _, size, _ in files)
        if used <= self._disk_bytes:
            return
        last = frozenset(self._archive.last_to_drop()) if self._archive else frozenset()
        for _, size, path in sorted(files, key=lambda entry: (entry[2].stem in last, *entry[:2])):
            if used <= self._disk_bytes:
                return
            if path.stem != newest:
                self._tell_archive(path.stem)
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                used -= size

    def _tell_archive(self, trace_id: str) -> None:
        if self._archive is not None:
            with suppress(TraceError):  # a damaged one is only deleted
                self._archive.dropping(load_trace(self.folder, trace_id))


def file_time(path: Path) -> float:
    """When a file was written, seconds since the epoch; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
