"""Questions to a model about the words of a prompt, each a short task of the queue."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from pipelines.trace.words import attention, text_encoder
from pipelines.trace.words.attention import AttentionMaps

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from pipelines.model import Model
    from pipelines.request import GenerationRequest
    from pipelines.trace.trace import Trace
    from pipelines.trace.words.tokens import PromptWord

# Pixels of the pictures whose steps are computed together, and their number at most.
PIXELS_AT_ONCE, STEPS_AT_ONCE = 2 * 2**20, 8
# ask(model_id, what, work): the answer of a worker that runs no job meanwhile; raises QueryFailed.
Ask = Callable[[str, Callable[[Any], Any], int], Any]


@dataclass(frozen=True)
class WordQueries:
    """Asked while the caller waits.  All raise QueryFailed; see ``pipelines.jobs.backend.Queries``.

    Attributes:
        ask: has the worker answer between two jobs.
        apply: gives a model exactly the adapters of a request.
        check: raises InvalidRequest for a request that can never run.
    """

    ask: Ask
    apply: Callable[[Model, GenerationRequest], None]
    check: Callable[[GenerationRequest], None]

    def attention(self, trace: Trace, k: int, steps: Sequence[int]) -> AttentionMaps:
        """The attention of some steps of picture k; every batch is a task of its own.

        Args:
            trace: the run; ``k`` is the picture, from 0.
            steps: indices, at least one.
        """
        request = trace.request
        pixels = request.width * request.height
        parts = [
            self._with_adapters(
                request.at_step(batch[0]),
                partial(attention.attention_maps, trace=trace, k=k, steps=batch),
                len(batch) * pixels,
            )
            for batch in attention.batches(trace, steps, min(STEPS_AT_ONCE, PIXELS_AT_ONCE // pixels))
        ]
        return reduce(AttentionMaps.followed_by, parts)

    def heads(self, trace: Trace, k: int, step: int, layer: str) -> tuple[tuple[PromptWord, ...], np.ndarray]:
        """The words of one step, and their attention in one layer, head by head, (heads, words, h, w)."""
        request = trace.request.at_step(step)
        return self._with_adapters(
            request,
            lambda model: attention.head_maps(model, trace, k, step, layer),
            request.width * request.height,
        )

    def text_layers(self, model_id: str) -> int:
        """Layers of the longest text encoder of a model; 0 where they are not CLIP's."""
        return self.ask(model_id, text_encoder.depth_of, 0)

    def draw(self, request: GenerationRequest, share: float) -> Image.Image:
        """The picture of a request by the first layers of the text encoder, a share of them from 0 to 1.

        Raises:
            InvalidRequest: if this request can never run.
        """
        self.check(request)
        work = request.width * request.height * request.sampling.num_inference_steps
        return self._with_adapters(request, lambda model: text_encoder.draw(model, request, share), work)

    def _with_adapters(self, request: GenerationRequest, work: Callable[[Model], Any], pixels: int) -> Any:
        """Ask the request's model with the request's adapters."""

        def answer(model: Model) -> Generator[None, None, Any]:
            import torch

            with torch.inference_mode(False):  # weights that are put on here must stay ordinary ones
                self.apply(model, request)
            found = work(model)
            return (yield from found) if isinstance(found, Generator) else found

        return self.ask(request.model, answer, pixels)
