"""Where models run and in which number format; GPUs are told of, not touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipelines import device
from pipelines.device import Gpu, NoSuchDevice, Placement, half_of, quantize_matrices, resolve, settle_in
from tests.tiny import tiny_card

ADA = Gpu("NVIDIA GeForce RTX 4090", (8, 9), True)
TURING = Gpu("NVIDIA GeForce RTX 2080", (7, 5), False)
GTX16 = Gpu("NVIDIA GeForce GTX 1660", (7, 5), False)
PASCAL = Gpu("NVIDIA GeForce GTX 1080", (6, 1), False)
PLAIN, WIDE = tiny_card("x"), tiny_card("x", half="bfloat16", family="flux")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with one of these GPUs."""

    def install(found: Gpu) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(device, "gpu", lambda: found)

    return install


@pytest.mark.parametrize(
    ("found", "card", "dtype", "words"),
    [
        (ADA, None, "float16", ""),
        (ADA, PLAIN, "float16", ""),
        (ADA, WIDE, "bfloat16", ""),
        (TURING, PLAIN, "float16", ""),
        (TURING, WIDE, "float16", "Tiny is made for bfloat16, which NVIDIA GeForce RTX 2080 lacks"),
        (GTX16, PLAIN, "float32", ""),
        (PASCAL, WIDE, "float32", ""),
    ],
)
def test_the_number_format_goes_by_card(cuda: Any, found: Gpu, card: Any, dtype: str, words: str) -> None:
    cuda(found)
    placement = resolve(card=card)
    assert (placement.device, placement.dtype) == ("cuda", dtype)
    assert placement.note.startswith(words) and bool(placement.note) == bool(words)


def test_elsewhere_it_is_float32() -> None:
    assert resolve("cpu", card=WIDE) == Placement("cpu", "float32", "sdpa")
    if not torch.cuda.is_available():
        with pytest.raises(NoSuchDevice, match="no cuda device"):
            resolve("cuda")


def test_half_precision_as_each_device_has_it(cuda: Any) -> None:
    assert half_of(Placement("cpu", "float32", "sdpa"), PLAIN) == "bfloat16"
    assert half_of(Placement("mps", "float32", "sdpa"), WIDE) == "float16"
    cuda(PASCAL)
    assert half_of(Placement("cuda", "float32", "sdpa"), WIDE) == "float16"
    cuda(ADA)
    assert half_of(Placement("cuda", "float32", "sdpa"), WIDE) == "bfloat16"


@pytest.mark.parametrize("wish", ["auto", "sdpa"])
def test_sdpa_is_the_default(cuda: Any, wish: str) -> None:
    cuda(ADA)
    assert resolve("cuda", wish).attention == "sdpa"


def test_xformers_where_its_operator_runs_else_the_reason(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("cpu", "xformers").note == "xformers needs an NVIDIA GPU, so SDPA is used instead."
    cuda(ADA)
    monkeypatch.setattr(device, "_xformers_problem", lambda: "")
    assert resolve("cuda", "xformers", PLAIN) == Placement("cuda", "float16", "xformers")
    flux = resolve("cuda", "xformers", WIDE)
    assert (flux.attention, flux.note) == ("sdpa", "xformers has no operator for Tiny, so SDPA is used instead.")
    monkeypatch.setattr(device, "_xformers_problem", lambda: "has no working operator for this GPU")
    broken = resolve("cuda", "xformers", PLAIN)
    assert broken.attention == "sdpa" and "no working operator" in broken.note


def test_compiling_and_quantising_are_left_out_with_a_sentence(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = resolve("cpu", compile=True, quantize="int8")
    assert not here.compile and not here.quantize
    assert here.note.count("NVIDIA GPUs only") == 2
    cuda(ADA)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    bare = resolve("cuda", compile=True, quantize="int8")
    assert not bare.compile and not bare.quantize
    assert "triton" in bare.note and "torchao or bitsandbytes" in bare.note
    assert "allowed: int8, int4" in resolve("cuda", quantize="int2").note
    monkeypatch.setattr(device, "find_spec", lambda name: object())
    full = resolve("cuda", compile=True, quantize="int4")
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
    return SimpleNamespace(modules=parts, denoiser=parts.get("unet"), card=PLAIN)


def test_on_a_gpu_networks_of_convolutions_are_laid_out_for_it() -> None:
    model = model_of(unet=Net(), vae=Net(), text_encoder=Net())
    settle_in(model, Placement("cpu", "float32", "sdpa"))
    assert not model.modules["unet"].conv.weight.is_contiguous(memory_format=torch.channels_last)
    settle_in(model, Placement("cuda", "float16", "sdpa"))
    for name, laid in (("unet", True), ("vae", True), ("text_encoder", False)):
        assert model.modules[name].conv.weight.is_contiguous(memory_format=torch.channels_last) == laid
    assert model.denoiser.compiled == 0
    settle_in(model, Placement("cuda", "float16", "sdpa", compile=True))
    settle_in(model, Placement("cuda", "float16", "sdpa", compile=True, rungs=("parts",)))
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
    settle_in(model, Placement("cuda", dtype, "sdpa"))
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
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    for kind in ("int8", "int4"):
        net = Net()
        weight, bias = net.linear.weight, net.linear.bias
        quantize_matrices(net, kind)
        assert isinstance(net.linear, Layer) and net.linear.options["inside"] == 8
        assert torch.equal(net.linear.weight, weight) and net.linear.bias is bias
        assert isinstance(net.conv, torch.nn.Conv2d)
