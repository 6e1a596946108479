"""Captions as a denoiser reads them while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.training.fine_tuning.gradients import with_gradients

if TYPE_CHECKING:
    from pipelines.model import TrainingCopy
    from pipelines.sampling.conditioning import Conditioning


class FrozenTexts:
    """Captions encoded once each: the text encoders do not learn.

    Args:
        model: has the text encoders.
    """

    def __init__(self, model: TrainingCopy) -> None:
        self._model = model
        self._known: dict[str, Conditioning] = {}

    def __call__(self, captions: Sequence[str]) -> Conditioning:
        """One row a caption."""
        for caption in captions:
            if caption not in self._known:
                self._known[caption] = learnable(self._model.encode(caption, False))
        return together([self._known[caption] for caption in captions])


@with_gradients
def learnable(conditioning: Conditioning) -> Conditioning:
    """The same numbers outside of inference mode, so that layers that read them can learn."""
    return conditioning.map(lambda part: part.detach().clone())


def together(rows: Sequence[Conditioning]) -> Conditioning:
    """Several as one batch."""
    first, *rest = rows
    for row in rest:
        first = first.concat(row)
    return first
