"""The prompts of a request, encoded for every image of a run."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from pipelines.request import Interpolation
from pipelines.sampling.conditioning import Conditioning, encode_prompts
from tests.support.paired_models import request


def embedding(prompt: str) -> torch.Tensor:
    """(1, 7, 16): noise from the prompt's letters."""
    return torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(sum(map(ord, prompt))))


class Reader:
    """A text encoder whose embeddings differ: noise from the prompt's letters."""

    def encode_prompt(self, prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        return Conditioning(torch.cat([embedding(prompt) for prompt in prompts]))


def test_the_prompts_of_a_request_without_interpolation() -> None:
    reader = Reader()
    wanted = reader.encode_prompt(["dull", "a red apple"]).prompt_embeds.repeat_interleave(2, dim=0)
    assert torch.equal(encode_prompts(reader, request(num_images=2), guided=True).prompt_embeds, wanted)
    assert torch.equal(encode_prompts(reader, request(num_images=2), guided=False).prompt_embeds, wanted[2:])


def test_a_blend_of_prompts_is_a_straight_line_with_exact_ends() -> None:
    reader = Reader()
    asked = request(num_images=5, interpolation=Interpolation(prompt="a fox"))
    uncond, cond = encode_prompts(reader, asked, guided=True).prompt_embeds.chunk(2)
    first, last = (reader.encode_prompt([prompt]).prompt_embeds for prompt in ("a red apple", "a fox"))
    assert torch.equal(cond[:1], first) and torch.equal(cond[-1:], last)
    torch.testing.assert_close(cond[1:2], 0.75 * first + 0.25 * last)
    assert torch.equal(uncond, reader.encode_prompt(["dull"]).prompt_embeds.expand_as(uncond))


def test_prompts_in_half_precision_stay_in_half_precision() -> None:
    def read(prompts: list[str], negative: bool = False, chunks: int = 0) -> Conditioning:
        return Conditioning(Reader().encode_prompt(prompts).prompt_embeds.half())

    half = SimpleNamespace(encode_prompt=read)
    cond = encode_prompts(
        half, request(num_images=3, interpolation=Interpolation(prompt="a fox")), guided=True
    ).prompt_embeds
    assert cond.dtype == torch.float16 and torch.isfinite(cond).all()


def test_each_picture_has_its_own_prompt() -> None:
    reader = Reader()
    asked = request(num_images=2, prompts=("a red apple", "a fox"))
    wanted = reader.encode_prompt(["dull", "dull", "a red apple", "a fox"]).prompt_embeds
    assert torch.equal(encode_prompts(reader, asked, guided=True).prompt_embeds, wanted)
    assert torch.equal(encode_prompts(reader, asked, guided=False).prompt_embeds, wanted[2:])
