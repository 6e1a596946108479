"""Which build of PyTorch fits this machine: PyPI's own fits few graphics cards, and none on Windows.

    python -m pipelines.system.gpu.torch_build [auto|cpu|cu126|cu130|rocm]

prints what pip needs to be told for it, and on the error stream in one sentence what is fetched and why.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.system.gpu.nvidia_smi import FIRST_DRIVER, NvidiaSmi, ask
from pipelines.system.paths import PROJECT

INDEX = "https://download.pytorch.org/whl/"
# About how much is fetched.
SIZES = {"cpu": "0.2 GB", "cu126": "3 GB", "cu130": "2.5 GB", "rocm": "5 GB"}
# The build for CUDA 12.6 has kernels from 5.0 on, below 10.0; that for CUDA 13 from 7.5 on.
CUDA_12_CAPABILITY, CUDA_13_CAPABILITY, CUDA_13_ALONE = (5, 0), (7, 5), (10, 0)
CUDA_12, CUDA_13 = (12, 0), (13, 0)
# Of AMD's platform; another one: make run TORCH=rocm7.2
ROCM = "rocm7.1"
X86 = ("x86_64", "amd64")
MAC = "This Mac's GPU needs no other, so pip fetches PyPI's build of PyTorch."
INTEL_MAC = (
    "This version of PyTorch is not made for Intel Macs, so the program cannot run there; on a Mac with Apple's chip, "
    "install a Python for arm64."
)
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


class FittingBuild(NamedTuple):
    """The build for an NVIDIA card.

    Attributes:
        name: cpu where no build has kernels for it.
        why: in words that follow the name.
        driver: to which the card's driver must be updated first, 0 where it need not be.
    """

    name: str
    why: str
    driver: int = 0


def build_for(capability: tuple[int, int], driver: tuple[int, int] = (0, 0)) -> FittingBuild:
    """The build for an NVIDIA card.

    Args:
        capability: of the card, (0, 0) where its driver is too old to say.
        driver: the newest CUDA that the driver runs, (0, 0) if unknown.
    """
    if (0, 0) < capability < CUDA_12_CAPABILITY:
        return FittingBuild("cpu", "since no build of this version has kernels for this card")
    old = (0, 0) < capability < CUDA_13_CAPABILITY
    if capability >= CUDA_13_ALONE or not (old or (0, 0) < driver < CUDA_13):
        return FittingBuild("cu130", "for the NVIDIA card of this machine", _driver_for(CUDA_13, driver))
    why = f"since CUDA 13 wants a driver of {FIRST_DRIVER[13]} or newer"
    return FittingBuild(
        "cu126", "since CUDA 13 has no kernels for this card" if old else why, _driver_for(CUDA_12, driver)
    )


def _driver_for(cuda: tuple[int, int], driver: tuple[int, int]) -> int:
    return FIRST_DRIVER[cuda[0]] if (0, 0) < driver < cuda else 0


def best_capability(capabilities: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """That by which the build for several cards is chosen: one that all can use, else one for the newest card."""
    usable = [one for one in capabilities if one >= CUDA_12_CAPABILITY] or list(capabilities)
    newest = max(usable, default=(0, 0))
    return newest if newest >= CUDA_13_ALONE else min(usable, default=(0, 0))


def how_to_install(build: str) -> str:
    """The command that puts a build in place of the installed one; Windows has no make."""
    if sys.platform == "win32":
        return f".venv\\Scripts\\python -m pip install {requirement(build)} --index-url {INDEX}{build}"
    return f"make run TORCH={build}"


def command_in(sentence: str) -> str:
    """The command of ``how_to_install`` that a sentence names, on any system; "" without one."""
    found = re.search(r"make run TORCH=[\w.]*\w|\.venv\\Scripts\\python -m pip install \S+ --index-url \S*\w", sentence)
    return found[0] if found else ""


def choose(
    asked: str, system: str, machine: str, smi: NvidiaSmi | None = None, own_sources: bool = False
) -> TorchBuild:
    """The build for a machine.

    Args:
        asked: auto, or a build by name.
        system, machine: as ``platform.system`` and ``platform.machine`` say.
        smi: what ``nvidia-smi`` tells, None without one.
        own_sources: whether pip was told of other places than PyPI.

    Raises:
        ValueError: with one sentence, for an unknown name, and for what is not made for this machine.
    """
    smi = smi or NvidiaSmi()
    if system == "Darwin" and machine == "x86_64" and not own_sources:
        raise ValueError(INTEL_MAC)
    if asked != "auto":
        return _asked(asked, system, machine.lower(), smi)
    if own_sources:
        return TorchBuild("", "", "pip fetches PyTorch from where it is told to on this machine.")
    if system == "Darwin":
        return TorchBuild("", "", MAC)
    if machine.lower() not in X86:
        return TorchBuild("", "", "pip fetches PyPI's build of PyTorch for this processor.")
    if smi.silent:
        return _build("cpu", "since nvidia-smi does not answer (once it does: make run TORCH=cu130, or cu126)")
    if not smi.cards:
        return _build("cpu", "since nvidia-smi finds no NVIDIA card (an AMD card on Linux: TORCH=rocm)")
    found = build_for(best_capability([card.capability for card in smi.cards]), smi.driver)
    update = f"; update its driver to {found.driver} or newer, too" if found.driver else ""
    return _build(found.name, found.why + update)


def _asked(asked: str, system: str, machine: str, smi: NvidiaSmi) -> TorchBuild:
    """A build by name."""
    if asked not in SIZES and not re.fullmatch(r"rocm\d+\.\d+", asked):
        raise ValueError(f"TORCH is {asked[:20]!r}; allowed: auto, {', '.join(SIZES)}.")
    if system == "Darwin":
        if asked != "cpu":
            raise ValueError(f"A Mac has no use for the build {asked}; leave TORCH out, and its own GPU is used.")
        return TorchBuild("", "", MAC)
    rocm = asked.startswith("rocm")
    if rocm and (system != "Linux" or machine not in X86):
        raise ValueError("PyTorch's build for AMD cards is for Linux on x86-64 alone; use TORCH=cpu here.")
    unused = ", though nvidia-smi finds an NVIDIA card, which it does not use" if smi.cards and rocm else ""
    return _build(asked, f"as you asked{unused}")


def _build(name: str, why: str) -> TorchBuild:
    size = SIZES["rocm" if name.startswith("rocm") else name]
    index = INDEX + (ROCM if name == "rocm" else name)
    return TorchBuild(name, index, f"Fetching PyTorch's build {name}, about {size}, {why}.")


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
        build = choose(asked, platform.system(), platform.machine(), ask(), own_sources)
    except ValueError as error:
        sys.exit(str(error))
    print(build.why, file=sys.stderr)
    print(f"{requirement(build.name)} --index-url {build.index}" if build.index else "")


if __name__ == "__main__":
    main()
