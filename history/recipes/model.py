"""The parts of a script that load the model and what is added to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from history.recipes import lora_layers
from history.recipes.loras import alphas, is_plain
from history.recipes.plan import FLUX, SD, SD3, XL, Plan, literal
from pipelines.system.paths import PROJECT

PIPELINES = {
    SD: "StableDiffusionPipeline",
    XL: "StableDiffusionXLPipeline",
    SD3: "StableDiffusion3Pipeline",
    FLUX: "FluxPipeline",
}
# The network that is called at every step.
DENOISER = {SD: "unet", XL: "unet", SD3: "transformer", FLUX: "transformer"}
_LORA = '''
FORMS = [
    (".lora_up.weight", ".lora_down.weight"), (".lora.up.weight", ".lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
]


def add_lora(path, name, alphas):
    """Load a LoRA; each layer's own factor, alpha / rank, goes into its matrix, so that one weight remains."""
    tensors = load_file(path)
    layers = [(key, key.removesuffix(up), down) for up, down in FORMS for key in tensors if key.endswith(up)]
    for key, layer, down in layers:
        default = next((alpha for start, alpha in alphas.items() if layer.startswith(start)), None)
        if (alpha := tensors.pop(layer + ".alpha", default)) is not None:
            tensors[key] = tensors[key].float() * (float(alpha) / tensors[layer + down].shape[0])
    if any(key.endswith("alpha") for key in tensors):
        raise SystemExit(f"{path} is written in a form that this script does not know.")
    pipe.load_lora_weights(tensors, adapter_name=name)
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    found = sum(name in getattr(module, "lora_B", {}) for part in networks for module in part.modules())
    if found != len(layers):
        raise SystemExit(f"diffusers found a place for {found} of the {len(layers)} layers of {path}.")

