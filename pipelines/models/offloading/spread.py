"""Parts of a model that wait in RAM and come to the graphics card while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipelines.model import Placement

if TYPE_CHECKING:
    import torch

    from pipelines.model import Model
    from pipelines.models.offloading.groups import WeightGroup

# How a model is spread over the card and RAM, from quick to slow: names of ``pipelines.models.oom_fallback``.
WAIT, BLOCKS, LAYERS = "wait", "blocks", "parts"
OFFLOADS = (WAIT, BLOCKS, LAYERS)
# What works at every step and is small: a LoRA is never called as a whole, so that no hook could bring it, and previews
# are decoded one at a time.
_STAYS = ("lora_", "preview")
# A text encoder beyond this comes layer by layer: as many bytes cross for a prompt, and there need be no room for all.
VISIT_BYTES = 2 * 10**9
# A block is a part of the denoiser of at most so many bytes: two of them are on the card at once.
BLOCK_BYTES = 256 * 2**20
# By a hook of this name diffusers' own pipelines know where a network works whose weights wait in RAM.
_MARK = "group_offloading"
# Under which a network keeps what brings its weights.
_COURIER = "_weight_courier"
# Of an autoencoder: they call its parts for one tile after another.
_TILED = ("tiled_decode", "_tiled_decode", "tiled_encode", "_tiled_encode")


def spread(model: Model, how: str) -> None:
    """Spread a model over the card and RAM, whatever was before.

    Args:
        model: its weights may be anywhere.
        how: ``WAIT``: the denoiser is on the card, text encoders and autoencoder come there while they work;
            ``BLOCKS``: the denoiser comes in parts of at most ``BLOCK_BYTES``, the next one while one works;
            ``LAYERS``: every network comes layer by layer.
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
        _stream(module, work, BLOCKS)
    elif how == LAYERS or weight_bytes(module) > VISIT_BYTES:
        _stream(module, work, LAYERS)
    else:
        _let_visit(module, work)


def gather(model: Model) -> None:
    """Bring every part of a model into RAM and take off what would move it."""
    for module in model.modules.values():
        _take_back(module, to_ram=_can_wait(module))


def _take_back(module: torch.nn.Module, to_ram: bool) -> None:
    from diffusers.hooks import HookRegistry

    HookRegistry.check_if_exists_or_initialize(module).remove_hook(_MARK, recurse=False)
    for name in _TILED:
        vars(module).pop(name, None)
    for part in _called_parts(module):
        courier = vars(part).pop(_COURIER, None)
        if courier is not None:
            courier.remove()
    if to_ram:
        module.to("cpu")


def widen_autoencoder(model: Model, vae: Any = None) -> bool:
    """Have an autoencoder, by default that of the latents, compute in float32; note that; whether it did not before.

    Where memory runs out it is left as it was.
    """
    import torch

    vae = vae or model.latents.vae
    if vae is None or vae.dtype == torch.float32:
        return False
    former = vae.dtype
    with gathered(model):
        device = next(vae.parameters()).device
        # By way of RAM: the card need not hold both.
        vae.to("cpu")
        try:
            vae.to(dtype=torch.float32).to(device)
        except Exception:
            vae.to("cpu").to(dtype=former).to(device)  # what was widened loses nothing
            raise
    before = str(former).removeprefix("torch.")
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


def _stream(module: torch.nn.Module, work: torch.device, how: str) -> None:
    from diffusers.hooks import HookRegistry

    from pipelines.models.offloading.groups import split
    from pipelines.models.offloading.pinned import pin

    for part in _called_parts(module):
        groups = split(part, BLOCK_BYTES if how == BLOCKS else 0)
        # Blocks are pinned once; for layers there may be no RAM to spare.
        if how == BLOCKS and work.type == "cuda":
            pin(tensor for group in groups for *_, tensor in group.tensors())
        _bring(part, work, groups)
    HookRegistry.check_if_exists_or_initialize(module).register_hook(_mark(work), _MARK)


def _called_parts(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The networks that are called: of an autoencoder encoder and decoder, of others the network itself."""
    if hasattr(module, "decode") and hasattr(module, "decoder"):
        return [child for child in module.children() if any(True for _ in child.parameters())]
    return [module]


def _let_visit(module: torch.nn.Module, work: torch.device) -> None:
    from pipelines.models.offloading.groups import WeightGroup

    for part in _called_parts(module):
        _bring(part, work, [WeightGroup(part, list(part.modules()))])
    for name in _TILED:
        if hasattr(module, name):
            setattr(module, name, partial(_tiled, module, getattr(module, name), work))


def _tiled(module: torch.nn.Module, plain: Callable[..., Any], work: torch.device, x: torch.Tensor, **more: Any) -> Any:
    """Weights come once for all tiles of a picture, and so does what is cut into tiles."""
    with ExitStack() as stack:
        for part in _called_parts(module):
            stack.enter_context(vars(part)[_COURIER].staying())
        return plain(x.to(work), **more)


def _bring(part: torch.nn.Module, work: torch.device, groups: list[WeightGroup]) -> None:
    from pipelines.models.offloading.groups import WeightCourier

    setattr(part, _COURIER, WeightCourier(part, work, groups))


def _mark(work: torch.device) -> Any:
    from diffusers.hooks import ModelHook

    class Mark(ModelHook):
        """Says where a network works, and does nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(onload_device=work)

    return Mark()
