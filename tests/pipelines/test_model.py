"""The protocol of a loaded model: every family keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import get_protocol_members

from pipelines.cards import ModelCard
from pipelines.model import Model, Placement
from pipelines.models.families import FAMILIES, loader
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

PLACEMENT = Placement("cpu", "float32", "sdpa")


def load(family: str, folder: Path) -> Model:
    made = (
        make_tiny_model(folder) if family == "stable_diffusion" else make({"any": "pixart"}.get(family, family), folder)
    )
    card: ModelCard = tiny_card(made, family=family)
    return loader(family)(card, PLACEMENT, lambda part, done, total: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_has_every_member_of_the_protocol(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path / "model")
    assert [name for name in get_protocol_members(Model) if not hasattr(model, name)] == []
    assert model.denoiser in model.modules.values() and model.size_bytes > 0
    assert (model.own_loop is not None) == FAMILIES[family].own_loop
    if model.own_loop is not None:
        with pytest.raises(NotImplementedError):
            model.encode_prompt(["x"])
