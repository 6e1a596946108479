"""Training in the worker, which answers in inference mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def with_gradients(function: F) -> F:
    """Run a function outside of the worker's inference mode, whose tensors cannot learn."""

    @wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return outside  # type: ignore[return-value]
