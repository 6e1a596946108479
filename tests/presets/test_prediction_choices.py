"""What a checkpoint predicts is the user's to say; the choice stays, and the next picture heeds it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines.models.manager import PipelineManager
from pipelines.request import InvalidRequest
from pipelines.sampling.denoise import denoise
from presets.json_files import CatalogueError
from presets.library import ModelLibrary
from presets.prediction_choices import PREDICTIONS, PredictionChoices
from presets.user_models import UserModels
from tests.support.paired_models import request
from tests.support.tiny_model import make_tiny_model, tiny_card
from ui.tabs import models

IDLE: Any = SimpleNamespace(status=lambda: SimpleNamespace(model="", state="", text=""))


def library_of(manager: PipelineManager, folder: Path) -> ModelLibrary:
    return ModelLibrary(manager, IDLE, user_models=UserModels(folder / "models.json"))


def test_a_choice_changes_the_next_picture_and_stays(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    card = tiny_card(folder, config="a single file's")
    manager = PipelineManager([card], device="cpu")
    library = library_of(manager, tmp_path)

    def run() -> torch.Tensor:
        with manager.lease("tiny") as model:
            assert model.card.prediction_type == model.scheduler_config["prediction_type"] or not changed
            return list(denoise(model, request(height=32, num_inference_steps=2)))[-1].x_next

    changed = False
    plain, found = run(), {}
    changed = True
    for choice, (kind, zero_snr) in PREDICTIONS.items():
        library.choose_prediction("tiny", choice)
        assert (library.cards["tiny"].prediction_type, library.cards["tiny"].terminal_snr_zero) == (kind, zero_snr)
        if not zero_snr:
            found[choice] = run()
    assert torch.equal(found["epsilon"], plain) and not torch.allclose(found["v"], plain)
    # A new start finds the choice again, and the file's own word can be taken back.
    later = library_of(PipelineManager([card], device="cpu"), tmp_path)
    assert later.cards["tiny"].terminal_snr_zero and later.rows()[0].prediction == "v-zsnr"
    later.choose_prediction("tiny", "file")
    assert later.cards["tiny"] == card and PredictionChoices(tmp_path / "predictions.json").choice(card) == "file"


def test_the_page_asks_for_single_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "manages", lambda library: library.manages)
    cards = [tiny_card("/no/a.safetensors", id="a", config="x"), tiny_card("/no/b", id="b")]
    library = library_of(PipelineManager(cards, device="cpu"), tmp_path)
    rows = {row["id"]: row for row in models.list_value(library)["rows"]}
    assert [name for name, _, _ in rows["a"]["predicts"]] == [f"predicts-{name}" for name in models.PREDICTS]
    assert rows["b"]["predicts"] == []
    assert models.perform(library, "a", "predicts-v", False) == {}
    assert library.cards["a"].prediction_type == "v_prediction"
    assert "only single files" in models.perform(library, "b", "predicts-v", False)["sentences"][0]
    with pytest.raises(CatalogueError):
        library.choose_prediction("a", "tomorrow")
    with pytest.raises(InvalidRequest):
        library.choose_prediction("gone", "v")
    library.manages = False
    assert models.perform(library, "a", "predicts-epsilon", False)["sentences"] == [models.READ_ONLY]


def test_a_broken_list_of_choices_counts_as_none(tmp_path: Path) -> None:
    for text in ("[", "[]", '{"/no/a": 3}', "[" * 100_000):
        (tmp_path / "predictions.json").write_text(text)
        assert PredictionChoices(tmp_path / "predictions.json").choice(tiny_card("/no/a")) == "file"
