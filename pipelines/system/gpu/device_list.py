"""The devices that work at the same time, as the owner names them: ``cuda:0,cuda:1`` or ``cpux2``."""

from __future__ import annotations

import re

MAX_DEVICES = 64
_CPU = re.compile(r"cpu(?:x(\d{1,3}))?", re.ASCII)
_CUDA = re.compile(r"cuda:(\d{1,3})", re.ASCII)


def device_list(text: str) -> tuple[str, ...]:
    """The device of each worker; raises ValueError with half a sentence.

    Args:
        text: names with commas between them: cuda:0, cuda:1 and so on, each once, or cpu, or cpux2 for two workers on
            the CPU.
    """
    found: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        cpu, cuda = _CPU.fullmatch(name), _CUDA.fullmatch(name)
        if not (cpu or cuda):
            raise ValueError(f"{name[:20]!r} is none of cuda:0, cuda:1 and so on, cpu, or cpux2 for two CPU workers")
        device = "cpu" if cpu else f"cuda:{int(cuda[1])}" if cuda else ""
        if cuda and device in found:
            raise ValueError(f"{device} is named twice; name each graphics card once")
        found += [device] * (int(cpu[1] or 1) if cpu else 1)
        if not 1 <= len(found) <= MAX_DEVICES:
            raise ValueError(f"{text[:40]!r} names {len(found)} devices; name 1 to {MAX_DEVICES}")
    return tuple(found)
