"""The parts of a script that run the denoising loop and make pictures of its result."""

from __future__ import annotations

from history.recipes.plan import FLUX, SD, SD3, XL, Plan
from history.recipes.sampler import is_stochastic
from history.recipes.start import BLEND, SOURCE, noised
from pipelines.images.inpainting import SourceImage
from pipelines.sampling.schedulers import FLOW_PREDICTION

_GUIDANCE_INPUT = """
# This model was distilled with the guidance scale as an input (Luo et al. 2023), as sines and cosines.
dim = pipe.unet.config.time_cond_proj_dim
rates = torch.exp(torch.arange(dim // 2) * -(torch.log(torch.tensor(10000.0)) / (dim // 2 - 1)))
angles = 1000.0 * (GUIDANCE - 1) * rates
scale = torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()]), (0, dim % 2)).to(DEVICE, DTYPE)
"""
_SIZES = """
# XL is told the size of the picture, and that nothing was cut off; the refiner also how beautiful it shall be.
scored = pipe.unet.add_embedding.linear_1.in_features - pipe.text_encoder_2.config.projection_dim
scored = scored // pipe.unet.config.addition_time_embed_dim == 5
sizes = [HEIGHT, WIDTH, 0, 0] + ([] if scored else [HEIGHT, WIDTH])
numbers = torch.tensor(sizes).to(DEVICE, DTYPE).expand(len(text[0]), -1)
if scored:
    scores = torch.full((len(text[0]), 1), 6.0, device=DEVICE, dtype=DTYPE)
{unwanted}    numbers = torch.cat([numbers, scores], dim=1)
added = {{"text_embeds": text[1], "time_ids": numbers}}
"""
_UNWANTED = "    scores[: len(SEEDS)] = 2.5\n"
_IMAGE_PROMPT = """
# The features of the picture, for each picture of the run.
picture_features = [{before}features[None].repeat_interleave(len(SEEDS), dim=0)]
with_picture = {{{added}"image_embeds": [torch.cat(picture_features)]}}
"""
NOTHING_BEFORE = "nothing[None].repeat_interleave(len(SEEDS), dim=0), "
_SD3 = """
    prediction = pipe.transformer(
        hidden_states=seen.to(DTYPE), timestep=t.to(DEVICE).expand(len(seen)), encoder_hidden_states=text[0],
        pooled_projections=text[1], return_dict=False,
    )[0].float()
"""
_FLUX_BEFORE = """
# The transformer sees patches of 2 x 2 latents as tokens, each with its place.
channels, rows, columns = noise.shape[1:]
image_ids = pipe._prepare_latent_image_ids(1, rows // 2, columns // 2, DEVICE, DTYPE)
text_ids = torch.zeros(text[0].shape[1], 3, device=DEVICE, dtype=DTYPE)
scale = torch.full((len(SEEDS),), GUIDANCE, device=DEVICE) if pipe.transformer.config.guidance_embeds else None
"""
_FLUX = """
    tokens = pipe.transformer(
        hidden_states=pipe._pack_latents(seen, len(seen), channels, rows, columns).to(DTYPE),
        timestep=t.to(DEVICE).expand(len(seen)).to(DTYPE) / 1000, guidance=scale, pooled_projections=text[1],
        encoder_hidden_states=text[0], txt_ids=text_ids, img_ids=image_ids, return_dict=False,
    )[0]
    prediction = pipe._unpack_latents(tokens, HEIGHT, WIDTH, pipe.vae_scale_factor).float()
"""
_DECODE = """
for number, latents in enumerate(x.split(1), start=1):
    pixels = pipe.vae.decode(({latents}).to(pipe.vae.dtype), return_dict=False)[0]
    image = pipe.image_processor.postprocess(pixels)[0]
"""


# What a network predicts, in words.
_GUESS = {
    "epsilon": "how much of it is noise",
    "v_prediction": "the velocity, from which noise and picture follow (Salimans and Ho 2022)",
    "sample": "the picture that it guesses behind the noise",
    FLOW_PREDICTION: "the way from the picture to the noise",
}


def _added(plan: Plan) -> str:
    return "**added, " if plan.family == XL else ""


def _predicts(plan: Plan) -> str:
    if plan.family in (SD3, FLUX):
        return FLOW_PREDICTION
    found = plan.card.scheduler_options.get("prediction_type") or plan.config("scheduler").get("prediction_type")
    return found if found in _GUESS else "epsilon"


def before(plan: Plan) -> str:
    """What the network needs in addition to latents and text, the same at every step."""
    parts = []
    if plan.family in (SD, XL) and plan.embeds_guidance:
        parts.append(_GUIDANCE_INPUT)
    if plan.family == XL:
        parts.append(_SIZES.format(unwanted=_UNWANTED if plan.is_guided else ""))
    if plan.family == FLUX:
        parts.append(_FLUX_BEFORE)
    if plan.image_prompt:
        parts.append(_IMAGE_PROMPT.format(before=NOTHING_BEFORE if plan.is_guided else "", added=_added(plan)))
    for k in range(len(plan.controlnets)):
        parts.append(
            f'map_{k} = np.asarray(Image.open(HERE / "{control_file(k)}").convert("RGB"), dtype=np.float32)\n'
            f"map_{k} = torch.from_numpy(map_{k}.transpose(2, 0, 1)[None] / 255).to(DEVICE, DTYPE)\n"
        )
    return "".join(parts)


