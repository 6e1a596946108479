"""The program under mixed load for a long time: an owner, guests and attackers at once."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.running_program import RunningProgram
from benchmarks.soak.attackers import attacking
from benchmarks.soak.clients import JOB_SECONDS
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.record import Record, broken_pictures

# Memory grows while bounded stores fill (compiled sizes, 128 pages of 0.6 MB, 192 MB of guests' pictures): for so long,
# and at most for this part of the whole.
WARM_UP_SECONDS, WARM_UP_PART = 600.0, 1 / 2
# Part of the names of OpenVINO's library for processors, which is loaded when the first network is compiled.
CPU_PLUGIN = "openvino_intel_cpu_plugin"


@dataclass(frozen=True)
class Load:
    """How a program is used.

    Attributes:
        seconds: for so long.
        cases: random hostile requests.
        attackers: clients that send floods, bombs and false claims all the time.
        engine: what computes the model: auto, torch or openvino.
        seed: of all random choices.
    """

    seconds: float
    cases: int
    attackers: int
    engine: str
    seed: int


def run_load(data: Path, load: Load) -> dict[str, Any]:
    """Run all clients; the figures of the report."""
    server = RunningProgram(data, "--guest-api", "--engine", load.engine)
    try:
        crowd = Crowd(server, load.seed, load.seconds, load.cases)
        notes, memory = crowd.notes, Memory(server.process.pid)
        memory.sample()
        with crowd.busy():
            with attacking(server, load.attackers, load.seed, notes) if load.attackers else nullcontext():
                memory.sample_for(load.seconds)
            # Under attack the hostile requests take longer: they get some more time, and then what was sent counts.
            if load.cases:
                crowd.attacked.wait(2 * JOB_SECONDS)
            engine = engine_of(server.process.pid)
        status: int | str = server.stop(10)
    except subprocess.TimeoutExpired:
        status = "did not end within 10 s"
    finally:
        server.kill()
    return {"engine": engine, **memory.figures(load.seconds), **figures(notes, status, server)}


@dataclass
class Memory:
    """The memory of a process (RSS) over time.

    Attributes:
        samples: seconds since the load began, and bytes.
    """

    pid: int
    samples: list[tuple[float, int]] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    def sample(self) -> None:
        """Look once."""
        import psutil

        self.samples.append((time.monotonic() - self._begun, psutil.Process(self.pid).memory_info().rss))

    def sample_for(self, seconds: float) -> None:
        """Look once a second for so long."""
        self._begun = time.monotonic()
        while time.monotonic() - self._begun < seconds:
            self.sample()
            time.sleep(1)

    def figures(self, seconds: float) -> dict[str, Any]:
        """At the start, the peak and the end, and the growth from the first to the last fifth after the warm-up.

        Of a fifth the lowest quarter counts: what is left between pictures of 2,048 px, which come and go.
        """
        warm = min(WARM_UP_SECONDS, seconds * WARM_UP_PART)
        values = [rss for _, rss in self.samples]
        after = [rss for at, rss in self.samples[1:] if at >= warm] or values
        fifth = max(1, len(after) // 5)
        first, last = (sorted(part)[len(part) // 4] for part in (after[:fifth], after[-fifth:]))
        return {
            "memory_start_mb": megabytes(values[0]),
            "memory_warm_mb": megabytes(first),
            "memory_peak_mb": megabytes(max(values)),
            "memory_end_mb": megabytes(last),
            "memory_growth_percent": round((last / first - 1) * 100, 2),
            "memory_mb_each_minute": [megabytes(rss) for rss in after[::60]],
        }


def megabytes(size: float) -> int:
    return round(size / 2**20)


def engine_of(pid: int) -> str:
    """What computes in a process: "openvino" once its library for processors is loaded, "torch" before.

    "unknown" where the system does not tell a process's libraries (macOS).
    """
    import psutil

    try:
        paths = [region.path for region in psutil.Process(pid).memory_maps()]
    except (AttributeError, psutil.AccessDenied):
        return "unknown"
    return "openvino" if any(CPU_PLUGIN in path for path in paths) else "torch"


def figures(notes: Record, status: int | str, server: RunningProgram) -> dict[str, Any]:
    """The record as figures."""
    wrong = broken_pictures(server.pictures, notes.announced)
    return {
        "owner_wait_seconds": percentiles(notes.waits),
        "owner_finished_seconds": percentiles(notes.finished),
        "owner_finished_pictures_timed": len(notes.finished),
        **{f"{who}_page_seconds": percentiles(seconds) for who, seconds in sorted(notes.pages.items())},
        "attacks": sum(times for action, times in notes.done.items() if action.startswith("attack")),
        "requests": sum(notes.statuses.values()),
        "answers": {str(code or "none"): times for code, times in sorted(notes.statuses.items())},
        "answers_5xx": sum(times for code, times in notes.statuses.items() if code >= 500),
        "hung": len(notes.hung),
        "announced": len(notes.announced),
        "found": len(notes.announced) - len(wrong),
        "errors_in_log": logged_errors(server.lines),
        "exit_status": status,
        "last_words": [] if status == 0 else [line.rstrip()[:200] for line in server.lines[-15:]],
        "did": dict(sorted(notes.done.items())),
        "faults": [*notes.hung, *notes.faults, *wrong][:50],
        "faults_in_all": len(notes.hung) + len(notes.faults) + len(wrong),
    }


def logged_errors(lines: Sequence[str]) -> dict[str, int]:
    """The last lines of the tracebacks in a log, and how often each occurs."""
    ends: Counter[str] = Counter()
    inside = False
    for line in lines:
        if inside and line[:1].strip():  # the first line without indentation
            ends[line.strip()[:120]] += not line.startswith("Traceback")
        inside = line.startswith("Traceback") or (inside and not line[:1].strip())
    return dict(ends.most_common(20))


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50 and p95; None without a measurement."""
    if not seconds:
        return {"p50": None, "p95": None}
    cut = statistics.quantiles(seconds, n=20) if len(seconds) > 1 else seconds
    return {"p50": round(statistics.median(seconds), 3), "p95": round(cut[-1], 3)}
