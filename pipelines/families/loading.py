"""Reading the parts of a model: from a diffusers folder, the hub's cache, or a single file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.device import Placement
from pipelines.families import CannotLoad, Report
from pipelines.families.checking import PART, Checker, load_checker

PROJECT = Path(__file__).resolve().parents[2]


def load_parts(
    card: ModelCard, placement: Placement, report: Report, classes: Mapping[str, str], kind: str
) -> dict[str, Any]:
    """Every part of a model, by its name in the diffusers format; a part that the model does without is None.

    Besides: "scheduler" is its saved configuration, and "options" what else model_index.json says.

    Args:
        card: its source is a diffusers folder (absolute, or relative to the project), a single file or a hub id; what
            a folder lacks is in the card's ``rest``.
        placement: device and number format.
        report: told before each part, and once at the end.
        classes: name of a part -> its class, "library.Class"; names ending in ``?`` may be missing.
        kind: of model, for messages.

    Raises:
        CannotLoad: if a part is missing, broken, or not of this kind.
    """
    if card.source.endswith(".safetensors"):
        return _from_single_file(card, placement, report, kind)
    source = resolve_source(card.source)
    there = _index(source)
    parts: dict[str, Any] = {}
    for done, (name, cls) in enumerate(classes.items()):
        name, optional = name.rstrip("?"), name.endswith("?")
        report(name, done, len(classes))
        if optional and there and not (there.get(name) or [None])[0]:
            parts[name] = None
            continue
        try:
            parts[name] = _load_part(name, cls, _place_of(name, source, card.rest), placement)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise CannotLoad(
                f"The {name} of {card.name} cannot be loaded from {card.source} ({first_line(error)}); it must be a "
                f"{kind} model in diffusers format with safetensors files."
            ) from error
    report("", len(classes), len(classes))
    parts[PART] = _safety_checker(card, source, placement)
    return {**parts, "options": {name: value for name, value in there.items() if not isinstance(value, list)}}


def _place_of(part: str, source: str, rest: str) -> str:
    """The folder that has a part: the model's own, or that of the model with which it shares what it lacks."""
    return resolve_source(rest) if rest and not (Path(source) / part).is_dir() else source


def _safety_checker(card: ModelCard, source: str, placement: Placement) -> Checker | None:
    try:
        return load_checker(source, placement)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        # Going on without it would switch it off in silence.
        raise CannotLoad(
            f"The safety checker of {card.name} cannot be loaded ({first_line(error)}); fetch the model again, or "
            "start with --no-safety-checker."
        ) from error


def load_small(card: ModelCard, placement: Placement) -> Any:
    """The card's tiny autoencoder for previews, or None: without it previews are coarser, and nothing else changes."""
    if not card.preview:
        return None
    import diffusers

    try:
        return settle(from_pretrained(diffusers.AutoencoderTiny, resolve_source(card.preview), None, placement.dtype),
                      placement)
    except Exception:
        return None


def resolve_source(source: str) -> str:
    """The folder that a card names, else the hub id as it stands."""
    folder = PROJECT / source  # an absolute source stays what it is
    return str(folder) if folder.is_dir() else source


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))


def settle(module: torch.nn.Module, placement: Placement) -> torch.nn.Module:
    """A network on its device, ready to be asked and not to be trained."""
    return module.to(placement.device).eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """The first line of an error's text, cut to a readable length."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return line if len(line) <= 160 else line[:157] + "..."


def _index(source: str) -> Mapping[str, Any]:
    """model_index.json, which says what the model does without; empty where there is none."""
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.load_config(source)
    except OSError:
        return {}


def _load_part(name: str, cls: str, source: str, placement: Placement) -> Any:
    import diffusers
    import transformers

    library, _, class_name = cls.partition(".")
    if name.startswith("tokenizer"):
        tokenizer = getattr(transformers, class_name).from_pretrained(source, subfolder=name)
        # transformers 5 makes an empty tokenizer where the files are missing: every word would be unknown.
        if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
            raise OSError("no vocabulary found")
        return tokenizer
    if name == "scheduler":
        return read_scheduler(source)
    if name == "vae":
        kind = diffusers.AutoencoderKL.load_config(source, subfolder=name).get("_class_name")
        class_name = "AutoencoderTiny" if kind == "AutoencoderTiny" else "AutoencoderKL"
    found = getattr({"diffusers": diffusers, "transformers": transformers}[library], class_name)
    return settle(from_pretrained(found, source, name, placement.dtype), placement)


def read_scheduler(source: str) -> dict[str, Any]:
    """The saved configuration of a model's scheduler."""
    import diffusers

    return diffusers.DDIMScheduler.load_config(source, subfolder="scheduler")


def from_pretrained(cls: Any, source: str, name: str | None, dtype: str) -> Any:
    """A part of a model from its folder, by transformers or diffusers.

    Half precision prefers files saved as such (half the download); either kind serves where one is missing.
    """
    variants = (None, "fp16") if dtype == "float32" else ("fp16", None)
    options = {"use_safetensors": True, "dtype": getattr(torch, dtype)} | ({"subfolder": name} if name else {})
    try:
        return cls.from_pretrained(source, variant=variants[0], **options)
    except (OSError, ValueError) as first:
        try:
            return cls.from_pretrained(source, variant=variants[1], **options)
        except (OSError, ValueError):
            raise first from None


def _from_single_file(card: ModelCard, placement: Placement, report: Report, kind: str) -> dict[str, Any]:
    """The parts of a checkpoint in one safetensors file, by diffusers' own conversion and a shipped configuration."""
    import diffusers

    report("checkpoint", 0, 1)
    try:
        index = diffusers.DiffusionPipeline.load_config(card.config)
        pipe = getattr(diffusers, index["_class_name"]).from_single_file(
            card.source, config=card.config, local_files_only=True, dtype=getattr(torch, placement.dtype)
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise CannotLoad(
            f"{card.name} cannot be loaded from {card.source} ({first_line(error)}); it must be a whole {kind} model "
            "in one safetensors file."
        ) from error
    parts = dict(pipe.components)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            settle(part, placement)
    parts["scheduler"] = read_scheduler(card.config)
    report("", 1, 1)
    return {**parts, "options": {name: value for name, value in index.items() if not isinstance(value, list)}}


def use_attention(denoiser: Any, placement: Placement) -> None:
    """xformers where the placement says so; PyTorch's own attention (SDPA) is diffusers' default."""
    if placement.attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