'''
_IP_ADAPTER = """
# An IP-Adapter gives the network layers that attend to a picture's features (Ye et al. 2023).
pipe.load_ip_adapter(
    str(IP_ADAPTER.parent), subfolder="", weight_name=IP_ADAPTER.name, image_encoder_folder=None, local_files_only=True
)
pipe.set_ip_adapter_scale({weight!r})
encoder = CLIPVisionModelWithProjection.from_pretrained(
    IMAGE_ENCODER, dtype=DTYPE, use_safetensors=True, local_files_only=True
).to(DEVICE)
side = encoder.config.image_size
seen = CLIPImageProcessor(size=side, crop_size=side)(
    Image.open(HERE / "image-prompt.png").convert("RGB"), return_tensors="pt"
).pixel_values.to(DEVICE, DTYPE)
{features}"""
# What the negative prompt sees: nothing, or the features of nothing.
_FEATURES = {
    False: "features = encoder(seen).image_embeds\nnothing = torch.zeros_like(features)\n",
    True: "features, nothing = (\n    encoder(pixels, output_hidden_states=True).hidden_states[-2]"
    " for pixels in (seen, torch.zeros_like(seen))\n)\n",
}
_WEIGHTS = "diffusion_pytorch_model"


def pipeline_class(plan: Plan) -> str:
    """The pipeline whose parts the script uses."""
    name = PIPELINES[plan.family]
    # The refiner has the second text encoder alone, and is saved as the other pipeline.
    refines = plan.family == XL and plan.index.get("_class_name") == "StableDiffusionXLImg2ImgPipeline"
    return "StableDiffusionXLImg2ImgPipeline" if refines else name


def loading(plan: Plan) -> str:
    """Load the pipeline, with the parts that the model's own folder replaces."""
    if plan.is_single_file:
        given = ["MODEL", "config=str(CONFIG)", "torch_dtype=DTYPE", "local_files_only=True"]
        loaded = _call(f"pipe = {pipeline_class(plan)}.from_single_file", given) + ".to(DEVICE)"
        return "\n".join([loaded, *_placed(plan)]) + "\n"
    own = shared_parts(plan) if plan.card.rest else {}
    lines = [
        _call(f"{part} = {cls}.from_pretrained", ["MODEL", f'subfolder="{part}"', *_options(plan)])
        for part, cls in own.items()
    ]
    more = {SD: ["safety_checker=None", "requires_safety_checker=False"], XL: ["add_watermarker=False"]}
    extra = more.get(plan.family, []) if pipeline_class(plan) == PIPELINES[plan.family] else []
    given = ["REST" if own else "MODEL", *_options(plan), *revision(plan), *extra, *(f"{part}={part}" for part in own)]
    lines.append(_call(f"pipe = {pipeline_class(plan)}.from_pretrained", given) + ".to(DEVICE)")
    return "\n".join([*lines, *_placed(plan)]) + "\n"


def _call(name: str, given: list[str]) -> str:
    """A call with an argument a line."""
    return f"{name}(\n" + "".join(f"    {each},\n" for each in given) + ")"


def shared_parts(plan: Plan) -> dict[str, str]:
    """The networks that a model brings where it shares the others: part -> class of diffusers."""
    found = {}
    for part, value in plan.index.items():
        here = plan.folder is not None and part != "scheduler" and (plan.folder / part).is_dir()
        if here and isinstance(value, list) and value[:1] == ["diffusers"] and str(value[-1]).isidentifier():
            found[part] = str(value[-1])
    return found


def paths(plan: Plan) -> str:
    """Where the model and what is added to it are, as values at the head of the script."""
    lines = [f"MODEL = {literal(source(plan))}"]
    if plan.is_single_file:
        lines.append('CONFIG = HERE / "config"  # what the networks in that file look like')
    if plan.card.rest:
        lines.append(
            f"REST = {literal(plan.shown(PROJECT / plan.card.rest))}  # the parts that the model shares with this one"
        )
    lines += [f"{_name(k, 'LORA')} = {literal(plan.shown(one.path))}" for k, one in enumerate(plan.loras)]
    lines += [f"{_name(k, 'CONTROLNET')} = {literal(plan.shown(one.path))}" for k, one in enumerate(plan.controlnets)]
    lines += [f"{_name(k, 'WORD')} = {literal(plan.shown(one.path))}" for k, one in enumerate(plan.embeddings)]
    if one := plan.image_prompt:
        lines.append(f"IP_ADAPTER = Path({literal(plan.shown(one.path))})")
        lines.append(f"IMAGE_ENCODER = {literal(plan.shown(one.encoder))}")
    return "\n".join(lines)


def adapters(plan: Plan) -> str:
    """Add the LoRAs, ControlNets and learnt words."""
    lines = []
    for k, one in enumerate(plan.embeddings):
        lines.append(f'pipe.load_textual_inversion({_name(k, "WORD")}, token="<word-{k}>")  # {literal(one.name)}')
    if plan.loras and not has_plain_loras(plan):
        lines.append(lora_layers.CODE)
        lines += lora_layers.calls(plan, [_name(k, "LORA") for k in range(len(plan.loras))])
    elif plan.loras:
        names = [f"lora{k}" for k in range(len(plan.loras))]
        quoted = ", ".join(map(literal, names))
        lines.append(_LORA)
        scales = [repr(alphas(one.path)) for one in plan.loras]
        lines += [f"add_lora({_name(k, 'LORA')}, {literal(names[k])}, {scales[k]})" for k in range(len(names))]
        lines.append(f"pipe.set_adapters([{quoted}], {[one.weight for one in plan.loras]!r})")
    if plan.controlnets:
        lines.append("# A ControlNet reads the noisy latents and a map, and adds to what the network computes.")
        lines += [_controlnet(plan, k, one.path) for k, one in enumerate(plan.controlnets)]
    if plan.image_prompt:
        lines.append(_IP_ADAPTER.format(weight=plan.image_prompt.weight, features=_FEATURES[plan.image_prompt.fine]))
    return "\n".join(lines) + "\n" if lines else ""


def has_plain_loras(plan: Plan) -> bool:
    """Whether diffusers adds all LoRAs of a plan as the program does."""
    return all(is_plain(one.path) for one in plan.loras)


def _controlnet(plan: Plan, k: int, path: Path) -> str:
    """Load a ControlNet from its folder, or from a single file with the configuration that the UNet implies."""
    name = _name(k, "CONTROLNET")
    if path.is_dir():
        given = [name, "dtype=DTYPE", "use_safetensors=True", "local_files_only=True"]
        named = (path / f"{_WEIGHTS}.safetensors").is_file() or any(path.glob(f"{_WEIGHTS}.safetensors.index.json"))
        given += [] if named else ['variant="fp16"']
        return _call(f"controlnet_{k} = ControlNetModel.from_pretrained", given) + ".to(DEVICE)"
    # The UNet of an inpainting model sees a mask, too; its ControlNets do not.
    config = f'{{**controlnet_{k}.config, "in_channels": pipe.vae.config.latent_channels}}'
    latents = f"controlnet_{k} = ControlNetModel.from_config({config})\n" if plan.inpaints else ""
    return (
        f"controlnet_{k} = ControlNetModel.from_unet(pipe.unet, load_weights_from_unet=False)\n{latents}"
        f"tensors = convert_controlnet_checkpoint(load_file({name}), dict(controlnet_{k}.config))\n"
        f"controlnet_{k}.load_state_dict(tensors)\n"
        f"controlnet_{k} = controlnet_{k}.to(DEVICE, DTYPE).eval()"
    )


def _placed(plan: Plan) -> list[str]:
    """What the program does to networks for where they run."""
    lines, denoiser = [], DENOISER[plan.family]
    if plan.family == XL and plan.dtype == "float16":
        lines.append("if pipe.vae.config.force_upcast:")
        lines.append("    pipe.vae.to(torch.float32)  # this autoencoder overflows in float16")
    if plan.device.startswith("cuda") and denoiser == "unet":
        lines.append("pipe.unet.to(memory_format=torch.channels_last)  # the faster layout on a graphics card")
    if plan.device.startswith("cuda"):
        lines.append("pipe.vae.to(memory_format=torch.channels_last)")
    if plan.fact("attention") == "xformers":
        lines.append(f"pipe.{denoiser}.enable_xformers_memory_efficient_attention()")
    return lines


def source(plan: Plan) -> str:
    """The model as the script names it."""
    if plan.is_on_hub:
        return plan.card.source
    return plan.shown(PROJECT / plan.card.source)


def revision(plan: Plan) -> list[str]:
    """The revision of a model from the hub, as an argument."""
    found: Any = plan.facts.get("model")
    commit = found.get("revision", "") if isinstance(found, dict) else ""
    known = isinstance(commit, str) and len(commit) == 40 and commit.isalnum()
    return [f"revision={literal(commit)}"] if plan.is_on_hub and known else []


def _options(plan: Plan) -> list[str]:
    # Half precision prefers files saved as such.
    half = "fp16" if plan.dtype != "float32" and _has_half(plan.folder) else ""
    wanted = plan.card.variant or half
    local = [] if plan.is_on_hub else ["local_files_only=True"]
    return ["dtype=DTYPE", "use_safetensors=True", *local, *([f"variant={literal(wanted)}"] if wanted else [])]


def _has_half(folder: Path | None) -> bool:
    return folder is not None and any(folder.glob("*/*.fp16.safetensors"))


def _name(k: int, kind: str) -> str:
    return f"{kind}_{k}"
