"""A network of its own that shares its weights with another."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig

from pipelines.model import Placement
from pipelines.models.families.shared_copy import shared_copy
from pipelines.models.families.stable_diffusion import load
from pipelines.models.openvino.engine import _ModuleState
from tests.support.tiny_model import make_tiny_model, tiny_card


def test_layers_of_a_training_copy_leave_the_model_and_what_was_compiled_of_it(tmp_path: Path) -> None:
    card = tiny_card(make_tiny_model(tmp_path / "model"))
    model = load(card, Placement("cpu", "float32", "sdpa"), lambda *_: None)
    state = _ModuleState(model.denoiser)
    copy = model.training_copy()
    copy.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv1"]))
    assert state.unchanged() and copy.denoiser is copy.unet is not model.denoiser
    assert copy.unet.conv_in.weight is model.unet.conv_in.weight
    assert not any("lora" in name for name in model.denoiser.state_dict())


def test_what_moves_one_moves_both() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    other = shared_copy(module)
    module.to(torch.float64)
    assert all(weight.dtype == torch.float64 for weight in other.parameters())
    assert other[0] is not module[0] and other[1] is not module[1]
