"""A repository with more than a model needs, a hub that serves it, and a client of that hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.hub import hub as hub_module
from pipelines.hub.hub import Hub
from tests.support.hub_models import SOURCE, TOKEN, make_hub
from tests.support.hub_server import HubServer


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_module, "HEADROOM", 2**20)


@pytest.fixture
def repository(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model with everything around it that real repositories have and that no download needs."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_folder, folder)
    for name in (
        "README.md",
        "picture.png",
        "whole.ckpt",
        "whole.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/model.onnx",
        "unet/flax_model.msgpack",
        "unet/helper.py",
        "text_encoder/openvino_model.json",
        "safety_checker/model.safetensors",
        "safety_checker/config.json",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not needed")
    return folder


@pytest.fixture
def server(repository: Path) -> Iterator[HubServer]:
    with HubServer({SOURCE: repository}) as server:
        yield server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return make_hub(server, tmp_path)
