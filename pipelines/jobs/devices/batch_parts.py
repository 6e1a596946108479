"""A batch that several workers make together: each takes some of its pictures, and the steps are joined again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines.request import fields_of_picture, replaced

if TYPE_CHECKING:
    from pipelines.events import Step
    from pipelines.jobs.job import Job
    from pipelines.request import GenerationRequest

# Steps that a part is ahead of the batch at most: their latents wait in memory.
STEPS_AHEAD = 2
# How often a part that waits looks whether its job has been stopped.
LOOK_SECONDS = 0.5


def pictures_of(request: GenerationRequest, start: int, end: int) -> GenerationRequest:
    """The request for some pictures of a batch: the same noise, prompts and words as in the whole."""
    sampling = request.sampling.model_copy(update={"seed": request.sampling.seed + start})
    if end - start == 1:
        return replaced(request, sampling=sampling, **fields_of_picture(request, start))
    prompts = request.prompts[start:end]
    typed = request.typed and request.typed.model_copy(update={"drawn": request.typed.drawn[start:end]})
    first = prompts[0] if prompts else request.prompt
    return replaced(request, sampling=sampling, num_images=end - start, prompt=first, prompts=prompts, typed=typed)


def is_divisible(request: GenerationRequest) -> bool:
    """Whether each picture of a request is made from its own noise alone, so that another worker can make it."""
    return request.num_images > 1 and not (request.variation or request.interpolation or request.fork)


@dataclass(eq=False)
class BatchPart:
    """Some pictures of a running job that another worker makes.  Thread-safe.

    Attributes:
        job: that they belong to.
        request: for them alone.
    """

    job: Job
    request: GenerationRequest
    _steps: deque[Step] = field(default_factory=deque)
    _over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def abandoned(self) -> bool:
        """Whether its steps are not needed any more."""
        return self._over or self.job.cancelled

    def put(self, step: Step) -> bool:
        """Hand a step over; waits while enough are ahead.  False if no more are needed."""
        with self._changed:
            while len(self._steps) >= STEPS_AHEAD and not self.abandoned:
                self._changed.wait(LOOK_SECONDS)
            self._steps.append(step)
            self._changed.notify_all()
            return not self.abandoned

    def end(self) -> None:
        """No more steps come, or none is needed."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def get(self) -> Step | None:
        """The next step; None if the worker has made its last one, or cannot go on."""
        with self._changed:
            while not self._steps and not self.abandoned:
                self._changed.wait(LOOK_SECONDS)
            step = self._steps.popleft() if self._steps else None
            self._changed.notify_all()
            return step


def joined(rows: Sequence[Step]) -> Step:
    """One step of a batch from the same step of its parts, on the device of the first."""
    import torch

    first = rows[0]

    def cat(name: str) -> Any:
        found = [getattr(row, name) for row in rows]
        return None if found[0] is None else torch.cat([each.to(found[0].device) for each in found])

    return replace(first, **{name: cat(name) for name in ("x_t", "x0", "cond", "uncond", "x_next")})
