"""Reading the settings of every program, from every place where it writes them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from history.readers import READERS, a1111, read_settings
from history.readers.samplers import match
from history.readers.settings import ForeignSettings
from pipelines.request import make_request
from pipelines.sampling.schedulers import SCHEDULERS
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import NEGATIVE, PROMPT, hidden_in_alpha, png, unicode_comment, with_exif


def read(data: bytes) -> ForeignSettings:
    found = read_settings(data)
    assert found is not None
    return found


def loras(found: ForeignSettings) -> list[tuple[str, float, str]]:
    return [(lora.name, lora.weight, lora.hash) for lora in found.loras]


A1111_FILES = {
    "png": png({"parameters": samples.A1111}),
    "jpeg": with_exif("JPEG", unicode_comment(samples.A1111)),
    "webp": with_exif("WEBP", unicode_comment(samples.A1111)),
}


@pytest.mark.parametrize("data", A1111_FILES.values(), ids=A1111_FILES)
def test_a1111(data: bytes) -> None:
    found = read(data)
    assert found.program == "AUTOMATIC1111" and found.text == samples.A1111
    assert found.prompt == f"{PROMPT}\nsecond line" and found.negative_prompt == f"{NEGATIVE}\nmore of it"
    assert (found.scheduler, found.sampler, found.schedule) == ("dpmpp_2m_karras", "DPM++ 2M", "Karras")
    assert (found.num_inference_steps, found.guidance_scale, found.seed) == (20, 7.0, 1234567890)
    assert (found.width, found.height, found.strength, found.clip_skip) == (512, 768, 0.35, 2)
    assert (found.model, found.model_hash, found.vae) == ("v1-5-pruned-emaonly", "6ce0161689", "vae-ft-mse")
    assert loras(found) == [("ink wash", 0.8, "0a1b2c3d4e5f")]
    assert {"Hires upscale": "2", "clip skip": "2", "VAE": "vae-ft-mse"}.items() <= found.unused.items()
    assert found.unused["TI hashes"] == "EasyNegative: c74b4e810b03"
    request = make_request(model="sd15", **found.request_values())
    assert (
        request.loras[0].name == "ink wash" and request.prompt_syntax == "a1111" and request.sampling.seed == 1234567890
    )


def test_forge_sdnext_civitai_and_fooocus_in_the_same_form() -> None:
    forge = read(png({"parameters": samples.FORGE}))
    assert (forge.program, forge.scheduler, forge.guidance_scale) == ("Forge", "euler", 1.0)
    assert forge.unused["Distilled CFG Scale"] == "3.5" and forge.unused["Module 1"] == "ae"
    sdnext = read(with_exif("JPEG", unicode_comment(samples.SDNEXT)))
    assert (sdnext.program, sdnext.scheduler, sdnext.width) == ("SD.Next", "euler_a", 1024)
    assert sdnext.unused["Operations"] == "txt2img; hires" and sdnext.negative_prompt == NEGATIVE
    civitai = read(with_exif("JPEG", unicode_comment(samples.CIVITAI)))
    assert (civitai.seed, civitai.width, civitai.clip_skip) == (5, 832, 2)
    assert "checkpoint" in civitai.unused["Civitai resources"]
    fooocus = read(png({"parameters": samples.FOOOCUS_TEXT, "fooocus_scheme": "a1111"}))
    assert (fooocus.program, fooocus.prompt, fooocus.negative_prompt) == ("Fooocus", "a fox", "anime, cartoon")
    assert (fooocus.scheduler, fooocus.width) == ("dpmpp_2m_sde", 1152) and fooocus.unused["schedule"] == "karras"
    assert loras(fooocus) == [("offset", 0.1, "4852686128")]


FOOOCUS_FILES = {
    "png": png({"parameters": json.dumps(samples.FOOOCUS_JSON), "fooocus_scheme": "fooocus"}),
    "jpeg": with_exif("JPEG", json.dumps(samples.FOOOCUS_JSON), True, t0131="Fooocus v2.5.5"),
    "webp": with_exif("WEBP", json.dumps(samples.FOOOCUS_JSON), True, t0131="Fooocus v2.5.5"),
}


@pytest.mark.parametrize("quoted", [False, True])
def test_civitais_hashes_in_the_same_form(quoted: bool) -> None:
    hashes = json.dumps(
        {"model": "1111111111", "vae": "735e4c3a44", "LORA:Ink Wash": "2222222222", "lora:gone": "3" * 10}
    )
    text = samples.A1111.replace(", Model hash: 6ce0161689", "").replace(', Lora hashes: "ink wash: 0a1b2c3d4e5f"', "")
    found = a1111.parse(f"{text}, Hashes: {json.dumps(hashes) if quoted else hashes}")
    assert found is not None and found.model_hash == "1111111111" and found.loras[0].hash == "2222222222"
    assert "Hashes" not in found.unused and found.seed == 1234567890
    for broken in ("{", "{}", "[1]", '"{"', '{"model": 1}', '{"a": ' + "[" * 99 + "}"):
        assert a1111.parse(f"{samples.A1111}, Hashes: {broken}").model_hash == "6ce0161689"


@pytest.mark.parametrize("data", FOOOCUS_FILES.values(), ids=FOOOCUS_FILES)
def test_fooocus(data: bytes) -> None:
    found = read(data)
    assert (found.program, found.prompt, found.negative_prompt) == ("Fooocus", PROMPT, NEGATIVE)
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("dpmpp_2m_sde", 30, 4.0)
    assert (found.seed, found.width, found.height) == (77, 1152, 896)
    assert (found.model, found.model_hash, found.vae) == ("juggernautXL_v8Rundiffusion", "aeb7e9e689", "")
    assert loras(found) == [("offset", 0.1, "4852686128")]
    assert {"styles", "performance", "sharpness", "adm_guidance", "schedule"} <= found.unused.keys()


def test_comfyuis_classic_graph() -> None:
    found = read(png({"prompt": json.dumps(samples.COMFY), "workflow": json.dumps({"nodes": []})}))
    assert (found.program, found.prompt, found.negative_prompt) == ("ComfyUI", PROMPT, "blurry, low quality")
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("dpmpp_2m_karras", 20, 8.0)
    assert (found.seed, found.width, found.height, found.strength) == (156680208700286, 512, 768, None)
    assert (found.model, found.vae, found.clip_skip) == ("v1-5-pruned-emaonly", "vae-ft-mse", 2)
    assert loras(found) == [("ink wash", 0.8, "")]


def test_comfyuis_graph_for_flux() -> None:
    found = read(png({"prompt": json.dumps(samples.COMFY_FLUX)}))
    assert (found.prompt, found.negative_prompt) == (PROMPT, "")
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("euler", 20, 3.5)
    assert (found.seed, found.width, found.height) == (219670278747233, 1024, 768)
    assert (found.model, found.vae) == ("flux1-dev", "ae") and loras(found) == [("ink wash", 0.8, "")]


def test_comfyui_in_webp_and_behind_the_pixels() -> None:
    graph = json.dumps(samples.COMFY)
    assert read(with_exif("WEBP", b"", t0110=f"prompt:{graph.replace(PROMPT, 'a fox')}")).seed == 156680208700286
    data = png({})
    chunk = png({"prompt": graph})[33 : 33 + 12 + 7 + len(graph)]
    assert read(data[:-12] + chunk + data[-12:]).seed == 156680208700286


def test_the_sampler_of_the_saved_picture_counts() -> None:
    graph = json.loads(json.dumps(samples.COMFY))
    graph["99"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "seed": 1}}
    graph["98"] = {"class_type": "PreviewImage", "inputs": {"images": ["99", 0]}}
    assert read(png({"prompt": json.dumps(graph)})).seed == 156680208700286
    graph["9"]["inputs"]["images"] = ["99", 0]
    assert read(png({"prompt": json.dumps(graph)})).seed == 1


def comfy(**nodes: Any) -> ForeignSettings:
    """The classic graph with some nodes changed or added; their names begin with n."""
    graph: dict[str, Any] = json.loads(json.dumps(samples.COMFY))
    for name, (kind, inputs) in nodes.items():
        before = graph.get(name[1:], {"inputs": {}})["inputs"]
        graph[name[1:]] = {"class_type": kind, "inputs": {**before, **inputs}}
    return read(png({"prompt": json.dumps(graph)}))


@pytest.mark.parametrize("kind", ["ControlNetApplyAdvanced", "InpaintModelConditioning"])
def test_nodes_that_change_both_conditionings_keep_them_apart(kind: str) -> None:
    both = (kind, {"positive": ["6", 0], "negative": ["7", 0], "strength": 0.5})
    found = comfy(n30=both, n3=("KSampler", {"positive": ["30", 0], "negative": ["30", 1]}))
    assert (found.prompt, found.negative_prompt) == (PROMPT, "blurry, low quality")
    zero = (kind, {"positive": ["6", 0], "negative": ["31", 0]})
    found = comfy(
        n30=zero, n31=("ConditioningZeroOut", {"conditioning": ["6", 0]}),
        n3=("KSampler", {"positive": ["30", 0], "negative": ["30", 1]}),
    )  # fmt: skip
    assert (found.prompt, found.negative_prompt) == (PROMPT, "")
    # A node that passes many things on, and texts that are put together.
    found = comfy(
        n30=("Context (rgthree)", {"positive": ["32", 0], "negative": ["7", 0]}),
        n32=("ConditioningCombine", {"conditioning_1": ["6", 0], "conditioning_2": ["33", 0]}),
        n33=("CLIPTextEncode", {"text": "more"}),
        n3=("KSampler", {"positive": ["30", 4], "negative": ["30", 5]}),
    )  # fmt: skip
    assert (found.prompt, found.negative_prompt) == (f"{PROMPT}\nmore", "blurry, low quality")


def test_a_text_for_several_encoders_is_one_prompt() -> None:
    found = comfy(n6=("CLIPTextEncodeSDXL", {"text": "", "text_g": "a fox", "text_l": "a fox"}))
    assert found.prompt == "a fox"
    found = comfy(n6=("CLIPTextEncodeFlux", {"text": "", "clip_l": "fox", "t5xxl": "a fox"}))
    assert found.prompt == "a fox\nfox"


def test_comfyuis_sigmas_behind_other_nodes_and_details_after_the_sampler() -> None:
    graph: dict[str, Any] = json.loads(json.dumps(samples.COMFY_FLUX))
    graph["50"] = {"class_type": "SplitSigmas", "inputs": {"sigmas": ["17", 0], "step": 5}}
    graph["13"]["inputs"]["sigmas"] = ["50", 1]
    graph["17"]["inputs"]["denoise"] = 0.5
    graph["51"] = {"class_type": "SamplerEulerAncestral", "inputs": {"eta": 1.0}}
    found = read(png({"prompt": json.dumps(graph)}))
    assert (found.num_inference_steps, found.strength, found.scheduler) == (20, 0.5, "euler")
    assert found.unused["SplitSigmas"] == "step 5"
    graph["13"]["inputs"]["sampler"] = ["51", 0]
    assert read(png({"prompt": json.dumps(graph)})).unused["sampler"] == "SamplerEulerAncestral"
    detailer = {"image": ["8", 0], "seed": 1, "steps": 3, "cfg": 2, "positive": ["6", 0], "denoise": 0.4}
    found = comfy(n30=("FaceDetailer", detailer), n9=("SaveImage", {"images": ["30", 0]}))
    assert (found.seed, found.num_inference_steps) == (156680208700286, 20) and "seed 1" in found.unused["FaceDetailer"]
    alone = {**detailer, "image": ["40", 0]}
    found = comfy(n40=("LoadImage", {}), n30=("FaceDetailer", alone), n9=("SaveImage", {"images": ["30", 0]}))
    assert (found.seed, found.num_inference_steps) == (1, 3)


def test_graphs_with_circles_and_dead_links_end() -> None:
    graph: dict[str, Any] = json.loads(json.dumps(samples.COMFY))
    graph["6"]["inputs"]["text"] = ["6", 0]
    graph["5"]["inputs"] = {"width": ["5", 0], "height": ["77", 0], "latent": ["3", 0]}
    graph["20"]["inputs"] = {"string_a": ["20", 0], "string_b": ["20", 0]}
    graph["11"]["inputs"]["model"] = ["3", 0]
    found = read(png({"prompt": json.dumps(graph)}))
    assert found.seed == 156680208700286 and found.width is None


def test_invokeai() -> None:
    found = read(png({"invokeai_metadata": json.dumps(samples.INVOKE)}))
    assert (found.program, found.prompt, found.prompt_syntax) == ("InvokeAI", "a (curious)1.2 fox", "compel")
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("dpmpp_2m_karras", 30, 7.5)
    assert (found.seed, found.width, found.height, found.clip_skip) == (1234567890, 512, 768, 2)
    assert (found.model, found.model_hash, found.vae) == ("juggernaut", "blake3:0f0e", "vae-ft-mse")
    assert loras(found) == [("ink wash", 0.8, "blake3:aa")] and "controlnets" in found.unused
    old = read(png({"Dream": '"a fox" -s 50', "sd-metadata": json.dumps(samples.INVOKE_OLD)}))
    assert (old.prompt, old.negative_prompt, old.scheduler) == ("a fox", "blurry, low quality", "euler_a")
    assert (old.seed, old.width, old.height, old.model) == (1234, 512, 768, "stable-diffusion-1.5")


SWARM_FILES = {
    "png": png({"parameters": json.dumps(samples.SWARM, indent=2)}, international=True),
    "jpeg": with_exif("JPEG", unicode_comment(json.dumps(samples.SWARM))),
    "ascii": with_exif("JPEG", b"ASCII\0\0\0" + json.dumps(samples.SWARM).encode()),
}


@pytest.mark.parametrize("data", SWARM_FILES.values(), ids=SWARM_FILES)
def test_swarmui(data: bytes) -> None:
    found = read(data)
    assert (found.program, found.prompt, found.negative_prompt) == ("SwarmUI", PROMPT, NEGATIVE)
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("dpmpp_2m_karras", 20, 7.0)
    assert (found.seed, found.width, found.model, found.model_hash) == (1234567890, 1024, "juggernaut", "0x33e58e86")
    assert loras(found) == [("ink wash", 0.8, "0xaa")]
    assert found.unused["refinermethod"] == "PostApply" and "generation_time" in found.unused


def test_novelai_in_texts_and_in_the_alpha_channel() -> None:
    texts = samples.novelai_texts()
    names = ("Software", "Source", "Description", "Comment")
    hidden = hidden_in_alpha(json.dumps({name: texts[name] for name in names}))
    for data in (png(texts), png({}, image=hidden)):
        found = read(data)
        assert (found.program, found.prompt, found.negative_prompt) == ("NovelAI", "a {curious} fox", NEGATIVE)
        assert (found.scheduler, found.schedule, found.num_inference_steps) == ("euler_a", "karras", 28)
        assert (found.seed, found.width, found.height, found.guidance_scale) == (1234567890, 832, 1216, 5.0)
        assert found.model == "NovelAI Diffusion V4 37442FCA" and found.unused["cfg_rescale"] == "0.2"
    for compress in (True, False):
        data = png({}, image=hidden_in_alpha(samples.A1111, compress))
        assert read(data).seed == 1234567890 and read(data).prompt.startswith(PROMPT)


@pytest.mark.parametrize("attribute", [False, True])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_draw_things(attribute: bool, form: str) -> None:
    xmp = samples.draw_things_xmp(samples.DRAW_THINGS, attribute)
    data = png({"XML:com.adobe.xmp": xmp}, international=True)
    if form != "PNG":
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, form, xmp=xmp.encode())
        data = file.getvalue()
    found = read(data)
    assert (found.program, found.prompt, found.negative_prompt) == ("Draw Things", PROMPT, NEGATIVE)
    assert (found.scheduler, found.num_inference_steps, found.guidance_scale) == ("dpmpp_2m_karras", 30, 7.5)
    assert (found.seed, found.width, found.height, found.clip_skip) == (42, 512, 768, 2)
    assert (found.model, found.strength) == ("sd_v1.5_f16", None) and loras(found) == [("ink wash_lora_f16", 0.8, "")]


def test_what_is_beyond_our_bounds_is_listed_and_not_taken_over() -> None:
    text = samples.A1111.replace("Steps: 20", "Steps: 900").replace("CFG scale: 7", "CFG scale: 1e999")
    text = text.replace("Seed: 1234567890", "Seed: -1").replace("512x768", "99999x3").replace("DPM++ 2M", "Restart")
    found = read(png({"parameters": text}))
    assert found.num_inference_steps is found.guidance_scale is found.seed is found.width is None
    assert found.scheduler == "" and {"steps", "CFG scale", "seed", "width", "sampler"} <= found.unused.keys()
    long = "a" * 5000
    found = read(png({"parameters": samples.A1111.replace(PROMPT, long)}))
    assert found.prompt == "a" * 2000 and "prompt beyond 2000 characters" in found.unused


def test_pictures_without_settings_have_none() -> None:
    assert read_settings(png({})) is None and read_settings(b"") is None
    assert read_settings(png({"parameters": "just a caption: with a colon"})) is None
    assert read_settings(png({"Software": "Adobe", "Comment": "{}"})) is None
    assert read_settings(png({}, image=hidden_in_alpha("nothing"))) is None


def test_a_prompt_that_imitates_another_form_changes_nothing() -> None:
    graph = json.loads(json.dumps(samples.COMFY))
    graph["6"]["inputs"]["text"] = samples.A1111 + '{"sui_image_params": {"seed": 1}}'
    found = read(png({"prompt": json.dumps(graph)}))
    assert (found.program, found.seed, found.num_inference_steps) == ("ComfyUI", 156680208700286, 20)
    text = samples.A1111.replace("second line", "Steps: 3, Sampler: DDIM, Seed: 666, CFG scale: 1")
    assert read(png({"parameters": text})).seed == 1234567890


@pytest.mark.parametrize(
    "words",
    ["a cat\nSteps: 1, Sampler: DDIM, CFG scale: 1, Seed: 666, Civitai resources: [x]", "a cat, Civitai resources: [x]",
     "a cat, Civitai metadata: {", 'a cat, Hashes: {"model": "1"}'],
)  # fmt: skip
def test_a_prompt_that_imitates_civitais_appendix_changes_nothing(words: str) -> None:
    for name, prompt in (("Template", "a fox"), ("Version", words)):
        quoted = json.dumps(words, ensure_ascii=False)
        text = f"{prompt}\nNegative prompt: b\nSteps: 20, Sampler: Euler, {name}: {quoted}, CFG scale: 7, Seed: 5"
        found = read(png({"parameters": text}))
        assert (found.prompt, found.negative_prompt, found.seed, found.model_hash) == (prompt, "b", 5, "")
        assert "Civitai resources" not in found.unused


def test_loras_of_older_fooocus_and_those_with_a_hash_alone() -> None:
    text = samples.FOOOCUS_TEXT.replace(
        '"offset: 4852686128", Lora weights: "offset: 0.1"', '"offset: 4852686128: 0.1"'
    )
    assert "weights" not in text and loras(read(png({"parameters": text}))) == [("offset", 0.1, "4852686128")]
    text = samples.A1111.replace('"ink wash: 0a1b2c3d4e5f"', '"ink wash: 0a1b2c3d4e5f, gone: 0123456789ab"')
    assert read(png({"parameters": text})).unused["LoRA gone"] == "0123456789ab"


def test_what_has_no_counterpart_is_listed() -> None:
    for sampler in ("DPM++ 2M SDE Karras", "DPM2", "UniPC Trailing"):
        found = read(png({"parameters": f"a\nSteps: 20, Sampler: {sampler}, CFG scale: 7, Seed: 5"}))
        assert found.scheduler and found.unused["schedule"] == sampler
    found = read(png({"parameters": "a\nSteps: 20, Sampler: DDIM CFG++, CFG scale: 7, Seed: 5"}))
    assert found.scheduler == "" and found.unused["sampler"] == "DDIM CFG++" and "schedule" not in found.unused
    caption = {"base_caption": "a fox", "char_captions": [{"char_caption": "a girl", "centers": []}, 1, {}]}
    novel = {**samples.NOVEL, "v4_prompt": {"caption": caption}, "v4_negative_prompt": {"caption": 1}}
    found = read(png({**samples.novelai_texts(), "Comment": json.dumps(novel)}))
    assert found.unused["character 1"] == "a girl" and "character 2" not in found.unused
    v2 = {"clipSkip": 2, "hiresFix": True, "tiledDecoding": False, "controls": [{"file": "canny"}], "loras": [],
          "refinerModel": "refiner.ckpt", "steps": 30, "batchSize": 1}  # fmt: skip
    drawn = {**samples.DRAW_THINGS, "v2": v2, "shift": 3.0}
    xmp = samples.draw_things_xmp(drawn)
    found = read(png({"XML:com.adobe.xmp": xmp}, international=True))
    expected = {"seed_mode": "Scale Alike", "shift": "3.0", "hiresFix": "True", "refinerModel": "refiner.ckpt"}
    assert expected.items() <= found.unused.items() and "canny" in found.unused["controls"]
    assert not {"steps", "batchSize", "tiledDecoding", "loras"} & found.unused.keys()


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("Euler a", "", ("euler_a", True)), ("euler_ancestral", "normal", ("euler_a", True)),
        ("k_euler_ancestral", "karras", ("euler_a", False)), ("Euler", "Automatic", ("euler", True)),
        ("DPM++ 2M Karras", "", ("dpmpp_2m_karras", True)), ("dpmpp_2m_k", "", ("dpmpp_2m_karras", True)),
        ("DPM++ 2M", "Exponential", ("dpmpp_2m", False)), ("dpmpp_2m_sde_gpu", "simple", ("dpmpp_2m_sde", True)),
        ("DPM2 Karras", "", ("dpm2_karras", True)), ("kdpm_2_k", "", ("dpm2_karras", True)),
        ("PLMS", "", ("pndm", True)), ("UniPC Trailing", "", ("unipc", False)), ("uni_pc_bh2", "", ("unipc", True)),
        ("DPM adaptive", "", ("", True)), ("", "", ("", True)), ("LMSD", "", ("lms", True)),
        ("deis_k", "", ("deis", False)), ("dpm_2", "normal", ("dpm2_karras", False)),
        ("kdpm_2", "", ("dpm2_karras", False)), ("DPM2", "Automatic", ("dpm2_karras", True)),
        ("DPM++ 2M", "Automatic", ("dpmpp_2m_karras", True)), ("ddim_cfg_pp", "", ("", True)),
        ("Euler FlowMatch", "", ("flow_euler", True)), ("DDIM", "sgm_uniform", ("ddim", False)),
    ],
)  # fmt: skip
def test_samplers_of_other_programs(sampler: str, schedule: str, expected: tuple[str, bool]) -> None:
    assert match(sampler, schedule) == expected
    assert not expected[0] or expected[0] in SCHEDULERS


def test_every_reader_has_its_file() -> None:
    assert all(read.__module__ == f"history.readers.{name}" for name, read in READERS.items())
