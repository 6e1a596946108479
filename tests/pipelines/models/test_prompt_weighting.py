"""Weights in prompts: the compel library's own wrappers of the same model are the measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pyparsing
import pytest
import torch
from compel import CompelForSD, CompelForSDXL
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.models import prompt_weighting
from pipelines.models.families import loader
from pipelines.models.prompt_weighting import parse_compel
from pipelines.prompt import PromptError
from pipelines.prompt.compel import has_weights, weighted_words, without_weights
from pipelines.request import InvalidRequest, make_request
from pipelines.sampling.conditioning import encode_prompts
from pipelines.sampling.denoise import denoise
from tests.support.paired_models import CPU
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

PROMPT = "a (red)1.4 fox, (dull)0.5 and (bright)++"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a fox (red)", None),
        ("a (red)1.4 fox", "a red fox"),
        ("a (red fox)++ at (night)-", "a red fox at night"),
        ("(:) a smile", None),
        ("c++ and t-shirts", None),
    ],
)
def test_weights_are_told_from_brackets(prompt: str, words: str | None) -> None:
    assert has_weights(prompt) == (words is not None)
    assert without_weights(prompt) == (words or prompt)


def load(folder: Path, family: str) -> Any:
    return loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None)


def load_with_mean(folder: Path) -> Any:
    """A tiny model whose text vectors have a mean, as those of real models have; here it is a rounding error."""
    model = load(make_tiny_model(folder), "stable_diffusion")
    with torch.no_grad():
        model.texts[0].encoder.final_layer_norm.bias.fill_(0.1)
    return model


def test_sd_reads_what_compel_reads(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    model = load(folder, "stable_diffusion")
    theirs = CompelForSD(diffusers.StableDiffusionPipeline.from_pretrained(folder))(PROMPT).embeds
    ours = model.encode_prompt([PROMPT]).prompt_embeds
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, model.encode_prompt([without_weights(PROMPT)]).prompt_embeds, atol=1e-2)


def test_xl_reads_what_compel_reads(tmp_path: Path) -> None:
    folder = make("stable_diffusion_xl", tmp_path)
    theirs = CompelForSDXL(diffusers.StableDiffusionXLPipeline.from_pretrained(folder))(PROMPT)
    ours = load(folder, "stable_diffusion_xl").encode_prompt([PROMPT])
    torch.testing.assert_close(ours.prompt_embeds, theirs.embeds)
    torch.testing.assert_close(ours.pooled_prompt_embeds, theirs.pooled_embeds)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_weight_of_one_changes_nothing_and_more_goes_further(tmp_path: Path, family: str) -> None:
    model = load(make_tiny_model(tmp_path) if family == "stable_diffusion" else make(family, tmp_path), family)

    def far(weight: str) -> float:
        return float((model.encode_prompt([f"a (red){weight} fox"]).prompt_embeds - base).norm())

    base = model.encode_prompt(["a red fox"]).prompt_embeds
    assert far("1.0") < 1e-4 * float(base.norm())
    assert far("1.2") < far("1.5") < far("2")


def test_words_beyond_the_window_are_counted_without_weights(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path, max_tokens=16), "stable_diffusion")
    assert model.truncated_text("(abcdefg)1.3 hijklmn") == ""
    assert model.truncated_text("(abcdefg)1.3 hijklmn opq") == "opq"
    assert model.encode_prompt(["(abcdefg)1.3 hijklmn opq"]).prompt_embeds.shape == (1, 16, 16)


@pytest.fixture
def without_memory() -> Iterator[None]:
    """The parser as it is until somebody switches its memory on."""
    pyparsing.ParserElement.disable_memoization()
    parse_compel.cache_clear()
    yield
    parse_compel.cache_clear()


NESTED = "((((((masterpiece)))))), (red)1.2 fox"


def test_nested_brackets_are_read_in_few_attempts(without_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_weighting, "MAX_ATTEMPTS", 20_000)
    for prompt in (NESTED, "((((((((((((a b, c. d))))))))))))1.1, (x)1.2", "(" * 19 + "a (b)1.2"):
        assert parse_compel(prompt).prompts
    (part,) = parse_compel(NESTED).prompts
    assert [(each.text, each.weight) for each in part.children] == [("masterpiece ,", 1), ("red", 1.2), ("fox", 1)]


def test_a_prompt_of_the_greatest_length_is_read() -> None:
    prompt = "((((((" + "word, and more. " * 122 + "))))))1.2"
    assert parse_compel(prompt[:2000]).prompts


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_compel.cache_clear()
    monkeypatch.setattr(prompt_weighting, "MAX_ATTEMPTS", 500)
    with pytest.raises(PromptError, match="more simply"):
        parse_compel(NESTED)


@pytest.mark.parametrize(
    "prompt",
    ["()1.3", "()1.3 ()+", '("a", "b").blend(1, 1)1.2 (x)1.2', "(" * 60 + "a" + ")" * 60 + "1.2",
     '("a", "b").and() (x)1.2', '("a (x)1.2", "b").and()',
     "a.swap(b) (c)1.1", "(a)99999999999", "(a)" + "+" * 400, '("a (x)1.2", "b").blend(1)',
     '("a.swap(b)", "(c)1.1").blend(1, 1)'],
)  # fmt: skip
def test_what_compel_cannot_read_gets_a_sentence(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(PromptError, match="^(has|gives|joins|swaps|nests) ") as caught:
        parse_compel(prompt)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)
    model = load(make_tiny_model(tmp_path), "stable_diffusion")
    with pytest.raises(InvalidRequest, match=r"^negative_prompt .*\.$"):
        model.encode_prompt([prompt], negative=True)


@settings(max_examples=30, deadline=None)
@given(st.text('ab (()))"".,1+-\\', max_size=40))
def test_any_prompt_is_read_or_refused(prompt: str) -> None:
    try:
        parse_compel(prompt)
    except PromptError as problem:
        assert len(str(problem)) < 250


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=4), st.sampled_from(["1.3", "0.5", "2", "++", "-"])), min_size=1
    )
)
def test_the_line_says_what_the_parser_reads(words: list[tuple[str, str]]) -> None:
    prompt = " and ".join(f"({word}){weight}" for word, weight in words)
    (part,) = parse_compel(prompt).prompts
    read = [(each.text, each.weight) for each in part.children if each.text != "and"]
    assert read == [(word, pytest.approx(weight)) for word, weight in weighted_words(prompt)]


def test_an_embedding_s_name_is_no_syntax() -> None:
    (part,) = parse_compel("a (<embedding:v1.5 (bad), x+>)1.5 fox").prompts
    assert [(each.text, each.weight) for each in part.children] == [
        ("a", 1), ("<embedding:v1.5 (bad), x+>", 1.5), ("fox", 1)
    ]  # fmt: skip


# A1111's form.


def vectors(model: Any, chunks: list[list[tuple[str, float]]], pad: int) -> torch.Tensor:
    """The definition, for the tiny tokenizer, whose every letter is a token of its own word or part of one."""
    text, window, rows = model.texts[0], model.texts[0].window, []
    for chunk in chunks:
        ids = [text.tokenizer(word, add_special_tokens=False)["input_ids"] for word, _ in chunk]
        flat = [id for each in ids for id in each]
        weights = [weight for each, (_, weight) in zip(ids, chunk, strict=True) for _ in each]
        row = [text.tokenizer.bos_token_id, *flat, text.tokenizer.eos_token_id]
        row += [pad] * (window - len(row))
        with torch.no_grad():
            z = text.encoder(torch.tensor([row]))[0]
        weighted = z * torch.tensor([1.0, *weights, *[1.0] * (window - 1 - len(weights))])[None, :, None]
        rows.append(weighted * (z.mean() / weighted.mean()))
    return torch.cat(rows, dim=1)


def test_sd_multiplies_vectors_and_keeps_their_mean(tmp_path: Path) -> None:
    model = load_with_mean(tmp_path)
    eos = model.texts[0].tokenizer.eos_token_id
    ours = model.encode_prompt(["a (red:1.4) fox [x]"], chunks=1).prompt_embeds
    wanted = [("a", 1.0), ("red", 1.4), ("fox", 1.0), ("x", 1 / 1.1)]
    torch.testing.assert_close(ours, vectors(model, [wanted], eos), atol=1e-5, rtol=1e-4)
    # Two chunks, each by itself; those that are left are empty.
    ours = model.encode_prompt(["a (red:2) BREAK fox"], chunks=3).prompt_embeds
    wanted_chunks = [[("a", 1.0), ("red", 2.0)], [("fox", 1.0)], []]
    torch.testing.assert_close(ours, vectors(model, wanted_chunks, eos), atol=1e-5, rtol=1e-4)


def test_the_padding_is_the_tokenizer_s(tmp_path: Path) -> None:
    model = load_with_mean(tmp_path)
    model.texts[0].tokenizer.pad_token = "!"
    pad = model.texts[0].tokenizer.pad_token_id
    ours = model.encode_prompt(["a (red:1.4)"], chunks=1).prompt_embeds
    torch.testing.assert_close(ours, vectors(model, [[("a", 1.0), ("red", 1.4)]], pad), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_plain_short_prompt_is_the_same_in_both_forms(tmp_path: Path, family: str) -> None:
    model = load(make_tiny_model(tmp_path) if family == "stable_diffusion" else make(family, tmp_path), family)
    for prompt, negative in (("a red fox, in a wood", False), ("", True), ("", False)):
        plain, chunked = (model.encode_prompt([prompt], negative, chunks=n) for n in (0, 1))
        torch.testing.assert_close(plain.prompt_embeds, chunked.prompt_embeds)
        if plain.pooled_prompt_embeds is not None:
            torch.testing.assert_close(plain.pooled_prompt_embeds, chunked.pooled_prompt_embeds)


def test_xl_pools_the_first_chunk_without_weights(tmp_path: Path) -> None:
    model = load(make("stable_diffusion_xl", tmp_path), "stable_diffusion_xl")
    ours = model.encode_prompt(["a (red:1.4) fox BREAK in a wood"], chunks=2)
    plain = model.encode_prompt(["a red fox"])
    assert ours.prompt_embeds.shape[1] == 2 * plain.prompt_embeds.shape[1]
    torch.testing.assert_close(ours.pooled_prompt_embeds, plain.pooled_prompt_embeds)
    second = model.encode_prompt(["in a wood"]).prompt_embeds
    torch.testing.assert_close(ours.prompt_embeds[:, 77:], second)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_a_long_prompt_is_read_to_its_end(tmp_path: Path, family: str) -> None:
    model = load(make_tiny_model(tmp_path) if family == "stable_diffusion" else make(family, tmp_path), family)
    start = "abcdefgh " * 15
    asked = {"model": "tiny", "width": 32, "height": 32, "scheduler": "ddim", "num_inference_steps": 2, "seed": 1,
             "guidance_scale": 4.0, "prompt_syntax": "a1111"}  # fmt: skip
    first, second = (
        encode_prompts(model, make_request(**asked, prompt=start + end, negative_prompt="bad"), guided=True)
        for end in ("x", "y")
    )
    assert first.prompt_embeds.shape[:2] == (2, 2 * 77)
    assert torch.equal(first.prompt_embeds[0], second.prompt_embeds[0])
    assert not torch.allclose(first.prompt_embeds[1], second.prompt_embeds[1], atol=1e-3)
    steps = list(denoise(model, make_request(**asked, prompt=start + "x")))
    assert torch.isfinite(steps[-1].x_next).all()


def test_both_ends_of_a_blend_fill_as_many_chunks(tmp_path: Path) -> None:
    model = load(make_tiny_model(tmp_path), "stable_diffusion")
    request = make_request(
        model="tiny", width=32, height=32, scheduler="ddim", num_inference_steps=2, seed=1, guidance_scale=1.0,
        prompt="a (fox:1.2)", interpolation={"prompt": "a BREAK b BREAK c"}, num_images=3, prompt_syntax="a1111",
    )  # fmt: skip
    assert encode_prompts(model, request, guided=False).prompt_embeds.shape == (3, 3 * 77, 16)
