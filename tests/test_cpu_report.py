"""The processor seconds of a run: those of processes that it started count, whether they go on or have ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cpu_report import Meter

# Computes until it has used a quarter of a second.
WORK = "import time\nwhile time.process_time() < 0.25: pass\nprint('done', flush=True)\n"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_what_other_processes_use_is_counted_once() -> None:
    meter = Meter()
    subprocess.run([sys.executable, "-c", WORK], check=True, capture_output=True)
    assert meter.lap() >= 0.2
    with subprocess.Popen([sys.executable, "-c", WORK + "input()"], stdin=-1, stdout=-1, text=True) as running:
        assert running.stdout and running.stdout.readline() == "done\n"
        first = meter.lap()
        running.communicate("\n")
    assert first >= 0.2 and meter.lap() < first
