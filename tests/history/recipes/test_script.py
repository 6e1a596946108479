"""Scripts, run without the program: each makes the picture of its entry, pixel by pixel."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from history.recipes.plan import NoScript
from history.recipes.script import Script
from pipelines.prompt import a1111
from pipelines.request import Lora
from pipelines.sampling.schedulers import DIFFUSION_SCHEDULERS, FLOW_PREDICTION, OWN_LOOP
from tests.support import ldm_checkpoint
from tests.support.lora_forms import FORMS, Maker, kohya, peft
from tests.support.recipe_runs import Workshop, run_scripts, same_pixels, workshop
from tests.support.tiny_controlnets import make_controlnet
from tests.support.tiny_families import make
from tests.support.tiny_ip_adapters import make_adapter
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card

# Of each kind one that the others do not stand for.
OTHER_FORMS = (
    "diffusers, with alphas in its header", "LoCon, Tucker", "DoRA, PEFT", "DoRA, inputs", "LoHa", "LoHa, Tucker",
    "LoKr, split", "LoKr, Tucker", "full differences", "scaled fp8",
)  # fmt: skip
# More than one text window, with commas near its end and elsewhere.
LONG = ", ".join(["a red apple and a blue hut under the old tree"] * 7) + " BREAK " + "grey " * 90
FLOW = {"scheduler": "flow_euler", "height": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A picture of every kind."""
    root = tmp_path_factory.mktemp("recipes")
    tiny, xl = make_tiny_model(root / "tiny"), make("stable_diffusion_xl", root / "xl")
    schedule = {"rescale_betas_zero_snr": True, "timestep_spacing": "leading"}
    folders = {
        "tiny": tiny, "xl": xl, "sd3": make("stable_diffusion_3", root / "sd3", dynamic=True),
        "flux": make("flux", root / "flux"), "pixart": make("pixart", root / "pixart"),
        "lcm": make("lcm", root / "lcm"),
        "inpainting": make_tiny_model(root / "inpainting", inpaint=True),
        "v": make_tiny_model(root / "v", prediction_type="v_prediction", vae="tiny", scheduler=schedule),
    }  # fmt: skip
    families = {"xl": "stable_diffusion_xl", "pixart": "any", "sd3": "stable_diffusion_3", "flux": "flux"}
    predictions = {"sd3": FLOW_PREDICTION, "flux": FLOW_PREDICTION, "pixart": OWN_LOOP}
    cards = [
        tiny_card(
            path, id=name, family=families.get(name, "stable_diffusion"), prediction_type=predictions.get(name),
            guidance_embedded=name in ("lcm", "flux"),
        )
        for name, path in folders.items()
    ]  # fmt: skip
    cards.append(tiny_card(single_file(tiny, root / "single.safetensors"), id="single", config=str(tiny)))
    cards.append(tiny_card(tiny, id="renamed", scheduler_options={"timestep_spacing": "leading"}))
    make_lora(tiny, "stable_diffusion", root / "adapters" / "ink.safetensors", 0)
    make_lora(tiny, "stable_diffusion", root / "adapters" / "clay.safetensors", 1)
    make_loras(tiny, root / "adapters")
    make_others(tiny, xl, root / "adapters")
    make_controlnet(diffusers.UNet2DConditionModel.from_pretrained(tiny, subfolder="unet"), root / "adapters" / "edges")
    make_controlnet(diffusers.UNet2DConditionModel.from_pretrained(xl, subfolder="unet"), root / "adapters" / "lines")
    save_file({"emb_params": torch.randn(2, 16, generator=torch.Generator().manual_seed(0))},
              root / "adapters" / "Mine.safetensors")  # fmt: skip
    with workshop(root, cards) as shop:
        _make_all(shop)
        yield shop


