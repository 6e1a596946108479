"""The text side of pocket: a tokenizer made from the training captions, and a small CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pocket.world.captions import caption
from pocket.world.samples import draw_any
from pocket.world.scenes import SCENES
from pocket.world.vocabulary import Concept

WIDTH = 192
LAYERS = 5
LENGTH = 32
VOCABULARY = 2800
START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(things: list[Concept], captions: int = 20_000) -> Iterator[str]:
    """The words of every thing, and captions, so that their words become whole tokens."""
    rng = np.random.default_rng(0)
    for thing in things:
        yield from (thing.name, *thing.tags, *thing.synonyms) * 5
    for scene in SCENES.values():
        yield from scene.phrases * 20
    for _ in range(captions):
        yield caption(draw_any(things, rng), things, rng)


def load_tokenizer(things: list[Concept], folder: Path) -> CLIPTokenizer:
    """The tokenizer of a run, from its folder; made from the captions at the first call."""
    saved = folder / "tokenizer"
    if not saved.exists():
        partial = folder / "tokenizer.part"
        build_tokenizer(corpus(things)).save_pretrained(partial)
        partial.replace(saved)
    return CLIPTokenizer.from_pretrained(saved)


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Train byte-level BPE on the captions; any other text still splits into bytes, so nothing is unknown."""
    blank = CLIPTokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer = blank.backend_tokenizer
    tokenizer.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in _merges(tokenizer)]
    pieces = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in merges] + [START, END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def _merges(tokenizer) -> list[list[str]]:
    import json

    return [m if isinstance(m, list) else m.split(" ") for m in json.loads(tokenizer.to_str())["model"]["merges"]]


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text transformer of five layers; output (n, 32, 192)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=6,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]):
    """Padded and cut token ids: int64 tensor (n, 32)."""
    return tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
