"""The history at 100,000 entries: the first page, filters and search, saving, an import, and memory.

    python -m benchmarks.history [--entries 100000] [--imports 100000] [--rounds 15]

Prints JSON: medians and the slowest in milliseconds, and what of the targets is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from history.entries import NewEntry, insert, of_request
from history.search import Filters
from history.store import History
from pipelines.images.png import save_png
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.users import OWNER, User
from pipelines.request import GenerationRequest, make_request

VOCABULARY = """
    fox whale castle night day red blue green oil painting photo of a the in on watercolour portrait city forest sea sky
    light dark old young robot dragon mountain river flower detailed sharp blurry masterpiece style wide close
"""
MODELS, SCHEDULERS = ("pocket", "sd15", "sdxl", "flux"), ("ddim", "euler", "euler_a", "dpmpp_2m_karras", "unipc")
BATCH = 1000
# Runs that do not count, and how long the engine may take to be ready.
WARM_UP, ENGINE_SECONDS = 3, 120.0
# Targets: the slowest first page and search, saving as a share of a generation, and what an import's memory may grow.
MOST_MS, MOST_SAVING, MOST_GROWTH_MB = 200, 0.03, 64


def requests(count: int) -> Iterator[GenerationRequest]:
    """Requests with prompts of 5 to 40 words, some of them rare."""
    dice, vocabulary = random.Random(1), VOCABULARY.split()
    for k in range(count):
        words = [*dice.choices(vocabulary, k=dice.randint(5, 40)), f"rare{dice.randrange(5000)}"]
        yield make_request(
            model=dice.choice(MODELS), prompt=" ".join(words), negative_prompt=" ".join(dice.choices(vocabulary, k=5)),
            width=dice.choice((128, 512, 768, 1024)), height=dice.choice((128, 512, 768)),
            scheduler=dice.choice(SCHEDULERS), num_inference_steps=25, guidance_scale=5.0, seed=k,
        )  # fmt: skip


def fill(history: History, count: int) -> float:
    """Enter so many pictures (without files); seconds."""
    started, rest = time.perf_counter(), list[NewEntry]()
    for k, request in enumerate(requests(count)):
        user = OWNER if k % 20 else User(f"guest-{k % 7}")
        rest.append(NewEntry(id=f"20260101-{k:09}", created=1.6e9 + 60 * k, user=user, file=f"{k}.png", bytes=400_000,
                             width=request.width, height=request.height, run=f"run{k}",
                             **of_request(request, k)))  # fmt: skip
        if len(rest) == BATCH or k == count - 1:
            with history.database.write() as connection:
                for new in rest:
                    insert(connection, new)
            rest = []
    with history.database.write() as connection:
        connection.execute("UPDATE entries SET favourite = 1 WHERE seed % 50 = 0")
        connection.execute("INSERT INTO tags SELECT 'good', number FROM entries WHERE seed % 90 = 0")
    return time.perf_counter() - started


def timed(work: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Median and slowest of some calls, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return {"median_ms": round(statistics.median(times), 1), "slowest_ms": round(max(times), 1)}


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Fill a history and measure it."""
    history = History(folder)
    history.open(background=False)
    seconds, page = fill(history, count), history.catalogue.page
    middle = page(OWNER, Filters(before=1.6e9 + 30 * count)).cursor
    looks: dict[str, Callable[[], Any]] = {
        "first_page": lambda: page(OWNER),
        "a_page_in_the_middle": lambda: page(OWNER, cursor=middle),
        "first_page_of_a_guest": lambda: page(User("guest-3")),
        "model_and_scheduler": lambda: page(OWNER, Filters(model="sdxl", scheduler="unipc")),
        "model_of_which_there_is_none": lambda: page(OWNER, Filters(model="none", scheduler="unipc", favourite=True)),
        "favourites": lambda: page(OWNER, Filters(favourite=True)),
        "tag": lambda: page(OWNER, Filters(tag="good")),
        "search_one_letter": lambda: page(OWNER, Filters(text="f")),
        "search_common_word": lambda: page(OWNER, Filters(text="castle")),
        "search_three_words": lambda: page(OWNER, Filters(text="red castle nig")),
        "search_rare_word": lambda: page(OWNER, Filters(text="rare4321")),
        "search_and_filters": lambda: page(OWNER, Filters(text="castle", model="flux", favourite=True)),
        "search_nothing": lambda: page(OWNER, Filters(text="zebra")),
        "choices_of_filters": lambda: history.catalogue.choices(OWNER),
        "count": lambda: history.catalogue.count(OWNER),
        "count_of_a_search_that_most_match": lambda: history.catalogue.count(OWNER, Filters(text="ra")),
        "count_of_a_common_word": lambda: history.catalogue.count(OWNER, Filters(text="castle")),
        "search_emoji": lambda: page(OWNER, Filters(text="\U0001f98a")),
        "detail": lambda: history.detail(OWNER, f"20260101-{count // 2:09}"),
    }
    found: dict[str, Any] = {name: timed(look, rounds) for name, look in looks.items()}
    picture, request = Image.effect_noise((128, 128), 60).convert("RGB"), next(requests(1))
    found["keep_128_px"] = timed(lambda: history.keep(picture, request, PictureFacts(1)), 4 * rounds)
    pictures = history.folders.pictures
    found["write_the_png_alone"] = timed(lambda: save_png(picture, pictures, request, 1, {}), 4 * rounds)
    size = history.bin.disk_use().database
    history.close()
    memory = psutil.Process().memory_info().rss
    return {"entries": count, "fill_seconds": round(seconds, 1), "database_mb": round(size / 1e6), **found,
            "memory_mb": round(memory / 1e6)}  # fmt: skip


