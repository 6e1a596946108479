"""Where models run and in which number format; GPUs are told of, not touched."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu.graphics_cards import CARDS, MachineWith
from pipelines.model import Placement
from pipelines.models import placement as placement_module
from pipelines.models.placement import NoSuchDevice, half_dtype, prepare_for, quantize_linear, resolve, settle
from pipelines.system.gpu.number_formats import convert
from tests.support.tiny_model import tiny_card

PLAIN, WIDE = tiny_card("x"), tiny_card("x", half="bfloat16", family="flux")
ADA = MachineWith(CARDS["RTX 4090"])


@pytest.mark.parametrize(
    ("name", "card", "dtype", "words"),
    [
        ("RTX 4090", None, "float16", ""),
        ("RTX 4090", PLAIN, "float16", ""),
        ("RTX 4090", WIDE, "bfloat16", ""),
        ("RTX 2060", PLAIN, "float16", ""),
        ("RTX 2060", WIDE, "float16", "Tiny is made for bfloat16, which NVIDIA GeForce RTX 2060 lacks"),
        ("GTX 1660", PLAIN, "float32", ""),
        ("GTX 1060", WIDE, "float32", ""),
        ("GTX 1080", PLAIN, "float32", ""),
        ("Tesla T4", PLAIN, "float16", ""),
        ("RTX 3050", WIDE, "bfloat16", ""),
        ("RTX 5090", WIDE, "bfloat16", ""),
        ("H200", WIDE, "bfloat16", ""),
        ("Radeon", WIDE, "bfloat16", ""),
        ("Radeon", PLAIN, "float16", ""),
        ("M1", PLAIN, "float16", ""),
        ("M1", WIDE, "float32", ""),
        ("M3", WIDE, "bfloat16", ""),
    ],
)
def test_the_number_format_goes_by_card(name: str, card: Any, dtype: str, words: str) -> None:
    placement = resolve(card=card, machine=MachineWith(CARDS[name]))
    assert (placement.device, placement.dtype) == ("mps" if name.startswith("M") else "cuda", dtype)
    assert placement.note.startswith(words) and bool(placement.note) == bool(words)


def test_apples_gpu_stays_in_float32_where_the_probe_fails() -> None:
    for card in (PLAIN, WIDE):
        placement = resolve(card=card, machine=MachineWith(replace(CARDS["M1"], float16=False)))
        assert (placement.dtype, half_dtype(placement, card)) == ("float32", "")


def test_elsewhere_it_is_float32() -> None:
    assert resolve("cpu", card=WIDE) == Placement("cpu", "float32", "sdpa")
    with pytest.raises(NoSuchDevice, match="no cuda device"):
        resolve("cuda", machine=MachineWith(None))
    with pytest.raises(NoSuchDevice, match="no mps device"):
        resolve("mps", machine=ADA)


def test_a_card_that_this_build_cannot_use_is_named() -> None:
    broken = MachineWith(replace(CARDS["RTX 3060"], problem="Its driver is too old; update it."))
    here = resolve(machine=broken)
    assert (here.device, here.note) == ("cpu", "Its driver is too old; update it.")
    with pytest.raises(NoSuchDevice, match="driver is too old"):
        resolve("cuda:0", machine=broken)


def test_another_card_than_the_first() -> None:
    second = resolve("cuda:1", card=PLAIN, machine=MachineWith(replace(CARDS["RTX 3060"], device="cuda:1")))
    assert (second.device, second.kind, second.has_own_memory, str(second)) == ("cuda:1", "cuda", True, "NVIDIA GPU")
    assert str(resolve(machine=MachineWith(CARDS["Radeon"]))) == "AMD GPU"


def test_half_precision_as_each_device_has_it() -> None:
    assert half_dtype(Placement("cpu", "float32", "sdpa"), PLAIN) == "bfloat16"
    found = {name: half_dtype(resolve(card=WIDE, machine=MachineWith(card)), WIDE) for name, card in CARDS.items()}
    assert found == {
        "GTX 1060": "float16", "GTX 1080": "float16", "GTX 1660": "", "RTX 2060": "float16", "Tesla T4": "float16",
        "RTX 3050": "bfloat16", "RTX 3060": "bfloat16", "RTX 4090": "bfloat16", "RTX 5090": "bfloat16",
        "H200": "bfloat16", "M1": "", "M3": "bfloat16", "Radeon": "bfloat16",
    }  # fmt: skip


@pytest.mark.parametrize("wish", ["auto", "sdpa"])
def test_sdpa_is_the_default(wish: str) -> None:
    assert resolve("cuda", wish, machine=ADA).attention == "sdpa"


def test_xformers_where_its_operator_runs_else_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("cpu", "xformers").note == "xformers needs an NVIDIA GPU, so SDPA is used instead."
    monkeypatch.setattr(placement_module, "_xformers_problem", lambda device: "")
    assert resolve("cuda", "xformers", PLAIN, machine=ADA) == Placement("cuda", "float16", "xformers")
    flux = resolve("cuda", "xformers", WIDE, machine=ADA)
    assert (flux.attention, flux.note) == ("sdpa", "xformers has no operator for Tiny, so SDPA is used instead.")
    monkeypatch.setattr(placement_module, "_xformers_problem", lambda device: "has no working operator for this GPU")
    broken = resolve("cuda", "xformers", PLAIN, machine=ADA)
    assert broken.attention == "sdpa" and "no working operator" in broken.note


def test_compiling_and_quantising_are_left_out_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    here = resolve("cpu", compile=True, quantize="int8")
    assert not here.compile and not here.quantize
    assert here.note.count("NVIDIA GPUs only") == 2
    monkeypatch.setattr(placement_module, "find_spec", lambda name: None)
    bare = resolve("cuda", compile=True, quantize="int8", machine=ADA)
    assert not bare.compile and not bare.quantize
    assert "triton" in bare.note and "torchao or bitsandbytes" in bare.note
    assert "allowed: int8, int4" in resolve("cuda", quantize="int2", machine=ADA).note
    monkeypatch.setattr(placement_module, "find_spec", lambda name: object())
    full = resolve("cuda", compile=True, quantize="int4", machine=ADA)
    assert (full.compile, full.quantize, full.note) == (True, "int4", "")


class Net(torch.nn.Module):
    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(4, 4, 3), torch.nn.Linear(8, 8)
        self.config = SimpleNamespace(**config)
        self.compiled = 0

    def compile(self) -> None:
        self.compiled += 1


def model_of(**parts: Net) -> Any:
    return SimpleNamespace(modules=parts, denoiser=parts.get("unet"), card=PLAIN, own_loop=None)


@pytest.mark.parametrize(
    ("name", "kind", "packages", "told"),
    [
        ("GTX 1080", "int8", {"bitsandbytes"}, "has no kernels for NVIDIA GeForce GTX 1080"),
        ("GTX 1660", "int8", {"bitsandbytes"}, "computes in float16, which comes out wrong on NVIDIA GeForce GTX 1660"),
        ("RTX 2060", "int8", {"bitsandbytes"}, ""),
        ("Radeon", "int8", {"bitsandbytes"}, ""),
        ("GTX 1080", "int8", {"bitsandbytes", "torchao"}, ""),  # which rounds the weights alone
        ("GTX 1660", "int8", {"torchao"}, ""),
        ("GTX 1080", "int4", {"bitsandbytes"}, ""),
        ("GTX 1660", "int4", {"bitsandbytes"}, ""),
        ("GTX 970", "int4", {"bitsandbytes"}, "int4 by bitsandbytes has no kernels for NVIDIA GeForce GTX 970"),
    ],
)
def test_fewer_bits_on_cards_that_have_kernels_for_them(
    name: str, kind: str, packages: set[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(CARDS["GTX 1060"], name="NVIDIA GeForce GTX 970", capability=(5, 2))
    monkeypatch.setattr(placement_module, "find_spec", lambda package: object() if package in packages else None)
    here = resolve("cuda", quantize=kind, machine=MachineWith({**CARDS, "GTX 970": old}[name]))
    assert here.quantize == ("" if told else kind)
    assert told in here.note and bool(here.note) == bool(told)
    assert not told or (here.note.endswith(".") and here.note.count(". ") == 0)


def test_on_a_gpu_networks_of_convolutions_are_laid_out_for_it() -> None:
    model = model_of(unet=Net(), vae=Net(), text_encoder=Net())
    prepare_for(model, Placement("cpu", "float32", "sdpa"))
    assert not model.modules["unet"].conv.weight.is_contiguous(memory_format=torch.channels_last)
    prepare_for(model, Placement("cuda", "float16", "sdpa"))
    for name, laid in (("unet", True), ("vae", True), ("text_encoder", False)):
        assert model.modules[name].conv.weight.is_contiguous(memory_format=torch.channels_last) == laid
    assert model.denoiser.compiled == 0
    prepare_for(model, Placement("cuda", "float16", "sdpa", compile=True))
    prepare_for(model, Placement("cuda", "float16", "sdpa", compile=True, fallbacks=("parts",)))
    assert model.denoiser.compiled == 1


@pytest.mark.parametrize(
    ("family", "dtype", "upcast", "found"),
    [
        ("stable_diffusion_xl", "float16", True, "float32"),
        ("stable_diffusion_xl", "float16", False, "float16"),
        ("stable_diffusion_xl", "bfloat16", True, "bfloat16"),
        ("stable_diffusion", "float16", True, "float16"),
        ("any", "float16", True, "float16"),
    ],
)
def test_an_autoencoder_that_overflows_in_float16_stays_in_float32(
    family: str, dtype: str, upcast: bool, found: str
) -> None:
    vae = Net(force_upcast=upcast).to(getattr(torch, dtype))
    model = model_of(unet=Net(), vae=vae)
    model.card = tiny_card("x", family=family)
    prepare_for(model, Placement("cuda", dtype, "sdpa"))
    assert vae.linear.weight.dtype == getattr(torch, found)


def test_bitsandbytes_takes_every_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers need a GPU; here they only show what they are given."""

    class Layer(torch.nn.Module):
        def __init__(self, inside: int, outside: int, **options: Any) -> None:
            super().__init__()
            self.options = {"inside": inside, "outside": outside, **options}

    class Params(torch.nn.Parameter):
        def __new__(cls, data: Any, requires_grad: bool = False, **options: Any) -> Any:
            return torch.nn.Parameter(data, requires_grad=False)

    layers = SimpleNamespace(Linear8bitLt=Layer, Linear4bit=Layer, Int8Params=Params, Params4bit=Params)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", SimpleNamespace(nn=layers))
    monkeypatch.setattr(placement_module, "find_spec", lambda name: None)
    for kind in ("int8", "int4"):
        net = Net()
        weight, bias = net.linear.weight, net.linear.bias
        quantize_linear(net, kind)
        assert isinstance(net.linear, Layer) and net.linear.options["inside"] == 8
        assert torch.equal(net.linear.weight, weight) and net.linear.bias is bias
        assert isinstance(net.conv, torch.nn.Conv2d)


