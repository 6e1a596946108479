"""Weights as their files mean them: every one that a network needs, none that would be left out, scales multiplied.

transformers and diffusers fill what a file lacks with new random numbers, and leave out what they do not know; either
is a wrong picture, with no more than a warning in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipelines.system.building import BUILDING
from pipelines.system.scaled_weights import NOTES, SCALES, scale_of, unscaled
from pipelines.system.text import shorten

# What files are called in which these libraries keep weights; a variant's name stands behind a dot.
_FILES = ("model", "diffusion_pytorch_model")
# Numbers 0, 1, 2, ... that older versions saved.
_COUNTS = ".position_ids"


class IncompleteWeights(ValueError):
    """Files that lack weights of a network, or hold some that it does not have; the message names the first."""


def is_unreadable(error: BaseException) -> bool:
    """Whether an error of loading says that files are cut or broken, rather than made for something else."""
    return isinstance(error, OSError | SafetensorError | UnicodeError | IncompleteWeights)


def load_network(cls: Any, source: Path | str, **options: Any) -> Any:
    """What ``cls.from_pretrained(source, **options)`` returns, if that uses the files as they are meant.

    Weights of 8 bits are multiplied by their scales.  Whole parts that the class does not have, such as the half of a
    CLIP model that sees pictures, are left out.

    Raises:
        IncompleteWeights: that names a weight.
        Exception: of the library.
    """
    with BUILDING:
        network, info = cls.from_pretrained(source, output_loading_info=True, **options)
    if missing := sorted(info["missing_keys"]):
        raise IncompleteWeights(f"its files lack {shorten(missing[0], 80)}")
    if mismatched := sorted(_name(key) for key in info["mismatched_keys"]):
        raise IncompleteWeights(f"{shorten(mismatched[0], 80)} has the wrong shape")
    unknown = sorted(filter(_is_part_of(network), map(str, info["unexpected_keys"])))
    if any(name.endswith(SCALES) for name in unknown):
        folder = Path(source) / options.get("subfolder", "")
        _unscale(network, _weight_files(folder, options.get("variant") or ""))
        unknown = [name for name in unknown if not name.endswith((*SCALES, *NOTES))]
    unknown = [name for name in unknown if not name.endswith((*NOTES, _COUNTS))]
    if unknown:
        raise IncompleteWeights(f"its files hold {shorten(unknown[0], 80)}, which a {cls.__name__} does not have")
    return network


def _name(key: Any) -> str:
    """The name of a weight; transformers tells its shapes, too."""
    return str(key[0] if isinstance(key, tuple) else key)


def _is_part_of(network: torch.nn.Module) -> Callable[[str], bool]:
    parts = {name.partition(".")[0] for name, _ in (*network.named_parameters(), *network.named_buffers())}
    parts |= {name for name, _ in network.named_children()}
    return lambda name: name.partition(".")[0] in parts


def _weight_files(folder: Path, variant: str) -> Iterator[Path]:
    for file in sorted(folder.glob("*.safetensors")):
        name, _, rest = file.stem.partition(".")
        if rest.split("-")[0] == variant and name.split("-")[0] in _FILES:
            yield file


def _unscale(network: torch.nn.Module, files: Iterable[Path]) -> None:
    """Multiply the weights of 8 bits in these files by their scales, and put them into a network.

    Raises:
        IncompleteWeights: if a scale has no weight, or the result is not finite.
    """
    parameters, found = dict(network.named_parameters()), False
    for path in files:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name, target in _scaled(names):
                found = True
                # Today's text encoders drop the first part of the names in their files.
                parameter = parameters.get(target, parameters.get(target.partition(".")[2]))
                if target not in names or parameter is None:
                    raise IncompleteWeights(f"the scale {shorten(name, 80)} has no weight")
                weight = unscaled(file.get_tensor(target), file.get_tensor(name))
                if weight.shape != parameter.shape or not torch.isfinite(weight).all():
                    raise IncompleteWeights(f"{shorten(target, 80)} is not finite")
                parameter.data.copy_(weight)
    if not found:
        raise IncompleteWeights("the scales of its weights are in another file than these")


def _scaled(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The names of scales, each with that of its weight."""
    for name in sorted(names):
        if target := scale_of(name):
            yield name, target
