"""How the layers of a LoRA file are scaled: by its own header, or the configuration next to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.models.adapters.lora_format import split
from pipelines.system.bounded_json import parse_json, read_json_file
from pipelines.system.safetensors_header import SafetensorsHeader, try_read_header

# Parts of a layer that diffusers reads as they are meant.
_PARTS = {"down", "up", "alpha"}
# Names under which diffusers keeps PEFT's configuration in a file, and PEFT next to a file of this name.
_IN_FILE, _PEFT_FILE, _BESIDE = "lora_adapter_metadata", "adapter_model", "adapter_config.json"


def problem(name: str, path: Path) -> str:
    """Why a LoRA cannot be written into a script, as one sentence, or ""."""
    header = try_read_header(path)
    if header is None:
        return f"The LoRA {name} is not on this computer any more; put its file back to get the script."
    layout = split(header.tensors)
    from pipelines.models.adapters.lora_file import Refused, scale_of  # it imports torch

    try:
        scale_of(path, header.metadata, layout)
    except Refused as why:
        return f"The LoRA {name} {why}."
    if layout.bundled:
        return f"The LoRA {name} brings learnt words (textual inversion), which are not written as a script."
    return ""


def is_plain(path: Path) -> bool:
    """Whether diffusers adds a LoRA as the program does; others are added layer by layer (``lora_layers``)."""
    header = try_read_header(path)
    if header is None:
        return False
    layout = split(header.tensors)
    parts = {part for layer in layout.layers.values() for part in layer}
    plain = not (parts - _PARTS or layout.scales or layout.unknown)
    return plain and not any(map(_is_varied, _configs(path, header).values()))


def alphas(path: Path) -> dict[str, float]:
    """The alpha of layers whose own says nothing, by the beginning of their names; empty for 1 / rank * rank."""
    header = try_read_header(path)
    if header is None:
        return {}
    found = {prefix: config.get("lora_alpha") for prefix, config in _configs(path, header).items()}
    return {prefix: float(alpha) for prefix, alpha in found.items() if isinstance(alpha, int | float)}


def _is_varied(config: Mapping[str, Any]) -> bool:
    """Whether layers have scales of their own, or one that is no alpha / rank."""
    return bool(config.get("alpha_pattern") or config.get("use_rslora") or config.get("use_dora"))


def _configs(path: Path, header: SafetensorsHeader) -> dict[str, dict[str, Any]]:
    """PEFT's configuration, by the beginning of the names of the layers that it is about."""
    configs: dict[str, dict[str, Any]] = {}
    try:
        if isinstance(text := header.metadata.get(_IN_FILE), str):
            for name, value in _entries(parse_json(text)):
                part, _, key = name.partition(".")
                configs.setdefault(f"{part}.", {})[key] = value
        elif path.stem == _PEFT_FILE:
            configs[""] = dict(_entries(read_json_file(path.with_name(_BESIDE))))
    except (OSError, ValueError):
        return {}
    return configs


def _entries(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
