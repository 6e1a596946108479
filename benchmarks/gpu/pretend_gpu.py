"""A pretend GPU: a torch device named ``pretend`` that computes on the CPU and behaves as a graphics card does.

It is a Python-only backend (``privateuseone``; PyTorch tutorial "Facilitating New Backend Integration by PrivateUse1")
with a wrapper tensor.  Tensors of two devices do not mix, a CPU generator draws nothing there, float64 is refused where
it stands for Apple's GPU, copies that do not block arrive only when they are waited for, and memory can run out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from benchmarks.gpu.pretend_memory import NAME, PretendGpu, gpu

NO_FLOAT64 = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
# Operators whose answer the host needs before it can go on.
SYNCS = {
    "_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "allclose", "masked_select", "_unique2",
    "unique_dim", "unique_consecutive", "_linalg_check_errors", "linalg_solve", "linalg_inv",
}  # fmt: skip
NO_POOLING = (
    "Adaptive pool MPS: input sizes must be divisible by output sizes. Non-divisible input sizes are not implemented."
)
# Operators that may read tensors of another device.
CROSSING = {"copy_", "_copy_from", "index", "index_put_", "index_put", "_index_put_impl_"}


class PretendTensor(torch.Tensor):
    """A tensor of the pretend GPU: ``raw`` holds its numbers on the CPU."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> PretendTensor:
        if gpu.mps and raw.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        gpu.allocate(raw)
        # In inference mode torch counts versions of tensors and not of their views, which wrappers cannot tell apart.
        with torch.inference_mode(False):
            return cls._wrap(raw)

    @classmethod
    def _wrap(cls, raw: torch.Tensor) -> PretendTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            device=f"{NAME}:0", requires_grad=False,
        )  # fmt: skip
        made.raw = raw
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"PretendTensor({self.raw!r})"

    def tolist(self) -> Any:
        """As torch's own, which refuses subclasses; the host waits."""
        gpu.note("sync")
        return self.raw.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy.")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.partition("::")[2]
    given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    if name == "set_" or (name == "copy_" and _is_cpu(given["self"])):
        return _download_into(given) if name == "copy_" else _refuse(func)
    if name == "_has_compatible_shallow_copy_type":
        return False
    device = given.get("device")
    _check(name, given)
    if name in SYNCS or (name == "index" and _has_mask(given)):
        gpu.note("sync")
    # On the CPU everything is there at once.
    args_there, kwargs_there = tree_map(_raw, (args, kwargs))
    args_there = tuple(_host(a.name, value) for a, value in zip(func._schema.arguments, args_there, strict=False))
    made = func(*args_there, **{key: _host(key, value) for key, value in kwargs_there.items()})
    blocking = not given.get("non_blocking", False)
    if device is not None and torch.device(device).type == "cpu":
        return _downloaded(made, blocking)
    if name == "copy_" and _is_cpu(given["src"]) and given["src"].ndim:
        gpu.note("upload", blocking=blocking or not gpu.is_pinned(given["src"]))
    return _wrapped(made, args, kwargs)


def _check(name: str, given: dict[str, Any]) -> None:
    leaves = tree_leaves(given)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    mixed = any(isinstance(t, PretendTensor) for t in tensors) and any(_is_cpu(t) and t.ndim for t in tensors)
    if mixed and name not in CROSSING:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu! ({name})")
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if gpu.mps and name not in CROSSING and any(t.dtype == torch.float64 for t in tensors):
        raise TypeError(NO_FLOAT64)
    if gpu.mps and name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d"):
        sizes = zip(given["self"].shape[-2:], given["output_size"], strict=True)
        if any(edge % into for edge, into in sizes):
            raise RuntimeError(NO_POOLING)


def _wrapped(made: Any, args: Any, kwargs: Any) -> Any:
    """Results as tensors of the pretend GPU; an argument that was changed in place comes back as itself."""
    known = {id(t.raw): t for t in tree_leaves((args, kwargs)) if isinstance(t, PretendTensor)}

    def wrap(one: Any) -> Any:
        if not isinstance(one, torch.Tensor):
            return one
        found = known.get(id(one))
        if found is None:
            return PretendTensor(one)
        if found.shape != one.shape:
            raise NotImplementedError("the pretend GPU cannot change a shape in place")
        return found

    return tree_map(wrap, made)


