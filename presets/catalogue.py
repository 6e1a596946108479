"""Reads the catalogue of models, and turns what a user types into a ModelCard."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.cards import ModelCard
from pipelines.hub.selection import is_repo_id
from pipelines.models.families.card_fields import DEFAULT_QUALITIES
from pipelines.system.paths import PROJECT, hub_cache
from pipelines.system.text import printable
from presets import diffusers_folder, single_file
from presets.json_files import CatalogueError

log = logging.getLogger(__name__)
CATALOGUE = Path(__file__).with_name("models.toml")
_HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/", re.ASCII)

# Fields of older catalogue files; they are ignored.
RETIRED_FIELDS = frozenset({"max_tokens"})

# Downloads the configuration files of a hub id, without weights; None if that fails (``Hub.download_configs``).
DownloadConfigs = Callable[[str], Path | None]


def load(path: Path | str = CATALOGUE) -> list[ModelCard]:
    """Read the models of a catalogue file, in its order; paths in it become absolute.

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
    download_configs: DownloadConfigs | None = None,
    files: bool = True,
) -> ModelCard:
    """Make the card of a catalogue id, a diffusers folder, a single safetensors file or a hub id, in this order.

    The model's configuration files say its family, sizes and prediction type; no weight is loaded.

    Args:
        model: what the user typed; the address of a page on the hub counts as its hub id.
        cards: the known models, such as those of the catalogue.
        cache_dir: where the configuration of a single file is put; see ``presets.configs.write_folder``.
        download_configs: downloads the configuration files of a hub id, or returns None; without it, a hub model that
            is not in the cache counts as Stable Diffusion until it is (see ``update_from_snapshot``).
        files: whether folders and files may be named; False for guests, who could probe this disk.

    Raises:
        CatalogueError: if it is none of the four, or a model of another architecture.
    """
    known = {card.id: card for card in cards}
    if model in known:
        _check_files(known[model])
        return known[model]
    path = as_path(model) if files else None
    if path is not None and path_is(Path.is_dir, path):
        return local_card(path.resolve(), known, diffusers_folder.read_card)
    # Not resolved: in a hub cache it is a link to a file without a suffix.
    if path is not None and path_is(Path.is_file, path):
        return local_card(Path(os.path.abspath(path)), known, single_file.read_card, cache_dir=cache_dir)
    repo_id = hub_id(model)
    if repo_id and not (files and path_is(Path.is_dir, Path(repo_id).parent)):
        return known.get(repo_id) or _hub_card(repo_id, download_configs)
    raise CatalogueError(
        f"There is no model {model[:120]!r}: name one of the catalogue ({', '.join(list(known)[:30])}), "
        "a folder in the diffusers format, a .safetensors file, or a hub id such as owner/name."
    )


def is_local(card: ModelCard) -> bool:
    """Whether the model's source is a folder or file rather than a hub id."""
    return Path(card.source).is_absolute()


def exists_locally(card: ModelCard) -> bool:
    """Whether the folder or file of a local model exists; False for hub ids."""
    source = Path(card.source)
    return is_local(card) and (path_is(Path.is_file, source) or path_is(Path.is_file, source / "model_index.json"))


def update_from_snapshot(card: ModelCard, folder: Path) -> ModelCard:
    """A hub model's card with what the configuration files of its snapshot say.

    Cards of the catalogue come back unchanged: they say what their model is.

    Raises:
        CatalogueError: if the snapshot is of another kind of model.
    """
    if card.id != card.source:
        return card
    fields = {**_hub_fields(card.source), "licence": _licence(folder)}
    return _made(f"The hub's {card.id}", lambda: diffusers_folder.read_card(folder, card.id, **fields))


def local_card(path: Path, known: Mapping[str, ModelCard], make: Callable[..., ModelCard], **more: Any) -> ModelCard:
    """A local model's card; its id is its own name, or ``distinct_id`` where that name is taken."""
    name = path.stem if make is single_file.read_card else path.name
    if printable(path) != str(path):
        raise CatalogueError(f"The name of {str(path)[:200]} is no text in UTF-8; rename it, or a folder around it.")
    id = name if name and name not in known else distinct_id(path)
    return _made(f"The model in {str(path)[:200]}", lambda: make(path, id, **more))


def _made(what: str, make: Callable[[], ModelCard]) -> ModelCard:
    """A card made of files that anybody may have written.

    Args:
        what: the model, as a message begins.

    Raises:
        CatalogueError: if they cannot be used; it says why.
    """
    try:
        return make()
    except CatalogueError:
        raise
    except ValidationError as error:
        raise CatalogueError(f"{what} cannot be used: {_reason(error)}.") from None
    except OSError as error:
        raise CatalogueError(f"{what} cannot be read ({error.strerror}).") from None
    except Exception as error:
        log.exception("The files of a model could not be read")
        raise CatalogueError(
            f"{what} cannot be read: its configuration is not of its kind ({type(error).__name__}); copy it again."
        ) from None


