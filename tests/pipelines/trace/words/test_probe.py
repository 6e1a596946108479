"""The probe's probabilities against those that diffusers' own attention computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor

from pipelines.trace.words.attention import attention_maps, head_maps
from pipelines.trace.words.probe import attention_layers, probing
from tests.support.pipeline_parity import load
from tests.support.recorded_runs import ask, record
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def find(family: str) -> Any:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            path = make_tiny_model(folder) if family == "stable_diffusion" else make(family, folder)
            made[family] = load(path, family)
        return made[family]

    return find


def probed(model: Any, x: torch.Tensor, told: Any) -> dict[str, torch.Tensor]:
    """What the probe reads of one call, each token by itself."""
    found: dict[str, torch.Tensor] = {}
    with (
        torch.inference_mode(),
        probing(
            model.denoiser,
            torch.eye(told.prompt_embeds.shape[1]),
            lambda layer, shares: found.update({layer.name: shares}),
        ),
    ):
        model.predict(x, torch.tensor([500.0]), told, 3.0)
    return found


def inputs(model: Any) -> tuple[torch.Tensor, Any]:
    x = torch.randn(model.latents.shape(1, 32, 48), generator=torch.Generator().manual_seed(0))
    return x, model.encode_prompt(["a fox, red"])


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_cross_attention_is_that_of_diffusers_plain_processor(model_of: Any, family: str) -> None:
    model = model_of(family)
    x, told = inputs(model)
    found, before = probed(model, x, told), dict(model.denoiser.attn_processors)
    wanted: dict[str, torch.Tensor] = {}
    for layer in attention_layers(model.denoiser):

        def keep(query: Any, key: Any, mask: Any = None, layer: Any = layer) -> torch.Tensor:
            wanted[layer.name] = Attention.get_attention_scores(layer.module, query, key, mask)
            return wanted[layer.name]

        layer.module.get_attention_scores = keep
    try:
        model.denoiser.set_attn_processor(AttnProcessor())
        model.predict(x, torch.tensor([500.0]), told, 3.0)
    finally:
        model.denoiser.set_attn_processor(dict(before))  # which empties it
        for layer in attention_layers(model.denoiser):
            del layer.module.get_attention_scores
    assert set(found) == set(wanted) == {name.removesuffix(".processor") for name in before if "attn2" in name}
    for name, scores in wanted.items():
        assert found[name].shape[0] == 1 and found[name].shape[2:] == scores.shape[1:]
        assert torch.allclose(found[name][0], scores, atol=1e-5), name
        assert torch.allclose(found[name].sum(-1), torch.ones(()), atol=1e-4)


class QueriesAndKeys(torch.overrides.TorchFunctionMode):
    """Keeps what the network gives to PyTorch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            names = dict(zip(("query", "key"), args, strict=False))
            self.seen.append(tuple({**kwargs, **names}[name] for name in ("query", "key")))
        return func(*args, **kwargs)


@pytest.mark.parametrize(("family", "text_first"), [("stable_diffusion_3", False), ("flux", True)])
def test_joint_attention_is_the_pictures_part_of_the_networks_own(model_of: Any, family: str, text_first: bool) -> None:
    model = model_of(family)
    x, told = inputs(model)
    found, count = probed(model, x, told), told.prompt_embeds.shape[1]
    with QueriesAndKeys() as mode:
        model.predict(x, torch.tensor([500.0]), told, 3.0)
    assert len(mode.seen) == len(found) == 2
    for (name, shares), (query, key) in zip(found.items(), mode.seen, strict=True):
        whole = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        wanted = whole[:, :, count:, :count] if text_first else whole[:, :, :-count, -count:]
        assert torch.allclose(shares, wanted, atol=1e-5), name


def test_nothing_is_left_on_the_network_and_its_answer_stays(model_of: Any) -> None:
    model = model_of("stable_diffusion")
    x, told = inputs(model)
    before = model.predict(x, torch.tensor([500.0]), told)
    with torch.inference_mode(), probing(model.denoiser, torch.eye(77), lambda layer, shares: None):
        during = model.predict(x, torch.tensor([500.0]), told)
    assert torch.equal(before, during)
    assert not any(part._forward_pre_hooks for part in model.denoiser.modules())


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"])
def test_a_run_of_every_family_can_be_looked_into(model_of: Any, family: str) -> None:
    model, flow = model_of(family), family in ("stable_diffusion_3", "flux")
    asked = ask(scheduler="flow_euler" if flow else "euler", num_inference_steps=3, height=48, num_images=2)
    _, trace = record(model, asked)
    with torch.inference_mode():
        found = attention_maps(model, trace, 1, (0, 2))
    assert [word.text for word in found.words if word.kind == "word"] == ["a", "fox"]
    assert found.difference < 1e-4 and found.joint == flow
    total = found.combined().sum(1)
    assert total.shape[0] == 2 and found.size[0] > found.size[1]
    assert (total < 1).all() if flow else abs(total - 1).max() < 1e-3
    name, size, heads = found.layers[-1]
    _, each = head_maps(model, trace, 1, 2, name)
    assert each.shape == (heads, len(found.words), *size)
