"""A small model as a repository of a hub, and clients that download it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cards import ModelCard
from pipelines.hub.errors import DownloadError
from pipelines.hub.hub import Hub
from tests.support.hub_server import HubServer
from tests.support.tiny_model import tiny_card

SOURCE = "maker/tiny"
UNET = "unet/diffusion_pytorch_model.safetensors"
TOKEN = "hf_not_a_real_token"
NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    UNET,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


def make_hub(server: HubServer, tmp_path: Path, **changes: Any) -> Hub:
    """A client without patience, with a cache of its own."""
    options = {"timeout": 1.0, "backoff": 0.05, "tries": 3, "max_wait": 2.0, **changes}
    return Hub(endpoint=server.address, cache_dir=tmp_path / "cache", **options)


def card(**changes: Any) -> ModelCard:
    """The card of the model that the server has."""
    return tiny_card(SOURCE, **{"name": "Tiny", "link": "https://example.org/tiny", **changes})


def names_in(folder: Path) -> set[str]:
    """Every file below a folder, by its relative path."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def error_message(call: Callable[[], Any]) -> str:
    """The one sentence of the DownloadError that a call raises."""
    with pytest.raises(DownloadError) as caught:
        call()
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and ". " not in text.rstrip("."), f"not one sentence: {text}"
    assert TOKEN not in text
    return text
