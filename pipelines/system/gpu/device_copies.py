"""Copies between the main memory and a GPU that do not make the program wait for the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def upload(tensor: torch.Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A small tensor of the CPU on a device, without waiting for the work that the device has still to do.

    Args:
        tensor: of any shape; it is unchanged where it is there already.
        device: where to.
        dtype: of the result, by default the tensor's own; float64 becomes float32 on a GPU, since Apple's has none.
    """
    import torch

    device = torch.device(device)
    if dtype is None and tensor.dtype == torch.float64 and device.type != "cpu":
        dtype = torch.float32
    dtype = dtype or tensor.dtype
    # On Apple's GPU such a copy reads the memory later, when it may have been used again.
    if tensor.device.type != "cpu" or device.type in ("cpu", "mps"):
        return tensor.to(device, dtype)
    # From other memory than pinned one the driver may wait for the GPU before it copies; PyTorch keeps what is pinned
    # until the copy is done.
    return tensor.to(dtype).pin_memory().to(device, non_blocking=True)


def quiet_uploads(device: torch.device) -> AbstractContextManager[Any]:
    """Within it ``Tensor.to`` takes tensors of the CPU to this device as ``upload`` does, and ``linalg.solve`` asks no
    number of it: its check for a singular matrix would wait for all that the GPU has still to do.

    A sampler that draws new noise at each step draws it on the CPU, so that a seed means the same picture everywhere;
    diffusers then moves it with a copy that waits for all that the GPU has still to do.
    """
    return nullcontext() if device.type in ("cpu", "mps") else _quiet_uploads()()


@cache
def _quiet_uploads() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    class QuietUploads(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.Tensor.to and len(args) == 2 and not kwargs and args[0].device.type == "cpu":
                target = args[1]
                if isinstance(target, torch.device | str) and torch.device(target).type != "cpu":
                    return upload(args[0], target)
            if function is torch.linalg.solve and args[0].device.type != "cpu":
                return torch.linalg.solve_ex(*args, **(kwargs or {}))[0]
            return function(*args, **(kwargs or {}))

    return QuietUploads


class HostCopy:
    """Tensors of a GPU on their way to the main memory, while the GPU and the program go on.

    The copies are made into pinned memory in the GPU's own order of work.  Apple's GPU copies at once: its memory is
    the main memory, and a copy that is not waited for has no promise there.

    Args:
        tensors: of one device; None stays None.
        device: theirs, also where there is no tensor: then only the work so far is waited for.
    """

    def __init__(self, tensors: Sequence[torch.Tensor | None], device: torch.device) -> None:
        import torch

        self._event: Any = None
        waits = device.type not in ("cpu", "mps")
        # Not to be read before ``result``.
        self.tensors = [one if one is None else one.detach().to("cpu", non_blocking=waits) for one in tensors]
        if waits:
            module = torch.get_device_module(device)
            self._event = module.Event(blocking=True)
            # Of this card: by itself an event is of the current one, which may be another.
            self._event.record(module.current_stream(device))

    def result(self) -> list[torch.Tensor | None]:
        """The tensors on the CPU; waits for them.  For any thread."""
        if self._event is not None:
            self._event.synchronize()
        return self.tensors
