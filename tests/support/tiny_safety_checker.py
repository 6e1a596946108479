"""A small safety checker of the real class for a small model: one that objects to everything or to nothing."""

from __future__ import annotations

import json
from pathlib import Path

SIDE = 32


def add_checker(folder: Path, objects: bool) -> Path:
    """Save a checker with random weights into a diffusers folder.

    Args:
        folder: of ``tests.support.tiny_model.make_tiny_model``.
        objects: whether every picture is above its thresholds, or none is.
    """
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small, vision_config={**small, "image_size": SIDE, "patch_size": 8}, projection_dim=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checker = StableDiffusionSafetyChecker(config)
    # A cosine lies between -1 and 1.
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(-2.0 if objects else 2.0)
    checker.save_pretrained(folder / "safety_checker")
    size = {"shortest_edge": SIDE}
    CLIPImageProcessor(size=size, crop_size=SIDE).save_pretrained(folder / "feature_extractor")
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    path.write_text(json.dumps(index))
    return folder
