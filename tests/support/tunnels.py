"""Tunnels whose program is a stand-in (``tunnel_program``) for the share service's client."""

from __future__ import annotations

import hashlib
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ui.server.access import Access
from ui.server.sharing import Sharing
from ui.server.tunnel import Tunnel, TunnelClient, TunnelServer

STAND_IN = Path(__file__).with_name("tunnel_program.py")
URL = "https://abc123.gradio.live"


def stand_in_program(folder: Path, mode: str) -> Path:
    """The stand-in as a program of its own."""
    path = folder / f"client-{mode}"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {mode} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def stand_in_client(folder: Path, mode: str = "good", **changes: Any) -> TunnelClient:
    path = stand_in_program(folder, mode)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values = {
        "path": path,
        "digest": digest,
        "download": lambda: None,
        "find_server": lambda: TunnelServer("127.0.0.1:1", "CERT"),
    }
    return TunnelClient(**{**values, **changes})


@contextmanager
def make_tunnels(folder: Path) -> Iterator[Callable[..., Tunnel]]:
    """A function that makes tunnels; all of them end with the context."""
    made: list[Tunnel] = []

    def make(mode: str = "good", **changes: Any) -> Tunnel:
        made.append(Tunnel(stand_in_client(folder, mode, **changes), folder / "tunnel"))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.stop()


def make_sharing(tunnels: Any, mode: str = "good", **changes: Any) -> tuple[Sharing, Access]:
    access = Access(b"k" * 32, 7860, **changes)
    return Sharing(access, 7860, lambda: tunnels(mode), lambda: 5), access


def running_programs() -> int:
    """Stand-ins that this process has started and that still run."""
    return len(_programs())


def end_programs() -> None:
    """Kill all running stand-ins."""
    for process in _programs():
        process.kill()


def _programs() -> list[psutil.Process]:
    # Not `ps`: it cuts lines at the width of a terminal that does not exist here.
    children = psutil.Process().children(recursive=True)
    return [one for one in children if _is_running(one) and str(STAND_IN) in _command(one)]


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
