"""Parts of a model that wait in RAM and come to the graphics card while they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.model import Placement

if TYPE_CHECKING:
    import torch

    from pipelines.model import Model

# How a model is spread over the card and RAM, from quick to slow: names of ``pipelines.models.oom_fallback``.
WAIT, BLOCKS, LAYERS = "wait", "blocks", "parts"
OFFLOADS = (WAIT, BLOCKS, LAYERS)
_VISIT = "visit_gpu"
# What works at every step and is small: a LoRA is never called as a whole, so that no hook could bring it, and previews
# are decoded one at a time.
_STAYS = ("lora_", "preview")
# A text encoder beyond this comes layer by layer: as many bytes cross for a prompt, and there need be no room for all.
VISIT_BYTES = 2 * 10**9
_GROUP_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")


def spread(model: Model, how: str) -> None:
    """Spread a model over the card and RAM, whatever was before.

    Args:
        model: its weights may be anywhere.
        how: ``WAIT``: the denoiser is on the card, text encoders and autoencoder come there while they work;
            ``BLOCKS``: the denoiser comes block by block, the next one while one works; ``LAYERS``: every network comes
            layer by layer.
    """
    if model.placement.compile:
        leave_uncompiled(model, f"torch.compile is left out while parts of {model.card.name} wait in RAM.")
    for name, module in model.modules.items():
        if name.startswith(_STAYS):
            module.to(model.placement.device)
            continue
        in_loop = module is model.denoiser or name.startswith("controlnet")
        # What stays on the card does not pass through RAM.
        _take_back(module, to_ram=waits(module, how, in_loop))
        place(module, model.placement, how, in_loop)


def waits(module: torch.nn.Module, how: str, in_loop: bool) -> bool:
    """Whether a network waits in RAM where a model is spread so; arguments as for ``place``."""
    return bool(how) and not (how == WAIT and in_loop) and _can_wait(module)


def place(module: torch.nn.Module, placement: Placement, how: str, in_loop: bool) -> None:
    """Put one network where a model that is spread so has it.

    Args:
        module: in RAM.
        placement: of its model.
        how: of ``spread``; "" for all on the card.
        in_loop: whether it is called at every step.
    """
    import torch

    if not waits(module, how, in_loop):
        module.to(placement.device)
        return
    work = torch.device(placement.device)
    if how == BLOCKS and in_loop:
        _stream(module, work, BLOCKS, in_loop)
    elif how == LAYERS or weight_bytes(module) > VISIT_BYTES:
        _stream(module, work, LAYERS, in_loop)
    else:
        _let_visit(module, work)


def gather(model: Model) -> None:
    """Bring every part of a model into RAM and take off what would move it."""
    for module in model.modules.values():
        _take_back(module, to_ram=_can_wait(module))


def _take_back(module: torch.nn.Module, to_ram: bool) -> None:
    from diffusers.hooks import HookRegistry

    registry = HookRegistry.check_if_exists_or_initialize(module)
    for name in _GROUP_HOOKS:
        registry.remove_hook(name, recurse=True)
    for part in _visitors(module):
        HookRegistry.check_if_exists_or_initialize(part).remove_hook(_VISIT, recurse=False)
    if to_ram:
        module.to("cpu")


def widen_autoencoder(model: Model, vae: Any = None) -> bool:
    """Have an autoencoder, by default that of the latents, compute in float32; note that; whether it did not before."""
    import torch

    vae = vae or model.latents.vae
    if vae is None or vae.dtype == torch.float32:
        return False
    before = str(vae.dtype).removeprefix("torch.")
    with gathered(model):
        vae.to(dtype=torch.float32)
    _note(model, f"The autoencoder of {model.card.name} overflowed in {before}, so it computes in float32.")
    return True


def leave_uncompiled(model: Model, note: str) -> None:
    """Have the denoiser run as it is, with a note that says why."""
    model.denoiser._compiled_call_impl = None
    model.placement = replace(model.placement, compile=False)
    _note(model, note)


def _note(model: Model, note: str) -> None:
    notes = " ".join(text for text in (model.placement.note, note) if text)
    model.placement = replace(model.placement, note=notes)


def spread_of(placement: Placement) -> str:
    """How a model is spread now: the slowest way among its fallbacks, "" if it is all in one place."""
    return next((name for name in reversed(OFFLOADS) if name in placement.fallbacks), "")


@contextmanager
def gathered(model: Model, changes: bool = True) -> Iterator[None]:
    """A model whose networks may be changed: adapters add layers that the hooks of a streamed model would not know.

    Args:
        model: it is left as it is where nothing of it is streamed.
        changes: whether there will be any.
    """
    how = spread_of(model.placement)
    if how in ("", WAIT) or not changes:
        yield
        return
    gather(model)
    try:
        yield
    finally:
        spread(model, how)


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(one.numel() * one.element_size() for one in (*module.parameters(), *module.buffers()))


def _can_wait(module: torch.nn.Module) -> bool:
    """Whether its weights can be moved: those that bitsandbytes has rounded cannot."""
    return not any(type(one).__name__ in ("Linear4bit", "Linear8bitLt") for one in module.modules())


def _stream(module: torch.nn.Module, work: torch.device, how: str, in_loop: bool) -> None:
    import torch
    from diffusers.hooks import apply_group_offloading

    # A stream that fetches ahead learns the order of the parts from ``forward``, which autoencoders do not use.
    ahead = in_loop and work.type == "cuda"
    blocks: dict[str, Any] = {"offload_type": "block_level", "num_blocks_per_group": 1}
    # Blocks are pinned once, so that they come while another one works; layers are many, and pinned as they come.
    options = {**blocks, "low_cpu_mem_usage": False} if how == BLOCKS else {"offload_type": "leaf_level"}
    apply_group_offloading(
        module,
        onload_device=work,
        offload_device=torch.device("cpu"),
        use_stream=ahead,
        **{"low_cpu_mem_usage": True, **options},
    )


def _visitors(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The networks that are called: of an autoencoder encoder and decoder, of others the network itself."""
    if hasattr(module, "decode") and hasattr(module, "decoder"):
        return [child for child in module.children() if any(True for _ in child.parameters())]
    return [module]


