"""The model of the tests of this folder."""

from __future__ import annotations

import pytest

from pipelines.models.manager import PipelineManager
from tests.support.tiny_model import make_tiny_model, tiny_card


@pytest.fixture(scope="session")
def epsilon(tmp_path_factory: pytest.TempPathFactory):
    folder = make_tiny_model(tmp_path_factory.mktemp("epsilon"))
    with PipelineManager([tiny_card(folder)], device="cpu").lease("tiny") as lent:
        yield lent
