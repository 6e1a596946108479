"""LoRAs: found, named in a prompt, put on, weighed and taken off; diffusers' own loader is the measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from pipelines.events import Finished
from pipelines.images.png import read_request
from pipelines.jobs.local import LocalBackend
from pipelines.models.adapters import lora_file
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.models.adapters.lora import scan
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.request import InvalidRequest, Lora
from pipelines.request_errors import LEAVE_OUT, Remedy
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import CPU, request
from tests.support.tiny_families import make
from tests.support.tiny_loras import PIPES, make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card


def folder_of(family: str, folder: Path) -> Path:
    return make_tiny_model(folder) if family == "stable_diffusion" else make(family, folder)


@pytest.fixture(scope="module", params=PIPES)
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[Path]]:
    root, family = tmp_path_factory.mktemp(request.param), request.param
    model = folder_of(family, root / "model")
    return (
        family,
        model,
        [make_lora(model, family, root / "loras" / f"{name}.safetensors", k) for k, name in enumerate(("ink", "clay"))],
    )


def asked(family: str, **changes: Any) -> Any:
    flow = family in ("stable_diffusion_3", "flux")
    return request(scheduler="flow_euler" if flow else "ddim", num_inference_steps=3, height=32, **changes)


def last(model: Any, family: str) -> torch.Tensor:
    return list(denoise(model, asked(family)))[-1].x_next


def spec(path: Path, weight: float) -> tuple[str, str, float]:
    return str(path.parent), path.name, weight


def test_a_model_with_loras_is_that_of_diffusers(adapted: tuple[str, Path, list[Path]]) -> None:
    family, folder, (ink, clay) = adapted
    model = loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)
    plain = last(model, family)
    model.set_loras([spec(ink, 0.8), spec(clay, -0.5)])
    ours = last(model, family)
    assert not torch.allclose(ours, plain, atol=1e-3)

    other = loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)
    pipe = getattr(diffusers, PIPES[family]).from_pretrained(folder)
    pipe.load_lora_weights(ink.parent, weight_name=ink.name, adapter_name="a")
    pipe.load_lora_weights(clay.parent, weight_name=clay.name, adapter_name="b")
    pipe.set_adapters(["a", "b"], [0.8, -0.5])
    # Our loop over diffusers' adapted parts: its loaders are the measure, the loop is compared elsewhere.
    for name, part in other.parts.items():
        if isinstance(part, torch.nn.Module):
            other.parts[name] = getattr(pipe, name)
    theirs = type(other)(other.card, CPU, other.parts)
    torch.testing.assert_close(ours, last(theirs, family), atol=1e-5, rtol=1e-5)


def test_a_removed_lora_leaves_no_trace(adapted: tuple[str, Path, list[Path]]) -> None:
    family, folder, (ink, clay) = adapted
    model = loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)
    plain, keys = last(model, family), set(model.denoiser.state_dict())
    model.set_loras([spec(ink, 1.0)])
    with_ink = last(model, family)
    model.set_loras([spec(clay, 1.0)])
    model.set_loras([spec(ink, 1.0)])
    assert torch.equal(last(model, family), with_ink)
    model.set_loras([spec(ink, 0.0)])
    torch.testing.assert_close(last(model, family), plain, atol=1e-5, rtol=1e-5)
    model.set_loras([])
    assert torch.equal(last(model, family), plain)
    assert set(model.denoiser.state_dict()) == keys


def test_a_lora_for_another_kind_of_model_is_refused_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    xl = make("stable_diffusion_xl", tmp_path / "xl")
    wrong = make_lora(xl, "stable_diffusion_xl", tmp_path / "xl-only.safetensors", 0)
    empty = tmp_path / "nothing.safetensors"
    save_file(
        {
            "lora_other.lora_down.weight": torch.zeros(2, 2),
            "lora_other.lora_up.weight": torch.zeros(2, 2),
        },
        empty,
    )
    model = loader("stable_diffusion")(tiny_card(make_tiny_model(tmp_path / "sd")), CPU, lambda *args: None)
    plain = last(model, "stable_diffusion")
    for path in (wrong, empty):
        with pytest.raises(InvalidRequest, match="leave it out"):
            model.set_loras([spec(path, 1.0)])
        assert torch.equal(last(model, "stable_diffusion"), plain)


def test_a_card_brings_its_own_lora(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    ink = make_lora(folder, "stable_diffusion", tmp_path / "loras" / "ink.safetensors", 0)
    own = {"source": str(ink.parent), "file": ink.name, "weight": 0.7}
    model = loader("stable_diffusion")(tiny_card(folder), CPU, lambda *args: None)
    fast = model.for_card(tiny_card(folder, id="fast", additions=[own]))
    plain = last(model, "stable_diffusion")
    fast.set_loras([])
    assert not torch.equal(last(fast, "stable_diffusion"), plain)
    # Both cards share the weights: the next lease changes the applied LoRAs.
    model.set_loras([])
    assert torch.equal(last(model, "stable_diffusion"), plain)


def test_a_request_carries_its_loras_into_the_picture_and_back() -> None:
    made = asked("stable_diffusion", prompt="a fox <lora:ink:0.8> <lora:clay>")
    assert made.prompt == "a fox" and made.loras == (Lora(name="ink", weight=0.8), Lora(name="clay"))
    again = type(made).model_validate_json(made.model_dump_json())
    assert again == made
    with pytest.raises(InvalidRequest, match="weight"):
        asked("stable_diffusion", prompt="a <lora:ink:11>")
    with pytest.raises(InvalidRequest, match="name"):
        asked("stable_diffusion", prompt="a <lora:../../secret:1>")
    with pytest.raises(InvalidRequest, match="loras"):
        asked("stable_diffusion", prompt="".join(f"<lora:l{k}>" for k in range(6)))


def test_files_are_found_by_their_own_header(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    tags = json.dumps({"10_pics": {"inkwash": 9, "fox": 2}})
    make_lora(model, "stable_diffusion", tmp_path / "loras" / "ink.safetensors", 0, {"ss_tag_frequency": tags})
    about = {"modelspec.trigger_phrase": "clay figure, soft light", "modelspec.architecture": "stable-diffusion-v1"}
    make_lora(model, "stable_diffusion", tmp_path / "loras" / "sub" / "clay.safetensors", 1, about)
    (tmp_path / "loras" / "broken.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0{broken}")
    (tmp_path / "loras" / "huge.safetensors").write_bytes(b"\xff" * 64)
    save_file({"x": torch.zeros(1)}, tmp_path / "loras" / "other.safetensors")
    found = scan(AdapterFolders([tmp_path / "loras", tmp_path / "nowhere"]))
    assert list(found) == ["ink", "clay"]
    assert found["ink"].words == ("inkwash", "fox")
    assert found["clay"].words == ("clay figure", "soft light") and found["clay"].base == "stable-diffusion-v1"


@pytest.fixture
def backend(tmp_path: Path) -> Callable[[], LocalBackend]:
    folder = make_tiny_model(tmp_path / "model")
    make_lora(folder, "stable_diffusion", tmp_path / "loras" / "ink.safetensors", 0)
    made: list[LocalBackend] = []

    def start() -> LocalBackend:
        made.append(
            LocalBackend(
                PipelineManager([tiny_card(folder)]),
                tmp_path / "pictures",
                threads=1,
                adapter_dirs=[tmp_path / "loras"],
            )
        )
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_job_applies_the_loras_that_its_prompt_names(backend: Callable[[], LocalBackend]) -> None:
    here = backend()

    def run(prompt: str) -> Finished:
        *_, end = here.submit(asked("stable_diffusion", prompt=prompt)).events()
        assert isinstance(end, Finished)
        return end

    plain, inked, again = (run(prompt).pictures[0].path for prompt in ("a fox", "a fox <lora:ink:1>", "a fox"))
    assert plain.read_bytes() != inked.read_bytes()
    from PIL import Image

    with Image.open(plain) as a, Image.open(again) as b, Image.open(inked) as c:
        assert a.tobytes() == b.tobytes() != c.tobytes()
        assert "<lora:ink:1>" in c.text["parameters"]
    assert read_request(inked).loras == (Lora(name="ink"),)
    with pytest.raises(InvalidRequest, match="LoRA 'clay', which is not here"):
        here.submit(asked("stable_diffusion", prompt="a fox <lora:clay>"))
    assert [file.name for file in here.adapters.loras()] == ["ink"]


def test_a_missing_file_gives_one_sentence(backend: Callable[[], LocalBackend], tmp_path: Path) -> None:
    here = backend()
    here.adapters.loras()
    (tmp_path / "loras" / "ink.safetensors").unlink()
    with pytest.raises(InvalidRequest, match="'ink', which is not here; take its mark out") as caught:
        here.submit(asked("stable_diffusion", prompt="a fox <lora:ink>"))
    assert caught.value.remedy == Remedy(LEAVE_OUT, "ink")


def test_running_out_of_memory_is_not_taken_for_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_model(tmp_path / "model")
    ink = make_lora(folder, "stable_diffusion", tmp_path / "ink.safetensors", 0)
    model = loader("stable_diffusion")(tiny_card(folder), CPU, lambda *args: None)

    def fail(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(lora_file, "load", fail)
    with pytest.raises(torch.OutOfMemoryError):
        model.set_loras([spec(ink, 1.0)])
    monkeypatch.undo()
    model.set_loras([spec(ink, 1.0)])
