"""The layers that a LoRA file names, as paths in a model of a kind, from its configuration alone: no weight is read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.models.adapters.lora_names import LayerNames

_CLIP, _PROJECTED, _T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
# Family -> networks that LoRAs change, by their class.
NETWORKS: Mapping[str, Mapping[str, str]] = {
    "stable_diffusion": {"text_encoder": _CLIP, "unet": "UNet2DConditionModel"},
    "stable_diffusion_xl": {"text_encoder": _CLIP, "text_encoder_2": _PROJECTED, "unet": "UNet2DConditionModel"},
    "stable_diffusion_3": {
        "text_encoder": _PROJECTED, "text_encoder_2": _PROJECTED, "text_encoder_3": _T5,
        "transformer": "SD3Transformer2DModel",
    },
    "flux": {"text_encoder": _CLIP, "text_encoder_2": _T5, "transformer": "FluxTransformer2DModel"},
}  # fmt: skip


class LayerPaths:
    """Finds the layers of a model that LoRA files name.

    Args:
        family: key of ``NETWORKS``.
        configs: of its networks, by part; empty for one that the model has not.
    """

    def __init__(self, family: str, configs: Mapping[str, Mapping[str, Any]]) -> None:
        parts = dict(_networks(family, configs))
        self._layers = LayerNames(parts)
        self._names = {
            module: (part, name) for part, network in parts.items() for name, module in network.named_modules() if name
        }

    def find(self, layer: str) -> list[list[str]]:
        """Part and path of each layer that a file's name of a layer means, in the order of the rows of its matrix."""
        return [list(self._names[base]) for base in self._layers.find(layer)]

    def has_swapped_halves(self, layer: str) -> bool:
        """As ``LayerNames.has_swapped_halves``."""
        return self._layers.has_swapped_halves(layer)


def _networks(family: str, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The networks of a model without weights."""
    import torch

    for part, name in NETWORKS[family].items():
        config = dict(configs.get(part, {}))
        if not config:
            continue
        ours = part in ("unet", "transformer")
        cls = getattr(importlib.import_module("diffusers" if ours else "transformers"), name)
        with torch.device("meta"):
            yield part, cls.from_config(config) if ours else cls(cls.config_class(**config))
