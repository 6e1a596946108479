"""LoRA: small additions that teach a model a subject or a style (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.model import CannotLoad
from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.folders import AdapterFolders, named, prompt_name
from pipelines.models.adapters.lora_format import (
    DIFFUSERS_CONFIG,
    PEFT_FILE,
    is_lora,
    lacks_peft_config,
    problem,
    split,
)
from pipelines.request import InvalidRequest
from pipelines.request_errors import LEAVE_OUT, Remedy
from pipelines.system.bounded_json import parse_json
from pipelines.system.fingerprint import Stamp, file_stamp
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.safetensors_header import SafetensorsHeader
from pipelines.system.text import first_line, shorten

if TYPE_CHECKING:
    from torch import nn

    from pipelines.cards import ModelCard
    from pipelines.model import Model, Placement
    from pipelines.models.adapters.files import AdapterFiles
    from pipelines.models.adapters.lora_file import LoadedLora
    from pipelines.models.adapters.lora_names import LayerNames
    from pipelines.request import GenerationRequest

MAX_WORDS = 8
# What trigger words of strangers' files may not bring into a prompt: marks, and what no prompt may hold.
_NOT_IN_PROMPTS = re.compile("[<>\x00-\x1f\x7f\ud800-\udfff]")
UNSURE = (
    "The LoRA {name} is a file of PEFT's that was renamed, without the adapter_config.json that says how strong it is: "
    "it counted as if alpha were its rank. If that looks too weak or too strong, change its weight, or put that file "
    "into its folder and call it adapter_model.safetensors."
)
# (folder or hub id, file in it, weight)
LoraSpec = tuple[str, str, float]
# A file, and what changes when it is replaced.
_Key = tuple[Path, Stamp]


@dataclass(frozen=True)
class LoraFile:
    """A LoRA on this machine.

    Attributes:
        name: of the file as prompts and requests say it (``folders.prompt_name``).
        path: where it is.
        words: trigger words that its makers trained it with, as far as the file tells.
        base: the kind of model that it was trained on, in its own words, or "".
        size_bytes: of the file.
        problem: why it cannot be applied, in words that follow its name, or "".
        bundled: words (textual inversion) that are in the same file.
        note: what is not certain of its effect, one sentence, or "".
    """

    name: str
    path: Path
    words: tuple[str, ...] = ()
    base: str = ""
    size_bytes: int = 0
    problem: str = ""
    bundled: tuple[str, ...] = ()
    note: str = ""


def scan(folders: AdapterFolders) -> dict[str, LoraFile]:
    """Every LoRA in safetensors files below the folders, by name."""
    return named(folders.read(read))


def read(path: Path, header: SafetensorsHeader) -> LoraFile | None:
    """What a file's own header says; None for what is no LoRA."""
    if not is_lora(header.tensors):
        return None
    about = header.metadata
    base = str(about.get("modelspec.architecture") or about.get("ss_base_model_version") or "")[:80]
    words = tuple(filter(None, map(_clean, _words(about))))
    layout, name = split(header.tensors), prompt_name(path)
    note = ""
    # Under PEFT's own name it is refused without its configuration, and scaled by it otherwise.
    if path.stem != PEFT_FILE and DIFFUSERS_CONFIG not in about and lacks_peft_config(layout):
        note = UNSURE.format(name=repr(shorten(name, 40)))
    size, reason = path.stat().st_size, problem(header.tensors)
    return LoraFile(name, path, words, base, size, reason, tuple(layout.bundled), note)


def _clean(word: str) -> str:
    """A trigger word as it can be put into a prompt."""
    return " ".join(_NOT_IN_PROMPTS.sub(" ", word).split())[:60]


