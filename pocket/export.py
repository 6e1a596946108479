"""Turn the checkpoints into ``pocket/weights``: a diffusers folder that needs no code of ours."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from pocket import curve, data, text, training, unet, vae

WEIGHTS = data.ROOT / "weights"
TURBO = data.ROOT / "turbo"


def export(folder: Path = WEIGHTS) -> None:
    """Write the moving-average weights in fp16, and the vocabulary beside them."""
    state = torch.load(unet.CHECKPOINT, weights_only=True)
    concepts = data.load_concepts(data.fetch())
    tokenizer = text.load_tokenizer(concepts)
    modules = torch.nn.ModuleDict({"unet": unet.build(), "text": text.build_encoder(tokenizer)})
    modules.load_state_dict(state["average"])
    autoencoder = vae.load()
    autoencoder.register_to_config(scaling_factor=state["scaling"])
    pipeline = StableDiffusionPipeline(
        vae=autoencoder, text_encoder=modules["text"], tokenizer=tokenizer, unet=modules["unet"],
        scheduler=unet.build_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    # transformers would otherwise load half precision beside a float32 UNet.
    config = folder / "text_encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    words = [{"name": c.name, "tags": list(c.tags), "synonyms": list(c.synonyms)} for c in concepts]
    (data.ROOT / "vocabulary.json").write_text(json.dumps(words, indent=0) + "\n")


def restore(folder: Path = WEIGHTS) -> None:
    """Make the checkpoints from shipped weights where there are none, to train on from them."""
    if vae.CHECKPOINT.exists() and unet.CHECKPOINT.exists():
        return
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    done = 10**9  # the autoencoder is not trained further: other latents would need another UNet
    training.save(vae.CHECKPOINT, pipeline.vae.state_dict(), pipeline.vae.state_dict(), None, done)
    modules = torch.nn.ModuleDict({"unet": pipeline.unet, "text": pipeline.text_encoder})
    training.save(
        unet.CHECKPOINT, modules.state_dict(), modules.state_dict(), None, curve.samples_seen(),
        scaling=pipeline.vae.config.scaling_factor,
    )
    pipeline.tokenizer.save_pretrained(text.SAVED)


if __name__ == "__main__":
    export()
