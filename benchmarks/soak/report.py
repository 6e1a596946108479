"""What a long run must have kept, and its figures as a table."""

from __future__ import annotations

from typing import Any

# Percent of memory after the warm-up.
GROWTH = 5.0


def broken_promises(found: dict[str, Any], engine: str = "auto", attackers: int = 0) -> list[str]:
    """Broken promises, one sentence each.

    Args:
        found: the figures of ``run_load``.
        engine: what was asked for; "auto" is content with either.
        attackers: how many were asked for.
    """
    wanted = found["engine"] if engine == "auto" else engine
    promises = (
        (found["memory_growth_percent"] < GROWTH, f"Memory grew by {found['memory_growth_percent']} %."),
        (found["engine"] in (wanted, "unknown"), f"{found['engine']} computed the pictures, not {wanted}."),
        (not attackers or found["attacks"], "No attack was made."),
        (not found["answers_5xx"], f"{found['answers_5xx']} answers were 5xx."),
        (not found["hung"], f"{found['hung']} requests hung."),
        (found["announced"] and found["found"] == found["announced"], "A picture that was announced is not there."),
        (found["exit_status"] == 0, f"It did not end well after SIGTERM: {found['exit_status']}."),
        (not found["faults_in_all"], f"{found['faults_in_all']} things went wrong; see faults."),
    )
    return [words for kept, words in promises if not kept]


def table(rows: dict[str, Any]) -> str:
    """Names and figures, a line each."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items() if name not in ("faults", "did"))
