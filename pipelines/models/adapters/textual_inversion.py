"""Textual inversion: new words for a text encoder, learnt from pictures (Gal et al. 2022, arXiv:2208.01618)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models.adapters import lora
from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.folders import AdapterFolders, named, prompt_name
from pipelines.prompt.tags import EMBEDDING_TAG, embedding_names
from pipelines.request import InvalidRequest, prompt_fields
from pipelines.request_errors import LEAVE_OUT, Remedy
from pipelines.system.fingerprint import stamp
from pipelines.system.safetensors_header import SafetensorsHeader
from pipelines.system.text import first_line, shorten

if TYPE_CHECKING:
    import torch

    from pipelines.cards import ModelCard
    from pipelines.model import Model
    from pipelines.models.adapters.files import AdapterFiles
    from pipelines.request import GenerationRequest

# Vectors of one word, and the widths of the text encoders that may read them.
MOST_VECTORS = 128
MOST_WIDTH = 8192
# How files for Stable Diffusion XL name the vectors of its two text encoders.
CLIP_L, CLIP_G = "clip_l", "clip_g"
# What old configurations of CLIP say of the token at the end of a text; it is another one.
_OLD_EOS = 2
# Endings of the names of the text encoders that may read words.
_ENCODERS = ("", "_2")
# Which of them a tensor of that name is for.
_SUFFIXES: Mapping[str, tuple[str, ...]] = {CLIP_L: ("",), CLIP_G: ("_2",)}


@dataclass(frozen=True)
class EmbeddingFile:
    """A word on this machine.

    Attributes:
        name: of the file (``folders.prompt_name``); a prompt says ``<embedding:name>``.
        path: where it is.
        keys: name of the tensor -> its shape (vectors, width).
    """

    name: str
    path: Path
    keys: Mapping[str, tuple[int, int]]


def scan(folders: AdapterFolders) -> dict[str, EmbeddingFile]:
    """Every word in safetensors files below the folders, by name."""
    return named(folders.read(read))


def read(path: Path, header: SafetensorsHeader) -> EmbeddingFile | None:
    """What a file's own header says; None for what is no word."""
    shapes = {name: _shape(entry) for name, entry in header.tensors.items()}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    # One tensor (diffusers, AUTOMATIC1111), or one for each encoder of Stable Diffusion XL.
    if not known or len(known) != len(shapes) or not (len(known) == 1 or set(known) == {CLIP_L, CLIP_G}):
        return None
    return EmbeddingFile(prompt_name(path), path, known)


def _shape(entry: object) -> tuple[int, int] | None:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2 or not all(isinstance(n, int) for n in shape):
        return None
    vectors, width = (1, *shape) if len(shape) == 1 else shape
    return (vectors, width) if 1 <= vectors <= MOST_VECTORS and 1 <= width <= MOST_WIDTH else None


def resolve(request: GenerationRequest, files: AdapterFiles) -> dict[str, Path]:
    """The files of the words that the request's texts name; raises InvalidRequest if one is missing."""
    found = {}
    names = embedding_names(*(text for _, text in prompt_fields(request)))
    bundled = _bundled(request, files) if names else frozenset()
    for name in names:
        file = files.find(scan, name)
        if file is not None:
            found[name] = file.path
        elif name not in bundled:
            reason = files.why_missing(name, "a word")
            text = f"prompt names the word {shorten(name, 40)!r}, which {reason}; take its mark out."
            raise InvalidRequest("prompt", text, remedy=Remedy(LEAVE_OUT, name))
    return found


def _bundled(request: GenerationRequest, files: AdapterFiles) -> frozenset[str]:
    """The words that come with the request's LoRAs."""
    loras = [files.find(lora.scan, each.name) for each in request.loras]
    return frozenset(word for file in loras if file is not None for word in file.bundled)


def _check(card: ModelCard, request: GenerationRequest, files: AdapterFiles) -> None:
    resolve(request, files)


def _apply(model: Model, request: GenerationRequest, files: AdapterFiles) -> None:
    model.load_embeddings(resolve(request, files))


def _remove(model: Model) -> None:
    model.load_embeddings({})


ADAPTER = Adapter(_check, _apply, _remove, read)


