"""Groups of weights that wait in RAM and come to the card when they are called, the next ones while one works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

_CONTAINERS = (
    torch.nn.ModuleList,
    torch.nn.ModuleDict,
    torch.nn.Sequential,
    torch.nn.ParameterList,
    torch.nn.ParameterDict,
)
# They read the weights of their children without calling them.
_WHOLE = (torch.nn.MultiheadAttention,)


class WeightGroup:
    """Weights that come to the card together.

    Args:
        leader: the network whose call needs them.
        modules: those whose own weights they are.
        around: whether other groups come during that call.
    """

    def __init__(self, leader: torch.nn.Module, modules: list[torch.nn.Module], around: bool = False) -> None:
        self.leader, self.around = leader, around
        self._modules = modules
        self.bytes = sum(tensor.numel() * tensor.element_size() for *_, tensor in self.tensors())
        self.arrived: Any = None
        self._home: list[tuple[dict[str, Any], str, Any]] = []

    def tensors(self) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
        """Each weight with the table and the name under which its network finds it."""
        for module in self._modules:
            for table in (module._parameters, module._buffers):
                yield from ((table, name, tensor) for name, tensor in list(table.items()) if tensor is not None)

    def come(self, work: torch.device) -> None:
        """Put copies on the card in the place of the weights."""
        for table, name, tensor in self.tensors():
            if tensor.device.type != work.type:  # "cuda" is not equal to "cuda:0", on which the copies are
                self._home.append((table, name, tensor))
                table[name] = _copy(tensor, work)

    def leave(self) -> None:
        """Let go of the copies: weights do not change, so nothing is copied back."""
        self.arrived = None
        while self._home:
            table, name, tensor = self._home.pop()
            table[name] = tensor


def split(module: torch.nn.Module, limit: int) -> list[WeightGroup]:
    """The groups of a network: parts of at most so many bytes that are called as a whole, or single layers.

    What lies between the parts of a larger one, such as a table of positions, comes for the whole of its call.
    """
    groups, strays = _split(module, limit)
    if strays:  # of a network that is nothing but a container
        groups.insert(0, WeightGroup(module, strays, around=bool(groups)))
    return [group for group in groups if group.bytes]


def _split(module: torch.nn.Module, limit: int) -> tuple[list[WeightGroup], list[torch.nn.Module]]:
    """The groups of a network, and the containers in it whose own weights belong to what is called around it."""
    container = isinstance(module, _CONTAINERS)
    whole = WeightGroup(module, list(module.modules()))
    if not container and (whole.bytes <= limit or isinstance(module, _WHOLE)):
        return [whole], []
    groups, strays = [], [module]
    for child in module.children():
        more, left = _split(child, limit)
        groups += more
        strays += left
    return (groups, strays) if container else ([WeightGroup(module, strays, around=bool(groups)), *groups], [])


class WeightCourier:
    """Brings the groups of a network to the card as they are called.

    Where the card can copy while it computes, the groups that followed the last time come while one works.  At any
    time no more is there than the two largest groups, and what lies around them.

    Args:
        module: in RAM.
        work: the card.
        groups: of it; in the order in which they were found, which need not be that of the calls.
    """

    def __init__(self, module: torch.nn.Module, work: torch.device, groups: list[WeightGroup]) -> None:
        self._work = work
        streams = work.type not in ("cpu", "mps") and hasattr(torch.get_device_module(work), "Stream")
        self._lane = _Lane(work) if streams and len(groups) > 1 else None
        inner = sorted(group.bytes for group in groups if not group.around)
        self.room = sum(inner[-2:]) + sum(group.bytes for group in groups if group.around)
        self._following: dict[WeightGroup | None, WeightGroup] = {}
        self._last: WeightGroup | None = None
        self._there: list[WeightGroup] = []
        self._called: set[WeightGroup] = set()
        self._stays = False
        self._handles: list[RemovableHandle] = [module.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for group in groups:
            enter, leave = partial(self._enter, group), partial(self._leave, group)
            self._handles.append(group.leader.register_forward_pre_hook(enter, with_kwargs=True))
            # Also after an error: memory has run out, and the copies would stay.
            self._handles.append(group.leader.register_forward_hook(leave, always_call=True))
        self._handles.append(module.register_forward_hook(self._end, always_call=True))

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Keep on the card what comes until the end: the network is called for one tile after another."""
        self._stays = True
        try:
            yield
        finally:
            self._stays = False
            self._drop_all()

    def remove(self) -> None:
        """Leave the network in RAM, as it was."""
        for handle in self._handles:
            handle.remove()
        self._drop_all()

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        self._last = None
        self._fetch_following(None)
        return _moved(args, self._work), _moved(kwargs, self._work)

    def _end(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if not self._stays:
            self._drop_all()

    def _enter(self, group: WeightGroup, module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        self._following[self._last] = self._last = group
        self._called.add(group)
        if group not in self._there:
            self._make_room(group)
            self._fetch(group)
        if self._lane is not None:
            self._lane.wait_for(group)
        self._fetch_following(group)
        return _moved(args, self._work), _moved(kwargs, self._work)

    def _leave(self, group: WeightGroup, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._called.discard(group)
        if not self._stays:
            self._drop(group)

    def _fetch(self, group: WeightGroup) -> None:
        self._there.append(group)
        if self._lane is None:
            group.come(self._work)
        else:
            self._lane.fetch(group)

    def _fetch_following(self, group: WeightGroup | None) -> None:
        """Have those that came after a group the last time come, as far as there is room."""
        following = self._following.get(group) if self._lane is not None else None
        while following is not None and following is not group:
            if following not in self._there:
                if self._bytes() + following.bytes > self.room:
                    return
                self._fetch(following)
            following = self._following.get(following)

    def _make_room(self, group: WeightGroup) -> None:
        """Drop what came in vain, where the order of the calls has changed."""
        for other in [one for one in self._there if one not in self._called]:
            if self._bytes() + group.bytes > self.room:
                self._drop(other)

    def _bytes(self) -> int:
        return sum(group.bytes for group in self._there)

    def _drop(self, group: WeightGroup) -> None:
        if group in self._there:
            self._there.remove(group)
            if self._lane is not None:
                self._lane.let_go()
            group.leave()

    def _drop_all(self) -> None:
        self._called.clear()
        for group in list(self._there):
            self._drop(group)


class _Lane:
    """A stream on which weights come to the card while another one computes."""

    def __init__(self, work: torch.device) -> None:
        self._module, self._work = torch.get_device_module(work), work
        self._stream = self._module.Stream(device=work)

    def fetch(self, group: WeightGroup) -> None:
        """Have a group come, behind what is on its way already."""
        # The copies get memory of this stream: it is used again only in the order of its own work.
        with self._module.stream(self._stream):
            group.come(self._work)
        group.arrived = self._module.Event()
        group.arrived.record(self._stream)

    def wait_for(self, group: WeightGroup) -> None:
        """Have the computation go on once a group is there; the program does not wait."""
        if group.arrived is not None:
            self._module.current_stream(self._work).wait_event(group.arrived)

    def let_go(self) -> None:
        """Have later copies wait until the computation has read what is let go of."""
        done = self._module.Event()
        done.record(self._module.current_stream(self._work))
        self._stream.wait_event(done)


def _copy(tensor: torch.Tensor, work: torch.device) -> Any:
    there = tensor.detach().to(work, non_blocking=work.type not in ("cpu", "mps"))
    return torch.nn.Parameter(there, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else there


def _moved(values: Any, work: torch.device) -> Any:
    from accelerate.utils import send_to_device

    return send_to_device(values, work)
