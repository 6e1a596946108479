"""A network of its own that shares its weights with another: layers can be added to it and the other stays as it is."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def shared_copy(module: M) -> M:
    """The modules are copied, the weights are the same tensors: no memory, and a move of one moves both.

    What torch.compile made of the module is left behind, and an engine that replaces its calls never saw the copy.
    """
    tensors = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, tensors)
