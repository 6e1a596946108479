"""What a model is told about each picture: the prompt as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A batch of n prompts as a text encoder hands them on.

    Attributes:
        tokens: one vector a token, (n, tokens, dim); read by cross-attention or beside the picture's own tokens.
        pooled: one vector a prompt, (n, dim), for models that take one, else None.
        numbers: more plain numbers a prompt, (n, k), such as SDXL's aesthetic score, else None.
        picture: features of a picture that is followed, (n, 1, dim) or (n, 1, patches, dim), else None.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None
    numbers: torch.Tensor | None = None
    picture: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def repeat(self, n: int) -> Conditioning:
        """Each prompt n times in a row."""
        return self._each(lambda part: part.repeat_interleave(n, dim=0))

    def mix(self, other: Conditioning, weights: Sequence[float]) -> Conditioning:
        """The straight mix (1 - w) self + w other, one weight a prompt; ``other`` may be a single prompt."""
        import torch

        def mixed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            w = torch.tensor(weights).to(a.device, a.dtype).reshape(-1, *[1] * (a.ndim - 1))
            return torch.lerp(a, b.expand_as(a), w)

        return self._both(other, mixed)

    def then(self, other: Conditioning) -> Conditioning:
        """These prompts and after them the others."""
        import torch

        return self._both(other, lambda a, b: torch.cat([a, b]))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        parts = (getattr(self, f.name) for f in fields(self))
        return Conditioning(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]

    def _both(
        self, other: Conditioning, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Conditioning:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Conditioning(*(None if a is None else join(a, b) for a, b in pairs))  # type: ignore[arg-type]
