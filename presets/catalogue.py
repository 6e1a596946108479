"""Reads the catalogue of models and turns what a person names into a ModelCard."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.cards import ModelCard
from presets import folders, single
from presets.reading import CatalogueError

__all__ = ["CATALOGUE", "CatalogueError", "card_for", "hub_id", "is_local", "is_there", "load", "refined", "scan"]

CATALOGUE = Path(__file__).with_name("models.toml")
PROJECT = Path(__file__).resolve().parent.parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/", re.ASCII)

# A scan looks no deeper (a hub cache has its models four folders down), at no more entries, and takes no more models.
MAX_DEPTH = 6
MAX_ENTRIES = 20_000
MAX_MODELS = 500
MAX_PROBLEMS = 20

Peek = Callable[[str], Path | None]


def load(path: Path | str = CATALOGUE) -> list[ModelCard]:
    """The models of a catalogue file, in its order; paths in it become absolute.

    Raises:
        CatalogueError: if the file is missing, is not TOML, or a table is wrong.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"The catalogue {path} cannot be read ({error.strerror}); check its name.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"The catalogue {path} is not valid TOML: {error}.") from None
    cards = [_card(name, table, path) for name, table in tables.items()]
    if not cards:
        raise CatalogueError(f"The catalogue {path} names no model; add a table such as [pocket].")
    return cards


def card_for(
    model: str,
    cards: Sequence[ModelCard],
    cache_dir: Path | None = None,
    peek: Peek | None = None,
    files: bool = True,
) -> ModelCard:
    """The card of a catalogue id, a diffusers folder, a single safetensors file or a hub id, in this order.

    A model's own files are read for what the card says (family, sizes, prediction type), nothing is loaded.

    Args:
        model: what a person named; the address of a page on the hub is taken for its hub id.
        cards: of the catalogue, or whatever else is known.
        cache_dir: where the configuration of a single file is put; see ``presets.configs.folder``.
        peek: fetches the configuration files of a hub id, or gives None; without it a hub model that is not in the
            cache is taken for Stable Diffusion until it is (see ``refined``).
        files: whether folders and files may be named; not for visitors, who would learn what this disk holds.

    Raises:
        CatalogueError: if it is none of the four, or a model of another architecture.
    """
    known = {card.id: card for card in cards}
    if model in known:
        _look(known[model])
        return known[model]
    place = _place(model) if files else None
    if place is not None and _is(Path.is_dir, place):
        return _named(place.resolve(), known, folders.card)
    # Not resolved: in a hub cache it is a link to a file without a suffix.
    if place is not None and _is(Path.is_file, place):
        return _named(Path(os.path.abspath(place)), known, single.card, cache_dir=cache_dir)
    named = hub_id(model)
    if named and not (files and _is(Path.is_dir, Path(named).parent)):
        return known.get(named) or _hub_card(named, peek)
    raise CatalogueError(
        f"There is no model {model[:120]!r}: name one of the catalogue ({', '.join(list(known)[:30])}), "
        "a folder in the diffusers format, a .safetensors file, or a hub id such as owner/name."
    )


def is_local(card: ModelCard) -> bool:
    """Whether the model's source is a folder or file rather than a hub id."""
    return Path(card.source).is_absolute()


def is_there(card: ModelCard) -> bool:
    """Whether a local model's folder or file is where its card says; False for hub ids."""
    source = Path(card.source)
    return is_local(card) and (_is(Path.is_file, source) or _is(Path.is_file, source / "model_index.json"))


def refined(card: ModelCard, folder: Path) -> ModelCard:
    """A hub model's card, told anew from the configuration files of its snapshot.

    Cards of the catalogue say what their model is and come back as they are.

    Raises:
        CatalogueError: if the snapshot is not of a model that can be run.
    """
    if card.id != card.source:
        return card
    return folders.card(folder, card.id, **_hub_fields(card.source), licence=_licence(folder))


def scan(
    models_dir: Path | str, known: Sequence[ModelCard] = (), cache_dir: Path | None = None
) -> tuple[list[ModelCard], list[str]]:
    """The models below a folder: diffusers folders and single safetensors files; no weight is read.

    Args:
        models_dir: looked through to a bounded depth and number of entries; links are followed, each place once.
        known: cards whose ids are taken; a model of the same name gets its path as id.
        cache_dir: where the configuration of single files is put.

    Returns:
        Cards by path, and one sentence for each thing that a person should know of; never raises.
    """
    root = _place(str(models_dir)) or Path(models_dir)
    if not _is(Path.is_dir, root):
        return [], [f"The models folder {root} is not there; make it, or name another."]
    taken = {card.id: card for card in known}
    found: dict[str, ModelCard] = {}
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    for place in _places(root.resolve(), problems):
        if len(found) == MAX_MODELS:
            problems.insert(0, f"The folder {root} holds more than {MAX_MODELS} models; the others were left out.")
            break
        try:
            card = _scanned(place, {**taken, **found}, cache_dir)
            found[card.id] = card
        except single.NotAModel as error:
            left_out[error.kind] += 1
        except CatalogueError as error:
            problems.append(str(error))
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"There are {len(problems) - MAX_PROBLEMS} more like these in {root}."]
    problems += [f"Left out of {root}: {n} {'file' if n == 1 else 'files'} ({what})." for what, n in left_out.items()]
    return list(found.values()), problems


def _scanned(place: Path, known: Mapping[str, ModelCard], cache_dir: Path | None) -> ModelCard:
    if place.is_dir():
        return _named(place, known, folders.card)
    if place.suffix.lower() in single.PICKLES:
        raise single.NotAModel("", "pickles, which can run code when opened; convert them to safetensors")
    return _named(place, known, single.card, cache_dir=cache_dir)


