"""Loading the components of a model from a diffusers folder, the hub's cache, or a single file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.cards import ModelCard
from pipelines.model import CannotLoad, LoadStopped, Placement, Report
from pipelines.models.checkpoints.single_file import load_parts
from pipelines.models.checkpoints.weights import IncompleteWeights, load_network
from pipelines.models.families.card_fields import names_part
from pipelines.models.placement import settle
from pipelines.models.safety_checker import ON, PART, READER, SafetyChecker, state_of
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.local_references import OutsideReference, refuse_outside_references
from pipelines.system.paths import PROJECT
from pipelines.system.text import first_line, hide_paths


def load_components(
    card: ModelCard, placement: Placement, report: Report, classes: Mapping[str, str], kind: str
) -> dict[str, Any]:
    """Every part of a model, by its name in the diffusers format; a part that the model does without is None.

    Also: "scheduler" is its saved configuration, and "options" what else model_index.json says.

    Args:
        card: its source is a diffusers folder (absolute, or relative to the project), a single file or a hub id; what
            a folder lacks is in the card's ``rest``.
        placement: device and number format.
        report: called before each part, and once at the end.
        classes: name of a part -> its class, "library.Class"; names ending in ``?`` may be missing.
        kind: of model, for messages.

    Raises:
        CannotLoad: if a part is missing, broken, or not of this kind.
    """
    if card.is_single_file:
        return _from_single_file(card, placement, report, kind)
    source = resolve_source(card.source)
    for each in filter(None, (source, card.rest)):
        check_references(resolve_source(each), card.name)
    there = _read_index(source)
    parts: dict[str, Any] = {}
    for done, (name, cls) in enumerate(classes.items()):
        name, optional = name.rstrip("?"), name.endswith("?")
        report(name, done, len(classes))
        if optional and there and not names_part(there, name):
            parts[name] = None
            continue
        try:
            parts[name] = _load_component(name, cls, _source_of(name, source, card.rest), placement)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = first_line(error, card.source)
            raise CannotLoad(
                f"The {name} of {card.name} cannot be loaded from {hide_paths(card.source)} ({reason}); it must be a "
                f"{kind} model in diffusers format with safetensors files."
            ) from error
    report("", len(classes), len(classes))
    parts[PART] = _safety_checker(card, source, placement)
    return {**parts, "options": {name: value for name, value in there.items() if not isinstance(value, list)}}


def _source_of(part: str, source: str, rest: str) -> str:
    """The folder that has a part: the model's own, or that of the model with which it shares what it lacks."""
    return resolve_source(rest) if rest and not (Path(source) / part).is_dir() else source


def _safety_checker(card: ModelCard, source: str, placement: Placement) -> SafetyChecker | None:
    try:
        return load_checker(source, placement)
    except Exception as error:
        if out_of_memory(error):
            raise
        # Going on without it would switch it off unnoticed.
        reason = first_line(error, card.source)
        raise CannotLoad(
            f"The safety checker of {card.name} cannot be loaded ({reason}); fetch the model again, or "
            "start with --no-safety-checker."
        ) from error


def load_checker(source: Path | str, placement: Placement) -> SafetyChecker | None:
    """The checker of a model in a folder; None where there is none, or none is wanted.

    Raises:
        Exception: of its library, if its files are broken.
    """
    if state_of(source, placement.checks) != ON:
        return None
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    network = settle(PART, from_pretrained(StableDiffusionSafetyChecker, str(source), PART, placement.dtype), placement)
    conditioning = (Path(source) / READER / "preprocessor_config.json").is_file()
    reader = (
        CLIPImageProcessor.from_pretrained(source, subfolder=READER, local_files_only=True)
        if conditioning
        else CLIPImageProcessor()
    )
    return SafetyChecker(network, reader)


def load_preview_vae(card: ModelCard, placement: Placement) -> Any:
    """The card's tiny autoencoder for previews, or None: without it previews are coarser, and nothing else changes."""
    if not card.preview:
        return None
    import diffusers

    try:
        check_references(resolve_source(card.preview), card.name)
        small = from_pretrained(diffusers.AutoencoderTiny, resolve_source(card.preview), None, placement.dtype)
        return settle("preview", small, placement)
    except Exception:
        return None


def resolve_source(source: str) -> str:
    """The folder that a card names, else the hub id as it stands."""
    folder = PROJECT / source  # an absolute source stays what it is
    return str(folder) if folder.is_dir() else source


