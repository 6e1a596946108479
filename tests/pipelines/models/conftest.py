"""Three tiny models, for tests of how models are loaded and kept."""

from __future__ import annotations

import pytest
import torch

from pipelines.cards import ModelCard
from tests.support.tiny_model import make_tiny_model, tiny_card


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[ModelCard]:
    torch.set_num_threads(1)
    folders = [make_tiny_model(tmp_path_factory.mktemp(name), seed=k) for k, name in enumerate("abc")]
    return [tiny_card(folder, id=name) for folder, name in zip(folders, "abc", strict=True)]
