"""Timing two things in turns, and what is said of their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"


@dataclass(frozen=True)
class Result:
    """A target and what was measured.

    Attributes:
        row: number in the table.
        what: the ratio in words.
        median, p95: of the ratio; None where nothing could be measured.
        target: what the median may be at most, or at least where ``at_least``.
        facts: figures behind it, in the units that their names say.
        problem: why it was not measured, or why a ratio that is small enough does not count.
    """

    row: int
    what: str
    median: float | None
    p95: float | None
    target: float
    at_least: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def result(self) -> str:
        """met, missed or not measured."""
        if self.median is None:
            return NOT_MEASURED
        good = self.median >= self.target if self.at_least else self.median <= self.target
        return MET if good and not self.problem else MISSED

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        bound = "at_least" if self.at_least else "at_most"
        return {
            "row": self.row, "what": self.what, "median": self.median, "p95": self.p95, bound: self.target,
            "result": self.result, "facts": dict(self.facts), **({"problem": self.problem} if self.problem else {}),
        }  # fmt: skip


def timed(run: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; they take turns, so that a busy machine slows all alike.

    A candidate that returns a float has measured itself.  A round before the first warms up.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for k in range(rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            own = run()
            took = own if isinstance(own, float) else time.perf_counter() - start
            if k:
                times[name].append(took)
    return times


def alternate(candidates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each candidate; they take turns, so that a busy machine slows all alike."""
    return {name: statistics.median(times) for name, times in interleaved(candidates, rounds).items()}


def ratio(
    row: int, what: str, above: Sequence[float], below: Sequence[float], target: float, at_least: bool = False,
    problem: str = "", **facts: Any,
) -> Result:  # fmt: skip
    """The ratio of two things that took turns: of each round, and then the median and the 95th percentile."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    ms = {"above_ms": round(1000 * statistics.median(above), 2), "below_ms": round(1000 * statistics.median(below), 2)}
    return Result(
        row, what, round(statistics.median(ratios), 3), round(percentile(ratios, 0.95), 3), target, at_least,
        {**ms, **facts}, problem,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = ["| # | ratio | median | p95 | target | result |", "| --- | --- | --- | --- | --- | --- |"]
    for one in results:
        bound = f"{'>=' if one.at_least else '<='} {one.target:g}"
        numbers = ["" if value is None else f"{value:g}" for value in (one.median, one.p95)]
        why = f": {one.problem}" if one.problem else ""
        lines.append(f"| {one.row} | {one.what} | {numbers[0]} | {numbers[1]} | {bound} | {one.result}{why} |")
    return "\n".join(lines)
