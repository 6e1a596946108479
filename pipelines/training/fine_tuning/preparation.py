"""What a model learns from, made ready a picture at a time: the user's pictures encoded, the model's own drawn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from PIL import Image

from pipelines.training.fine_tuning import prompts
from pipelines.training.fine_tuning.examples import Examples, fitted, latents_of, own_latents

if TYPE_CHECKING:
    from pipelines.model import Model
    from pipelines.training.fine_tuning.checkpoints import RunFolder
    from pipelines.training.fine_tuning.examples import Halted
    from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan


class ExamplePreparation:
    """The pictures of one run, kept in its folder once all are there.

    Args:
        run: the folder.
        settings: what is taught.

    Attributes:
        seconds: that the model's own pictures took.
    """

    def __init__(self, run: RunFolder, settings: TeachingSettings) -> None:
        self._run, self._settings = run, settings
        self._given: list[torch.Tensor] = []
        self._own: list[torch.Tensor] = []
        self.seconds = 0.0

    @property
    def drawn(self) -> int:
        """How many pictures of its own the model has drawn."""
        return len(self._own)

    def part(self, model: Model, plan: TrainingPlan, halted: Halted) -> tuple[Examples, Examples] | None:
        """Encode or draw one picture; the user's and the model's own once all are there.

        Args:
            model: the loaded model.
            plan: how many it draws.
            halted: whether to stop after a step of sampling.
        """
        given = self._run.examples()
        if given is None:
            self._encode(model)
            return None
        own = self._run.own()
        if own is None and len(self._own) < plan.own:
            self._draw(model, plan, halted)
            return None
        if own is None:
            none = torch.zeros(model.latents.shape(0, model.card.width, model.card.height))
            own = Examples(torch.cat(self._own) if self._own else none, tuple(self._prompts(model, plan)))
            self._run.keep_own(own)
        return given, own

    def _encode(self, model: Model) -> None:
        with Image.open(self._run.given(len(self._given))) as picture:
            self._given.append(latents_of(model, fitted(picture, model.card)))
        if len(self._given) == len(self._settings.captions):
            self._run.keep_examples(Examples(torch.cat(self._given), self._settings.captions))
            self._given = []

    def _draw(self, model: Model, plan: TrainingPlan, halted: Halted) -> None:
        began, number = time.perf_counter(), len(self._own)
        latents = own_latents(model, self._prompts(model, plan)[number], number, halted)
        if latents is not None:
            self._own.append(latents)
        self.seconds += time.perf_counter() - began

    def _prompts(self, model: Model, plan: TrainingPlan) -> list[str]:
        return prompts.own_prompts(model.card, plan.own, self._settings.word, plan.seed)
