"""Reads the card of a diffusers folder (family, sizes, defaults) from its JSON files; no weight is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.models.families import family_of_pipeline, read_card_fields
from pipelines.system.local_references import OutsideReference, refuse_outside_references
from presets.json_files import CatalogueError, read_json, read_optional_json

ONLY_IMAGE_TO_IMAGE = ("image-to-image",)
BOTH_TASKS = ("text-to-image", "image-to-image")
_LICENCE = re.compile(r"^license(?:_name)?:\s*['\"]?([\w.+ -]{2,60}?)['\"]?\s*$", re.MULTILINE)


def read_index(folder: Path) -> Mapping[str, Any]:
    """Read the model_index.json of a diffusers folder with a supported pipeline.

    Raises:
        CatalogueError: if there is none, or it names another pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise CatalogueError(
            f"The folder {folder} holds no model_index.json; name a folder in the diffusers format, or another model."
        )
    found = read_json(folder / "model_index.json")
    kind = found.get("_class_name")
    if not family_of_pipeline(kind):
        raise CatalogueError(
            f"The model in {folder} is a {str(kind)[:64]}, which does not make a picture from a text alone and cannot "
            "be run here; choose a text-to-image model."
        )
    return found


def read_card(folder: Path, id: str, **changes: Any) -> ModelCard:
    """Read the card of a diffusers folder.

    Args:
        folder: absolute; of a snapshot in the hub's cache, the configuration files suffice.
        id: the card's id, and its name unless ``changes`` says otherwise.
        changes: fields that replace what the folder says, such as ``source``.

    Raises:
        CatalogueError: if the model is not supported, or its configuration is missing or broken.
    """
    kind = read_index(folder)["_class_name"]
    try:
        refuse_outside_references(folder)
    except OutsideReference as problem:
        raise CatalogueError(f"The model in {folder} is not opened: {problem}.") from None
    family = family_of_pipeline(kind)

    def read(path: str, optional: bool = False) -> Mapping[str, Any]:
        return (read_optional_json if optional else read_json)(folder / path)

    fields = {
        "id": id,
        "name": id,
        "source": str(folder),
        "family": family,
        "licence": read_licence(folder),
        "about": f"The model in the folder {folder.name}, a {kind}.",
        **read_card_fields(family, read, kind),
        **changes,
    }
    return ModelCard.model_validate(fields)


def read_licence(folder: Path) -> str:
    """The licence in the head (front matter) of the model's README."""
    try:
        with (folder / "README.md").open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return "see its folder"
    front_matter = head.split("---")[1] if head.startswith("---") else ""
    named = [match for match in _LICENCE.findall(front_matter) if match.lower() != "other"]
    return named[-1] if named else "see its folder"
