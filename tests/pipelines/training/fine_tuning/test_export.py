"""What was learnt, as files that this program, plain diffusers and others read."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from pipelines.models.adapters import lora, textual_inversion
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.sampling.denoise import denoise
from pipelines.sampling.schedulers import build_scheduler
from pipelines.training.fine_tuning import export
from pipelines.training.fine_tuning.examples import Examples, request_for
from pipelines.training.fine_tuning.export import for_other_programs, save_result
from pipelines.training.fine_tuning.settings import LORA, TEXTUAL_INVERSION, TrainingPlan
from pipelines.training.fine_tuning.training import FineTuning
from pipelines.training.fine_tuning.ways import WAYS_TO_TEACH

PLAN = TrainingPlan(steps=6, batch=4, rank=4, rate=2e-2, own=0, every=6, patience=0)
NONE = Examples(torch.zeros(0, 4, 4, 4), ())


def taught_model(model: Any, run: Any, way: str) -> Any:
    training = FineTuning(WAYS_TO_TEACH[way](model, run.settings(), PLAN), model, PLAN, run.examples(), NONE)
    while not training.done:
        training.take_step()
    run.keep(6, training.way.tensors(), *training.state())
    return training.way.model


def last(model: Any, prompt: str) -> torch.Tensor:
    *_, step = denoise(model, request_for(model.card, prompt, 3))
    return step.x_next


def test_a_lora_gives_the_picture_that_was_shown_while_it_learned(model: Any, run: Any, tmp_path: Path) -> None:
    folder = run()
    plain = last(model, "a zorp")
    shown = last(taught_model(model, folder, LORA), "a zorp")
    assert not torch.allclose(plain, shown, atol=1e-3)
    path = save_result(folder, 6, model.card, tmp_path)
    assert path == tmp_path / "loras" / "zorp.safetensors"
    other = for_other_programs(folder, 6, model.card, tmp_path)
    assert all(name.startswith("lora_unet_") for name in load_file(other))
    for file in (path, other):
        model.set_loras([(str(file.parent), file.name, 1.0)])
        assert torch.allclose(last(model, "a zorp"), shown, atol=1e-4)
        model.set_loras(())
    assert torch.allclose(last(model, "a zorp"), plain, atol=1e-6)
    found = lora.scan(AdapterFolders([tmp_path / "loras"]))["zorp"]
    assert found.words == ("zorp",) and not found.problem
    assert save_result(folder, 6, model.card, tmp_path, ("Zorp 2",)).name == "zorp 3.safetensors"


def test_a_full_disk_leaves_nothing_half_saved(
    small: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run()
    folder.keep(6, {"unet.x": torch.zeros(1)}, {"x": torch.zeros(1)}, {"step": 6})
    folder.keep_pictures(6, [Image.new("RGB", (8, 8))])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "_write", full)
    with pytest.raises(OSError, match="No space"):
        save_result(folder, 6, small.card, tmp_path)
    assert not list((tmp_path / "loras").iterdir())


def test_a_lora_says_its_word_and_licence(small: Any, run: Any, tmp_path: Path) -> None:
    folder = run(licence="CC BY 4.0")
    taught_model(small, folder, LORA)
    with safe_open(save_result(folder, 6, small.card, tmp_path), "pt") as file:
        about = file.metadata()
    assert about["modelspec.trigger_phrase"] == "zorp"
    assert about["modelspec.license"] == "CC BY 4.0 Taught to Tiny, which is under: none."


@pytest.mark.parametrize("other", (False, True))
def test_plain_diffusers_draws_the_same_with_a_lora(small: Any, run: Any, tmp_path: Path, other: bool) -> None:
    from diffusers import StableDiffusionPipeline

    folder = run()
    shown = last(taught_model(small, folder, LORA), "a zorp")
    path = (
        for_other_programs(folder, 6, small.card, tmp_path) if other else save_result(folder, 6, small.card, tmp_path)
    )
    pipe = StableDiffusionPipeline.from_pretrained(small.card.source, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = build_scheduler("dpmpp_2m", small.scheduler_config)
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    made = pipe(
        "a zorp", num_inference_steps=2, guidance_scale=4.0, width=32, height=32, output_type="latent",
        generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    assert np.allclose(made.numpy(), shown.numpy(), atol=1e-3)


def test_a_word_gives_the_picture_that_was_shown_while_it_learned(model: Any, run: Any, tmp_path: Path) -> None:
    folder = run(way=TEXTUAL_INVERSION)
    copy = taught_model(model, folder, TEXTUAL_INVERSION)
    copy.clear_prompt_cache()
    shown = last(copy, "a zorp")
    path = save_result(folder, 6, model.card, tmp_path)
    assert path == tmp_path / "embeddings" / "zorp.safetensors"
    assert set(textual_inversion.scan(AdapterFolders([path.parent]))) == {"zorp"}
    model.load_embeddings({"zorp": path})
    assert torch.allclose(last(model, "a <embedding:zorp>"), shown, atol=1e-4)
