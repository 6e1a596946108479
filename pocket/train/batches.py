"""Batches for the diffusion model: latents with the tokens of a caption, one in ten empty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import CLIPTokenizer

from pocket.train import text_encoder
from pocket.train.pool import Pool
from pocket.world.captions import caption
from pocket.world.samples import Sample
from pocket.world.vocabulary import Concept

EMPTY_CAPTIONS = 0.1

Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


class FreshCaptions:
    """Batches of a pool, with captions made for each batch; while they are asked for, the pool is renewed.

    Args:
        renew: draws and encodes so many pictures for the pool.
        fresh: how many for each sample that is learnt from.
    """

    def __init__(
        self,
        pool: Pool,
        things: list[Concept],
        tokenizer: CLIPTokenizer,
        rng: np.random.Generator,
        renew: Callable[[Pool, int], None] | None = None,
        fresh: float = 0.0,
    ) -> None:
        self.pool, self.things, self.tokenizer, self.rng = pool, things, tokenizer, rng
        self.renew, self.fresh, self.owed = renew, fresh, 0.0

    def __call__(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (count, c, s, s) in the autoencoder's scale, and tokens (count, 32)."""
        self.owed += self.fresh * count
        if self.renew is not None and self.owed >= 1:
            self.renew(self.pool, int(self.owed))
            self.owed %= 1
        latents, samples = self.pool.batch(count)
        return latents, text_encoder.token_ids(self.tokenizer, [self._caption(sample) for sample in samples])

    def _caption(self, sample: Sample) -> str:
        return "" if self.rng.random() < EMPTY_CAPTIONS else caption(sample, self.things, self.rng)


class PreparedCaptions:
    """Batches of latents that have a few captions each, all of them on the device already.

    Args:
        latents: (n, c, s, s).
        tokens: of k captions each, (n, k, 32).
        empty: the tokens of the empty caption, (32,).
    """

    def __init__(self, latents: torch.Tensor, tokens: torch.Tensor, empty: torch.Tensor) -> None:
        self.latents, self.tokens, self.empty = latents, tokens, empty

    def __call__(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.latents.device
        chosen = torch.randint(len(self.latents), (count,), device=device)
        which = torch.randint(self.tokens.shape[1], (count,), device=device)
        tokens = self.tokens[chosen, which].long()
        without = torch.rand(count, 1, device=device) < EMPTY_CAPTIONS
        return self.latents[chosen].float(), torch.where(without, self.empty.long(), tokens)
