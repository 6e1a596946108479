"""The kinds of conditioning: a new one is a module and a record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.images.uploads import UploadStore
from pipelines.model import Placement
from pipelines.models import adapters
from pipelines.models.adapters import ADAPTERS
from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.request import InvalidRequest, make_request
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


def test_scanning_loads_no_model_library() -> None:
    code = (
        "import json, sys; from pathlib import Path; from pipelines.models.adapters.resolver import AdapterResolver;"
        "r = AdapterResolver([Path('.')], None); r.loras(); r.ip_adapters(); r.controlnets();"
        "print(json.dumps(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
