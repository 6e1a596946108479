"""``make soak``: the running program under mixed load and attack for a long time, and then killed again and again.

    python -m benchmarks.soak [--minutes 20] [--attackers 8] [--cases 5000] [--kills 50] [--history-kills 200]
        [--engine openvino] [--seed 1]

Prints a table and JSON; the exit status is 1 if a promise of SECURITY.md is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.soak.history_kills import run_history_kills
from benchmarks.soak.kills import run_kills
from benchmarks.soak.load import Load, run_load
from benchmarks.soak.report import broken_promises, table


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--minutes", type=float, default=20.0, help="of mixed load (default: 20)")
    add("--attackers", type=int, default=8, help="clients that attack all the time, a kind each (default: 8)")
    add("--cases", type=int, default=5000, help="malformed requests (default: 5000)")
    add("--kills", type=int, default=50, help="kill -9 (default: 50)")
    add("--history-kills", type=int, default=200, help="kill -9 of a program that writes the history (default: 200)")
    add("--engine", choices=("auto", "torch", "openvino"), default="openvino", help="default: openvino")
    add("--seed", type=int, default=1, help="of all random choices")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all; 0 if every promise was kept."""
    given = read_options(argv)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        load = Load(given.minutes * 60, given.cases, given.attackers, given.engine, given.seed)
        found = run_load(Path(folder) / "lived", load)
        problems = broken_promises(found, load.engine, load.attackers)
        if given.kills:
            kills = run_kills(Path(folder) / "killed", given.kills, given.seed)
            found |= {"kills": given.kills, "starts": kills.starts, "announced_before_kills": kills.announced,
                      "missing_after_kills": kills.missing, "left_after_kills": kills.left}  # fmt: skip
            problems += [f"After a kill: {line}" for line in (*kills.missing, *kills.left)]
        if given.history_kills:
            lines = run_history_kills(Path(folder) / "history", given.history_kills, given.seed)
            found |= {"history_kills": given.history_kills, "left_in_history": lines}
            problems += [f"In the history: {line}" for line in lines]
    print(json.dumps({**found, "broken": problems}, indent=1))
    print(table(found))
    print("\n".join(problems) or "Every promise was kept.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