def _let_visit(module: torch.nn.Module, work: torch.device) -> None:
    from diffusers.hooks import HookRegistry

    for part in _visitors(module):
        HookRegistry.check_if_exists_or_initialize(part).register_hook(_visit_hook(work), _VISIT)


def _visit_hook(work: torch.device) -> Any:
    from diffusers.hooks import ModelHook

    class Visit(ModelHook):
        """Copies a network's weights to the card before it works, and lets go of the copies afterwards."""

        def __init__(self) -> None:
            super().__init__()
            self._home: list[tuple[dict[str, Any], str, Any]] = []

        def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            for one in module.modules():
                for table in (one._parameters, one._buffers):
                    for name, tensor in list(table.items()):
                        if tensor is not None and tensor.device != work:
                            self._home.append((table, name, tensor))
                            table[name] = _copy(tensor, work)
            return _moved(args, work), _moved(kwargs, work)

        def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
            self._leave()
            return output

        def _leave(self) -> None:
            while self._home:
                table, name, tensor = self._home.pop()
                table[name] = tensor

        def reset_state(self, module: torch.nn.Module) -> Any:
            self._leave()
            return module

    return Visit()


def _copy(tensor: torch.Tensor, work: torch.device) -> Any:
    import torch

    there = tensor.detach().to(work, non_blocking=work.type == "cuda")
    return torch.nn.Parameter(there, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else there


def _moved(values: Any, work: torch.device) -> Any:
    from accelerate.utils import send_to_device

    return send_to_device(values, work)
