"""Finds the models below a folder of the user: diffusers folders and single safetensors files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from pipelines.cards import ModelCard
from pipelines.system.text import printable
from presets import catalogue, diffusers_folder, single_file
from presets.json_files import CatalogueError

# Bounds of a search; the models of a hub cache lie four folders deep.
MAX_DEPTH = 6
MAX_ENTRIES = 20_000
MAX_MODELS = 500
MAX_PROBLEMS = 20


def scan(
    models_dir: Path | str, known: Sequence[ModelCard] = (), cache_dir: Path | None = None
) -> tuple[list[ModelCard], list[str]]:
    """Find the models below a folder; no weight is read, and what stands in the way becomes a sentence.

    Args:
        models_dir: searched to a bounded depth and number of entries; links are followed, each folder once.
        known: cards whose ids are taken; a model of the same name gets ``catalogue.distinct_id``.
        cache_dir: where the configuration of single files is put.

    Returns:
        Cards by path, and a sentence for each problem; never raises.
    """
    root = catalogue.as_path(str(models_dir)) or Path(models_dir)
    if not catalogue.path_is(Path.is_dir, root):
        return [], [printable(f"The models folder {root} is not there; make it, or name another.")]
    taken = {card.id: card for card in known}
    found: dict[str, ModelCard] = {}
    problems: list[str] = []
    skipped: Counter[str] = Counter()
    for path in _candidates(root.resolve(), problems):
        if len(found) == MAX_MODELS:
            problems.insert(0, f"The folder {root} holds more than {MAX_MODELS} models; the others were left out.")
            break
        try:
            card = _read_card(path, {**taken, **found}, cache_dir)
            found[card.id] = card
        except single_file.NotAWholeModel as error:
            skipped[error.kind] += 1
        except CatalogueError as error:
            problems.append(str(error))
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"There are {len(problems) - MAX_PROBLEMS} more like these in {root}."]
    problems += [f"Left out of {root}: {n} {'file' if n == 1 else 'files'} ({what})." for what, n in skipped.items()]
    return list(found.values()), [printable(problem) for problem in problems]


def _read_card(path: Path, known: Mapping[str, ModelCard], cache_dir: Path | None) -> ModelCard:
    if path.is_dir():
        return catalogue.local_card(path, known, diffusers_folder.read_card)
    if path.suffix.lower() in single_file.PICKLES:
        raise single_file.NotAWholeModel("", "pickles, which can run code when opened; convert them to safetensors")
    return catalogue.local_card(path, known, single_file.read_card, cache_dir=cache_dir)


def _candidates(root: Path, problems: list[str]) -> Iterator[Path]:
    """Yield diffusers folders, and files that may be models, below a folder, in the order of their paths."""
    seen: set[tuple[int, int]] = set()
    pending = [(root, 0)]
    entries = 0
    while pending:
        folder, depth = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if (folder / "model_index.json").is_file():
                yield folder
                continue
            with os.scandir(folder) as listing:
                names = sorted(_entry_kind(entry) for entry in islice(listing, MAX_ENTRIES + 1))
        except OSError as error:
            problems.append(f"The folder {folder} cannot be read ({error.strerror}).")
            continue
        entries += len(names)
        if entries > MAX_ENTRIES:
            problems.append(f"The folder {root} has too many files to look through; name a smaller one.")
            return
        models = (single_file.SAFETENSORS, *single_file.PICKLES)
        # Weights of a component in a folder without a model_index.json come along; reading their card refuses them.
        yield from (folder / name for name, _, is_file in names if is_file and name.lower().endswith(models))
        if depth < MAX_DEPTH:
            pending += [(folder / name, depth + 1) for name, is_dir, _ in reversed(names) if is_dir]


def _entry_kind(entry: os.DirEntry[str]) -> tuple[str, bool, bool]:
    """Name of an entry, whether it is a folder, and whether a file; neither if hidden or a dangling link."""
    try:
        hidden = entry.name.startswith(".")
        return entry.name, not hidden and entry.is_dir(), not hidden and entry.is_file()
    except OSError:  # a link to itself
        return entry.name, False, False
