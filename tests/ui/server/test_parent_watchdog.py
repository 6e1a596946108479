"""The tunnel's program ends with the process that started it, even when that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.running_program import ROOT
from tests.support.tunnels import stand_in_program

PARENT = """
import hashlib, sys, time
from pathlib import Path
from ui.server.tunnel import Tunnel, TunnelClient, TunnelServer
path = Path(sys.argv[1])
client = TunnelClient(path, hashlib.sha256(path.read_bytes()).hexdigest(), print, lambda: TunnelServer("127.0.0.1:1"))
tunnel = Tunnel(client, path.parent)
tunnel.start(7860)
print("up", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("mode", ["good", "stubborn"])
def test_the_tunnel_ends_with_the_program_that_created_it(tmp_path: Path, mode: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(stand_in_program(tmp_path, mode))], stdout=subprocess.PIPE, text=True,
        cwd=ROOT,        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert parent.stdout is not None and parent.stdout.readline() == "up\n"
        tunnels = psutil.Process(parent.pid).children(recursive=True)
        assert any("tunnel_program.py" in word for one in tunnels for word in one.cmdline())
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(tunnels, 60)
    for process in alive:
        process.kill()
    assert alive == []
