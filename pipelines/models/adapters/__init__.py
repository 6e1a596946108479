"""ADAPTERS: what is added to a loaded model by files, one record a kind of conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipelines.models.adapters import controlnet, ip_adapter, lora, textual_inversion
from pipelines.models.adapters.adapter import Adapter

# In the order in which they are checked and applied.
ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        "lora": lora.ADAPTER,
        "textual_inversion": textual_inversion.ADAPTER,
        "ip_adapter": ip_adapter.ADAPTER,
        "controlnet": controlnet.ADAPTER,
    }
)