def control_file(k: int) -> str:
    """The name of a control map's file."""
    return f"control-{k + 1}.png"


def loop(plan: Plan, source: SourceImage | None) -> str:
    """The loop: at each step the network predicts, and the sampler goes to the next noise level."""
    flow = plan.family in (SD3, FLUX)
    lines = ["for index, t in enumerate(steps):\n"]
    lines.append("    # What the network sees: the noisy latents, in the scale that it was trained on.\n")
    lines.append("    seen = x\n" if flow else "    seen = scheduler.scale_model_input(x, t)\n")
    if plan.inpaints:
        lines.append("    seen = torch.cat([seen, cells.expand(len(x), -1, -1, -1), around], dim=1)\n")
    if plan.is_guided:
        lines.append("    seen = torch.cat([seen, seen])  # once for the negative prompt, once for the prompt\n")
    lines.append(_controlnets(plan))
    lines.append(f"    # The network looks at it once, and tells {_GUESS[_predicts(plan)]}.\n")
    lines.append({SD3: _SD3, FLUX: _FLUX}[plan.family].lstrip("\n") if flow else _unet(plan))
    if plan.is_guided:
        lines.append("    # Guidance: further away from what the negative prompt gives (Ho and Salimans 2022).\n")
        lines.append("    without, with_prompt = prediction.chunk(2)\n")
        lines.append("    prediction = without + GUIDANCE * (with_prompt - without)\n")
    lines.append(
        f"    # The sampler goes to the next noise level{', with fresh noise' if is_stochastic(plan) else ''}.\n"
    )
    fresh = ", generator=generators" if is_stochastic(plan) else ""
    lines.append(f"    x = scheduler.step(prediction, t, x{fresh}, return_dict=False)[0]\n")
    if source is not None and source.mask is not None and not plan.inpaints:
        known = noised("steps[index + 1 : index + 2]", flow)
        lines.append("    # Outside of the mask the picture stays, at the noise level that comes next.\n")
        lines.append(f"    known = {known} if index + 1 < len(steps) else clean\n")
        lines.append("    x = cells * x + (1 - cells) * known\n")
    return "".join(lines)


def _unet(plan: Plan) -> str:
    more = "".join(
        [
            ", timestep_cond=scale.expand(len(seen), -1)" if plan.embeds_guidance else "",
            ", added_cond_kwargs=with_picture"
            if plan.image_prompt
            else ", added_cond_kwargs=added"
            if plan.family == XL
            else "",
            ", **residuals" if plan.controlnets else "",
        ]
    )
    return (
        f"    prediction = pipe.unet(seen.to(DTYPE), t, encoder_hidden_states=text[0]{more}, return_dict=False)[0]\n"
        "    prediction = prediction.float()\n"
    )


def _controlnets(plan: Plan) -> str:
    """The sum of what the ControlNets of this step add."""
    if not plan.controlnets:
        return ""
    rows = [
        f"        (controlnet_{k}, map_{k}, {each.weight!r}, {each.start!r}, {each.end!r}),\n"
        for k, each in enumerate(plan.request.controls)
    ]
    seen = "seen[:, : x.shape[1]]" if plan.inpaints else "seen"
    added = ", added_cond_kwargs=added" if plan.family == XL else ""
    return (
        "    residuals = {}\n"
        "    for net, control, weight, start, end in [  # start and end: the share of the steps in which it is active\n"
        + "".join(rows)
        + "    ]:\n"
        "        if index / len(steps) < start or (index + 1) / len(steps) > end:\n"
        "            continue\n"
        "        down, middle = net(\n"
        f"            {seen}.to(DTYPE), t, encoder_hidden_states=text[0], conditioning_scale=weight{added},\n"
        "            controlnet_cond=control.expand(len(seen), -1, -1, -1), return_dict=False,\n"
        "        )\n"
        "        if residuals:\n"
        '            down = [a + b for a, b in zip(residuals["down_block_additional_residuals"], down)]\n'
        '            middle = residuals["mid_block_additional_residual"] + middle\n'
        '        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}\n'
    )


def pictures(plan: Plan, source: SourceImage | None) -> str:
    """Decode the latents, and save the pictures next to the script."""
    shifted = plan.family in (SD3, FLUX)
    lines = [_DECODE.lstrip().format(latents="latents / SCALE + SHIFT" if shifted else "latents / SCALE")]
    if source is not None and source.mask is not None:
        lines.append(f'    original = Image.open(HERE / "{SOURCE}").convert("RGB")\n')
        if source.box is not None:
            left, top, right, bottom = source.box
            lines.append("    # The part around the mask was repainted by itself; it goes back into its place.\n")
            lines.append(f"    part = image.resize(({right - left}, {bottom - top}), Image.Resampling.LANCZOS)\n")
            lines.append(f"    image = original.copy()\n    image.paste(part, ({left}, {top}))\n")
        lines.append("    # Outside of the mask every pixel is the source's.\n")
        lines.append(f'    image = Image.composite(image, original, Image.open(HERE / "{BLEND}").convert("L"))\n')
    lines.append('    image.save(HERE / f"picture-{number}.png")\n')
    return "".join(lines)
