"""A program that writes the history, killed (SIGKILL) at random moments, and what each kill leaves.

python -m benchmarks.soak.history_kills FOLDER SEED    writes until it is killed, and announces each picture
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from history.entries import CRASHED
from history.search import Filters
from history.store import History
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.users import OWNER
from pipelines.request import make_request
from pipelines.system.atomic_files import remove_stale_parts

ROOT = Path(__file__).resolve().parents[2]
# After its first picture a writer lives for at most so long: some ten pictures.
MAX_SECONDS = 0.25


def write_forever(folder: Path, seed: int) -> None:
    """Keep pictures, delete some and restore some; announce each that is kept, on a line of its own."""
    dice, history = random.Random(seed), History(folder)
    history.open(background=False)
    ids: list[str] = []
    while True:
        side = dice.choice((64, 320))
        request = make_request(
            model="pocket", prompt=f"a fox {len(ids)}", width=side, height=side, scheduler="ddim",
            num_inference_steps=4, guidance_scale=4.0, seed=dice.randrange(2**31), num_images=2,
        )  # fmt: skip
        run = f"run-{os.getpid()}-{len(ids)}"
        history.started(run, request, OWNER)
        for number, of_picture in enumerate(request.seeds):
            picture = Image.effect_noise((side, side), 80).convert("RGB")
            ids.append(history.keep(picture, request, PictureFacts(of_picture, number, run)))
            print(ids[-1], flush=True)
        history.ended(run)
        if dice.random() < 0.5:
            history.bin.delete(OWNER, [dice.choice(ids)])
        if dice.random() < 0.3:
            history.bin.restore(OWNER, [dice.choice(ids)])


def run_history_kills(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill a writer again and again; a line for each thing that is not as it was promised."""
    dice, problems, announced = random.Random(seed), list[str](), list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(kills):
        new = _killed_writer(folder, seed + k, dice.random() * MAX_SECONDS)
        announced += new
        problems += [f"kill {k}: {line}" for line in _check(folder, new)]
    return problems + _check(folder, announced)


def _killed_writer(folder: Path, seed: int, seconds: float) -> list[str]:
    """The ids that a writer announced before it was killed."""
    command = [sys.executable, "-m", "benchmarks.soak.history_kills", str(folder), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        rest = process.stdout.read()
    # The last line may be cut off.
    whole = (first + rest).rpartition("\n")[0]
    return whole.split("\n") if whole else []


def _check(folder: Path, announced: list[str]) -> list[str]:
    """What a start finds wrong: announced pictures that are lost, entries and files that do not fit together."""
    history, problems = History(folder), list[str]()
    problems += history.open(background=False)
    for part_folder in (history.folders.pictures, history.folders.bin):
        remove_stale_parts(part_folder)
        problems += [f"{path.name} is left" for path in part_folder.glob(".*.part")]
    for entry_id in announced:
        found = history.detail(OWNER, entry_id)
        if found is None or found.picture is None or not _is_whole(found.picture):
            problems.append(f"{entry_id} was announced and is lost")
    for filters, place in ((Filters(), history.folders.pictures), (Filters(in_bin=True), history.folders.bin)):
        entries = [entry for entry in history.catalogue.all(OWNER, filters) if entry.kind != CRASHED]
        files = {path.name for path in place.glob("*.png")} if place.is_dir() else set()
        problems += [f"{name} has no entry" for name in files - {entry.file for entry in entries}]
        problems += [f"{entry.file} is not in {place.name}" for entry in entries if entry.file not in files]
        problems += [f"{entry.file} is broken" for entry in entries if not _is_whole(place / entry.file)]
    history.close()
    return problems


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            picture.load()
            return True
    except (OSError, SyntaxError):
        return False


if __name__ == "__main__":
    write_forever(Path(sys.argv[1]), int(sys.argv[2]))