def make_loras(folder: Path, target: Path) -> None:
    """LoRAs with an alpha for each layer, and with one for all in the header."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    maker = Maker({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    kohya(maker, lambda k: 1.0 + k % 3, lambda k: 2 + k % 2).save(target / "kohya.safetensors")
    form = peft(maker, prefix="unet.")
    form.notes = {"lora_adapter_metadata": '{"unet.r": 3, "unet.lora_alpha": 5}'}
    form.save(target / "alphas.safetensors")


def make_others(tiny: Path, xl: Path, target: Path) -> None:
    """LoRAs that diffusers adds in another way, IP-Adapters, and a ControlNet in one file."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    for name in OTHER_FORMS:
        FORMS[name](Maker(parts)).save(target / f"{name}.safetensors")
    make_adapter(pipe.unet, target / "look" / "look.safetensors")
    make_adapter(pipe.unet, target / "fine" / "fine.safetensors", fine=True)
    unet = diffusers.UNet2DConditionModel.from_pretrained(xl, subfolder="unet")
    make_adapter(unet, target / "wide" / "wide.safetensors")
    net = diffusers.ControlNetModel.from_unet(pipe.unet, load_weights_from_unet=False)
    torch.manual_seed(3)
    for name, weight in net.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
            torch.nn.init.normal_(weight, std=0.2)
    save_file({name: weight.contiguous() for name, weight in net.state_dict().items()}, target / "one.safetensors")