def is_local(source: Path | str) -> bool:
    """Whether a source is a folder or a file of this machine, so that the hub must not be asked for anything in it."""
    return Path(source).is_absolute() or Path(source).exists()


def check_references(source: str, name: str) -> None:
    """Raise CannotLoad for a folder of this machine from which something outside of it would be opened.

    Args:
        source: a folder, or a hub id.
        name: of the model; guests may see it, and not the folder.
    """
    if not is_local(source):
        return
    try:
        refuse_outside_references(Path(source))
    except OutsideReference as problem:
        raise CannotLoad(f"{name} is not opened: {problem}.") from None


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(x.numel() * x.element_size() for x in (*module.parameters(), *module.buffers()))


def _read_index(source: str) -> Mapping[str, Any]:
    """model_index.json, which says what the model does without; empty where there is none."""
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.load_config(source, local_files_only=is_local(source))
    except OSError:
        return {}


def _load_component(name: str, cls: str, source: str, placement: Placement) -> Any:
    import diffusers
    import transformers

    library, _, class_name = cls.partition(".")
    if name.startswith("tokenizer"):
        tokenizer = getattr(transformers, class_name).from_pretrained(
            source, subfolder=name, local_files_only=is_local(source)
        )
        # transformers 5 makes an empty tokenizer where the files are missing: every word would be unknown.
        if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
            raise OSError("no vocabulary found")
        return tokenizer
    if name == "scheduler":
        return read_scheduler(source)
    if name == "vae":
        config = diffusers.AutoencoderKL.load_config(source, subfolder=name, local_files_only=is_local(source))
        kind = config.get("_class_name")
        class_name = "AutoencoderTiny" if kind == "AutoencoderTiny" else "AutoencoderKL"
    found = getattr({"diffusers": diffusers, "transformers": transformers}[library], class_name)
    return settle(name, from_pretrained(found, source, name, placement.dtype), placement)


def read_scheduler(source: str) -> dict[str, Any]:
    """The saved configuration of a model's scheduler."""
    import diffusers

    return diffusers.DDIMScheduler.load_config(source, subfolder="scheduler", local_files_only=is_local(source))


def from_pretrained(cls: Any, source: str, name: str | None, dtype: str, variant: str = "") -> Any:
    """A part of a model from its folder, by transformers or diffusers.

    Half precision prefers files saved as such (half the download); either kind serves where one is missing.

    Args:
        cls: its class.
        source: of the model: a folder, or a hub id.
        name: of the part, None for a folder that is one.
        dtype: number format.
        variant: the files to prefer, "" for what the number format says.

    Raises:
        IncompleteWeights: if its files lack weights, or hold others.
        Exception: of its library.
    """
    variants = (None, "fp16") if dtype == "float32" else ("fp16", None)
    variants = (variant, None) if variant else variants
    options = {"use_safetensors": True, "dtype": getattr(torch, dtype), "local_files_only": is_local(source)}
    options |= {"subfolder": name} if name else {}
    try:
        return load_network(cls, source, variant=variants[0], **options)
    except IncompleteWeights:
        raise
    except (OSError, ValueError) as first:
        try:
            return load_network(cls, source, variant=variants[1], **options)
        except IncompleteWeights:
            raise
        except (OSError, ValueError):
            raise first from None


def _from_single_file(card: ModelCard, placement: Placement, report: Report, kind: str) -> dict[str, Any]:
    """The parts of a checkpoint in one safetensors file, by diffusers' own conversion and a shipped configuration."""
    import diffusers

    try:
        index = diffusers.DiffusionPipeline.load_config(card.config, local_files_only=True)
        parts = load_parts(card, placement, index, report)
    except LoadStopped:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = first_line(error, card.source)
        raise CannotLoad(
            f"{card.name} cannot be loaded from {hide_paths(card.source)} ({reason}); it must be a whole {kind} model "
            "in one safetensors file."
        ) from error
    parts["scheduler"] = read_scheduler(card.config)
    report("", len(parts), len(parts))
    return {**parts, "options": {name: value for name, value in index.items() if not isinstance(value, list)}}


def use_attention(denoiser: Any, placement: Placement) -> None:
    """xformers where the placement says so; PyTorch's own attention (SDPA) is diffusers' default."""
    if placement.attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
