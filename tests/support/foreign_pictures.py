"""Small pictures of other programs, each written as that program's own writer writes them, with its quirks."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

PROMPT, NEGATIVE = "a (curious:1.2) fox, Größe 狐", "blurry, low quality"


def png(texts: dict[str, str], international: bool = False, image: Image.Image | None = None) -> bytes:
    """A PNG with texts; Pillow's ``add_text`` writes tEXt, or iTXt where Latin-1 does not hold the text."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text) if international else info.add_text(name, text)
    file = io.BytesIO()
    (image or Image.new("RGB", (8, 8))).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def with_exif(form: str, comment: Any, first: bool = False, **tags: Any) -> bytes:
    """A JPEG or WebP with an EXIF user comment, in the first directory if the program writes it there."""
    exif = Image.Exif()
    (exif if first else exif.get_ifd(0x8769))[0x9286] = comment
    for tag, value in tags.items():
        exif[int(tag.removeprefix("t"), 16)] = value
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, form, exif=exif.tobytes())
    return file.getvalue()


def unicode_comment(text: str) -> bytes:
    """A user comment as piexif's helper writes it for A1111, Forge and SD.Next."""
    return b"UNICODE\0" + text.encode("utf-16-be")


A1111 = (
    f"{PROMPT} <lora:ink wash:0.8>\nsecond line\nNegative prompt: {NEGATIVE}\nmore of it\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1234567890, Size: 512x768, "
    'Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE hash: "735e4c3a44", VAE: vae-ft-mse.safetensors, '
    'Denoising strength: 0.35, Clip skip: 2, Hires upscale: 2, Lora hashes: "ink wash: 0a1b2c3d4e5f", '
    'TI hashes: "EasyNegative: c74b4e810b03", Version: v1.10.1'
)
FORGE = (
    "a fox, FLUX style\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, "
    "Seed: 7, Size: 896x1152, Model hash: bea01d51bd, Model: flux1-dev-bnb-nf4-v2, "
    "Version: f2.0.1v1.10.1-previous-664, Module 1: ae"
)
SDNEXT = (
    f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 30, Size: 1024x1024, Sampler: Euler a, Seed: 42, CFG scale: 6, "
    "CFG rescale: 0.5, App: SD.Next, Version: c1b2d3a, Pipeline: StableDiffusionXLPipeline, "
    'Operations: "txt2img; hires", '
    "Model: juggernautXL_v9, Model hash: c9e3e68f89"
)
CIVITAI = (
    f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 25, Sampler: Euler a, CFG scale: 3.5, Seed: 5, Size: 832x1216, "
    "Clip skip: 2, Created Date: 2026-01-01T00:00:00.0Z, "
    'Civitai resources: [{"type":"checkpoint","modelVersionId":290640},'
    '{"type":"lora","weight":0.8,"modelVersionId":1}], Civitai metadata: {}'
)
FOOOCUS_TEXT = (
    "cinematic still a fox . emotional\nNegative prompt: anime, cartoon\n"
    "Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 77, Size: 1152x896, CFG scale: 4.0, Sharpness: 2.0, "
    'ADM Guidance: "(1.5, 0.8, 0.3)", Model: juggernautXL_v8Rundiffusion, Model hash: aeb7e9e689, Performance: Speed, '
    "Scheduler: karras, VAE: Default (model), Raw prompt: a fox, Raw negative prompt: , "
    'Lora hashes: "offset: 4852686128", Lora weights: "offset: 0.1", Version: Fooocus v2.5.5'
)
FOOOCUS_JSON = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "aeb7e9e689",
    "full_negative_prompt": ["anime"], "full_prompt": ["cinematic still a fox"], "guidance_scale": 4.0,
    "lora_combined_1": "offset : 0.1", "loras": [["offset", 0.1, "4852686128"]], "metadata_scheme": "fooocus",
    "negative_prompt": NEGATIVE, "performance": "Speed", "prompt": PROMPT, "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "77", "sharpness": 2.0, "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Sharp']", "vae": "Default (model)", "version": "Fooocus v2.5.5",
}  # fmt: skip
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 156680208700286, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
        "denoise": 1.0, "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "SD1.5/v1-5-pruned-emaonly.ckpt"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["12", 0]}, "_meta": {"title": "+"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["12", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["10", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "10": {"class_type": "VAELoader", "inputs": {"vae_name": "vae-ft-mse.safetensors"}},
    "11": {"class_type": "LoraLoader", "inputs": {
        "lora_name": "styles\\ink wash.safetensors", "strength_model": 0.8, "strength_clip": 1.0, "model": ["4", 0],
        "clip": ["4", 1]}},
    "12": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["11", 1]}},
    "20": {"class_type": "StringConcatenate", "inputs": {
        "string_a": "blurry", "string_b": ["21", 0], "delimiter": ", "}},
    "21": {"class_type": "PrimitiveString", "inputs": {"value": "low quality"}},
}  # fmt: skip
COMFY_FLUX = {
    "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": ["40", 0], "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["11", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
    "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5xxl_fp16.safetensors", "type": "flux"}},
    "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}},
    "13": {"class_type": "SamplerCustomAdvanced", "inputs": {
        "noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0], "latent_image": ["5", 0]}},
    "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "17": {"class_type": "BasicScheduler", "inputs": {
        "scheduler": "simple", "steps": 20, "denoise": 1.0, "model": ["30", 0]}},
    "22": {"class_type": "BasicGuider", "inputs": {"model": ["30", 0], "conditioning": ["26", 0]}},
    "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 219670278747233}},
    "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "30": {"class_type": "ModelSamplingFlux", "inputs": {"max_shift": 1.15, "base_shift": 0.5, "model": ["31", 0]}},
    "31": {"class_type": "Power Lora Loader (rgthree)", "inputs": {
        "lora_1": {"on": True, "lora": "ink wash.safetensors", "strength": 0.8},
        "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1}, "model": ["12", 0]}},
    "40": {"class_type": "PrimitiveInt", "inputs": {"value": 768}},
}  # fmt: skip
INVOKE = {
    "generation_mode": "txt2img", "positive_prompt": "a (curious)1.2 fox", "negative_prompt": NEGATIVE,
    "width": 512, "height": 768, "seed": 1234567890, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30,
    "scheduler": "dpmpp_2m_k", "clip_skip": 1,
    "model": {"key": "4dc3", "hash": "blake3:0f0e", "name": "juggernaut", "base": "sd-1", "type": "main"},
    "vae": {"key": "1", "name": "vae-ft-mse", "hash": "blake3:1"},
    "loras": [{"model": {"key": "9", "hash": "blake3:aa", "name": "ink wash", "base": "sd-1"}, "weight": 0.8}],
    "controlnets": [{"control_weight": 1}], "app_version": "5.6.0",
}  # fmt: skip
INVOKE_OLD = {
    "model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "model_hash": "cc6cb27103",
    "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.5",
    "image": {"prompt": [{"prompt": "a fox [blurry, low quality]", "weight": 1}], "steps": 50, "cfg_scale": 7.5,
              "threshold": 0, "perlin": 0, "height": 768, "width": 512, "seed": 1234, "seamless": False,
              "hires_fix": False, "type": "txt2img", "postprocessing": None, "sampler": "k_euler_a", "variations": []},
}  # fmt: skip
SWARM = {
    "sui_image_params": {
        "prompt": PROMPT, "negativeprompt": NEGATIVE, "model": "SDXL/juggernaut.safetensors", "seed": 1234567890,
        "steps": 20, "cfgscale": 7.0, "aspectratio": "1:1", "width": 1024, "height": 1024, "sampler": "dpmpp_2m",
        "scheduler": "karras", "loras": ["styles/ink wash"], "loraweights": ["0.8"], "swarm_version": "0.9.5.0",
        "refinermethod": "PostApply",
    },
    "sui_extra_data": {"date": "2026-01-01", "generation_time": "0.01 (prep) and 3.35 (gen) seconds"},
    "sui_models": [{"name": "SDXL/juggernaut.safetensors", "param": "model", "hash": "0x33e58e86"},
                   {"name": "styles/ink wash.safetensors", "param": "loras", "hash": "0xaa"}],
}  # fmt: skip
NOVEL = {
    "prompt": "a {curious} fox", "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "uncond_scale": 0.0,
    "cfg_rescale": 0.2, "seed": 1234567890, "n_samples": 1, "noise_schedule": "karras", "sampler": "k_euler_ancestral",
    "uc": NEGATIVE, "request_type": "PromptGenerateRequest", "signed_hash": "x", "sm": False,
}  # fmt: skip
DRAW_THINGS = {
    "c": PROMPT, "uc": NEGATIVE, "model": "sd_v1.5_f16.ckpt", "sampler": "DPM++ 2M Karras", "scale": 7.5, "seed": 42,
    "seed_mode": "Scale Alike", "steps": 30, "strength": 1, "size": "512x768", "profile": {"duration": 3},
    "lora": [{"model": "ink wash_lora_f16.ckpt", "weight": 0.8}], "v2": {"clipSkip": 2, "loras": []},
}  # fmt: skip


def novelai_texts() -> dict[str, str]:
    return {
        "Title": "NovelAI generated image", "Description": NOVEL["prompt"], "Software": "NovelAI",
        "Source": "NovelAI Diffusion V4 37442FCA", "Generation time": "5.1", "Comment": json.dumps(NOVEL),
    }  # fmt: skip


def hidden_in_alpha(text: str, compress: bool = True, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture with a text in the lowest bits of its alpha channel, down the columns."""
    data = gzip.compress(text.encode()) if compress else text.encode()
    head = b"stealth_pngcomp" if compress else b"stealth_pnginfo"
    bits = np.unpackbits(np.frombuffer(head + (8 * len(data)).to_bytes(4, "big") + data, np.uint8))
    alpha = np.full(size[0] * size[1], 254, np.uint8)
    alpha[: len(bits)] |= bits
    pixels = np.dstack([np.zeros((size[1], size[0], 3), np.uint8), alpha.reshape(size[0], size[1]).T])
    return Image.fromarray(pixels, "RGBA")


def draw_things_xmp(values: dict[str, Any], attribute: bool = False) -> str:
    text = json.dumps(values).replace("&", "&amp;").replace("<", "&lt;")
    if attribute:
        inner = f'<rdf:Description xmp:CreatorTool="Draw Things" exif:UserComment="{text.replace(chr(34), "&quot;")}"/>'
    else:
        inner = (
            "<rdf:Description><xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>"
            f'<rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></exif:UserComment></rdf:Description>'
        )
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{inner}</rdf:RDF></x:xmpmeta>'
