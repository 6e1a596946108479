"""The kinds of conditioning: a new one is a module and a record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines.images.uploads import UploadStore
from pipelines.model import Placement
from pipelines.models import adapters
from pipelines.models.adapters import ADAPTERS
from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.models.offloading.spread import LAYERS
from pipelines.request import Control, Interpolation, InvalidRequest, make_request
from tests.support.tiny_model import tiny_card

CARD = tiny_card("/nowhere")


class RecordingModel:
    """Records what is applied to it."""

    def __init__(self) -> None:
        self.applied: dict[str, Any] = {}
        self.placement = Placement("cpu", "float32", "sdpa")

    def set_loras(self, loras: Any) -> None:
        self.applied["lora"] = loras

    def load_embeddings(self, words: Any) -> None:
        self.applied["textual_inversion"] = words

    def set_ip_adapter(self, picture: Any) -> None:
        self.applied["ip_adapter"] = picture

    def set_controlnets(self, controls: Any) -> None:
        self.applied["controlnet"] = controls


def ask(prompt: str) -> Any:
    return make_request(
        model="tiny",
        prompt=prompt,
        width=32,
        height=32,
        scheduler="ddim",
        num_inference_steps=1,
        guidance_scale=1.0,
        seed=1,
    )


def test_a_new_kind_is_a_module_and_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(card: Any, request: Any, files: Any) -> None:
        if "refused" in request.prompt:
            raise InvalidRequest("prompt", f"{card.name} takes no dummy.")

    def apply(model: Any, request: Any, files: Any) -> None:
        model.applied["dummy"] = request.prompt

    dummy = Adapter(check, apply, lambda model: model.applied.update(dummy=None))
    monkeypatch.setattr(adapters, "ADAPTERS", {**ADAPTERS, "dummy": dummy})
    resolver, model = AdapterResolver([tmp_path], UploadStore(tmp_path)), RecordingModel()
    with pytest.raises(InvalidRequest, match="Tiny takes no dummy"):
        resolver.check(CARD, ask("refused"))
    resolver.check(CARD, ask("a fox"))
    resolver.apply(model, ask("a fox"))  # type: ignore[arg-type]
    assert model.applied == {
        "lora": [],
        "textual_inversion": {},
        "ip_adapter": None,
        "controlnet": [],
        "dummy": "a fox",
    }
    resolver.remove(model)  # type: ignore[arg-type]
    assert model.applied["dummy"] is None and model.applied["lora"] == ()


class _Streamed:
    """A model that is streamed, and says nothing of what is added to it."""

    def __init__(self) -> None:
        self.card, self.denoiser = CARD, _Denoiser()
        self.placement = Placement("cuda", "float16", "sdpa", fallbacks=(LAYERS,))


class _Denoiser:
    """What a weak reference can be to."""


def test_a_streamed_model_is_gathered_when_anything_that_is_added_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[bool] = []

    @contextmanager
    def gathered(model: Any, changed: bool) -> Iterator[None]:
        changes.append(changed)
        yield

    monkeypatch.setattr(adapters, "ADAPTERS", {})
    monkeypatch.setattr("pipelines.models.adapters.resolver.gathered", gathered)
    lora = {f"lora_unet_x.lora_{part}.weight": torch.zeros(2, 2) for part in ("down", "up")}
    files: dict[str, Any] = {
        "ink.safetensors": lora,
        "word.safetensors": {"emb_params": torch.zeros(1, 8)},
        "other.safetensors": {"emb_params": torch.zeros(1, 8)},
        "net/model.safetensors": {"x": torch.zeros(1)},
    }
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    for name, tensors in files.items():
        save_file(tensors, tmp_path / name)
    resolver, model = AdapterResolver([tmp_path], UploadStore(tmp_path)), _Streamed()

    def changed(request: Any) -> bool:
        resolver.apply(model, request)  # type: ignore[arg-type]
        return changes[-1]

    plain = ask("a fox").model_copy(update={"num_images": 2})
    requests = [
        ask("a fox <lora:ink:0.5>"),
        ask("an <embedding:other>"),
        plain.model_copy(update={"interpolation": Interpolation(prompt="an <embedding:word>")}),
        plain.model_copy(update={"interpolation": Interpolation(prompt="an <embedding:other>")}),
        plain.model_copy(update={"controls": (Control(net="net", image="0" * 32),)}),
    ]
    for request in requests:
        assert [changed(request), changed(request)] == [True, False]
    assert [changed(plain), changed(plain)] == [True, False]
    named = ("ink", "other", "word", "other", "net/model")
    for request, name in zip(requests, named, strict=True):
        assert changed(request)
        path = tmp_path / f"{name}.safetensors"
        new = path.with_name("new.tmp")
        save_file(files[f"{name}.safetensors"], new)
        new.replace(path)
        assert [changed(request), changed(request)] == [True, False], f"{name} was replaced"


def test_scanning_loads_no_model_library() -> None:
    code = (
        "import json, sys; from pathlib import Path; from pipelines.models.adapters.resolver import AdapterResolver;"
        "r = AdapterResolver([Path('.')], None); r.loras(); r.ip_adapters(); r.controlnets();"
        "print(json.dumps(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
