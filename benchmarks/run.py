"""``make bench``: ratios against what a user would otherwise run, each measured in turns in one run on one machine.

    python -m benchmarks.run [--rows 1,4] [--model pocket] [--rounds 15] [--device cpu|cuda] [--entries 100000]
        [--json FILE]

Prints a table with a target a row, and JSON.  Also what each step asks of a graphics card, counted on the pretend GPU,
and the history at so many entries, with the targets that it misses; not where rows are chosen.
On a graphics card it measures the rows that concern it, on an architecture of real size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.rows import comparing, page, program, real_sizes, sampler, visits, work, workers
from benchmarks.rows.results import MISSED, NOT_MEASURED, Result, table
from benchmarks.rows.workshop import Bench, Workshop, has_openvino, open_workshop

# Rows that share one backend in this process, and rows that start what they need.
IN_PROCESS: dict[int, Callable[[Workshop], Iterable[Result]]] = {
    1: sampler.against_the_networks, 2: sampler.watched, 3: sampler.recorded, 4: sampler.strip, 9: sampler.stopped,
    10: work.users, 11: work.batch, 13: work.growth, 17: comparing.forked,
}  # fmt: skip
ALONE: dict[int, Callable[[Bench], Iterable[Result]]] = {
    5: page.clicked, 6: program.over_http, 7: program.against_the_demo, 8: program.starting, 12: program.memory,
    14: real_sizes.real_sizes, 15: comparing.attention_off, 16: comparing.grid, 18: visits.first_visit,
    19: visits.open_page, 20: workers.second_worker,
}  # fmt: skip
ON_A_GPU = (1, 2, 3, 10, 11, 14)


def measure(bench: Bench, rows: Sequence[int], say: Callable[[Result], None]) -> list[Result]:
    """The results of these rows; ``say`` is called with each when it is there."""
    found: list[Result] = []

    def take(number: int, results: Callable[[], Iterable[Result]]) -> None:
        try:
            for one in results():
                found.append(one)
                say(one)
        except Exception as error:
            traceback.print_exc()
            found.append(Result(number, "", None, None, 0, problem=f"{type(error).__name__}: {str(error)[:200]}"))
            say(found[-1])

    inside = [row for row in rows if row in IN_PROCESS]
    if inside:
        with open_workshop(bench) as shop:
            for row in inside:
                take(row, lambda row=row: IN_PROCESS[row](shop))
    for row in rows:
        if row in ALONE:
            take(row, lambda row=row: ALONE[row](bench))
    return sorted(found, key=lambda one: one.row)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import torch

    from benchmarks.engines import machine as processor

    versions = {name: sys.modules[name].__version__ for name in ("torch", "diffusers") if name in sys.modules}
    card = {"graphics_card": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"processor": processor(), "system": platform.platform(), "load": os.getloadavg()[0], **versions, **card}


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="numbers of the rows, with commas; all by default")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--entries", type=int, default=100_000, help="of the history; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="write the JSON there, too")
    return parser.parse_args(arguments)


def rows_of(options: argparse.Namespace) -> list[int]:
    """The rows that are asked for; raises SystemExit for one that does not exist."""
    known = sorted({**IN_PROCESS, **ALONE}) if options.device == "cpu" else list(ON_A_GPU)
    asked = [int(one) for one in options.rows.split(",") if one.strip()] or known
    if unknown := set(asked) - set(known):
        raise SystemExit(f"There is no row {min(unknown)} here; there are {', '.join(map(str, known))}.")
    return asked


def main() -> None:
    options, started = read_options(), time.monotonic()
    rows = rows_of(options)
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) if options.device == "cpu" and has_openvino() else None
        bench = Bench(options.model, options.rounds, options.device, compiled)
        found = measure(bench, rows, lambda one: print(json.dumps(one.as_json()), file=sys.stderr, flush=True))
    counted: list[Any] = []
    history: dict[str, Any] = {}
    if not options.rows:
        from benchmarks.gpu.counters import counters
        from benchmarks.history import everything
        from presets.catalogue import card_for, load

        card = card_for(options.model, load())
        counted = counters(card.id, [*load(), card])
        if options.entries and options.device == "cpu":
            history = everything(options.entries, options.entries, 3 * options.rounds)
    report = {
        "machine": machine(), "minutes": round((time.monotonic() - started) / 60, 1),
        "rows": [one.as_json() for one in found], "pretend_gpu": counted, "history": history,
    }  # fmt: skip
    text = json.dumps(report, indent=2)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    print(text)
    print(table(found))
    missed = [str(one.row) for one in found if one.result in (MISSED, NOT_MEASURED)]
    print(f"{len(found) - len(missed)} of {len(found)} met; see rows {', '.join(missed)}." if missed else "All met.")


if __name__ == "__main__":
    main()
