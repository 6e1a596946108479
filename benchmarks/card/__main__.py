"""What a graphics card does with the playground, in at most ten minutes; prints a JSON that can be sent to the project.

    python -m benchmarks.card [--device auto|cuda:1|mps|cpu] [--out card.json] [--folder FOLDER] [--tiny]

Each section runs in a process of its own, for as long as it may: one that crashes or hangs is recorded as such, with
what it had measured by then, and the rest goes on.  The file names the card, the system and the
versions; it holds no name of a user and no path.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Threads that spin while they wait take the time of those that launch kernels.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from benchmarks.card import sections
from benchmarks.card.device import MeasuredDevice
from benchmarks.card.findings import Findings
from benchmarks.card.site import Site
from pipelines.system.text import hide_paths

FORMAT = 1
PROGRAM = ("-m", "benchmarks.card")
# Name -> what it does, and the seconds that it may take; all of them together stay below ten minutes.
SECTIONS: Mapping[str, tuple[Callable[[Findings, Site], None], int]] = {
    "versions": (sections.versions, 30),
    "models": (sections.models, 75),
    "samplers": (sections.samplers, 60),
    "syncs": (sections.syncs, 45),
    "speed": (sections.speed, 140),
    "memory": (sections.memory, 110),
    "spread": (sections.spread, 50),
    "options": (sections.options, 75),
}
# Those that load the random models.
NEED_MODELS = {"syncs", "speed", "memory", "spread", "options"}
# A section begins nothing new so long before its process is ended.
GRACE = 0.15
TINY = {"tiny": True, "sizes": (32, 64), "batches": (1, 2), "steps": 2, "limits": ()}


def run_section(name: str, site: Site, path: Path | None, seconds: float) -> dict[str, Any]:
    """One section in this process."""
    findings = Findings(path, seconds)
    try:
        SECTIONS[name][0](findings, site)
    except Exception as error:
        findings.fail(error)
    findings.write()
    return findings.as_json()


def run_apart(name: str, seconds: float, arguments: Sequence[str], path: Path) -> dict[str, Any]:
    """One section in a process of its own; what it has found if it crashes or takes too long."""
    inside = ["--section", name, "--seconds", str(seconds * (1 - GRACE)), "--found", str(path)]
    command = [sys.executable, *PROGRAM, *inside, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        problem = f"ended after {seconds:.0f} seconds"
    else:
        problem = _problem(done)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {**found, **({"problem": problem} if problem else {})}


def _problem(done: subprocess.CompletedProcess[str]) -> str:
    if not done.returncode:
        return ""
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return f"ended with status {done.returncode}: {hide_paths(last)[:200]}"


def measure(
    folder: Path, arguments: Sequence[str] = (), chosen: Sequence[str] = tuple(SECTIONS), most: float = 590.0
) -> dict[str, Any]:
    """Every section.

    Args:
        folder: for the random models and for what sections have found.
        arguments: of each section's process.
        chosen: names of sections.
        most: seconds in all.
    """
    started, found = time.monotonic(), {}
    if "models" not in chosen and NEED_MODELS & set(chosen):
        chosen = ("models", *chosen)
    for name in chosen:
        left = most - (time.monotonic() - started)
        seconds = min(float(SECTIONS[name][1]), left)
        print(f"{name} (at most {seconds:.0f} s) ...", file=sys.stderr, flush=True)
        found[name] = (
            run_apart(name, seconds, arguments, folder / f"{name}.json") if left > 1 else {"problem": "no time"}
        )
    return {"format": FORMAT, "seconds": round(time.monotonic() - started, 1), "sections": found}


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.card", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")
    add("--out", type=Path, default=Path("card.json"), help="where the JSON is written (default: card.json)")
    add("--folder", type=Path, help="for random models, 9 GB, removed at the end (default: the system's)")
    add("--tiny", action="store_true", help="models of a few channels, to try this program itself")
    add("--only", nargs="+", choices=tuple(SECTIONS), default=list(SECTIONS), metavar="SECTION")
    for hidden, kind in (("--section", str), ("--seconds", float), ("--found", Path)):
        add(hidden, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _use_threads() -> None:
    import torch

    from pipelines.jobs.local import default_threads

    torch.set_num_threads(default_threads())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the file and say where it is."""
    given = read_options(argv)
    if given.section:
        _use_threads()
        site = Site(given.folder, MeasuredDevice(given.device), **(TINY if given.tiny else {}))
        run_section(given.section, site, given.found, given.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="card-", dir=given.folder) as folder:
        arguments = ["--device", given.device, "--folder", folder, *(["--tiny"] if given.tiny else [])]
        found = measure(Path(folder), arguments, given.only)
    text = json.dumps(found, indent=1)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {given.out}; send it to the project if you like.", file=sys.stderr)


if __name__ == "__main__":
    main()
