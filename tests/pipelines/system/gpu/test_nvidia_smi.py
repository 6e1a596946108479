"""The driver's own program, in all the ways in which it answers or does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.system.gpu import nvidia_smi
from pipelines.system.gpu.nvidia_smi import NvidiaCard, NvidiaSmi, ask, read

RTX, CARD = "NVIDIA GeForce RTX 3050, 8192, 581.29, 8.6", NvidiaCard("NVIDIA GeForce RTX 3050", 8192 * 2**20, (8, 6))


@pytest.mark.parametrize(
    ("answer", "cards", "driver"),
    [
        (RTX, [CARD], (13, 0)),
        (RTX.replace(", ", " , ") + "\r\nTesla T4, 15360, 550.54.14, 7.5\r\n", ["NVIDIA GeForce RTX 3050", "Tesla T4"],
         (12, 0)),
        ("NVIDIA GB10, [N/A], 580.95.05, 12.1", [NvidiaCard("NVIDIA GB10", 0, (12, 1))], (13, 0)),
        ("GeForce GTX 970, 4096, 391.35", [NvidiaCard("GeForce GTX 970", 4096 * 2**20)], (9, 0)),
        ("", [], (0, 0)),
        ("No devices were found", [], (0, 0)),
        ("a, b, c", [], (0, 0)),
        ("x, 12", [], (0, 0)),
        ("x, ١٢, 580.1, 8.6", [NvidiaCard("x", 0, (8, 6))], (13, 0)),
    ],
)  # fmt: skip
def test_what_its_lines_say(answer: str, cards: list[NvidiaCard | str], driver: tuple[int, int]) -> None:
    found = read(answer)
    assert [
        one if isinstance(want, NvidiaCard) else one.name for one, want in zip(found.cards, cards, strict=True)
    ] == (cards)
    assert found.driver == driver


PROGRAMS = {
    "new": (f"echo '{RTX}'", NvidiaSmi((CARD,), (13, 0))),
    "old": (
        'case "$1" in *compute_cap*) echo \'Field "compute_cap" is not a valid field to query.\'; exit 2;; esac\n'
        "echo 'GeForce GTX 970, 4096, 471.11'",
        NvidiaSmi((NvidiaCard("GeForce GTX 970", 4096 * 2**20),), (11, 0)),
    ),
    "no card": ("echo 'No devices were found'; exit 6", NvidiaSmi()),
    "no driver": ('echo "NVIDIA-SMI has failed because it couldn\'t communicate"; exit 9', NvidiaSmi(silent=True)),
    "slow": ("exec sleep 60", NvidiaSmi(silent=True)),
    "foreign letters": (f"printf '\\377\\376'; echo; echo '{RTX}'", NvidiaSmi((CARD,), (13, 0))),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_what_it_answers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, wanted = PROGRAMS[kind]
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(nvidia_smi, "SECONDS", 0.3 if kind == "slow" else 60)
    assert ask() == wanted


def test_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(nvidia_smi, "PLACES", ())
    assert ask() == NvidiaSmi()


def test_it_is_found_off_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service in WSL has a path without the driver's folder."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{RTX}'\n")
    program.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(nvidia_smi, "PLACES", (str(tmp_path / "missing"), str(program)))
    assert ask() == NvidiaSmi((CARD,), (13, 0))