def _words(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The trigger phrase if the makers gave one, else the tags that their pictures had most often."""
    phrase = about.get("modelspec.trigger_phrase")
    if isinstance(phrase, str) and phrase.strip():
        return tuple(word.strip()[:60] for word in phrase.split(",") if word.strip())[:MAX_WORDS]
    try:
        folders = parse_json(about.get("ss_tag_frequency") or "{}")
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag.strip()] = counts.get(tag.strip(), 0) + int(count)
    except (ValueError, TypeError, AttributeError):
        return ()
    return tuple(sorted(counts, key=lambda tag: (-counts[tag], tag))[:MAX_WORDS])


def resolve(request: GenerationRequest, files: AdapterFiles) -> list[LoraSpec]:
    """The files of the request's LoRAs; raises InvalidRequest if one is missing."""
    specs = []
    for lora in request.loras:
        file = files.find(scan, lora.name)
        name, gone = repr(shorten(lora.name, 40)), Remedy(LEAVE_OUT, lora.name)
        if file is None:
            reason = files.why_missing(lora.name, "a LoRA")
            raise InvalidRequest(
                "prompt", f"prompt names the LoRA {name}, which {reason}; take its mark out.", remedy=gone
            )
        if file.problem:
            raise InvalidRequest("prompt", f"prompt names the LoRA {name}, which {file.problem}.", remedy=gone)
        specs.append((str(file.path.parent), file.path.name, lora.weight))
    return specs


def _check(card: ModelCard, request: GenerationRequest, files: AdapterFiles) -> None:
    resolve(request, files)


def _apply(model: Model, request: GenerationRequest, files: AdapterFiles) -> None:
    model.set_loras(resolve(request, files))


def _remove(model: Model) -> None:
    model.set_loras(())


ADAPTER = Adapter(_check, _apply, _remove, read)


class AppliedLoras:
    """The LoRAs that are applied to a model, shared by all its cards.

    Each adds to what layers of the model compute; the model's own weights stay as they are.

    Args:
        parts: of the model, by their names in diffusers' format.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts
        self._names: LayerNames | None = None
        self._loaded: dict[_Key, LoadedLora] = {}
        self._worn: tuple[tuple[_Key, float], ...] = ()
        self._hooks: list[Any] = []

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What the LoRAs add, by names that no part of a model has."""
        from torch import nn

        return {
            f"lora_{k}": nn.ModuleList(layer for _, layer in self._loaded[key].layers)
            for k, (key, _) in enumerate(self._worn)
        }

    @property
    def words(self) -> dict[str, dict[str, Any]]:
        """Words that came with the LoRAs that are applied -> name of the tensor -> vectors."""
        return {word: vectors for key, _ in self._worn for word, vectors in self._loaded[key].words.items()}

    def set(self, specs: Sequence[LoraSpec], placement: Placement, model_name: str) -> bool:
        """Apply exactly these; the weights of one file that is named several times are added up.

        Returns:
            Whether anything changed.

        Raises:
            InvalidRequest: if a file is no LoRA of this kind of model; then none is applied.
        """
        weights: dict[_Key, float] = {}
        for spec in specs:
            key = _key_of(spec, model_name)
            weights[key] = weights.get(key, 0.0) + spec[2]
        wanted = tuple((key, weight) for key, weight in weights.items() if weight)
        if wanted == self._worn:
            return False
        self._detach()
        self._loaded = {key: lora for key, lora in self._loaded.items() if key in dict(wanted)}
        try:
            for key, _ in wanted:
                if key not in self._loaded:
                    self._loaded[key] = self._load(key, placement, model_name)
        except Exception as error:
            self._loaded = {}
            # Running out of memory does not mean that the file is wrong.
            if isinstance(error, InvalidRequest | CannotLoad) or out_of_memory(error):
                raise
            raise InvalidRequest(
                "prompt",
                f"prompt names a LoRA that cannot be put onto {model_name} ({first_line(error)}); leave it out.",
            ) from error
        self._attach(wanted)
        return True

    def _load(self, key: _Key, placement: Placement, model_name: str) -> LoadedLora:
        import torch

        from pipelines.models.adapters.lora_file import load
        from pipelines.models.adapters.lora_names import LayerNames

        self._names = self._names or LayerNames(self._parts)
        path = key[0]
        found = load(path, self._names, model_name)
        for _, layer in found.layers:
            layer.to(placement.device, getattr(torch, placement.dtype))
            if not all(torch.isfinite(weight).all() for weight in layer.parameters()):
                text = f"prompt names the LoRA {path.stem!r}, whose numbers are too large for {placement.dtype}"
                raise InvalidRequest("prompt", f"{text}; leave it out.", remedy=Remedy(LEAVE_OUT, path.stem))
        return found

    def _attach(self, wanted: tuple[tuple[_Key, float], ...]) -> None:
        added: dict[Any, list[tuple[Any, float]]] = {}
        for key, weight in wanted:
            for base, layer in self._loaded[key].layers:
                added.setdefault(base, []).append((layer, weight))
        self._hooks = [base.register_forward_hook(partial(_add, layers)) for base, layers in added.items()]
        self._worn = wanted
        self._compile_again()

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._worn = [], ()
        self._compile_again()

    def _compile_again(self) -> None:
        """A network that torch.compile has compiled does not look at its hooks again."""
        if any(getattr(part, "_compiled_call_impl", None) is not None for part in self._parts.values()):
            import torch

            torch.compiler.reset()


def _add(layers: Sequence[tuple[Any, float]], base: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    """A layer's output with what LoRAs add to it, each times its weight."""
    for layer, weight in layers:
        output = output + weight * layer(inputs[0])
    return output


def _key_of(spec: LoraSpec, model_name: str) -> _Key:
    """Which file a spec means, and what tells it from a file that replaces it."""
    from pipelines.models.components import resolve_source

    source, file, _ = spec
    folder = resolve_source(source)
    if not Path(folder).is_absolute():
        from huggingface_hub import hf_hub_download

        folder, file = "", hf_hub_download(source, file)
    path = Path(folder, file)
    try:
        return path.resolve(), file_stamp(path)
    except OSError as error:
        name = shorten(path.stem, 60)
        raise InvalidRequest(
            "prompt",
            f"prompt names the LoRA {name!r}, whose file is gone or cannot be read; leave it out.",
            remedy=Remedy(LEAVE_OUT, path.stem),
        ) from error
