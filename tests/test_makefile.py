"""``make run`` fetches the build of PyTorch that was asked for, and xformers only beside the one that it fits."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.system.gpu.torch_build import INDEX, requirement

PROJECT = Path(__file__).parents[1]
# In place of the environment's Python: says what pip is told, and lets the program choose the build.
PYTHON = """#!/bin/sh
case "$*" in
  *"pip install"*) echo "$*" >> {log}; case "$*" in *"{refused}"*) exit 1;; esac;;
  *) exec {python} "$@";;
esac
"""


@pytest.fixture
def make(tmp_path: Path):
    if shutil.which("make") is None or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("there is no make here, or builds are of another kind")

    def run(build: str, refused: str = "nothing is refused") -> tuple[int, str, list[str]]:
        python, log = tmp_path / "python", tmp_path / "log"
        python.write_text(PYTHON.format(log=log, python=sys.executable, refused=refused))
        python.chmod(0o755)
        log.write_text("")
        stamp = tmp_path / f"torch-{build}.stamp"
        done = subprocess.run(
            ["make", f"VENV={tmp_path}", f"PY={python}", f"PYTHON={sys.executable}", f"TORCH={build}", str(stamp)],
            cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert stamp.exists() == (done.returncode == 0)
        fetched = [line.partition("version-check ")[2] for line in log.read_text().splitlines()]
        stamp.unlink(missing_ok=True)
        return done.returncode, done.stderr, fetched

    return run


def test_each_build_by_name_with_its_size_before_it_is_fetched(make) -> None:
    for build, size in (("cpu", "0.2 GB"), ("cu130", "2.5 GB"), ("rocm", "5 GB")):
        status, told, fetched = make(build)
        asked = requirement(build)
        index = INDEX + asked.partition("+")[2]
        assert (status, fetched) == (0, [f"--retries 1 {asked} --index-url {index}"])
        assert f"Fetching PyTorch's build {build}, about {size}, as you asked" in told
    assert make("rocm7.2")[2] == [f"--retries 1 {requirement('rocm7.2')} --index-url {INDEX}rocm7.2"]


def test_xformers_comes_with_the_one_build_that_it_fits(make) -> None:
    _, _, fetched = make("cu126")
    asked = f"{requirement('cu126')} --index-url {INDEX}cu126"
    assert fetched == [
        f"--retries 1 {asked}",
        f"{asked} -r requirements-xformers.txt --extra-index-url https://pypi.org/simple",
    ]


def test_what_cannot_be_fetched_or_is_no_build_is_one_sentence(make) -> None:
    status, told, _ = make("cu130", refused="cu130")
    assert status and "PyTorch's build cu130 cannot be fetched" in told
    status, told, fetched = make("cuda")
    assert status and not fetched and "allowed: auto, cpu, cu126, cu130, rocm" in told and "Traceback" not in told