class Rounded(torch.nn.Linear):
    """Stands in for bitsandbytes' Linear4bit: its weights are whole numbers without a sign."""

    def __init__(self, inside: int, outside: int, bias: bool = True, **options: Any) -> None:
        super().__init__(inside, outside, bias=bias)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and isinstance(value, torch.nn.Parameter) and "weight" in self._parameters:
            self.scale = value.detach().abs().amax() / 127
            whole = (value.detach() / self.scale + 128).round().to(torch.uint8)
            value = torch.nn.Parameter(whole, requires_grad=False)
        super().__setattr__(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, ((self.weight.float() - 128) * self.scale).to(x.dtype))


def small_t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config).eval().requires_grad_(False)


def test_t5_in_fewer_bits_still_reads_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It casts what comes to ``wo`` to the format of those weights: to whole numbers, if they were rounded too."""
    layers = SimpleNamespace(Linear4bit=Rounded, Params4bit=lambda data, **options: torch.nn.Parameter(data))
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(nn=layers))
    net, ids = small_t5(), torch.arange(8)[None]
    plain = net(ids).last_hidden_state
    quantize_linear(net, "int4")
    assert sum(isinstance(one, Rounded) for one in net.modules()) == 2 * 6
    assert (net(ids).last_hidden_state - plain).norm() < 0.1 * plain.norm()


def test_half_precision_leaves_wide_what_overflows_in_it() -> None:
    net, ids = small_t5(), torch.arange(8)[None]
    wide = net.encoder.block[0].layer[1].DenseReluDense.wo
    wide.weight *= 1e6  # more than float16 holds
    plain = net(ids).last_hidden_state
    convert(net, torch.float16)
    assert wide.weight.dtype == torch.float32 and net.shared.weight.dtype == torch.float16
    assert (net(ids).last_hidden_state.float() - plain).norm() < 0.02 * plain.norm()
    convert(net, torch.bfloat16)
    assert {weight.dtype for weight in net.parameters()} == {torch.bfloat16}


def test_xformers_without_its_own_kernels_is_not_called_xformers() -> None:
    """Beside another PyTorch than it was built for its operator runs on PyTorch's kernels, silently."""
    xformers = pytest.importorskip("xformers")
    if xformers._has_cpp_library:
        pytest.skip("its kernels load here")
    found = resolve("cuda", "xformers", PLAIN, machine=ADA)
    assert found.attention == "sdpa"
    assert found.note.startswith("xformers cannot load its kernels beside this PyTorch (2.")
    radeon = resolve("cuda", "xformers", PLAIN, machine=MachineWith(CARDS["Radeon"]))
    assert radeon.note == "xformers needs an NVIDIA GPU, so SDPA is used instead."