def single_file(folder: Path, target: Path) -> Path:
    """A model as one file with the names of its first makers."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    weights = {
        **ldm_checkpoint.unet(pipe.unet.state_dict(), 1), **ldm_checkpoint.vae(pipe.vae.state_dict()),
        **ldm_checkpoint.clip(pipe.text_encoder.state_dict()),
    }  # fmt: skip
    save_file({name: weight.contiguous() for name, weight in weights.items()}, target)
    return target


def _make_all(shop: Workshop) -> None:
    picture, mask = shop.backend.inputs.put(colours()), shop.backend.inputs.put(marked())
    square = shop.backend.inputs.put(colours(side=32))
    for name in DIFFUSION_SCHEDULERS:
        shop.make(name, scheduler=name)
    # One of each way in which samplers begin in the middle of their schedule.
    for name in ("ddim", "heun", "dpmpp_2m_sde"):
        shop.make(f"{name}-picture", scheduler=name, num_inference_steps=6, init={"image": picture, "strength": 0.67})
    half, whole = {"image": picture, "strength": 0.5}, {"image": picture, "strength": 1.0}
    control = {"net": "edges", "image": picture, "weight": 0.8}
    kinds: dict[str, dict[str, Any]] = {
        "two": {"num_images": 2, "scheduler": "euler_a"},
        "each": {"num_images": 2, "prompt": "a fox", "prompts": ("a fox", "a (blue)1.3 hut")},
        "unguided": {"guidance_scale": 1.0, "num_images": 2},
        "variation": {"variation": {"seed": 5, "strength": 0.3}, "num_images": 2},
        "blend": {"interpolation": {"seed": 5, "prompt": "a blue fox"}, "num_images": 3},
        "marked": {"init": {**half, "mask": mask}},
        "marked-whole": {"init": {**whole, "mask": mask, "feather": 3}, "scheduler": "euler"},
        "marked-part": {"init": {**half, "mask": mask, "only_masked": True, "padding": 4}, "scheduler": "dpmpp_2m"},
        "marked-fresh": {"init": {**half, "mask": mask}, "scheduler": "euler_a", "num_images": 2},
        "noise-only": {"init": {**whole, "noise_only": True}},
        "inpainting": {"model": "inpainting", "init": {**half, "mask": mask}},
        "lora": {"loras": ({"name": "ink", "weight": 0.8}, {"name": "clay", "weight": -0.5})},
        "control": {"controls": (control,)},
        "controls": {"controls": (control, {**control, "start": 0.3, "end": 0.8, "weight": 1.3}), "init": half},
        "word": {"prompt": "a <embedding:Mine>, red"},
        "compel": {"prompt": "a (red)1.4 apple", "negative_prompt": "(dull)0.5 grey"},
        "a1111": {"prompt": "a (red:1.4) [apple] BREAK b", "prompt_syntax": "a1111"},
        "a1111-plain": {"prompt": r"a red \(apple\)", "prompt_syntax": "a1111"},
        "a1111-long": {"prompt": f"a (red:1.4) apple, {LONG}", "prompt_syntax": "a1111"},
        "a1111-long-plain": {"prompt": LONG, "prompt_syntax": "a1111"},
        "kohya": {"loras": ({"name": "kohya", "weight": 0.7},)},
        "alphas": {"loras": ({"name": "alphas", "weight": 0.7},)},
        **{name: {"loras": ({"name": name, "weight": 0.7}, {"name": "ink", "weight": 0.4})} for name in OTHER_FORMS},
        "look": {"reference": {"image": picture, "adapter": "look", "weight": 0.6}, "num_images": 2},
        "look-all": {
            "reference": {"image": picture, "adapter": "fine", "weight": 0.9}, "init": half, "guidance_scale": 1.0,
            "controls": (control,), "loras": ({"name": "LoHa", "weight": 0.5},),
        },
        "look-xl": {
            "model": "xl", "reference": {"image": picture, "adapter": "wide", "weight": 0.7},
            "controls": ({**control, "net": "lines"},),
        },
        "control-file": {"controls": ({**control, "net": "one"},)},
        "control-file-inpainting": {
            "model": "inpainting", "controls": ({**control, "net": "one"},), "init": {**half, "mask": mask}
        },
        "control-file-look": {
            "controls": ({**control, "net": "one"},), "reference": {"image": picture, "adapter": "look"}
        },
        "single": {"model": "single", "scheduler": "dpmpp_2m"},
        "options": {"model": "renamed", "scheduler": "euler"},
        "v": {"model": "v", "scheduler": "dpmpp_2m"},
        "lcm": {"model": "lcm", "scheduler": "lcm", "guidance_scale": 8.0},
        "xl": {"model": "xl", "scheduler": "euler"},
        "xl-empty": {"model": "xl", "negative_prompt": "", "init": half},
        "xl-weights": {"model": "xl", "prompt": "a (red)1.4 apple"},
        "xl-a1111": {"model": "xl", "prompt": "a (red:1.4) apple", "prompt_syntax": "a1111"},
        "xl-a1111-long": {"model": "xl", "prompt": "dull", "negative_prompt": LONG, "prompt_syntax": "a1111"},
        "xl-control": {"model": "xl", "controls": ({**control, "net": "lines"},)},
        "sd3": {"model": "sd3", **FLOW},
        "sd3-picture": {"model": "sd3", **FLOW, "init": {"image": square, "strength": 0.5}},
        "flux": {"model": "flux", **FLOW},
        "flux-heun": {"model": "flux", **FLOW, "scheduler": "flow_heun", "num_images": 2},
        "pixart": {"model": "pixart", "scheduler": "own", "height": 32},
        "pixart-each": {
            "model": "pixart", "scheduler": "own", "height": 32, "num_images": 2, "prompt": "a", "prompts": ("a", "b")
        },
    }  # fmt: skip
    for name, changes in kinds.items():
        shop.make(name, place=changes.get("num_images", 1) - 1, **changes)


def colours(side: int = 0) -> Image.Image:
    few = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((side or 32, side or 40), Image.Resampling.BICUBIC)


def marked() -> Image.Image:
    mask = Image.new("L", (32, 40))
    mask.paste(255, (7, 9, 24, 26))
    return mask


def test_every_script_makes_the_picture_of_its_entry(made: Workshop, tmp_path: Path) -> None:
    scripts: dict[str, Script] = {name: made.script(detail) for name, detail in made.made.items()}
    said = run_scripts(tmp_path, scripts)
    missing = [name for name in scripts if not list((tmp_path / name).glob("picture-*.png"))]
    assert not missing, said[-6000:]
    different = {one: it for one, it in made.made.items() if not same_pixels(it, tmp_path / one)}
    # On some processors a few differ in one value of 3,840 by 1: "look-all" on AMD EPYC, "xl" on Intel Xeon.
    beyond = [one for one, it in different.items() if not same_pixels(it, tmp_path / one, rounding=True)]
    assert not beyond and len(different) <= 3, (beyond, list(different))
    assert all("def lay_out(" in scripts[name].text for name in scripts if "-long" in name)


def test_a_script_is_plain_python_with_comments(made: Workshop) -> None:
    for detail in made.made.values():
        text = made.script(detail).text
        ast.parse(text)
        assert "pip install torch==" in text and "SHA-256" in text
        assert max(map(len, text.splitlines()[10:])) <= 200


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        'a "fox"',
        "it's",
        "\"'\"'",
        'x""" + exit() + """',
        "line\nline\r\n# no comment",
        "\\",
        "\u2028\x85{x}%s",
        "\U0001f98a",
    ],
)
@pytest.mark.parametrize("syntax", ["compel", "a1111"])
def test_no_prompt_breaks_out_of_its_quotes(made: Workshop, prompt: str, syntax: str) -> None:
    detail = made.made["ddim"]
    request = detail.request.model_copy(update={"prompt": prompt, "prompt_syntax": syntax})
    tree = ast.parse(made.script(replace(detail, request=request)).text)
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    expected = "".join(one.text for part in a1111.parse(prompt) for one in part) if syntax == "a1111" else prompt
    assert ast.literal_eval(values["PROMPT"]) == expected
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "exit"]
    assert not calls


def test_facts_of_a_changed_file_cannot_add_a_line(made: Workshop) -> None:
    detail, bad = made.made["ddim"], "cpu\nimport os"
    facts = {
        "device": bad, "dtype": bad, "engine": bad, "attention": bad, "compile": bad, "ladder": [bad],
        "libraries": {"torch": bad}, "model": {"revision": bad, "sha256": {bad: bad}},
    }  # fmt: skip
    card = made.cards["tiny"].model_copy(update={"name": bad})
    text = made.script(replace(detail, facts=facts), card=card).text
    assert "\nimport os" not in text.partition("from pathlib")[0]
    assert 'DEVICE, DTYPE = "cpu", torch.float32' in text


def test_the_header_says_what_may_differ(made: Workshop) -> None:
    detail = made.made["ddim"]
    text = made.script(replace(detail, facts={**detail.facts, "engine": "openvino"})).text
    assert "made by OpenVINO; this script computes with PyTorch" in text
    assert "OpenVINO" not in made.script(detail).text
    assert "torch.set_num_threads(1)" in text
    assert "it is picture-2.png" in made.script(made.made["two"]).text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": {"quantize": "int8"}}, "compressed weights"),
        ({"notes": ("The safety checker of Tiny withheld the picture: a black one takes its place.",)}, "withheld"),
        ({"request": None}, "not known in a form"),
    ],
)
def test_what_no_script_can_make_is_said(made: Workshop, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NoScript, match=words) as caught:
        made.script(replace(made.made["ddim"], **changes))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_lora_with_words_of_its_own_is_refused(made: Workshop) -> None:
    words = {"bundle_emb.mine.string_to_param.*": torch.randn(2, 16), **kohya_tensors(made)}
    save_file(words, made.root / "adapters" / "words.safetensors")
    request = made.made["lora"].request.model_copy(update={"loras": (Lora(name="words", weight=1.0),)})
    with pytest.raises(NoScript, match="brings learnt words"):
        made.script(replace(made.made["lora"], request=request))


def test_a_lora_whose_strength_is_not_known_any_more_is_refused(made: Workshop) -> None:
    path = made.root / "adapters" / "peft" / "adapter_model.safetensors"
    path.parent.mkdir()
    save_file(load_file(made.root / "adapters" / "alphas.safetensors"), path)
    request = made.made["lora"].request.model_copy(update={"loras": (Lora(name="adapter_model", weight=1.0),)})
    with pytest.raises(NoScript, match="is PEFT's file without its adapter_config.json"):
        made.script(replace(made.made["lora"], request=request))


def kohya_tensors(made: Workshop) -> dict[str, torch.Tensor]:
    return load_file(made.root / "adapters" / "kohya.safetensors")
