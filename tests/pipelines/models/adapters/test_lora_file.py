"""LoRA files of every form: a model with one is the model with the same weights merged by hand."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines.images.uploads import UploadStore
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.models.adapters.lora import scan
from pipelines.models.adapters.resolver import AdapterResolver
from pipelines.models.families import loader
from pipelines.request import InvalidRequest, make_request
from tests.support.lora_forms import FORMS, Form, Maker, fused, kohya, peft
from tests.support.paired_models import CPU
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card

# Largest difference, in parts of what the LoRA changes.
TOLERANCE = 1e-3


class Pair:
    """A tiny model, and a second one whose weights are changed by hand."""

    def __init__(self, family: str, folder: Path) -> None:
        self.model, self.other = (
            loader(family)(tiny_card(folder, family=family), CPU, lambda *args: None) for _ in range(2)
        )

    def with_lora(self, path: Path, weight: float) -> list[torch.Tensor]:
        self.model.set_loras([(str(path.parent), path.name, weight)])
        try:
            return outputs(self.model)
        finally:
            self.model.set_loras([])

    def merged(self, form: Form, weight: float) -> list[torch.Tensor]:
        before = {
            part: copy.deepcopy(self.other.parts[part].state_dict()) for part in form.weights if form.weights[part]
        }
        form.merge(self.other.parts, weight)
        try:
            return outputs(self.other)
        finally:
            for part, weights in before.items():
                self.other.parts[part].load_state_dict(weights)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    root, made = tmp_path_factory.mktemp("models"), dict[str, Pair]()

    def pair(family: str) -> Pair:
        if family not in made:
            folder = make_tiny_model(root / "sd") if family == "stable_diffusion" else make(family, root / family)
            made[family] = Pair(family, folder)
        return made[family]

    return pair


@torch.inference_mode()
def outputs(model: Any) -> list[torch.Tensor]:
    """What the networks compute: the text's vectors, and the prediction for a fixed x_t."""
    model.clear_prompt_cache()
    conditioning = model.encode_prompt(["a red fox"])
    found = [conditioning.prompt_embeds, *filter(lambda x: x is not None, [conditioning.pooled_prompt_embeds])]
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    return [*found, model.predict(x, torch.tensor(500.0), conditioning)]


def assert_same_effect(ours: list[torch.Tensor], theirs: list[torch.Tensor], plain: list[torch.Tensor]) -> None:
    effects = [float((after - before).abs().max()) for after, before in zip(theirs, plain, strict=True)]
    assert effects[-1] > 0.01
    for mine, other, effect in zip(ours, theirs, effects, strict=True):
        assert float((mine - other).abs().max()) <= max(TOLERANCE * effect, 1e-6)


