"""What the tests of this tab share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.images.uploads import UploadStore
from tests.support.source_tab import SourceTab, noise_image


@pytest.fixture
def inputs(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "inputs")


@pytest.fixture
def tab(inputs: UploadStore) -> SourceTab:
    return SourceTab(inputs)


@pytest.fixture
def path(tmp_path: Path) -> str:
    noise_image(64, 64).save(tmp_path / "mine.png")
    return str(tmp_path / "mine.png")
