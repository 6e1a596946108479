"""Textual inversion: words that a text encoder learns from a file; diffusers' own loader is the measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from pipelines.events import Finished
from pipelines.images.uploads import UploadStore
from pipelines.jobs.local import LocalBackend
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.models.adapters.textual_inversion import scan
from pipelines.models.families import loader
from pipelines.models.manager import PipelineManager
from pipelines.request import InvalidRequest
from tests.support.lora_forms import Maker, kohya
from tests.support.paired_models import CPU, request
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

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
    plain = model.encode_prompt(["a fox"]).prompt_embeds
    unknown = model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds
    model.load_embeddings({"glow": path})
    ours = model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.load_textual_inversion(path.parent, weight_name=path.name, token="<embedding:glow>", use_safetensors=True)
    theirs, _ = pipe.encode_prompt("a <embedding:glow> fox", "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, unknown)
    # What does not name the word is read as before.
    assert torch.equal(model.encode_prompt(["a fox"]).prompt_embeds, plain)


def test_a_word_counts_as_its_vectors_in_the_window(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model", max_tokens=16))
    model.load_embeddings({"glow": word(tmp_path / "glow.safetensors", vectors=4)})
    tokens = model.texts[0].tokens("a <embedding:glow>").input_ids[0]
    # Start, one letter, four vectors, and the end from there on.
    assert int((tokens == tokens[-1]).sum()) == 16 - 6


def test_what_is_left_out_counts_every_vector_and_names_the_word(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model", max_tokens=10))
    model.load_embeddings({"my glow": word(tmp_path / "glow.safetensors", vectors=4)})
    # Eight tokens fit between start and end: a letter is one.
    assert model.truncated_text("abcd efgh") == ""
    assert model.truncated_text("abcd efg hi j") == "hi j"
    assert model.truncated_text("abcd <embedding:my glow>") == ""
    assert model.truncated_text("abcde <embedding:my glow> f") == "<embedding:my glow> f"
    assert model.truncated_text("abcd <embedding:my glow> f") == "f"


def test_both_encoders_of_xl_get_their_own_vectors(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path / "model")
    path = tmp_path / "glow.safetensors"
    left, right = (torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(k)) for k in range(2))
    save_file({"clip_l": left, "clip_g": right}, path)
    model = load(folder, "stable_diffusion_xl")
    model.load_embeddings({"glow": path})
    ours = model.encode_prompt(["a <embedding:glow> fox"])
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    for vectors, tokenizer, encoder in (
        (left, pipe.tokenizer, pipe.text_encoder),
        (right, pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        pipe.load_textual_inversion(vectors, token="<embedding:glow>", tokenizer=tokenizer, text_encoder=encoder)
    tokens, _, pooled, _ = pipe.encode_prompt("a <embedding:glow> fox", do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.prompt_embeds, tokens)
    torch.testing.assert_close(ours.pooled_prompt_embeds, pooled)


def test_weights_and_words_go_together(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    model.load_embeddings({"glow": word(tmp_path / "glow.safetensors", vectors=2)})
    plain = model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds
    stronger = model.encode_prompt(["a (<embedding:glow>)1.5 fox"]).prompt_embeds
    assert stronger.shape == plain.shape and not torch.allclose(stronger, plain, atol=1e-3)


def test_a_word_for_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    plain = model.encode_prompt(["a fox"]).prompt_embeds
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    for path in (word(tmp_path / "wide.safetensors", width=24), broken):
        with pytest.raises(InvalidRequest, match="leave it out"):
            model.load_embeddings({path.stem: path})
    model.clear_prompt_cache()
    assert torch.equal(model.encode_prompt(["a fox"]).prompt_embeds, plain)


def test_words_are_found_by_their_header(tmp_path: Path) -> None:
    word(tmp_path / "glow.safetensors")
    word(tmp_path / "sub" / "long.safetensors", vectors=8, key="<long>")
    save_file({"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(2, 12)}, tmp_path / "xl.safetensors")
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    save_file({"a": torch.zeros(2, 2, 2)}, tmp_path / "cube.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 20)
    assert sorted(scan(AdapterFolders([tmp_path, tmp_path / "nowhere"]))) == ["glow", "long", "xl"]
    assert dict(scan(AdapterFolders([tmp_path]))["long"].keys) == {"<long>": (8, WIDTH)}


def test_a_job_loads_the_words_of_its_prompts(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    word(tmp_path / "words" / "dull.safetensors", vectors=2)
    backend = LocalBackend(
        PipelineManager([tiny_card(folder)]), tmp_path / "pictures", threads=1, adapter_dirs=[tmp_path / "words"]
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


@pytest.mark.parametrize("name", ["EasyNegative", "Bad Hands (v2)", "\u7d75", "a+b", "x)1.3"])
def test_a_word_of_any_name_brings_all_its_vectors(tmp_path: Path, name: str) -> None:
    model = load(make_tiny_model(tmp_path / "model", max_tokens=24))
    plain = model.encode_prompt(["a glow fox"]).prompt_embeds
    path = word(tmp_path / "x.safetensors", vectors=4)
    model.load_embeddings({"glow": path})
    lower = model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds
    model.load_embeddings({name: path})
    assert torch.equal(model.encode_prompt([f"a <embedding:{name}> fox"]).prompt_embeds, lower)
    tokens = model.texts[0].tokens(f"a <embedding:{name}>").input_ids[0]
    assert int((tokens == tokens[-1]).sum()) == 24 - 6
    assert torch.equal(model.encode_prompt(["a glow fox"]).prompt_embeds, plain)


def test_a_replaced_word_is_learnt_again_and_an_unnamed_one_is_forgotten(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    path, vectors = tmp_path / "glow.safetensors", []
    for seed, count in ((0, 2), (1, 2), (1, 3), (0, 2)):
        word(path, vectors=count, seed=seed)
        model.load_embeddings({"glow": path})
        vectors.append(model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds)
    assert torch.equal(vectors[0], vectors[3])
    assert not torch.allclose(vectors[0], vectors[1]) and not torch.allclose(vectors[1], vectors[2])
    model.load_embeddings({})
    left_out = model.encode_prompt(["a <embedding:glow> fox"]).prompt_embeds
    assert torch.equal(left_out, model.encode_prompt(["a  fox"]).prompt_embeds)


def test_the_pooled_text_is_taken_at_its_end_with_any_words(tmp_path: Path) -> None:
    """Published configurations call another token the end; CLIP then takes the highest token, which a new word is."""
    folder = make("stable_diffusion_xl", tmp_path / "model")
    path = tmp_path / "glow.safetensors"
    save_file({key: torch.zeros(1, WIDTH) for key in ("clip_l", "clip_g")}, path)
    right = load(folder, "stable_diffusion_xl")
    right.load_embeddings({"glow": path})
    config = folder / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 2}))
    old = load(folder, "stable_diffusion_xl")
    assert old.texts[-1].encoder.text_model.eos_token_id == 2
    old.load_embeddings({"glow": path})
    pooled = [model.encode_prompt(["a <embedding:glow> fox"]).pooled_prompt_embeds for model in (right, old)]
    assert torch.equal(*pooled)


@pytest.mark.parametrize("style", ["string_to_param.*", "emb_params"])
def test_a_word_that_came_with_a_lora_is_known_while_it_is_applied(tmp_path: Path, style: str) -> None:
    folder = make_tiny_model(tmp_path / "model")
    model, other = load(folder), load(folder)
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
    form = kohya(Maker(model.parts), lambda k: 1.0, lambda k: 2)
    plain = form.save(tmp_path / "loras" / "plain.safetensors")
    form.file[f"bundle_emb.InkStyle.{style}"] = vectors
    form.save(tmp_path / "loras" / "ink.safetensors")
    save_file({"emb_params": vectors}, tmp_path / "ink words.safetensors")
    other.set_loras([(str(plain.parent), plain.name, 1.0)])
    other.load_embeddings({"w": tmp_path / "ink words.safetensors"})
    expected = other.encode_prompt(["a <embedding:w> fox"]).prompt_embeds

    resolver = AdapterResolver([tmp_path / "loras"], UploadStore(tmp_path))
    for text in ("a <embedding:InkStyle> fox", "a InkStyle fox", "a inkstyle fox"):
        wanted = request(prompt=f"{text} <lora:ink:1>", negative_prompt="")
        resolver.check(model.card, wanted)
        resolver.apply(model, wanted)
        assert torch.equal(model.encode_prompt([wanted.prompt]).prompt_embeds, expected)
    resolver.apply(model, request(prompt="a InkStyle fox", negative_prompt=""))
    fresh = load(folder)
    assert torch.equal(*(each.encode_prompt(["a InkStyle fox"]).prompt_embeds for each in (model, fresh)))
    with pytest.raises(InvalidRequest, match="'InkStyle', which is not here"):
        resolver.check(model.card, request(prompt="a <embedding:InkStyle> fox <lora:plain:1>"))


def test_a_word_of_numbers_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path / "model"))
    save_file({"emb_params": torch.full((1, WIDTH), float("nan"))}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidRequest, match="not finite"):
        model.load_embeddings({"x": tmp_path / "x.safetensors"})
