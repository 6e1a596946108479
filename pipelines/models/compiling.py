"""torch.compile: a network is compiled when it is first called with these shapes and number formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.models.offloading.spread import leave_uncompiled
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.text import first_line

if TYPE_CHECKING:
    import torch

    from pipelines.request import GenerationRequest
    from pipelines.sampling.conditioning import Conditioning

# Under which a denoiser keeps what it was compiled for.
_KNOWN = "_compiled_for"
# Under which it keeps why it is not compiled any more.
_FAILED = "_not_compiled"


def try_compiled(model: Any, request: GenerationRequest | None = None) -> None:
    """Compile the denoiser by calling it once as a run will; where that fails it goes on as it is, with a note.

    torch.compile only marks a network: without this call it would fail in the middle of a user's run.

    Args:
        model: its placement says that it is to be compiled.
        request: of the run, its adapters applied; by default one with the card's own settings.
    """
    import torch

    card = model.card
    try:
        # As ``denoise``: a graph holds for tensors of this mode alone.
        with torch.inference_mode():
            call = _FirstCall.of(model, request or _usual(model))
            model.predict(call.x, call.t, call.conditioning, call.guidance)
        _known(model).add(call.key)
    except Exception as error:
        if out_of_memory(error):
            raise
        note = f"torch.compile failed ({first_line(error)}), so {card.name} runs without it."
        setattr(model.denoiser, _FAILED, note)
        leave_uncompiled(model, note)


def take_failure(model: Any) -> None:
    """Have a model say that its denoiser failed to be compiled while it ran as another card, or in another lease."""
    if model.placement.compile and (note := vars(model.denoiser).get(_FAILED)):
        leave_uncompiled(model, note)


def is_compiled(model: Any, request: GenerationRequest) -> bool:
    """Whether nothing is left to be compiled for a run, its adapters applied; also where nothing is compiled at all."""
    import torch

    if not model.placement.compile:
        return True
    with torch.inference_mode():
        return _FirstCall.of(model, request).key in _known(model)


@dataclass(frozen=True)
class _FirstCall:
    """What the first step of a run gives the denoiser, and what of it a compiled graph holds for."""

    x: torch.Tensor
    t: torch.Tensor
    conditioning: Conditioning
    guidance: float
    key: tuple[Any, ...]

    @classmethod
    def of(cls, model: Any, request: GenerationRequest) -> _FirstCall:
        import torch

        from pipelines.sampling.conditioning import encode_prompts
        from pipelines.sampling.schedulers import build_scheduler, set_timesteps
        from pipelines.system.gpu.device_copies import upload

        scale = request.sampling.guidance_scale
        guided = scale > 1 and not model.guidance_embedded
        rows = request.num_images * (2 if guided else 1)
        n, _, height, width = model.latents.shape(rows, request.width, request.height)
        channels = model.latents.channels * 2 + 1 if model.is_inpainting else model.latents.channels
        scheduler = build_scheduler(request.sampling.scheduler, model.scheduler_config)
        set_timesteps(scheduler, model, request)
        x = torch.zeros(n, channels, height, width, device=model.placement.device)
        t = upload(scheduler.timesteps, x.device)[0]
        texts = encode_prompts(model, request, guided).at_step(0, len(scheduler.timesteps))
        # Adapters change what the graph computes.
        adapters = (request.loras, tuple(control.net for control in request.controls), request.reference is None)
        key = (x.shape, t.dtype, texts.prompt_embeds.shape, adapters)
        return cls(x, t, texts, scale, key)


def _usual(model: Any) -> GenerationRequest:
    """A run with the card's own settings."""
    from pipelines.request import make_request

    card = model.card
    usual = card.qualities[card.default_quality]
    return make_request(
        model=card.id, prompt="", seed=0, width=card.width, height=card.height, guidance_scale=card.guidance_scale,
        scheduler=usual.scheduler, num_inference_steps=usual.num_inference_steps,
    )  # fmt: skip


def _known(model: Any) -> set[tuple[Any, ...]]:
    return vars(model.denoiser).setdefault(_KNOWN, set())
