"""What the resolver needs to know of a kind of conditioning that files add to a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.model import Model
    from pipelines.models.adapters.files import AdapterFiles
    from pipelines.models.adapters.folders import Reader
    from pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Adapter:
    """A kind of conditioning: LoRA, textual inversion, IP-Adapter, ControlNet.

    Attributes:
        check: raises InvalidRequest if a request names files that are missing or not for a model; loads nothing.
        apply: gives a loaded model exactly what a request names, and removes the rest; raises InvalidRequest.
        remove: leaves a loaded model as it is without this kind.
        read: what a safetensors file is by its header, None if it is of another kind; None for kinds without files.
    """

    check: Callable[[ModelCard, GenerationRequest, AdapterFiles], None]
    apply: Callable[[Model, GenerationRequest, AdapterFiles], None]
    remove: Callable[[Model], None]
    read: Reader[Any] | None = None
