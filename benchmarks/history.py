"""The history at 100,000 entries: the first page, filters and search, what it takes to keep a picture, and memory.

    python -m benchmarks.history [--entries 100000] [--rounds 15]

Prints JSON: medians and the slowest in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.entries, options.rounds), indent=1))


if __name__ == "__main__":
    main()
