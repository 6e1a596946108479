"""The local backend on a toy model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.jobs.local import LocalBackend
from tests.support.toy_backend import Gate, ToyManager, toy_denoise


@pytest.fixture
def make_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalBackend]]:
    monkeypatch.setattr("pipelines.sampling.denoise.denoise", toy_denoise)
    made: list[LocalBackend] = []

    def factory(manager: Any = None, **options: Any) -> LocalBackend:
        made.append(LocalBackend(manager or ToyManager(), tmp_path / "pictures", threads=1, **options))
        return made[-1]

    yield factory
    for backend in made:
        if isinstance(backend._runner.on_step, Gate):
            backend._runner.on_step.open.set()
        backend._manager.gate.set()
        backend.close()
