"""Textual inversion: words that a text encoder learns from a file; diffusers' own loader is the measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from pipelines.backend import LocalBackend
from pipelines.embeddings import read, scan
from pipelines.events import Finished
from pipelines.families import loader
from pipelines.manager import PipelineManager
from pipelines.request import InvalidRequest, named_embeddings
from tests.tiny import make_tiny_model, tiny_card
from tests.tiny_families import make
from tests.twins import CPU, request

WIDTH = 16


def word(path: Path, *, vectors: int = 1, key: str = "emb_params", seed: int = 0, width: int = WIDTH) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.randn(vectors, width, generator=torch.Generator().manual_seed(seed))}, path)
    return path


def load(folder: Path, family: str = "stable_diffusion") -> Any:
    return loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_word_reads_as_diffusers_reads_it(tmp_path: Path, vectors: int) -> None:
    folder = make_tiny_model(tmp_path / "model")
    path = word(tmp_path / "glow.safetensors", vectors=vectors)
    model = load(folder)
    plain = model.encode_prompt(["a fox"]).tokens
    unknown = model.encode_prompt(["a <embedding:glow> fox"]).tokens
    model.learn({"glow": path})
    ours = model.encode_prompt(["a <embedding:glow> fox"]).tokens
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.load_textual_inversion(path.parent, weight_name=path.name, token="<embedding:glow>", use_safetensors=True)
    theirs, _ = pipe.encode_prompt("a <embedding:glow> fox", "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, unknown)
    # What does not name the word is read as before.
    assert torch.equal(model.encode_prompt(["a fox"]).tokens, plain)


def test_a_word_counts_as_its_vectors_in_the_window(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model", max_tokens=16))
    model.learn({"glow": word(tmp_path / "glow.safetensors", vectors=4)})
    tokens = model.texts[0].tokens("a <embedding:glow>").input_ids[0]
    # Start, one letter, four vectors, and the end from there on.
    assert int((tokens == tokens[-1]).sum()) == 16 - 6


def test_both_encoders_of_xl_learn_their_own_vectors(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path / "model")
    path = tmp_path / "glow.safetensors"
    left, right = (torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(k)) for k in range(2))
    save_file({"clip_l": left, "clip_g": right}, path)
    model = load(folder, "stable_diffusion_xl")
    model.learn({"glow": path})
    ours = model.encode_prompt(["a <embedding:glow> fox"])
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    for vectors, tokenizer, encoder in (
        (left, pipe.tokenizer, pipe.text_encoder),
        (right, pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        pipe.load_textual_inversion(vectors, token="<embedding:glow>", tokenizer=tokenizer, text_encoder=encoder)
    tokens, _, pooled, _ = pipe.encode_prompt("a <embedding:glow> fox", do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.tokens, tokens)
    torch.testing.assert_close(ours.pooled, pooled)


def test_weights_and_words_go_together(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    model.learn({"glow": word(tmp_path / "glow.safetensors", vectors=2)})
    plain = model.encode_prompt(["a <embedding:glow> fox"]).tokens
    stronger = model.encode_prompt(["a (<embedding:glow>)1.5 fox"]).tokens
    assert stronger.shape == plain.shape and not torch.allclose(stronger, plain, atol=1e-3)


def test_a_word_for_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    plain = model.encode_prompt(["a fox"]).tokens
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    for path in (word(tmp_path / "wide.safetensors", width=24), broken):
        with pytest.raises(InvalidRequest, match="leave it out"):
            model.learn({path.stem: path})
    model.forget_prompts()
    assert torch.equal(model.encode_prompt(["a fox"]).tokens, plain)


def test_words_are_found_by_their_header_and_named_in_a_prompt(tmp_path: Path) -> None:
    word(tmp_path / "glow.safetensors")
    word(tmp_path / "sub" / "long.safetensors", vectors=8, key="<long>")
    save_file({"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(2, 12)}, tmp_path / "xl.safetensors")
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    save_file({"a": torch.zeros(2, 2, 2)}, tmp_path / "cube.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 20)
    assert sorted(scan([tmp_path, tmp_path / "nowhere"])) == ["glow", "long", "xl"]
    found = read(tmp_path / "sub" / "long.safetensors")
    assert found is not None and dict(found.keys) == {"<long>": (8, WIDTH)}
    assert named_embeddings("a <embedding:glow> <embedding:x y> fox <embedding:../up>", "<embedding:glow>") == (
        "glow",
        "x y",
    )


def test_a_job_learns_the_words_of_its_prompts(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    word(tmp_path / "words" / "dull.safetensors", vectors=2)
    backend = LocalBackend(
        PipelineManager([tiny_card(folder)]), tmp_path / "pictures", threads=1, lora_dirs=[tmp_path / "words"]
    )
    try:
        pictures = []
        for negative in ("", "<embedding:dull>"):
            *_, end = backend.submit(request(negative_prompt=negative)).events()
            assert isinstance(end, Finished) and not end.notes
            pictures.append(end.pictures[0].path.read_bytes())
        assert pictures[0] != pictures[1]
        with pytest.raises(InvalidRequest, match="the word 'gone', which is not here"):
            backend.submit(request(prompt="a <embedding:gone>"))
    finally:
        backend.close()