def saving(folder: Path, rounds: int) -> dict[str, Any]:
    """What keeping a picture adds to a generation of the embedded model, both timed within the same runs.

    The model runs as the program runs it by default, with OpenVINO where that is installed.
    """
    import torch

    from pipelines.jobs.local import default_threads
    from pipelines.models.manager import PipelineManager
    from pipelines.sampling.denoise import denoise
    from presets.catalogue import card_for, load

    torch.set_num_threads(default_threads())
    history, card = History(folder), card_for("pocket", load())
    history.open(background=False)
    quality = card.qualities[card.default_quality]
    times: list[tuple[float, float]] = []
    manager = PipelineManager([card], device="cpu", engine="auto", engine_dir=folder / "compiled")
    with manager.lease(card.id) as model:
        for k in range(rounds + WARM_UP):
            if k == 1 and model.engine is not None:  # the first run has told it the shapes that it converts
                model.engine.wait(ENGINE_SECONDS)
            request = make_request(
                model=card.id, prompt=card.prompts[0], width=card.width, height=card.height, seed=k,
                scheduler=quality.scheduler, num_inference_steps=quality.num_inference_steps,
                guidance_scale=card.guidance_scale,
            )  # fmt: skip
            start = time.perf_counter()
            *_, last = denoise(model, request)
            (image,) = model.latents.decode(last.x_next)
            made = time.perf_counter()
            history.keep(image, request, PictureFacts(k))
            times.append((made - start, time.perf_counter() - made))
        engine = model.placement.engine
    history.close()
    times = times[WARM_UP:]
    return {
        "engine": engine,
        "generation_ms": round(1000 * statistics.median(each[0] for each in times), 1),
        "saving_ms": round(1000 * statistics.median(each[1] for each in times), 1),
        "saving_share": round(statistics.median(each[1] / each[0] for each in times), 4),
    }


def small_pictures(target: Path, count: int) -> Path:
    """A zip of so many small pictures, each with settings of another program."""
    from PIL import PngImagePlugin

    with zipfile.ZipFile(target, "w") as archive:
        for k, request in enumerate(requests(count)):
            info, file = PngImagePlugin.PngInfo(), io.BytesIO()
            info.add_text("parameters", f"{request.prompt}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: {k}")
            colour = (k % 251, k // 251 % 251, k // 63001)
            Image.new("RGB", (8, 8), colour).save(file, "PNG", pnginfo=info)
            archive.writestr(f"{k:07}.png", file.getvalue())
    return target


def imported(folder: Path, source: Path) -> dict[str, Any]:
    """Import a zip in this process: how long it takes, and its memory at a tenth of it and at its end."""
    history, process, memory = History(folder), psutil.Process(), list[int]()
    history.open(background=False)

    def report(progress: Any) -> None:
        if progress.done % max(progress.total // 10, 1) == 0:
            memory.append(process.memory_info().rss >> 20)

    start = time.perf_counter()
    done = history.importer(OWNER).run(source, progress=report)
    seconds = time.perf_counter() - start
    history.close()
    return {"pictures": done.added, "seconds": round(seconds, 1), "memory_mb": memory, "problem": done.problem}


def imported_apart(folder: Path, count: int) -> dict[str, Any]:
    """The same in a process of its own, whose memory is its own."""
    source = small_pictures(folder / "theirs.zip", count)
    (folder / "data").mkdir()
    command = [sys.executable, "-m", "benchmarks.history", "--import-from", str(source), "--into", str(folder / "data")]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def missed(found: dict[str, Any]) -> list[str]:
    """The targets that a measurement misses, in words."""
    lines = []
    for name in ("first_page", "search_one_letter", "search_common_word", "search_three_words"):
        if found[name]["slowest_ms"] > MOST_MS:
            lines.append(f"{name} takes {found[name]['slowest_ms']} ms; at most {MOST_MS}")
    if found["saving"]["saving_share"] > MOST_SAVING:
        lines.append(f"saving costs {found['saving']['saving_share']:.1%} of a generation; at most {MOST_SAVING:.0%}")
    first, *_, last = found["import"]["memory_mb"]
    if last - first > MOST_GROWTH_MB:
        lines.append(f"memory grows by {last - first} MB during the last nine tenths of an import")
    return lines


def everything(entries: int, imports: int, rounds: int) -> dict[str, Any]:
    """All of it, with the targets that are missed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = {**measure(Path(folder), entries, rounds)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found["saving"] = saving(Path(folder), rounds)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found["import"] = imported_apart(Path(folder), imports)
    return {**found, "missed": missed(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--imports", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--import-from", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.import_from:
        print(json.dumps(imported(options.into, options.import_from)))
    else:
        print(json.dumps(everything(options.entries, options.imports, options.rounds), indent=1))


if __name__ == "__main__":
    main()
