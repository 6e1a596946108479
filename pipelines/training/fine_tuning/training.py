"""Fine-tuning, a step at a time, so that the worker can do something else between two steps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F

from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import build_scheduler, prediction_type_of
from pipelines.training.fine_tuning.examples import Examples
from pipelines.training.fine_tuning.gradients import with_gradients
from pipelines.training.fine_tuning.texts import FrozenTexts

if TYPE_CHECKING:
    from pipelines.model import Model, TrainingCopy
    from pipelines.training.fine_tuning.settings import TrainingPlan

# The loss is shown for so many equal parts of the timesteps.
LOSS_LEVELS = 10
# Of the running mean of the loss at each: about the latest 20 values.
MEMORY = 0.95
# Share of the captions that are left out, so that guidance still has something to lead away from (Ho and Salimans
# 2022, arXiv:2207.12598).
WITHOUT_CAPTION = 0.1
WARM_UP = 10
# Noises of each held-out picture at each of the levels.
HELD_NOISES = 2
# Longest gradient; longer ones are shortened.
LONGEST_GRADIENT = 1.0


# Examples with their timesteps (n,) and their noise (n, c, h, w).
Drawn = tuple[Examples, torch.Tensor, torch.Tensor]


class TeachingWay(Protocol):
    """How a model is taught; ``LoraWay`` or ``TextualInversionWay``."""

    model: TrainingCopy
    parameters: list[torch.nn.Parameter]
    forgets: bool

    def predict(self, x: torch.Tensor, t: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The prediction (n, c, h, w) for noisy latents, timesteps (n,) and captions, with gradients."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What was learnt, by the names in a file."""

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what ``tensors`` returned."""


class FineTuning:
    """One fine-tuning: E |target - prediction(x_t, t, caption)|^2 with x_t = alpha_t x0 + sigma_t eps.

    Ho et al. 2020, arXiv:2006.11239, equation 14.  On the model's own pictures the target is what the model itself
    predicts for them, so that it keeps what it can (prior preservation, Ruiz et al. 2022, arXiv:2208.12242; Li and
    Hoiem 2016, arXiv:1606.09282).

    Args:
        way: what learns.
        teacher: the model as it is.
        plan: how it learns.
        examples: the user's pictures.
        own: the model's own pictures.
        most_rows: rows that fit into the memory at once; a larger batch is gone over in parts.

    Attributes:
        step: training steps that are done.
        seconds: that they took.
        curve: the loss of each step, a running mean.
        held: step -> loss on the held-out pictures.
    """

    @with_gradients
    def __init__(
        self,
        way: TeachingWay,
        teacher: Model,
        plan: TrainingPlan,
        examples: Examples,
        own: Examples,
        most_rows: int = 64,
    ) -> None:
        from diffusers.optimization import get_scheduler

        self.way, self._teacher, self.plan, self._own, self._most_rows = way, teacher, plan, own, most_rows
        self._learnt, self._held_out = examples.split(plan.seed)
        self._texts = FrozenTexts(way.model)
        self._device = teacher.placement.device
        self._noise: Any = build_scheduler("ddpm", teacher.scheduler_config)
        self._kind = prediction_type_of(teacher.scheduler_config)
        self._timesteps = len(self._noise.alphas_cumprod)
        self._optimizer = _optimizer(way.parameters, plan.rate, self._device)
        warm_up = min(WARM_UP, plan.steps // 4)
        self._rate = get_scheduler("cosine", self._optimizer, num_warmup_steps=warm_up, num_training_steps=plan.steps)
        # In float16 small gradients would be 0.
        needs_scale = self._half is torch.float16
        self._scaler = torch.amp.GradScaler(self._device.partition(":")[0], enabled=needs_scale)
        self._draws = torch.Generator().manual_seed(plan.seed)
        self.step, self.seconds = 0, 0.0
        self.curve: list[float] = []
        self.held: dict[int, float] = {}
        self._sums, self._counts = torch.zeros(LOSS_LEVELS), torch.zeros(LOSS_LEVELS)

    @property
    def has_held_out(self) -> bool:
        """Whether some pictures are kept from the model."""
        return len(self._held_out) > 0

    @property
    def ended_early(self) -> bool:
        """Whether the loss on held-out pictures has not become better for long enough."""
        held = dict(self.held)  # the page asks while the worker adds to it
        if not held or not self.plan.patience:
            return False
        best = min(held, key=lambda step: held[step])
        return sum(step > best for step in held) >= self.plan.patience

    @property
    def done(self) -> bool:
        """Whether it has learned to the end."""
        return self.step >= self.plan.steps or self.ended_early

    @with_gradients
    def take_step(self) -> None:
        """Learn from one batch."""
        began = time.perf_counter()
        keeps = len(self._own) > 0 and self.plan.own_weight > 0
        # Without a caption it should go on drawing what it knows, not the new thing.
        batches = [self._drawn(self._learnt, 0.0 if keeps else WITHOUT_CAPTION)]
        if keeps:
            batches.append(self._drawn(self._own, WITHOUT_CAPTION))
        total = self._learn(_joined(batches))
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.way.parameters, LONGEST_GRADIENT)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._rate.step()
        self.step += 1
        self.seconds += time.perf_counter() - began
        if not math.isfinite(total):
            raise InvalidRequest("rate", "The training's numbers ran out of range; choose a lower learning rate.")
        self.curve.append(total if not self.curve else 0.9 * self.curve[-1] + 0.1 * total)

    def _drawn(self, examples: Examples, without_caption: float) -> Drawn:
        """Some examples with timesteps and noise, of a generator whose state is kept in checkpoints."""
        draws, n = self._draws, self.plan.batch
        places = torch.randint(len(examples), (n,), generator=draws).tolist()
        rows = examples.rows(places)
        latents = rows.latents
        if self.plan.mirrored:
            flipped = torch.rand(n, generator=draws) < 0.5
            latents = torch.where(flipped[:, None, None, None], latents.flip(-1), latents)
        left_out = (torch.rand(n, generator=draws) < without_caption).tolist()
        captions = tuple("" if out else caption for out, caption in zip(left_out, rows.captions, strict=True))
        t = torch.randint(self._timesteps, (n,), generator=draws)
        eps = torch.randn(latents.shape, generator=draws)
        return Examples(latents, captions), t, eps

    def _learn(self, drawn: Drawn) -> float:
        """Add the gradients of a batch, the user's pictures first, in parts that fit; the mean loss on these."""
        rows, t, eps = drawn
        n, total = self.plan.batch, 0.0
        weights = torch.tensor([1 / n] * n + [self.plan.own_weight / n] * (len(rows) - n))
        for start in range(0, len(rows), self._most_rows):
            stop = min(start + self._most_rows, len(rows))
            users = max(0, min(stop, n) - start)
            losses = self._losses(rows.rows(range(start, stop)), t[start:stop], eps[start:stop], users)
            self._scaler.scale((losses * weights[start:stop].to(losses.device)).sum()).backward()
            found = losses.detach()[:users].cpu()
            total += float(found.sum()) / n
            self._note(t[start : start + users], found)
        return total

    def _losses(self, rows: Examples, t: torch.Tensor, eps: torch.Tensor, users: int) -> torch.Tensor:
        """The loss of each row, (n,): of the user's pictures, which come first, and of the model's own."""
        x_t = self._noise.add_noise(rows.latents, eps, t).to(self._device)
        at = t.to(self._device)
        target = self._target(rows.latents[:users], eps[:users], t[:users]).to(self._device)
        if users < len(rows):
            target = torch.cat([target, self._taught(x_t[users:], at[users:], rows.captions[users:])])
        with torch.autocast(self._device.partition(":")[0], self._half, enabled=self._half is not torch.float32):
            found = self.way.predict(x_t, at, rows.captions)
        return F.mse_loss(found.float(), target, reduction="none").mean((1, 2, 3))

    def _target(self, latents: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the prediction of the user's pictures should be."""
        if self._kind == "v_prediction":
            found: torch.Tensor = self._noise.get_velocity(latents, eps, t)
            return found
        return eps if self._kind == "epsilon" else latents

    @torch.no_grad()
    def _taught(self, x_t: torch.Tensor, t: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """What the model as it is predicts."""
        found: torch.Tensor = self._teacher.predict(x_t, t, self._texts(captions), self._teacher.card.guidance_scale)
        return found.clone()

    @property
    def _half(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self._teacher.placement.dtype)
        return found

    def _note(self, t: torch.Tensor, losses: torch.Tensor) -> None:
        for level, loss in zip((t * LOSS_LEVELS // self._timesteps).tolist(), losses.tolist(), strict=True):
            self._sums[level] = MEMORY * self._sums[level] + loss
            self._counts[level] = MEMORY * self._counts[level] + 1

    def loss(self) -> list[float | None]:
        """The latest loss at each part of the timesteps, little noise first; None where none was seen."""
        pairs = zip(self._sums.tolist(), self._counts.tolist(), strict=True)
        return [total / count if count > 0 else None for total, count in pairs]

    @with_gradients
    def measure_held_out(self) -> None:
        """The loss on the held-out pictures, always at the same timesteps and with the same noise."""
        if not self.has_held_out:
            return
        draws = torch.Generator().manual_seed(self.plan.seed + 1)
        part, total, count = self._timesteps // LOSS_LEVELS, 0.0, 0
        with torch.no_grad():
            for _ in range(HELD_NOISES):
                for level in range(LOSS_LEVELS):
                    n = len(self._held_out)
                    t = torch.randint(part, (n,), generator=draws) + part * level
                    eps = torch.randn(self._held_out.latents.shape, generator=draws)
                    for k in range(0, n, self._most_rows):
                        rows = self._held_out.rows(range(k, min(k + self._most_rows, n)))
                        each = slice(k, k + self._most_rows)
                        total += float(self._losses(rows, t[each], eps[each], len(rows)).sum())
                    count += n
        self.held[self.step] = total / count

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All that is needed to go on: tensors, and what JSON can hold."""
        optimizer = self._optimizer.state_dict()["state"]
        tensors = {
            f"optimizer.{k}.{name}": value
            for k, row in optimizer.items()
            for name, value in row.items()
            if isinstance(value, torch.Tensor)
        }
        tensors |= {"draws": self._draws.get_state(), "sums": self._sums, "counts": self._counts}
        return {name: value.detach().cpu().clone() for name, value in tensors.items()}, self.numbers()

    def numbers(self) -> dict[str, Any]:
        """What JSON can hold of ``state``."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "curve": list(self.curve),
            "held": {str(step): value for step, value in dict(self.held).items()},
            "loss": self.loss(),
            "early": self.ended_early,
        }

    @with_gradients
    def load_state(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        rows: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, k, key = name.split(".", 2)
                # Read in the worker's inference mode, they could not be changed outside of it.
                rows.setdefault(int(k), {})[key] = value.clone()
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": rows})
        self._draws.set_state(tensors["draws"])
        self._sums, self._counts = tensors["sums"].clone(), tensors["counts"].clone()
        self.step, self.seconds, self.curve = int(numbers["step"]), float(numbers["seconds"]), list(numbers["curve"])
        self.held = {int(step): value for step, value in numbers["held"].items()}
        # The rate is a function of the step alone.
        rate = self._rate.state_dict()
        self._rate.load_state_dict({**rate, "last_epoch": self.step, "_step_count": self.step + 1})
        for group, first, factor in zip(
            self._optimizer.param_groups, self._rate.base_lrs, self._rate.lr_lambdas, strict=True
        ):
            group["lr"] = first * factor(self.step)


def _joined(batches: Sequence[Drawn]) -> Drawn:
    """Batches one after the other: one pass over all is quicker than one over each."""
    rows, t, eps = zip(*batches, strict=True)
    captions = tuple(caption for each in rows for caption in each.captions)
    return Examples(torch.cat([each.latents for each in rows]), captions), torch.cat(t), torch.cat(eps)


def _optimizer(parameters: Sequence[torch.nn.Parameter], rate: float, device: str) -> Any:
    """AdamW; with eight bits a number where bitsandbytes is installed and the device is one of its own."""
    if device.startswith("cuda"):
        try:
            from bitsandbytes.optim import AdamW8bit

            return AdamW8bit(parameters, lr=rate, weight_decay=1e-2)
        except ImportError:
            pass
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2)
