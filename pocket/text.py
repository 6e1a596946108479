"""The text side of pocket: a tokenizer made from the training captions, and a small CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pocket import data

WIDTH = 192
VOCABULARY = 2600
SAVED = data.RUNS / "tokenizer"
START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(concepts: list[data.Concept], repeats: int = 40) -> Iterator[str]:
    """Captions of every concept, so that its words become whole tokens."""
    rng = np.random.default_rng(0)
    colours, styles = list(data.COLOURS), list(data.STYLE_WEIGHTS)
    for concept in concepts:
        yield from concept.tags + concept.synonyms
        for k in range(repeats):
            yield data.caption(concept, styles[k % len(styles)], colours[k % len(colours)], rng)


def load_tokenizer(concepts: list[data.Concept]) -> CLIPTokenizer:
    """The tokenizer that the checkpoint was trained with; made from the captions at the first call."""
    if not SAVED.exists():
        build_tokenizer(corpus(concepts)).save_pretrained(SAVED)
    return CLIPTokenizer.from_pretrained(SAVED)


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
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=data.TEXT_LENGTH)


def _merges(tokenizer) -> list[list[str]]:
    import json

    return [m if isinstance(m, list) else m.split(" ") for m in json.loads(tokenizer.to_str())["model"]["merges"]]


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text transformer of three layers; output (n, 32, 192)."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=data.TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ))


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]):
    """Padded and cut token ids: int64 tensor (n, 32)."""
    return tokenizer(
        captions, padding="max_length", max_length=data.TEXT_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
