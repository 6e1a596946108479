"""What a model is told about each picture: the prompt as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Followed:
    """What a run follows.

    Attributes:
        path: the IP-Adapter's file.
        encoder: folder of its image encoder.
        key: what tells pictures apart.
        image: the picture, RGB.
        weight: how strongly, 0 to 1.5.
    """

    path: Path
    encoder: Path
    key: str
    image: Image.Image
    weight: float


@dataclass(frozen=True, eq=False)
class Controlled:
    """One ControlNet of a run.

    Attributes:
        path: its diffusers folder or single file.
        image: the map that it sees, RGB, of the picture's size.
        weight: how strongly, 0 to 2.
        start, end: the share of the steps in which it has a say, 0 to 1.
    """

    path: Path
    image: Image.Image
    weight: float
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Hint:
    """A map for a ControlNet, the same for every picture of a run.

    Attributes:
        net: the ControlNet.
        image: the map, (1, 3, height, width), 0 to 1.
        weight: how strongly what it says is added.
        start, end: the share of the steps in which it has a say.
    """

    net: Any
    image: torch.Tensor
    weight: float
    start: float
    end: float

    def speaks(self, index: int, total: int) -> bool:
        """Whether it has a say in step ``index`` of ``total``; diffusers' rule."""
        return not (index / total < self.start or (index + 1) / total > self.end)


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A batch of n prompts as a text encoder hands them on.

    Attributes:
        tokens: one vector a token, (n, tokens, dim); read by cross-attention or beside the picture's own tokens.
        pooled: one vector a prompt, (n, dim), for models that take one, else None.
        numbers: more plain numbers a prompt, (n, k), such as SDXL's aesthetic score, else None.
        picture: features of a picture that is followed, (n, 1, dim) or (n, 1, patches, dim), else None.
        hints: maps for ControlNets.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None
    numbers: torch.Tensor | None = None
    picture: torch.Tensor | None = None
    hints: tuple[Hint, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def repeat(self, n: int) -> Conditioning:
        """Each prompt n times in a row."""
        return self._each(lambda part: part.repeat_interleave(n, dim=0))

    def row(self, k: int) -> Conditioning:
        """Prompt k alone."""
        return self._each(lambda part: part[k : k + 1])

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

    def at(self, index: int, total: int) -> Conditioning:
        """What counts in step ``index`` (from 0) of ``total``: only the hints that have a say then."""
        return replace(self, hints=tuple(hint for hint in self.hints if hint.speaks(index, total)))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        return replace(self, **{name: change(part) for name, part in self._parts().items()})

    def _both(
        self, other: Conditioning, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Conditioning:
        theirs = other._parts()
        return replace(self, **{name: join(part, theirs[name]) for name, part in self._parts().items()})

    def _parts(self) -> dict[str, torch.Tensor]:
        """The tensors with one row a prompt that are there."""
        names = ("tokens", "pooled", "numbers", "picture")
        return {name: part for name in names if (part := getattr(self, name)) is not None}
