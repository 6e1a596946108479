"""What is put onto a loaded model and taken off again (LoRAs), and what its text encoders learn (new words)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.embeddings import CLIP_G, CLIP_L
from pipelines.families import CannotLoad
from pipelines.families.loading import first_line, resolve_source
from pipelines.request import InvalidRequest

# (folder or hub id, file in it, weight)
Wish = tuple[str, str, float]
# How files for Stable Diffusion XL name the vectors of its two text encoders.
_ENCODERS: Mapping[str, tuple[str, ...]] = {CLIP_L: ("",), CLIP_G: ("_2",)}


def pipeline_of(cls_name: str, parts: dict[str, Any], scheduler_config: dict[str, Any]) -> Any:
    """A pipeline of diffusers over the same parts, for what its loaders do to them; nothing is copied."""
    import diffusers

    from pipelines.schedulers import FLOW, build, prediction_type_of

    flow = prediction_type_of(scheduler_config) == FLOW
    cls = getattr(diffusers, cls_name)
    given = {**parts, "scheduler": build("flow_euler" if flow else "ddim", scheduler_config)}
    given["requires_safety_checker"] = False
    names = inspect.signature(cls.__init__).parameters
    needed = [name for name, p in names.items() if p.default is inspect.Parameter.empty and name != "self"]
    return cls(**{name: given.get(name) for name in names if name in needed or name in given})


def mark(name: str) -> str:
    """How a prompt names a word, and what the tokenizers take for one token."""
    return f"<embedding:{name}>"


def _vectors(path: Path) -> dict[str, Any]:
    """The tensors of a file, (vectors, width) each."""
    from safetensors.torch import load_file

    try:
        return {name: tensor.reshape(-1, tensor.shape[-1]) for name, tensor in load_file(path).items()}
    except Exception as error:
        raise InvalidRequest(
            f"prompt names the word {path.stem!r}, whose file cannot be read ({first_line(error)}); leave it out."
        ) from error


class Wardrobe:
    """The LoRAs that a model wears and the words that it learnt, shared by all its cards.

    Args:
        cls_name: the pipeline of diffusers whose loaders understand this family's files.
        parts, scheduler_config: of the model.
    """

    def __init__(self, cls_name: str, parts: dict[str, Any], scheduler_config: dict[str, Any]) -> None:
        self._of = (cls_name, parts, scheduler_config)
        self._pipe: Any = None
        self._worn: dict[Wish, str] = {}
        self._count = 0
        self.words: set[str] = set()

    def wear(self, wishes: Sequence[Wish], model_name: str) -> bool:
        """Put on exactly these; whether anything changed.

        Raises:
            InvalidRequest: if a file is no LoRA of this kind of model; the model then wears none.
        """
        wanted = tuple(dict.fromkeys(wishes))
        if wanted == tuple(self._worn):
            return False
        self._pipe = self._pipe or pipeline_of(*self._of)
        try:
            self._change(wanted)
        except Exception as error:
            self.strip()
            # Too little memory says nothing about the file.
            if isinstance(error, InvalidRequest | CannotLoad | torch.OutOfMemoryError | MemoryError):
                raise
            raise InvalidRequest(
                f"prompt names a LoRA that cannot be put onto {model_name} ({first_line(error)}); it is probably made "
                "for another kind of model, so leave it out."
            ) from error
        return True

    def learn(self, words: Mapping[str, Path]) -> bool:
        """Teach the text encoders words that they do not know yet (name -> file); whether there was any.

        Raises:
            InvalidRequest: if a file is not for this model's text encoders.
        """
        new = {name: path for name, path in words.items() if name not in self.words}
        for name, path in new.items():
            self._pipe = self._pipe or pipeline_of(*self._of)
            vectors = _vectors(path)
            for key, tokenizer, encoder in self._readers(name, vectors):
                self._pipe.load_textual_inversion(
                    vectors[key], token=mark(name), tokenizer=tokenizer, text_encoder=encoder
                )
            self.words.add(name)
        return bool(new)

    def spelt_out(self, prompt: str, tokenizer: Any) -> str:
        """A prompt in which a word of several vectors is as many tokens; a word that this encoder lacks is left out."""
        for name in self.words:
            if mark(name) not in tokenizer.get_vocab():
                prompt = prompt.replace(mark(name), "")
        return self._pipe.maybe_convert_prompt(prompt, tokenizer) if self.words else prompt

    def _readers(self, name: str, vectors: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """Which tensor goes to which tokenizer and text encoder: by its name, else to the first of its width."""
        parts, found = self._of[1], []
        for key, tensor in vectors.items():
            for suffix in _ENCODERS.get(key, ("", "_2")):
                encoder, tokenizer = parts.get(f"text_encoder{suffix}"), parts.get(f"tokenizer{suffix}")
                if encoder is not None and encoder.get_input_embeddings().weight.shape[-1] == tensor.shape[-1]:
                    found.append((key, tokenizer, encoder))
                    break
            else:
                text = f"prompt names the word {name!r}, which is for another kind of model; leave it out."
                raise InvalidRequest(text)
        return found

    def strip(self) -> None:
        """Take everything off: the weights are then what they were."""
        if self._pipe is not None:
            self._pipe.unload_lora_weights()
        self._worn = {}

    def _change(self, wanted: tuple[Wish, ...]) -> None:
        # A change of weight alone needs no file; what is no longer wanted is taken off with all the rest.
        kept = {wish[:2]: name for wish, name in self._worn.items()}
        if not {wish[:2] for wish in wanted} >= set(kept):
            self.strip()
            kept = {}
        if not wanted:
            self.strip()
            return
        names = [kept.get(wish[:2]) or self._load(wish) for wish in wanted]
        self._pipe.set_adapters(names, [weight for *_, weight in wanted])
        self._worn = dict(zip(wanted, names, strict=True))

    def _load(self, wish: Wish) -> str:
        source, file, _ = wish
        self._count += 1
        name = f"lora{self._count}"
        self._pipe.load_lora_weights(
            resolve_source(source), weight_name=file, adapter_name=name, use_safetensors=True
        )
        if not any(name in worn for worn in self._pipe.get_list_adapters().values()):
            raise InvalidRequest(f"prompt names the LoRA {file}, which holds nothing for this model; leave it out.")
        return name