def _places(root: Path, problems: list[str]) -> Iterator[Path]:
    """Diffusers folders, and files that may be models, below a folder, in the order of their paths."""
    seen: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    entries = 0
    while waiting:
        folder, depth = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if (folder / "model_index.json").is_file():
                yield folder
                continue
            with os.scandir(folder) as listed:
                names = sorted(_kind(entry) for entry in islice(listed, MAX_ENTRIES + 1))
        except OSError as error:
            problems.append(f"The folder {folder} cannot be read ({error.strerror}).")
            continue
        entries += len(names)
        if entries > MAX_ENTRIES:
            problems.append(f"The folder {root} has too many files to look through; name a smaller one.")
            return
        models = (single.SAFETENSORS, *single.PICKLES)
        # Parts of a model that lie in a folder without an index are not models of their own.
        yield from (folder / name for name, _, is_file in names if is_file and name.lower().endswith(models))
        if depth < MAX_DEPTH:
            waiting += [(folder / name, depth + 1) for name, is_dir, _ in reversed(names) if is_dir]


def _kind(entry: os.DirEntry[str]) -> tuple[str, bool, bool]:
    """Name of an entry, whether it is a folder, whether it is a file; neither if hidden or a link to nothing."""
    try:
        hidden = entry.name.startswith(".")
        return entry.name, not hidden and entry.is_dir(), not hidden and entry.is_file()
    except OSError:  # a link that leads to itself
        return entry.name, False, False


def _named(place: Path, known: Mapping[str, ModelCard], make: Callable[..., ModelCard], **more: Any) -> ModelCard:
    """A local model's card; its id is its own name, or the whole path where that name is taken."""
    name = place.stem if make is single.card else place.name
    try:
        return make(place, name if name and name not in known else str(place), **more)
    except ValidationError:
        raise CatalogueError(f"The name of {str(place)[:200]} is too long; move the model or rename it.") from None
    except OSError as error:
        raise CatalogueError(f"The model in {place} cannot be read ({error.strerror}).") from None


def _look(card: ModelCard) -> None:
    """Check that a local model is there and of a kind that can be run."""
    if not is_local(card):
        return
    source = Path(card.source)
    if source.suffix.lower() == single.SAFETENSORS and not _is(Path.is_dir, source):
        single.variant(source, single.read_header(source))
    else:
        folders.index(source)


def hub_id(model: str) -> str:
    """The hub id in a name or in the address of a page, or ""."""
    path, pages = _HUB_PAGE.subn("", model.strip(), count=1)
    if pages:
        path = "/".join(re.split(r"[?#]", path)[0].split("/")[:2])
    return path if len(path) <= 200 and _HUB_ID.fullmatch(path) else ""


def _hub_card(model: str, peek: Peek | None) -> ModelCard:
    """A hub model's card, from its configuration files where they are on this machine or can be fetched."""
    snapshot = _snapshot(model) or (peek(model) if peek else None)
    # The hub id itself is the model's id, so that a stored request names the model for everybody.
    fields = {"id": model, "licence": "see its page", "qualities": folders.GENERIC, **_hub_fields(model)}
    plain = ModelCard(**fields)
    if snapshot is None:
        return plain
    if not _is(Path.is_file, snapshot / "model_index.json"):
        raise CatalogueError(
            f"The hub's {model} is not a whole model in the diffusers format; choose one with a model_index.json."
        )
    return refined(plain, snapshot)


def _hub_fields(model: str) -> dict[str, Any]:
    return {
        "name": model,
        "source": model,
        "about": "A model of the Hugging Face hub; it is downloaded when it is first used.",
        "link": f"https://huggingface.co/{model}",
    }


def _licence(snapshot: Path) -> str:
    found = folders.licence(snapshot)
    return found if found != "see its folder" else "see its page"


def _snapshot(model: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The hub client's folder of a model that was downloaded, told from its files so that nothing is imported."""
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    hub = Path(environ.get("HF_HUB_CACHE") or home / "hub").expanduser() / ("models--" + model.replace("/", "--"))
    try:
        commit = (hub / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = hub / "snapshots" / commit
    return snapshot if commit and _is(Path.is_file, snapshot / "model_index.json") else None


def _place(model: str) -> Path | None:
    """The path that a person may have meant, or None where no path can have these characters."""
    if not model or len(model) > 4096 or "\0" in model:
        return None
    try:
        return Path(model).expanduser()
    except RuntimeError:  # ~somebody who is not known here
        return None


def _is(what: Callable[[Path], bool], path: Path) -> bool:
    try:
        return what(path)
    except (OSError, RuntimeError, ValueError):  # a name too long, or with characters that no path has
        return False


def _card(name: str, table: Any, path: Path) -> ModelCard:
    if not isinstance(table, dict):
        raise CatalogueError(
            f"The catalogue {path} has a stray entry {name!r}; every model is a table such as [{name}]."
        )
    fields = {"id": name, **table}
    fields["source"] = _absolute(fields.get("source"), is_source=True)
    for file in ("vocabulary", "neighbours", "recording"):
        if fields.get(file):
            fields[file] = _absolute(fields[file])
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CatalogueError(f"The catalogue {path} is wrong at {name}.{where}: {first['msg']}.") from None


def _absolute(value: Any, is_source: bool = False) -> Any:
    """Relative to the project; a source whose first folder is not in the project is a hub id and stays as it is."""
    if not isinstance(value, str):
        return value
    place = Path(value).expanduser()
    first = PROJECT / place.parts[0] if place.parts else PROJECT
    if is_source and not place.is_absolute() and not first.is_dir():
        return value
    return str((PROJECT / place).resolve())
