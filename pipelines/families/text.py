"""Text encoders: a prompt to vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class TextEncoder:
    """A tokenizer and the network behind it.

    Args:
        tokenizer, encoder: of transformers.
        window: tokens that it reads, start and end included; by default as many as both know.
    """

    def __init__(self, tokenizer: Any, encoder: Any, window: int | None = None) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        # What a learnt word of several vectors looks like to the tokenizer.
        self.spell: Callable[[str], str] = lambda prompt: prompt
        places = getattr(encoder.config, "max_position_embeddings", tokenizer.model_max_length)
        self.window: int = window or min(tokenizer.model_max_length, places)

    def tokens(self, prompt: str) -> Any:
        """Token ids and their mask, padded and cut to the window, (1, window) each."""
        return self.tokenizer(
            [self.spell(prompt)], padding="max_length", max_length=self.window, truncation=True, return_tensors="pt"
        )

    @torch.inference_mode()
    def __call__(self, prompt: str, **options: Any) -> Any:
        """What the network answers; ``options`` are its own."""
        tokens = self.tokens(prompt)
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        options |= {"attention_mask": tokens.attention_mask.to(self.encoder.device)} if masked else {}
        return self.encoder(tokens.input_ids.to(self.encoder.device), **options)

    def unread(self, prompt: str) -> str:
        """The words of a prompt beyond the window; a word that is read in part counts as unread."""
        spans = self.tokenizer(prompt, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(spans) <= self.window:
            return ""
        start = spans[self.window - 1][0]
        while start > 0 and not prompt[start - 1].isspace():
            start -= 1
        return prompt[start:].strip()