@pytest.mark.parametrize("facts", [{"_has_cpp_library": False}, {}])
def test_an_xformers_that_does_not_say_what_computes_is_not_used(
    facts: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = SimpleNamespace(memory_efficient_attention=torch.nn.functional.scaled_dot_product_attention)
    monkeypatch.setitem(sys.modules, "xformers", SimpleNamespace(ops=ops, **facts))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    found = resolve("cuda", "xformers", PLAIN, machine=ADA)
    assert found.attention == "sdpa" and found.note.startswith("xformers cannot load its kernels beside this PyTorch")


def test_int4_names_its_package_and_reaches_t5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "find_spec", lambda name: object() if name == "torchao" else None)
    assert resolve("cuda", quantize="int8", machine=ADA).quantize == "int8"
    four = resolve("cuda", quantize="int4", machine=ADA)
    assert four.quantize == "" and "pip install bitsandbytes" in four.note

    class T5EncoderModel(Net):
        pass

    rounded: list[Any] = []
    monkeypatch.setattr(placement_module, "quantize_linear", lambda module, kind: rounded.append((module, kind)))
    parts = {"unet": Net(), "text_encoder": Net(), "text_encoder_3": T5EncoderModel()}
    here = Placement("cpu", "bfloat16", "sdpa", quantize="int4", kind="cuda")
    for name, part in parts.items():
        assert settle(name, part, here) is part and not part.training
    assert rounded == [(parts[name], "int4") for name in ("unet", "text_encoder_3")]
