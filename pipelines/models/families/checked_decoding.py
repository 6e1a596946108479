"""Pixels of pipelines that decode by themselves: checked, and decoded once more in float32 if they are not numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.sampling.latents import finite

if TYPE_CHECKING:
    import torch


def autoencoders(modules: dict[str, torch.nn.Module]) -> list[torch.nn.Module]:
    """The networks of a pipeline that decode latents; diffusers calls them vae, movq or vqgan."""
    return [one for one in modules.values() if type(one).__module__.startswith("diffusers.") and hasattr(one, "decode")]


@contextmanager
def checked_decoding(networks: list[Any], widen: Callable[[torch.nn.Module], bool]) -> Iterator[None]:
    """Have what these autoencoders decode checked, until the context ends.

    Args:
        networks: of ``autoencoders``.
        widen: has one compute in float32; whether it did not before.

    Raises:
        AutoencoderOverflow: out of ``decode``, if the pixels are not all numbers in float32 either; as bytes they would
            be a black picture.
        FloatingPointError: out of ``decode``, if the latents are not.
    """
    with ExitStack() as undo:
        for network in networks:
            network.decode = partial(_decode, network, network.decode, widen)
            undo.callback(delattr, network, "decode")
        yield


def _decode(
    network: Any, plain: Callable[..., Any], widen: Callable[[Any], bool], z: Any, *more: Any, **options: Any
) -> Any:
    import torch

    if not bool(torch.isfinite(z).all()):
        raise FloatingPointError
    made = plain(z, *more, **options)
    if bool(torch.isfinite(made[0]).all()) or not widen(network):
        finite(made[0])
        return made
    again = plain(z.to(network.dtype), *more, **options)
    finite(again[0])
    return again
