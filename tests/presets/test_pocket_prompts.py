"""The form in which the embedded models read prompts: A1111's, so that prompt editing works in the prompt itself."""

from __future__ import annotations

import pytest
import torch

from pipelines.models.manager import PipelineManager
from pipelines.request import make_request
from pipelines.sampling.conditioning import PromptSchedule, encode_prompts
from presets import catalogue

CARDS = {card.id: card for card in catalogue.load()}


@pytest.mark.parametrize("name", ["pocket", "pocket-turbo"])
def test_plain_prompts_mean_what_they_did_and_edited_ones_change(name: str) -> None:
    card = CARDS[name]
    assert card.prompt_syntax == "a1111"
    plain = (*card.prompts, "", "a fox, 50% red; on {a} green background!", "A Fox's leaf\nand an owl - really?")
    with PipelineManager([card], device="cpu", fetches=()).lease(name) as model, torch.inference_mode():
        for prompt in plain:
            for negative in (False, True):
                one, other = (model.encode_prompt([prompt], negative, chunks).prompt_embeds for chunks in (0, 1))
                assert torch.equal(one, other), prompt
        request = make_request(
            model=name, prompt="[a fox:an owl:0.5] on a [red|green] background", prompt_syntax=card.prompt_syntax,
            width=128, height=128, scheduler="euler", num_inference_steps=4, guidance_scale=1.0, seed=1,
        )  # fmt: skip
        made = encode_prompts(model, request, guided=False)
        assert isinstance(made, PromptSchedule)
        said = [f"{thing} on a {colour} background" for thing in ("a fox", "an owl") for colour in ("red", "green")]
        for part, text in zip(made.parts, said, strict=True):
            assert torch.equal(part.prompt_embeds, model.encode_prompt([text], chunks=1).prompt_embeds)
