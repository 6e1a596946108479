"""What a long run must have kept."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.soak.__main__ import read_options
from benchmarks.soak.report import broken_promises, table

GOOD: dict[str, Any] = {
    "memory_growth_percent": 1.0, "engine": "openvino", "attacks": 9, "answers_5xx": 0, "hung": 0, "announced": 3,
    "found": 3, "exit_status": 0, "faults_in_all": 0, "faults": [], "did": {},
}  # fmt: skip


def test_a_run_that_kept_everything_breaks_no_promise() -> None:
    assert broken_promises(GOOD, "openvino", 8) == []
    assert broken_promises({**GOOD, "engine": "torch", "attacks": 0}, "auto", 0) == []
    assert broken_promises({**GOOD, "engine": "unknown"}, "openvino", 8) == []


@pytest.mark.parametrize(
    "change",
    [
        {"memory_growth_percent": 5.1}, {"engine": "torch"}, {"attacks": 0}, {"answers_5xx": 1}, {"hung": 1},
        {"found": 2}, {"announced": 0, "found": 0}, {"exit_status": "did not end within 10 s"}, {"faults_in_all": 1},
    ],
)  # fmt: skip
def test_each_broken_promise_is_told_in_a_sentence(change: dict[str, Any]) -> None:
    (sentence,) = broken_promises({**GOOD, **change}, "openvino", 8)
    assert sentence.endswith((".", "faults."))


def test_the_table_leaves_out_what_is_long() -> None:
    assert "attacks" in table(GOOD) and "faults " not in table(GOOD)


def test_the_long_form_has_eight_attackers_and_openvino() -> None:
    given = read_options([])
    assert (given.minutes, given.attackers, given.engine) == (20.0, 8, "openvino")
    assert read_options(["--minutes", "2"]).minutes == 2.0