def _downloaded(made: torch.Tensor, blocking: bool) -> torch.Tensor:
    made = made.clone()
    gpu.note("copy", made.nbytes, blocking)
    if not blocking:
        gpu.arrive_later(made, made)
    return made


def _download_into(given: dict[str, Any]) -> torch.Tensor:
    target, source, blocking = given["self"], given["src"].raw, not given.get("non_blocking", False)
    gpu.note("copy", source.nbytes, blocking)
    target.copy_(source)
    if not blocking:
        gpu.arrive_later(target, target)
    return target


def _refuse(func: Any) -> Any:
    raise NotImplementedError(f"{func} on the pretend GPU")


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, PretendTensor) else value


def _host(argument: str, value: Any) -> Any:
    """An argument as the CPU's operator gets it."""
    if argument == "device" and value is not None:
        return torch.device("cpu")
    return False if argument == "non_blocking" else value


def _is_cpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, PretendTensor)


def _has_mask(given: dict[str, Any]) -> bool:
    return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in given["indices"])


class _Event:
    """``torch.cuda.Event`` of the pretend GPU: what was copied before it has arrived once it is waited for."""

    def __init__(self, **options: Any) -> None:
        self.recorded = False

    def record(self, stream: Any = None) -> None:
        # Without a stream CUDA takes one of the current card, which may be another one (--device cuda:1).
        if stream is None:
            raise ValueError("an event is recorded on no stream of the card that it is to wait for")
        self.recorded = True

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        gpu.synchronize()


class _Stream:
    """A stream of the pretend GPU, on which work is done at once."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_event(self, event: _Event) -> None:
        if not event.recorded:
            raise RuntimeError("a stream waits for an event that was never recorded")


class _DeviceModule:
    """What ``torch.get_device_module("pretend")`` finds."""

    Event, Stream = _Event, _Stream

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return gpu.active

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return int(gpu.active)

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        gpu.synchronize()

    def empty_cache(self) -> None:
        pass

    def current_stream(self, device: Any = None) -> _Stream:
        return _Stream(device or NAME)

    @contextmanager
    def stream(self, stream: _Stream) -> Iterator[None]:
        yield

    def memory_allocated(self, device: Any = None) -> int:
        return gpu.allocated

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return gpu.memory - gpu.allocated, gpu.memory


def _empty(size: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
           memory_format: Any = None) -> torch.Tensor:  # fmt: skip
    return PretendTensor(torch.empty(size, dtype=dtype, memory_format=memory_format))


def _empty_strided(size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None,
                   pin_memory: Any = None) -> torch.Tensor:  # fmt: skip
    return PretendTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    # ``torch.tensor`` comes here with the wrapper's own dispatch turned off.
    given = {"self": target, "src": source, "non_blocking": non_blocking}
    if _is_cpu(target):
        return _download_into(given)
    if _is_cpu(source) and source.ndim:
        gpu.note("upload", blocking=not non_blocking or not gpu.is_pinned(source))
    with torch.inference_mode(False), torch.no_grad():
        target.raw.copy_(_raw(source))
    return target


def _made_on_host(operator: Any) -> Callable[..., torch.Tensor]:
    """A factory whose result torch would resize in place."""

    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        return PretendTensor(operator(*args, **{**kwargs, "device": "cpu"}))

    return make


def _register() -> list[torch.library.Library]:
    """Tell torch of the device; once a process, and for good."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_DeviceModule())
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    aten = torch.ops.aten
    for operator in (aten.arange.default, aten.arange.start, aten.arange.start_step, aten.eye.default, aten.eye.m):
        library.impl(operator.name().removeprefix("aten::"), _made_on_host(operator), "PrivateUse1")
    return [library]


_LIBRARIES = _register()


@contextmanager
def use(memory: int = 1 << 50, mps: bool = False, trace: bool = False) -> Iterator[PretendGpu]:
    """The pretend GPU with fresh counts.

    Args:
        memory: bytes beyond which it is full.
        mps: whether it behaves like Apple's GPU.
        trace: whether ``counts.places`` says where the host waited.
    """
    gpu.reset(memory, mps, trace)
    gpu.active = True
    # A wrapper's data cannot be set: modules that move get new parameters.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    plain = torch.Tensor.pin_memory
    torch.Tensor.pin_memory = lambda tensor, device=None: gpu.pin(tensor)  # type: ignore[method-assign]
    try:
        yield gpu
    finally:
        torch.Tensor.pin_memory = plain  # type: ignore[method-assign]
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        gpu.active = False
        gpu.reset()
