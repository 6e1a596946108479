"""Reads the catalogue of models and turns what a person names into a ModelCard."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.cards import ModelCard, Quality

CATALOGUE = Path(__file__).with_name("models.toml")
PROJECT = Path(__file__).resolve().parent.parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PIPELINES = ("StableDiffusionPipeline",)
_GENERIC = {
    "draft": Quality(scheduler="dpmpp_2m", num_inference_steps=12),
    "balanced": Quality(scheduler="dpmpp_2m", num_inference_steps=25),
    "fine": Quality(scheduler="dpmpp_2m", num_inference_steps=50),
}


class CatalogueError(ValueError):
    """A model that cannot be used, or a catalogue that cannot be read; the message is one plain sentence."""


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


def card_for(model: str, cards: Sequence[ModelCard]) -> ModelCard:
    """The card of a catalogue id, a diffusers folder or a hub id, in this order.

    A folder's own files are read for what the card says (sizes, prediction type, schedule), nothing is loaded.

    Raises:
        CatalogueError: if it is none of the three, or a folder of another architecture.
    """
    known = {card.id: card for card in cards}
    if model in known:
        card = known[model]
        if is_local(card):
            _index(Path(card.source))
        return card
    folder = Path(model).expanduser()
    if model and _is_folder(folder):
        return _folder_card(folder.resolve(), known)
    if _HUB_ID.fullmatch(model) and not _is_folder(folder.parent):
        about = "A model of the Hugging Face hub; it is downloaded when it is first used."
        link = f"https://huggingface.co/{model}"
        # The hub id itself is the model's id, so that a stored request names the model for everybody.
        return ModelCard(
            id=model, name=model, source=model, licence="see its page", about=about, link=link, qualities=_GENERIC
        )
    raise CatalogueError(
        f"There is no model {model[:200]!r}: name one of the catalogue ({', '.join(known)}), "
        "a folder in the diffusers format, or a hub id such as owner/name."
    )


def is_local(card: ModelCard) -> bool:
    """Whether the model's source is a folder rather than a hub id."""
    return Path(card.source).is_absolute()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, RuntimeError, ValueError):  # a name too long, or with characters that no path has
        return False


def _card(name: str, table: Any, path: Path) -> ModelCard:
    if not isinstance(table, dict):
        raise CatalogueError(
            f"The catalogue {path} has a stray entry {name!r}; every model is a table such as [{name}]."
        )
    fields = {"id": name, **table}
    fields["source"] = _absolute(fields.get("source"), is_source=True)
    for file in ("vocabulary", "recording"):
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


def _index(folder: Path) -> Mapping[str, Any]:
    """model_index.json of a diffusers folder of an architecture that we run."""
    if not (folder / "model_index.json").is_file():
        raise CatalogueError(
            f"The folder {folder} holds no model_index.json; name a folder in the diffusers format, or another model."
        )
    index = _json(folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in _PIPELINES:
        raise CatalogueError(
            f"The model in {folder} is a {kind}, which cannot be run here; use one of: {', '.join(_PIPELINES)}."
        )
    return index


def _folder_card(folder: Path, known: Mapping[str, ModelCard]) -> ModelCard:
    _index(folder)
    unet, vae, scheduler = (
        _json(folder / part / name)
        for part, name in (
            ("unet", "config.json"),
            ("vae", "config.json"),
            ("scheduler", "scheduler_config.json"),
        )
    )
    text = _json(folder / "text_encoder" / "config.json")
    shrink = 2 ** (len(vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or [0] * 4) - 1)
    side = _side(unet.get("sample_size"), shrink)
    name = folder.name
    return ModelCard(
        id=name if name not in known else str(folder),
        name=name,
        source=str(folder),
        licence="see its folder",
        about=f"The model in the folder {name}.",
        width=side,
        height=side,
        size_factor=shrink,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        terminal_snr_zero=bool(scheduler.get("rescale_betas_zero_snr")),
        max_tokens=text.get("max_position_embeddings", 77),
        qualities=_GENERIC,
    )


def _side(sample_size: Any, shrink: int) -> int:
    return sample_size * shrink if isinstance(sample_size, int) and sample_size > 0 else 512


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CatalogueError(f"The model's file {path} is missing or cannot be read; copy the model again.") from None
    except ValueError:
        raise CatalogueError(f"The model's file {path} is not valid JSON; copy the model again.") from None
    if not isinstance(found, dict):
        raise CatalogueError(f"The model's file {path} does not hold a configuration; copy the model again.")
    return found
