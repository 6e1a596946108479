"""Small loaded models and what they are taught."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.model import Placement
from pipelines.models.families import stable_diffusion, stable_diffusion_xl
from pipelines.training.fine_tuning.checkpoints import RunFolder
from pipelines.training.fine_tuning.examples import Examples
from pipelines.training.fine_tuning.settings import TeachingSettings, TrainingPlan
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

CPU = Placement("cpu", "float32", "sdpa")
SHORT = TrainingPlan(steps=24, batch=4, rank=4, rate=5e-3, own=2, every=4, patience=0)


XL = "xl"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folders of the models by kind, each made once."""

    @cache
    def folder(kind: str) -> Path:
        found = tmp_path_factory.mktemp("models") / kind
        if kind == XL:
            make("stable_diffusion_xl", found)
        else:
            make_tiny_model(found, prediction_type=kind)
        return found

    return folder


def load(folder: Path, kind: str) -> Any:
    if kind == XL:
        return stable_diffusion_xl.load(tiny_card(folder, family="stable_diffusion_xl"), CPU, lambda *_: None)
    return stable_diffusion.load(tiny_card(folder), CPU, lambda *_: None)


@pytest.fixture(params=("epsilon", "v_prediction", XL))
def model(request: pytest.FixtureRequest, folders: Callable[[str], Path]) -> Any:
    return load(folders(request.param), request.param)


@pytest.fixture
def small(folders: Callable[[str], Path]) -> Any:
    return load(folders("epsilon"), "epsilon")


def latents(count: int, seed: int = 1) -> torch.Tensor:
    """One thing with a little noise, so that there is something to learn."""
    draw = torch.Generator().manual_seed(seed)
    thing = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return thing + 0.1 * torch.randn(count, 4, 4, 4, generator=draw)


def examples(count: int = 4, caption: str = "a zorp") -> Examples:
    return Examples(latents(count), (caption,) * count)


@pytest.fixture
def taught() -> Callable[..., Examples]:
    return examples


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunFolder]:
    def begin(count: int = 4, **more: Any) -> RunFolder:
        found = RunFolder(tmp_path / "runs" / "run-00001")
        settings = TeachingSettings("tiny", "zorp", ("a zorp",) * count, "a zorp in the snow", **more)
        found.begin(settings, [Image.new("RGB", (40, 32), (20 * k, 90, 200)) for k in range(count)])
        found.keep_examples(examples(count))
        return found

    return begin
