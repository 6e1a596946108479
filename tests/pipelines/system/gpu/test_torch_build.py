"""The build of PyTorch for each machine."""

from __future__ import annotations

import pytest

from pipelines.system.gpu.torch_build import INDEX, choose, has_own_sources

TABLE = "| NVIDIA-SMI 570.86   Driver Version: 570.86   CUDA Version: {cuda} |\ncapability {capability}"


def smi(cuda: str, capability: str) -> str:
    return TABLE.format(cuda=cuda, capability=capability)


@pytest.mark.parametrize(
    ("system", "machine", "said", "name"),
    [
        ("Linux", "x86_64", "", "cpu"),
        ("Windows", "AMD64", "", "cpu"),
        ("Windows", "AMD64", smi("13.0", "8.6"), "cu130"),
        ("Linux", "x86_64", smi("13.0", "8.9"), "cu130"),
        ("Linux", "x86_64", smi("13.0", "6.1"), "cu126"),  # GTX 1060
        ("Linux", "x86_64", smi("13.0", "7.0"), "cu126"),  # V100
        ("Linux", "x86_64", smi("13.0", "8.6") + "\ncapability 6.1", "cu126"),
        ("Linux", "x86_64", smi("12.4", "8.6"), "cu126"),
        ("Linux", "aarch64", smi("13.0", "9.0"), ""),
        ("Darwin", "arm64", "", ""),
    ],
)
def test_the_build_goes_by_system_and_card(system: str, machine: str, said: str, name: str) -> None:
    found = choose("auto", system, machine, said)
    assert found.name == name and found.index == (INDEX + name if name else "")
    assert found.why.endswith(".") and ("GB" in found.why) == bool(name)


def test_a_build_by_name_and_sources_of_ones_own() -> None:
    assert choose("cu126", "Linux", "x86_64").index == INDEX + "cu126"
    assert choose("rocm", "Linux", "x86_64").index.startswith(INDEX + "rocm")
    assert choose("rocm7.2", "Linux", "x86_64").index == INDEX + "rocm7.2"
    assert choose("auto", "Linux", "x86_64", smi("13.0", "8.6"), own_sources=True).index == ""
    with pytest.raises(ValueError, match="allowed: auto, cpu, cu126, cu130, rocm"):
        choose("cuda", "Linux", "x86_64")
    assert has_own_sources({"PIP_INDEX_URL": "https://here"}) and has_own_sources({}, "global.find-links='/x'")
    assert has_own_sources({}, "global.extra-index-url = 'https://here'") and not has_own_sources(
        {}, "global.cert='/x'"
    )
