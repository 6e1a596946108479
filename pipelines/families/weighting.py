"""Words that count more or less, in the notation of the compel library: ``a (red)1.4 apple``, ``(blurry)0.5``."""

from __future__ import annotations

import re
from typing import Any

import torch

from pipelines.families.text import TextEncoder

# A closing bracket with a weight behind it; brackets alone are ordinary text.
_WEIGHT = re.compile(r"(?<!\\)\)(\d*\.?\d+|\++|-+)")


def weighted(prompt: str) -> bool:
    """Whether a prompt gives weights to some of its words."""
    return _WEIGHT.search(prompt) is not None


def plain(prompt: str) -> str:
    """The words without their weights."""
    return re.sub(r"(?<!\\)\(", "", _WEIGHT.sub("", prompt)) if weighted(prompt) else prompt


class Weighing:
    """A text encoder that reads weights: each word's vector is moved from or towards that of the text without it.

    Args:
        text: the encoder.
        penultimate: whether the model reads the layer before the last (SDXL).
        pooled: whether the pooled vector is wanted too.
    """

    def __init__(self, text: TextEncoder, penultimate: bool = False, pooled: bool = False) -> None:
        from compel import Compel, ReturnedEmbeddingsType

        kind, self._spell = ReturnedEmbeddingsType, text.spell
        self._compel = Compel(
            tokenizer=text.tokenizer,
            text_encoder=text.encoder,
            returned_embeddings_type=kind.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            if penultimate
            else kind.LAST_HIDDEN_STATES_NORMALIZED,
            requires_pooled=pooled,
            dtype_for_device_getter=lambda device: text.encoder.dtype,
            model_max_length=text.window,
        )

    @torch.inference_mode()
    def __call__(self, prompt: str) -> Any:
        """Vectors (1, tokens, dim), with ``pooled`` also (1, dim)."""
        return self._compel(self._spell(prompt))
