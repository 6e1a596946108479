"""The table of model families: a new one is a module and a record."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pipelines.model import CannotLoad, Placement, Report
from pipelines.models import families
from pipelines.models.components import load_components
from pipelines.models.families import FAMILIES, Family, family_of, family_of_pipeline, loader
from pipelines.models.families.stable_diffusion import CLASSES, StableDiffusion
from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.denoise import denoise
from presets import diffusers_folder
from tests.support.tiny_model import make_tiny_model, tiny_card


class DummyModel(StableDiffusion):
    """Predicts no noise."""

    def predict(self, x: torch.Tensor, *inputs: Any) -> torch.Tensor:
        return torch.zeros_like(x)


def load_dummy(card: Any, placement: Placement, report: Report) -> DummyModel:
    return DummyModel(card, placement, load_components(card, placement, report, CLASSES, "dummy"))


def dummy_card_fields(read: Any, pipeline: str) -> dict[str, Any]:
    side = 8 * read("unet/config.json")["sample_size"]
    return {"width": side, "height": side, "prediction_type": "epsilon", "qualities": tiny_card("").qualities}


def test_a_new_family_is_a_module_and_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("dummy_family")
    module.load, module.card_fields = load_dummy, dummy_card_fields  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dummy_family", module)
    record = Family("dummy_family:load", "dummy_family:card_fields", ("DummyPipeline",))
    monkeypatch.setattr(families, "FAMILIES", {**FAMILIES, "dummy": record})
    index = make_tiny_model(tmp_path / "dummy") / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "DummyPipeline"}))

    card = diffusers_folder.read_card(index.parent, "dummy")
    assert card.family == "dummy" and card.about.endswith("a DummyPipeline.")
    request = make_request(
        model="dummy",
        prompt="x",
        width=32,
        height=32,
        scheduler="ddim",
        num_inference_steps=2,
        guidance_scale=1.0,
        seed=1,
    )
    with PipelineManager([card], device="cpu").lease("dummy") as model:
        assert isinstance(model, DummyModel)
        *_, last = denoise(model, request)
    assert last.total == 2 and last.cond is not None and not last.cond.any()


def test_each_record_names_functions_that_exist() -> None:
    for name, family in FAMILIES.items():
        assert callable(loader(name)), name
        assert callable(families._function(family.card_fields)), name


def test_no_pipeline_belongs_to_two_families() -> None:
    pipelines = [pipeline for family in FAMILIES.values() for pipeline in family.pipelines]
    assert len(pipelines) == len(set(pipelines))
    assert family_of_pipeline("FluxPipeline") == "flux" and family_of_pipeline("SanaPipeline") == "any"
    assert family_of_pipeline("UpscalePipeline") == family_of_pipeline(None) == family_of_pipeline(["x"]) == ""


def test_a_family_that_is_not_known() -> None:
    card = tiny_card("/nowhere", family="unheard of")
    assert not family_of(card).own_loop and not family_of(card).xformers
    with pytest.raises(CannotLoad, match="The model family is 'unheard of'; allowed: stable_diffusion, "):
        loader(card.family)
