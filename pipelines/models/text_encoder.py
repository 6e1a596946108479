"""Text encoders: a prompt to vectors."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch

# A word between spaces, or a mark with spaces in it.
_WORD = re.compile(r"(?:<[^<>]*>|\S)+")


class TextEncoder:
    """A tokenizer and the network behind it.

    Args:
        tokenizer, encoder: of transformers.
        window: tokens that it reads, start and end included; by default as many as both know.
    """

    def __init__(self, tokenizer: Any, encoder: Any, window: int | None = None) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        # Replaces a textual inversion word of several vectors by as many tokens.
        self.expand: Callable[[str], str] = lambda prompt: prompt
        places = getattr(encoder.config, "max_position_embeddings", tokenizer.model_max_length)
        self.window: int = window or min(tokenizer.model_max_length, places)

    def tokens(self, prompt: str) -> Any:
        """Token ids and their mask, padded and cut to the window, (1, window) each."""
        return self.tokenizer(
            [self.expand(prompt)], padding="max_length", max_length=self.window, truncation=True, return_tensors="pt"
        )

    @torch.inference_mode()
    def __call__(self, prompt: str, **options: Any) -> Any:
        """What the network answers; ``options`` are its own."""
        tokens = self.tokens(prompt)
        return self.encode(tokens.input_ids, tokens.attention_mask, **options)

    @torch.inference_mode()
    def encode(self, ids: torch.Tensor, mask: torch.Tensor, **options: Any) -> Any:
        """What the network answers to token ids and their mask, (n, window) each."""
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        options |= {"attention_mask": mask.to(self.encoder.device)} if masked else {}
        return self.encoder(ids.to(self.encoder.device), **options)

    def truncated_text(self, prompt: str) -> str:
        """The words of a prompt beyond the window; a word that is read in part counts as unread."""
        if self._length(prompt) <= self.window:
            return ""
        words = list(_WORD.finditer(prompt))
        k = bisect_right(words, self.window, key=lambda word: self._length(prompt[: word.end()]))
        return prompt[words[k].start() :].strip() if k < len(words) else ""

    def _length(self, prompt: str) -> int:
        """Tokens of a prompt, start and end included, with every vector of its textual inversion words."""
        return len(self.tokenizer(self.expand(prompt), verbose=False).input_ids)