def _reason(error: ValidationError) -> str:
    """What is wrong with the first field of a card."""
    first = error.errors()[0]
    field = first["loc"][0] if first["loc"] else ""
    if field in ("id", "name") and first["type"] == "string_too_long":
        return "its name is too long; move the model or rename it"
    return f"its {field or 'configuration'} is wrong ({first['msg']}); copy the model again"


def distinct_id(path: Path) -> str:
    """A local model's name with a few characters that only this path has: ids stand in pictures, paths must not."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return f"{path.stem if path.suffix.lower() == single_file.SAFETENSORS else path.name}-{digest}".removeprefix("-")


def _check_files(card: ModelCard) -> None:
    """Raise CatalogueError unless a local model exists and is of a supported kind."""
    if not is_local(card):
        return
    source = Path(card.source)
    if source.suffix.lower() == single_file.SAFETENSORS and not path_is(Path.is_dir, source):
        single_file.detect_variant(source, single_file.read_checkpoint_header(source))
    else:
        diffusers_folder.read_index(source)


def hub_id(model: str) -> str:
    """The hub id (owner/name) in a text or in the address of a page, or ""."""
    path, pages = _HUB_PAGE.subn("", model.strip(), count=1)
    if pages:
        path = "/".join(re.split(r"[?#]", path)[0].split("/")[:2])
    return path if "/" in path and is_repo_id(path) else ""


def _hub_card(model: str, download_configs: DownloadConfigs | None) -> ModelCard:
    """A hub model's card, from its configuration files if they are on this machine or can be downloaded."""
    snapshot = _snapshot(model) or (download_configs(model) if download_configs else None)
    # The hub id is the model's id too, so that a stored request means the same model on every machine.
    fields = {
        "id": model,
        "licence": "see its page",
        "qualities": DEFAULT_QUALITIES,
        **_hub_fields(model),
    }
    card = ModelCard.model_validate(fields)
    if snapshot is None:
        return card
    if not path_is(Path.is_file, snapshot / "model_index.json"):
        raise CatalogueError(
            f"The hub's {model} is not a whole model in the diffusers format; choose one with a model_index.json."
        )
    return update_from_snapshot(card, snapshot)


def _hub_fields(model: str) -> dict[str, Any]:
    return {
        "name": model,
        "source": model,
        "about": "A model of the Hugging Face hub; it is downloaded when it is first used.",
        "link": f"https://huggingface.co/{model}",
    }


def _licence(snapshot: Path) -> str:
    found = diffusers_folder.read_licence(snapshot)
    return found if found != "see its folder" else "see its page"


def _snapshot(model: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The snapshot of a downloaded model; found without importing huggingface_hub, which would delay the start."""
    hub = hub_cache(environ) / ("models--" + model.replace("/", "--"))
    try:
        commit = (hub / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = hub / "snapshots" / commit
    return snapshot if commit and path_is(Path.is_file, snapshot / "model_index.json") else None


def as_path(model: str) -> Path | None:
    """A text as a path, or None if no path can have these characters."""
    if not model or len(model) > 4096 or "\0" in model:
        return None
    try:
        return Path(model).expanduser()
    except RuntimeError:  # ~name without such a user
        return None


def path_is(test: Callable[[Path], bool], path: Path) -> bool:
    """A test such as ``Path.is_dir``; False where the system cannot even ask."""
    try:
        return test(path)
    except (OSError, RuntimeError, ValueError):  # a name too long, or with characters that no path has
        return False


def _card(name: str, table: Any, path: Path) -> ModelCard:
    if not isinstance(table, dict):
        raise CatalogueError(
            f"The catalogue {path} has a stray entry {name!r}; every model is a table such as [{name}]."
        )
    fields = {"id": name, **{key: value for key, value in table.items() if key not in RETIRED_FIELDS}}
    fields["source"] = _absolute(fields.get("source"), is_source=True)
    for file in ("vocabulary", "neighbours", "prompt_guide", "training_sample", "recording"):
        if fields.get(file):
            fields[file] = _absolute(fields[file])
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CatalogueError(f"The catalogue {path} is wrong at {name}.{where}: {first['msg']}.") from None


def _absolute(value: Any, is_source: bool = False) -> Any:
    """Make a path absolute, from the project; a source whose first folder the project lacks is a hub id and stays."""
    if not isinstance(value, str):
        return value
    path = Path(value).expanduser()
    first = PROJECT / path.parts[0] if path.parts else PROJECT
    if is_source and not path.is_absolute() and not first.is_dir():
        return value
    return str((PROJECT / path).resolve())
