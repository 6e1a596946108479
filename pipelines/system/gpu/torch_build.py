"""Which build of PyTorch fits this machine: PyPI's own fits few graphics cards, and none on Windows.

    python -m pipelines.system.gpu.torch_build [auto|cpu|cu126|cu130|rocm]

prints what pip needs to be told for it, and on the error stream in one sentence what is fetched and why.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.system.paths import PROJECT

INDEX = "https://download.pytorch.org/whl/"
# About how much is fetched.
SIZES = {"cpu": "0.2 GB", "cu126": "3 GB", "cu130": "2.5 GB", "rocm": "5 GB"}
# The first CUDA 13 build has no kernels below this, and needs a driver that runs CUDA 13 (580 or newer).
CUDA_13_CAPABILITY, CUDA_13 = (7, 5), (13, 0)
# Of AMD's platform; another one: make run TORCH=rocm7.2
ROCM = "rocm7.1"
SMI_SECONDS = 10.0
# Where pip was told of other places than PyPI: they have the builds that they have.
_OWN_SOURCES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")


@dataclass(frozen=True)
class TorchBuild:
    """A build of PyTorch.

    Attributes:
        name: cpu, cu126, cu130 or rocm; "" for the one that pip finds by itself.
        index: where pip finds it, "" for pip's own choice.
        why: what is fetched and why, in one sentence.
    """

    name: str
    index: str
    why: str


def choose(asked: str, system: str, machine: str, smi: str = "", own_sources: bool = False) -> TorchBuild:
    """The build for a machine.

    Args:
        asked: auto, or a build by name.
        system, machine: as ``platform.system`` and ``platform.machine`` say.
        smi: what ``nvidia-smi`` printed, "" without one.
        own_sources: whether pip was told of other places than PyPI.

    Raises:
        ValueError: with one sentence, for an unknown name.
    """
    if asked != "auto":
        name = asked if asked in SIZES or re.fullmatch(r"rocm\d+\.\d+", asked) else ""
        if not name:
            raise ValueError(f"TORCH is {asked[:20]!r}; allowed: auto, {', '.join(SIZES)}.")
        return _build(name, "as you asked")
    if own_sources:
        return TorchBuild("", "", "pip fetches PyTorch from where it is told to on this machine.")
    if system == "Darwin":
        why = "An Intel Mac has no PyTorch of this version" if machine == "x86_64" else "This Mac's GPU needs no other"
        return TorchBuild("", "", f"{why}, so pip fetches PyPI's build of PyTorch.")
    if machine.lower() not in ("x86_64", "amd64"):
        return TorchBuild("", "", "pip fetches PyPI's build of PyTorch for this processor.")
    if not smi:
        return _build("cpu", "since nvidia-smi finds no NVIDIA card (an AMD card on Linux: TORCH=rocm)")
    capability, driver = _capability(smi), _cuda(smi)
    if capability and capability < CUDA_13_CAPABILITY:
        return _build("cu126", "since CUDA 13 has no kernels for this card")
    if driver and driver < CUDA_13:
        return _build("cu126", "since this driver runs CUDA 12; one of 580 or newer runs CUDA 13")
    return _build("cu130", "for the NVIDIA card of this machine")


def _build(name: str, why: str) -> TorchBuild:
    size = SIZES["rocm" if name.startswith("rocm") else name]
    index = INDEX + (ROCM if name == "rocm" else name)
    return TorchBuild(name, index, f"Fetching PyTorch's build {name}, about {size}, {why}.")


def _capability(smi: str) -> tuple[int, int] | None:
    """The least capability among the cards, of lines that begin with ``capability``."""
    found = [(int(a), int(b)) for a, b in re.findall(r"^capability (\d+)\.(\d+)", smi, re.MULTILINE)]
    return min(found, default=None)


def _cuda(smi: str) -> tuple[int, int] | None:
    """The newest CUDA that the driver runs, as nvidia-smi's own table says."""
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", smi)
    return (int(found[1]), int(found[2])) if found else None


def ask_nvidia_smi() -> str:
    """What nvidia-smi says of cards and driver, "" without one."""
    path = shutil.which("nvidia-smi")
    if path is None:
        return ""
    answers = []
    for options in ([], ["--query-gpu=compute_cap", "--format=csv,noheader"]):
        try:
            done = subprocess.run([path, *options], capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        answers.append(done.stdout)
    return answers[0] + "".join(f"\ncapability {line.strip()}" for line in answers[1].splitlines())


def requirement(name: str) -> str:
    """The pinned version of PyTorch in this build, as pip takes it."""
    pinned = re.search(r"^torch==\S+", (PROJECT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    return f"{pinned[0]}+{ROCM if name == 'rocm' else name}"


def has_own_sources(environ: Mapping[str, str], settings: str = "") -> bool:
    """Whether pip was told of other places than PyPI, by the environment or by ``pip config list``."""
    named = re.search(r"(index-url|find-links|no-index)\s*=", settings)
    return named is not None or any(environ.get(name) for name in _OWN_SOURCES)


def _pip_settings() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def main() -> None:
    """Print pip's options for the build; see the module."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "auto"
    own_sources = asked == "auto" and has_own_sources(os.environ, _pip_settings())
    try:
        build = choose(asked, platform.system(), platform.machine(), ask_nvidia_smi(), own_sources)
    except ValueError as error:
        sys.exit(str(error))
    print(build.why, file=sys.stderr)
    print(f"{requirement(build.name)} --index-url {build.index}" if build.index else "")


if __name__ == "__main__":
    main()
