"""Train on several processes of one machine: every process takes its own batch, all take the same step.

On two cores two processes of one thread each are about twice as fast as one process of two threads, because the
layers of so small a model are too short to be shared out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing


def run(train: Callable[[Any], None], options: Any, processes: int) -> None:
    """Call ``train(options)`` in every process; a function of a module's top level, since it is sent by name."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_work, (train, options, processes, f"file://{folder}/meeting"), nprocs=processes)


def _work(rank: int, train: Callable[[Any], None], options: Any, processes: int, meeting: str) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    # Other programs may hold a processor for long: no process gives up on a slow one.
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes, timeout=timedelta(hours=24))
    train(options)
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process; the one numbered 0 saves and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients."""
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def computes_in_bfloat16() -> bool:
    """Whether the processor does; elsewhere bfloat16 would be slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def half_precision(device: str = "cpu") -> AbstractContextManager:
    """bfloat16 where the device computes with it."""
    if device == "cuda" or computes_in_bfloat16():
        return torch.autocast(device, torch.bfloat16)
    return nullcontext()


def wait_for_all() -> None:
    """Wait until every process is here."""
    if count() > 1:
        dist.barrier()
