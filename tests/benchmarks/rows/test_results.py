"""What ``make bench`` says of a ratio."""

from __future__ import annotations

import pytest

from benchmarks.rows.results import Result, interleaved, percentile, ratio, table
from benchmarks.run import read_options, rows_of


def test_a_ratio_is_taken_round_by_round() -> None:
    found = ratio(1, "ours / theirs", [1.0, 4.0, 9.0], [1.0, 2.0, 3.0], 2.0)
    assert (found.median, found.p95, found.result) == (2.0, 3.0, "met")
    assert found.facts["above_ms"] == 4000 and found.as_json()["at_most"] == 2.0
    assert ratio(1, "ours / theirs", [3.0], [1.0], 2.0).result == "missed"
    assert ratio(10, "throughput", [3.0], [1.0], 2.0, at_least=True).result == "met"


def test_a_ratio_that_breaks_its_condition_is_missed_and_says_why() -> None:
    found = ratio(2, "watched / not", [1.0], [1.0], 1.1, problem="2 new frames")
    assert found.result == "missed" and "missed: 2 new frames" in table([found])
    assert Result(4, "small decoder", None, None, 10, problem="there is none").result == "not measured"


def test_candidates_take_turns_and_may_time_themselves() -> None:
    asked: list[str] = []

    def own(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    times = interleaved({"a": lambda: own("a"), "b": lambda: own("b")}, 2)
    assert asked == ["a", "b"] * 3 and times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert percentile(list(range(1, 101)), 0.95) == 95 and percentile([7.0], 0.95) == 7.0


def test_rows_are_named_on_the_command_line() -> None:
    assert rows_of(read_options(["--rows", "4,1"])) == [4, 1]
    assert rows_of(read_options([])) == list(range(1, 21))
    assert rows_of(read_options(["--device", "cuda"])) == [1, 2, 3, 10, 11, 14]
    with pytest.raises(SystemExit, match="no row 99"):
        rows_of(read_options(["--rows=99"]))
