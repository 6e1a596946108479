"""The ways to teach a model; to add one, write a class with the members of ``TeachingWay`` and enter it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pipelines.training.fine_tuning.lora import LoraWay
from pipelines.training.fine_tuning.settings import LORA, TEXTUAL_INVERSION
from pipelines.training.fine_tuning.textual_inversion import TextualInversionWay
from pipelines.training.fine_tuning.training import TeachingWay

WAYS_TO_TEACH: Mapping[str, Callable[[Any, Any, Any], TeachingWay]] = MappingProxyType(
    {LORA: LoraWay, TEXTUAL_INVERSION: TextualInversionWay}
)