def _vectors(name: str, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, (vectors, width) each, float32."""
    import torch
    from safetensors.torch import load

    try:
        found = {key: tensor.float() for key, tensor in load(path.read_bytes()).items()}
    except Exception as error:
        reason = first_line(error, str(path))
        raise InvalidRequest(
            "prompt",
            f"prompt names the word {shorten(name, 60)!r}, whose file cannot be read ({reason}); leave it out.",
            remedy=Remedy(LEAVE_OUT, name),
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in found.values()):
        text = "whose file holds numbers that are not finite; copy or download it again, or leave it out."
        words = f"prompt names the word {shorten(name, 60)!r}, {text}"
        raise InvalidRequest("prompt", words, remedy=Remedy(LEAVE_OUT, name))
    return found


class LoadedEmbeddings:
    """The words that a model's text encoders know besides their own, shared by all its cards.

    Each vector is a token of the tokenizer, under a name that is made of the vectors' own hash: no file name can be
    misread as one, and a file that was replaced is other tokens.

    Args:
        parts: of the model, by their names in diffusers' format.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts
        # Name of a word -> suffix of the encoder's part -> its tokens.
        self._words: dict[str, dict[str, str]] = {}
        self._plain: frozenset[str] = frozenset()
        self._files: dict[Path, tuple[Any, dict[str, torch.Tensor]]] = {}

    def set(self, words: Mapping[str, Path], bundled: Mapping[str, Mapping[str, torch.Tensor]]) -> bool:
        """Know exactly these words.

        Args:
            words: name -> file.
            bundled: name of a word that came with a LoRA -> name of the tensor -> vectors; a prompt may name these
                without a mark too.

        Returns:
            Whether anything changed.

        Raises:
            InvalidRequest: if one is not for this model's text encoders; then no word is known.
        """
        before = self._words, self._plain
        self._words, self._plain = {}, frozenset()
        self._files = {path: kept for path, kept in self._files.items() if path in words.values()}
        found = {name: self._add(name, vectors) for name, vectors in bundled.items()}
        found |= {name: self._add(name, self._read(name, path)) for name, path in words.items()}
        self._words, self._plain = found, frozenset(bundled)
        return (self._words, self._plain) != before

    def expand(self, prompt: str, tokenizer: Any) -> str:
        """A prompt with its words' tokens in their places; a word that this encoder lacks is left out."""
        suffix = next((suffix for suffix in _ENCODERS if self._parts.get(f"tokenizer{suffix}") is tokenizer), "")

        prompt = EMBEDDING_TAG.sub(lambda match: self._words.get(match[1].strip(), {}).get(suffix, ""), prompt)
        for name in self._plain:
            pieces = re.split(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, flags=re.IGNORECASE)
            prompt = self._words[name].get(suffix, "").join(pieces)
        return prompt

    def _read(self, name: str, path: Path) -> dict[str, torch.Tensor]:
        """The vectors of a file; it is read again when it was replaced."""
        now = stamp(path)
        if path not in self._files or self._files[path][0] != now:
            self._files[path] = (now, _vectors(name, path))
        return self._files[path][1]

    def _add(self, name: str, vectors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """Suffix of an encoder's part -> the tokens that are a word's vectors there."""
        found = {}
        for key, tensor in vectors.items():
            rows = tensor.reshape(-1, tensor.shape[-1])
            suffix = self._encoder_for(name, key, rows.shape[-1])
            found[suffix] = self._tokens(suffix, rows)
        return found

    def _encoder_for(self, name: str, key: str, width: int) -> str:
        """Which text encoder a tensor is for: by its name, else the first of its width."""
        for suffix in _SUFFIXES.get(key, _ENCODERS):
            encoder = self._parts.get(f"text_encoder{suffix}")
            if encoder is not None and encoder.get_input_embeddings().weight.shape[-1] == width:
                return suffix
        text = f"prompt names the word {shorten(name, 60)!r}, which is for another kind of model; leave it out."
        raise InvalidRequest("prompt", text, remedy=Remedy(LEAVE_OUT, name))

    def _tokens(self, suffix: str, rows: torch.Tensor) -> str:
        """The tokens of these vectors; added to the tokenizer and its encoder if they are new."""
        import torch

        tokenizer, encoder = self._parts[f"tokenizer{suffix}"], self._parts[f"text_encoder{suffix}"]
        digest = hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()[:20]
        names = [f"<vector_{digest}_{k}>" for k in range(len(rows))]
        if names[0] not in tokenizer.get_added_vocab():
            from transformers import AddedToken

            tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])
            if len(tokenizer) > len(encoder.get_input_embeddings().weight):
                encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            pool_at_the_end(encoder, tokenizer)
        weight = encoder.get_input_embeddings().weight
        with torch.no_grad():
            weight[tokenizer.convert_tokens_to_ids(names)] = rows.to(weight.device, weight.dtype)
        return "".join(names)


def pool_at_the_end(encoder: Any, tokenizer: Any) -> None:
    """Have CLIP take its pooled vector at the end of the text; with old configurations it takes the highest token."""
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == _OLD_EOS:
            module.eos_token_id = tokenizer.eos_token_id
