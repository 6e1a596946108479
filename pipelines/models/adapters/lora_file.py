"""Reads a LoRA file into the layers that it adds to a model, or refuses it in one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipelines.models.adapters import lora_layers
from pipelines.models.adapters.lora_format import DIFFUSERS_CONFIG, PEFT_FILE, LoraLayout, problem, split
from pipelines.models.adapters.lora_layers import LoraLayer
from pipelines.models.adapters.lora_names import LayerNames
from pipelines.request import InvalidRequest
from pipelines.request_errors import LEAVE_OUT, Remedy
from pipelines.system.bounded_json import parse_json, read_json_file
from pipelines.system.safetensors_header import read_header
from pipelines.system.scaled_weights import unscaled
from pipelines.system.text import first_line, shorten

# The configuration that PEFT saves next to its file.
_PEFT_CONFIG = "adapter_config.json"
# Which names the alpha has there, and how a sentence about what cannot be read ends.
_ALPHAS = ("lora_alpha", "alpha")
_UNREADABLE = "but that cannot be read; copy or download it again, or leave it out"
# Names of layers in PEFT's configuration; other regular expressions of strangers are not run.
_PLAIN = re.compile(r"\^?(?:\w|\\?\.|-)+")
# scale(layer, rank): what a file's configuration says of a layer's scale alpha / rank; 1 where it says nothing.
Scale = Callable[[str, int], float]


@dataclass
class LoadedLora:
    """A LoRA as it is added to one model.

    Attributes:
        layers: layers of the model, each with what is added to it.
        words: words that came in the same file -> name of the tensor -> vectors (n, width).
    """

    layers: list[tuple[nn.Module, LoraLayer]] = field(default_factory=list)
    words: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


def load(path: Path, names: LayerNames, model_name: str) -> LoadedLora:
    """Read a file for a model.

    Raises:
        InvalidRequest: if it cannot be read, or not be applied to this model in full.
    """

    def refuse(reason: str) -> InvalidRequest:
        text = f"prompt names the LoRA {shorten(path.stem, 60)!r}, which {reason}."
        return InvalidRequest("prompt", text, remedy=Remedy(LEAVE_OUT, path.stem))

    def unreadable(error: Exception) -> InvalidRequest:
        return refuse(f"cannot be read ({first_line(error, str(path))}); copy or download it again, or leave it out")

    try:
        header = read_header(path)
    except (OSError, ValueError) as error:
        raise unreadable(error) from error
    if reason := problem(header.tensors):
        raise refuse(reason)
    layout = split(header.tensors)
    try:
        scale = scale_of(path, header.metadata, layout)
        return _build(_Reader(path, layout), layout, names, scale, model_name)
    except Refused as error:
        raise refuse(str(error)) from error
    except (OSError, SafetensorError, UnicodeError) as error:
        raise unreadable(error) from error


class Refused(Exception):
    """Why a file is refused, in words that follow its name."""


class _Reader:
    """The tensors of a file, float32."""

    def __init__(self, path: Path, layout: LoraLayout) -> None:
        self._scales = layout.scales
        try:
            self._file: Any = safe_open(path, framework="pt")
            self._get: Callable[[str], torch.Tensor] = self._file.get_tensor
        except (UnicodeError, TypeError):  # a name that is not UTF-8
            from safetensors.torch import load as load_bytes

            self._get = load_bytes(path.read_bytes()).__getitem__

    def __getitem__(self, name: str) -> torch.Tensor:
        found = self._get(name)
        if name in self._scales:
            found = unscaled(found, self._get(self._scales[name]))
        found = found.float()
        if not torch.isfinite(found).all():
            raise Refused(
                f"holds numbers that are not finite (in {shorten(name, 80)!r}); copy or download it again, or leave "
                "it out"
            )
        return found


def _build(reader: _Reader, layout: LoraLayout, names: LayerNames, scale: Scale, model_name: str) -> LoadedLora:
    found = LoadedLora()
    absent: list[str] = []
    zero: list[str] = []
    for layer, places in layout.layers.items():
        parts = {part: reader[name] for part, name in places.items()}
        alpha, rank = parts.pop("alpha", None), lora_layers.rank_of(parts)
        value = scale(layer, rank) if alpha is None else float(alpha) / rank if rank else 1.0
        try:
            if bases := names.find(layer):
                whole = {**parts, "scale": torch.tensor(value)}
                found.layers += lora_layers.make(bases, whole, names.has_swapped_halves(layer))
                continue
        except lora_layers.WrongShape:
            pass
        except lora_layers.CannotMerge:
            raise Refused(
                f"needs the weights of {model_name} as they were made, and these are compressed; start without "
                "quantization, or leave it out"
            ) from None
        # A layer whose matrix is zero adds nothing to any model.
        adds = all(parts[part].any() for part in ("up", "diff") if part in parts)
        (absent if adds else zero).append(layer)
    if absent or (zero and not found.layers):
        raise Refused(
            f"changes {len(layout.layers)} layers of a model, of which {model_name} lacks {len(absent) or len(zero)} "
            f"(such as {shorten((absent or zero)[0], 80)!r}); choose the model that it was made for, or leave it out"
        )
    found.words = {word: {key: reader[name] for key, name in keys.items()} for word, keys in layout.bundled.items()}
    return found


def scale_of(path: Path, metadata: Mapping[str, Any], layout: LoraLayout) -> Scale:
    """How a file's own configuration, or the one next to it, scales its layers.

    A file under PEFT's name needs PEFT's configuration, unless its layers say their alphas themselves.  Files of
    other names that say nothing, PEFT's layer names included, are scaled by 1, as the trainers that write them mean it;
    of PEFT's own that were renamed, the run's notes say so (``lora.UNSURE``).

    Raises:
        Refused: if the configuration that says it is missing or cannot be read, or names layers by patterns.
    """
    configs = _configs(path, metadata, layout)
    for config in configs.values():
        patterns = [*_entries(config.get("alpha_pattern")), *_entries(config.get("rank_pattern"))]
        if any(not _PLAIN.fullmatch(pattern) for pattern, _ in patterns):
            raise Refused("names its layers by patterns that are not read here; leave it out")

    def scale(layer: str, rank: int) -> float:
        config = next((config for prefix, config in configs.items() if layer.startswith(prefix)), {})
        alpha = _of_layer(config, "alpha_pattern", layer, config.get("lora_alpha", config.get("alpha")))
        if "lora_alpha" not in config:  # LoHa and LoKr, whose whole matrices have a rank in the configuration alone
            rank = _of_layer(config, "rank_pattern", layer, config.get("r", rank))
        if not isinstance(alpha, int | float) or not isinstance(rank, int | float) or not rank:
            return 1.0
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    return scale


def _configs(path: Path, metadata: Mapping[str, Any], layout: LoraLayout) -> dict[str, dict[str, Any]]:
    """Configurations by the beginning of the names of the layers that they are about."""
    configs: dict[str, dict[str, Any]] = {}
    if (text := metadata.get(DIFFUSERS_CONFIG)) is not None:
        try:
            found = parse_json(text)
        except (TypeError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise Refused(f"says in its header how strong it is ({DIFFUSERS_CONFIG}), {_UNREADABLE}")
        for name, value in found.items():
            part, _, key = name.partition(".")
            configs.setdefault(f"{part}.", {})[key] = value
    elif path.stem == PEFT_FILE and any(
        "alpha" not in parts and "diff" not in parts for parts in layout.layers.values()
    ):
        try:
            found = read_json_file(path.with_name(_PEFT_CONFIG))
        except FileNotFoundError:
            raise Refused(
                f"is PEFT's file without its {_PEFT_CONFIG}, which says how strong it is; copy that into its folder, "
                "too, or leave it out"
            ) from None
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or not any(isinstance(found.get(key), int | float) for key in _ALPHAS):
            raise Refused(f"has an {_PEFT_CONFIG} that says how strong it is, {_UNREADABLE}")
        configs[""] = found
    return configs


def _of_layer(config: Mapping[str, Any], patterns: str, layer: str, other: Any) -> Any:
    """What a configuration says of one layer, else ``other``."""
    return next((value for name, value in _entries(config.get(patterns)) if _ends_with(layer, name)), other)


def _ends_with(layer: str, name: str) -> bool:
    """Whether a name in PEFT's configuration means a layer: the end of its name, or all of it behind a ``^``."""
    plain = name.replace("\\.", ".")
    if plain.startswith("^"):
        return layer.removeprefix("base_model.model.") == plain[1:]
    return layer == plain or layer.endswith("." + plain)


def _entries(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