CASES = [("stable_diffusion", name) for name in FORMS] + [
    ("stable_diffusion_xl", name)
    for name in ("kohya, text encoder", "kohya, original names", "LoKr, split", "DoRA, PEFT")
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_lora_is_what_it_is_when_merged_by_hand(
    pairs: Callable[[str], Pair], name: str, family: str, tmp_path: Path
) -> None:
    pair = pairs(family)
    form = FORMS[name](Maker(pair.model.parts))
    path = form.save(tmp_path / "x.safetensors")
    plain = outputs(pair.model)
    for weight in (1.0, -0.6):
        assert_same_effect(pair.with_lora(path, weight), pair.merged(form, weight), plain)
    assert all(torch.equal(a, b) for a, b in zip(outputs(pair.model), plain, strict=True))


@pytest.mark.parametrize("family", ["flux", "stable_diffusion_3"])
def test_a_matrix_that_was_one_goes_to_several_layers(
    pairs: Callable[[str], Pair], family: str, tmp_path: Path
) -> None:
    pair = pairs(family)
    form = fused(Maker(pair.model.parts), family)
    path = form.save(tmp_path / "x.safetensors")
    assert_same_effect(pair.with_lora(path, 0.7), pair.merged(form, 0.7), outputs(pair.model))


def test_several_loras_add_up_and_one_file_counts_as_often_as_it_is_named(
    pairs: Callable[[str], Pair], tmp_path: Path
) -> None:
    pair = pairs("stable_diffusion")
    ink, clay = (kohya(Maker(pair.model.parts, seed), lambda k: 1.0 + k, lambda k: 1 + k) for seed in range(2))
    folder = str(tmp_path)
    ink.save(tmp_path / "ink.safetensors")
    clay.save(tmp_path / "clay.safetensors")
    plain = outputs(pair.model)
    both = Form(weights={"unet": {
        name: 0.8 * change - 0.3 * clay.weights["unet"][name] for name, change in ink.weights["unet"].items()
    }})  # fmt: skip
    for before in ([], [(folder, "ink.safetensors", 0.3)], [(folder, "clay.safetensors", 2.0)]):
        pair.model.set_loras(before)
        pair.model.set_loras([
            (folder, "ink.safetensors", 0.5), (folder, "clay.safetensors", -0.3), (folder, "ink.safetensors", 0.3),
        ])  # fmt: skip
        assert_same_effect(outputs(pair.model), pair.merged(both, 1.0), plain)
    pair.model.set_loras([(folder, "ink.safetensors", 0.5), (folder, "ink.safetensors", -0.5)])
    assert all(torch.equal(a, b) for a, b in zip(outputs(pair.model), plain, strict=True))
    pair.model.set_loras([])


def test_a_file_that_was_replaced_is_read_again(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    pair = pairs("stable_diffusion")
    first, second = (kohya(Maker(pair.model.parts, seed), lambda k: 2.0, lambda k: 2) for seed in range(2))
    path = first.save(tmp_path / "x.safetensors")
    plain, dates = outputs(pair.model), path.stat()
    pair.model.set_loras([(str(tmp_path), path.name, 1.0)])
    outputs(pair.model)
    # Written into the same file, of the same size, and dated back.
    path.write_bytes(second.save(tmp_path / "y.safetensors").read_bytes())
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert_same_effect(pair.with_lora(path, 1.0), pair.merged(second, 1.0), plain)


def _plain(make: Maker) -> Form:
    return kohya(make, lambda k: 2.0, lambda k: 2)


def _changed(make: Maker, **changes: Any) -> dict[str, torch.Tensor]:
    """A sound file with further tensors; with None, one of those that it has is left out."""
    found = _plain(make).file
    first = next(name for name in found if name.endswith("lora_up.weight"))
    for name, value in changes.items():
        key = first if name == "up" else first.replace("lora_up.weight", name.replace("__", "."))
        found = {**found, key: value} if value is not None else {k: v for k, v in found.items() if k != key}
    return found


REFUSED: dict[str, tuple[Callable[[Maker], dict[str, torch.Tensor]], str]] = {
    "OFT": (lambda make: _changed(make, oft_blocks=torch.zeros(2, 2, 2)), "is a LyCORIS OFT file"),
    "OFT, PEFT": (lambda make: {"base_model.model.mid_block.oft_R.weight": torch.ones(2, 3)}, "OFT"),
    "BOFT": (lambda make: {"lora_unet_mid_block.boft_R": torch.zeros(2, 3)}, "BOFT"),
    "GLoRA": (lambda make: {f"lora_unet_x.{part}.weight": torch.ones(2, 2) for part in ("a1", "b1")}, "GLoRA"),
    "IA3": (lambda make: {"lora_unet_x.weight": torch.ones(2), "lora_unet_x.on_input": torch.ones(1)}, "IA3"),
    "norms": (lambda make: _changed(make, w_norm=torch.ones(4)), "changes norm layers"),
    "vocabulary": (lambda make: {"text_encoder.embeddings.lora_embedding_A": torch.ones(2, 2)}, "vocabulary"),
    "no lora_B": (lambda make: _changed(make, up=None), "lacks lora_B of its layer"),
    "no lora_A": (lambda make: _changed(make, lora_down__weight=None), "lacks lora_A of its layer"),
    "half of a LoHa": (lambda make: {"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "lacks hada_w1_b"),
    "half of a LoKr": (lambda make: {"lora_unet_x.lokr_w1": torch.ones(2, 2)}, "lacks lokr_w2"),
    "an unknown part": (lambda make: _changed(make, gate=torch.ones(2)), "no known form of LoRA"),
    "NaN": (lambda make: _changed(make, alpha=torch.tensor(float("nan"))), "not finite"),
    "infinity": (lambda make: _changed(make, lora_down__weight=torch.full((2, 8), float("inf"))), "not finite"),
    "other layers": (lambda make: _changed(make) | {
        "lora_unet_other.lora_down.weight": torch.ones(2, 2), "lora_unet_other.lora_up.weight": torch.ones(2, 2),
    }, "of which Tiny lacks 1 (such as 'lora_unet_other')"),
    "other shapes": (lambda make: _changed(make, up=torch.ones(9, 2)), "of which Tiny lacks 1"),
    "another rank": (lambda make: _changed(make, up=torch.ones(8, 3)), "of which Tiny lacks 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_applied_in_full_is_refused_by_name(
    pairs: Callable[[str], Pair], case: str, tmp_path: Path
) -> None:
    model = pairs("stable_diffusion").model
    plain = outputs(model)
    tensors, words = REFUSED[case]
    path = tmp_path / "my style.safetensors"
    save_file(tensors(Maker(model.parts)), path)
    # It is a LoRA all the same: never "not here".
    assert set(scan(AdapterFolders([tmp_path]))) == {"my style"}
    with pytest.raises(InvalidRequest) as refused:
        model.set_loras([(str(tmp_path), path.name, 1.0)])
    text = str(refused.value)
    assert words in text and "'my style'" in text and "leave it out" in text and "probably" not in text
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), plain, strict=True))


def test_a_cut_file_is_refused(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    model = pairs("stable_diffusion").model
    path = _plain(Maker(model.parts)).save(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(InvalidRequest, match="'cut', which cannot be read"):
        model.set_loras([(str(tmp_path), path.name, 1.0)])


def test_other_forms_of_layers_whose_halves_are_swapped(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    pair = pairs("flux")
    layer = pair.model.parts["transformer"].norm_out.linear
    weight, half = layer.weight.detach(), layer.out_features // 2
    key, draw = "final_layer.adaLN_modulation.1", torch.Generator().manual_seed(1)
    change, bias = (torch.randn(*shape, generator=draw) for shape in (weight.shape, layer.bias.shape))
    own = torch.cat([weight[half:], weight[:half]])
    factor = 1 + torch.rand(len(own), 1, generator=draw)
    down, up = torch.randn(2, own.shape[1], generator=draw), torch.randn(len(own), 2, generator=draw)
    moved = own + up @ down
    decomposed = factor * own.norm(dim=1, keepdim=True) * moved / moved.norm(dim=1, keepdim=True) - own
    forms = [
        (Form(file={f"{key}.diff": change, f"{key}.diff_b": bias}), change, bias),
        (
            Form(file={
                f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up,
                f"{key}.dora_scale": factor * own.norm(dim=1, keepdim=True),
            }),
            decomposed,
            torch.zeros_like(bias),
        ),
    ]  # fmt: skip
    for k, (form, rows, shift) in enumerate(forms):
        form.weights = {"transformer": {
            "norm_out.linear.weight": torch.cat([rows[half:], rows[:half]]),
            "norm_out.linear.bias": torch.cat([shift[half:], shift[:half]]),
        }}  # fmt: skip
        path = form.save(tmp_path / f"{k}.safetensors")
        assert_same_effect(pair.with_lora(path, 1.0), pair.merged(form, 1.0), outputs(pair.model))


def _peft_file(pair: Pair, folder: Path, config: str | None) -> Path:
    path = peft(Maker(pair.model.parts)).save(folder / "adapter_model.safetensors")
    if config is not None:
        path.with_name("adapter_config.json").write_text(config)
    return path


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "is PEFT's file without its adapter_config.json"),
        ('{"r": 64, "lora_al', "has an adapter_config.json that says how strong it is, but that cannot be read"),
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"r": 64, "lora_alpha": "8"}', "cannot be read"),
    ],
)
def test_a_file_of_peft_without_its_configuration_is_refused(
    pairs: Callable[[str], Pair], config: str | None, words: str, tmp_path: Path
) -> None:
    pair = pairs("stable_diffusion")
    path = _peft_file(pair, tmp_path, config)
    with pytest.raises(InvalidRequest) as refused:
        pair.with_lora(path, 1.0)
    assert words in str(refused.value) and "'adapter_model'" in str(refused.value)
    path.with_name("adapter_config.json").write_text('{"r": 3, "lora_alpha": 3}')
    before = outputs(pair.model)
    assert_same_effect(pair.with_lora(path, 1.0), pair.merged(peft(Maker(pair.model.parts)), 1.0), before)


def test_a_file_whose_layers_say_their_alphas_needs_no_configuration(
    pairs: Callable[[str], Pair], tmp_path: Path
) -> None:
    pair = pairs("stable_diffusion")
    form = _plain(Maker(pair.model.parts))
    path = form.save(tmp_path / "adapter_model.safetensors")
    assert_same_effect(pair.with_lora(path, 1.0), pair.merged(form, 1.0), outputs(pair.model))


@pytest.mark.parametrize("notes", ["{", "[]", ""])
def test_a_header_that_should_say_the_alphas_and_cannot_be_read_is_refused(
    pairs: Callable[[str], Pair], notes: str, tmp_path: Path
) -> None:
    pair = pairs("stable_diffusion")
    form = peft(Maker(pair.model.parts), prefix="unet.")
    form.notes = {"lora_adapter_metadata": notes}
    path = form.save(tmp_path / "x.safetensors")
    with pytest.raises(InvalidRequest, match="says in its header how strong it is"):
        pair.with_lora(path, 1.0)


def test_a_renamed_file_of_peft_says_with_the_run_that_its_strength_is_not_known(
    pairs: Callable[[str], Pair], tmp_path: Path
) -> None:
    parts, alphas = pairs("stable_diffusion").model.parts, {"unet.lora_alpha": 2}
    for name, prefix, notes in (
        ("renamed", "base_model.model.", {}),
        ("of diffusers", "unet.", {}),
        ("told", "base_model.model.", {"lora_adapter_metadata": json.dumps(alphas)}),
    ):
        form = peft(Maker(parts), prefix=prefix)
        form.config, form.notes = {}, notes
        form.save(tmp_path / f"{name}.safetensors")
    _plain(Maker(parts)).save(tmp_path / "alphas.safetensors")
    resolver = AdapterResolver([tmp_path], UploadStore(tmp_path / "inputs"))
    told = {each.name: each.note for each in resolver.loras()}
    assert {name for name, note in told.items() if note} == {"renamed"}
    request = make_request(
        model="tiny", prompt="a fox <lora:renamed:0.5> <lora:alphas:1> <lora:renamed:0.2>", width=32, height=32,
        scheduler="ddim", num_inference_steps=1, guidance_scale=1.0, seed=1,
    )  # fmt: skip
    (note,) = resolver.notes(request)
    assert "'renamed'" in note and "adapter_config.json" in note and note.endswith(".")
