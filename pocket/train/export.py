"""Turn the checkpoints into a diffusers folder that needs no code of ours."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from pocket.train import autoencoder, text_encoder, unet
from pocket.train.checkpoints import Checkpoints
from pocket.world.vocabulary import Concept


def build_pipeline(
    checkpoints: Checkpoints, things: list[Concept], name: str = unet.NAME
) -> tuple[StableDiffusionPipeline, int]:
    """A pipeline with the moving averages of a checkpoint or a snapshot, and the size of picture it learnt last."""
    state = checkpoints.load(name)
    if state is None:
        raise FileNotFoundError(f"no {name}.pt in {checkpoints.folder}")
    tokenizer = text_encoder.load_tokenizer(things, checkpoints.folder)
    modules = torch.nn.ModuleDict({"unet": unet.build(), "text": text_encoder.build_encoder(tokenizer)})
    modules.load_state_dict(state["average"])
    vae = autoencoder.load(checkpoints)
    vae.register_to_config(scaling_factor=state["scale"])
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=modules["text"].eval(),
        tokenizer=tokenizer,
        unet=modules["unet"].eval(),
        scheduler=unet.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, state.get("px", 256)


def export(checkpoints: Checkpoints, folder: Path, things: list[Concept], name: str = unet.NAME) -> None:
    """Write the moving-average weights in fp16; ``name`` is the UNet's checkpoint or a snapshot of it."""
    pipeline, _ = build_pipeline(checkpoints, things, name)
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers would otherwise load half precision next to a float32 UNet.
    config = folder / "text_encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    # Without the spaces it has half of the bytes.
    tokenizer = folder / "tokenizer/tokenizer.json"
    compact = json.dumps(json.loads(tokenizer.read_text("utf-8")), ensure_ascii=False, separators=(",", ":"))
    tokenizer.write_text(compact, "utf-8")


def write_vocabulary(things: list[Concept], file: Path) -> None:
    """Write the words that the model knows."""
    words = [{"name": c.name, "tags": list(c.tags), "synonyms": list(c.synonyms)} for c in things]
    file.write_text(json.dumps(words, indent=0) + "\n")
