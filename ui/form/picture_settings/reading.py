"""What an untrusted picture says of how it was made, each setting next to its counterpart here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from history.readers import read_settings
from history.readers.settings import ForeignLora, ForeignSettings
from pipelines.hub.digests import LocalDigests, is_hash
from pipelines.images.file_texts import FileTexts, read_texts
from pipelines.images.png import PictureRecord, record_of
from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.paths import PROJECT
from pipelines.system.text import shorten
from presets.prompts.wildcards import escape
from ui.form.taken_settings import SAMPLER, lora_tags

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.models.adapters.lora import LoraFile
    from pipelines.request import GenerationRequest

OURS = "Diffusion Playground"
NO_COUNTERPART, NOT_HERE = "no counterpart", "not on this computer"
SAME_FILE, OTHER_FILE = "the same file, by its hash", "another file of this name, by its hash"
# Digits of a hash that are shown.
SHOWN_HASH = 12
SAME_NOISE, OTHER_NOISE = "the same noise", "other noise than there"
# Characters of texts that no reader knows, and of one of them.
MAX_TEXTS, MAX_TEXT = 20_000, 5_000
# The texts of a file that say nothing of settings.
_NO_SETTINGS = frozenset({"Software", "Creation Time", "date:create", "date:modify", "date:timestamp"})


@dataclass(frozen=True)
class Row:
    """A setting of the picture.

    Attributes:
        part: what a user chooses when it is to be taken over: a key of ``PARTS``.
        label: its name.
        theirs, ours: its value there and here, as text; all of it is untrusted.
        fits: whether it can be taken over.
    """

    part: str
    label: str
    theirs: str
    ours: str
    fits: bool = True


@dataclass(frozen=True)
class Known:
    """What is on this computer.

    Attributes:
        cards: of the models that can be used now.
        loras: files.
        digests: the hashes of their files, as far as they were read.
    """

    cards: Sequence[ModelCard] = ()
    loras: Sequence[LoraFile] = ()
    digests: LocalDigests = field(default_factory=LocalDigests)

    def card(self, name: str, digest: str = "") -> ModelCard | None:
        """The model with this hash, else the one that another program calls so, by its id, its name or its file."""
        by_hash = (card for card in self.cards if self.same(file_of(card), digest))
        by_name = (card for card in self.cards if name and _plain(name) in _names(card))
        return next(by_hash, None) or next(by_name, None)

    def lora(self, name: str, digest: str = "") -> LoraFile | None:
        """The LoRA with this hash, else the one of this name; capitals do not matter."""
        by_hash = (file for file in self.loras if self.same(file.path, digest))
        return next(by_hash, None) or next((file for file in self.loras if _plain(file.name) == _plain(name)), None)

    def same(self, file: Path | None, digest: str) -> bool | None:
        """Whether a file has the hash that another program wrote; None where either is not known."""
        found = self.digests.get(file) if file is not None and is_hash(digest) else None
        return None if found is None else found.fits(digest)

    def look_for(self, found: ForeignSettings) -> bool:
        """Read the hashes of files here, in the background, if one could be a picture's; whether any are not read."""
        card = self.card(found.model, found.model_hash)
        models = is_hash(found.model_hash) and not self.same(file_of(card) if card else None, found.model_hash)
        loras = any(is_hash(lora.hash) and not self._has(lora) for lora in found.loras)
        files = [file.path for file in self.loras] if loras else []
        files += [path for card in self.cards if models and (path := file_of(card))]
        return self.digests.read(files)

    def _has(self, lora: ForeignLora) -> bool:
        here = self.lora(lora.name, lora.hash)
        return bool(here and self.same(here.path, lora.hash))


def file_of(card: ModelCard) -> Path | None:
    """The single file of a model, None for a folder."""
    return PROJECT / card.source if card.is_single_file else None


def _plain(name: str) -> str:
    return name.strip().casefold()


def _names(card: ModelCard) -> set[str]:
    return {_plain(name) for name in (card.id, card.name, Path(card.source).name, Path(card.source).stem)}


def settings_of(data: bytes) -> ForeignSettings | None:
    """The settings in a file of this program or another one, None if there are none that can be read.

    Args:
        data: a PNG, JPEG or WebP whose size has been checked.
    """
    texts = read_texts(data)
    try:
        record = record_of(texts)
    except InvalidRequest:  # of a newer version; what it wrote for other programs is read
        record = None
    return own_settings(record) if record else read_settings(data, texts)


def own_settings(record: PictureRecord) -> ForeignSettings:
    """The settings that this program wrote."""
    request, sampling = record.request, record.request.sampling
    return ForeignSettings(
        program=OURS, prompt=request.prompt_of(record.place), negative_prompt=request.negative_prompt,
        prompt_syntax=request.prompt_syntax, scheduler=sampling.scheduler,
        sampler=SCHEDULERS[sampling.scheduler].label if sampling.scheduler in SCHEDULERS else sampling.scheduler,
        num_inference_steps=sampling.num_inference_steps, guidance_scale=sampling.guidance_scale, seed=record.seed,
        width=request.width, height=request.height, strength=request.init.strength if request.init else None,
        model=request.model, model_hash=_own_hash(record, "model"),
        loras=tuple(ForeignLora(lora.name, lora.weight, _own_hash(record, lora.name)) for lora in request.loras),
        unused=dict(_left_out(request)),
    )  # fmt: skip


def _own_hash(record: PictureRecord, name: str) -> str:
    """The hash that this program wrote of a model in one file, or of a LoRA; "" for none."""
    model, adapters = record.facts.get("model"), record.facts.get("adapters")
    files = model.get("sha256") if name == "model" and isinstance(model, dict) else None
    if isinstance(files, dict) and len(files) == 1:
        return str(next(iter(files.values())))[:64]
    return str(adapters.get(name, ""))[:64] if name != "model" and isinstance(adapters, dict) else ""


def _left_out(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """What needs more than this file."""
    if request.init is not None:
        yield "Image to start from", "use the picture itself, or bring that image"
    if request.init is not None and request.init.mask:
        yield "Mask", "the part that was repainted"
    if (variation := request.variation) is not None:
        yield "Variation", f"{variation.strength:g} towards seed {variation.seed}"
    if request.interpolation is not None:
        yield "Blend", "a row of pictures"
    if request.fork is not None:
        yield "Fork", f"left another run after step {request.fork.step}"
    yield from ((f"ControlNet {control.net}", control.kind) for control in request.controls)
    if request.reference is not None:
        yield "Image prompt", request.reference.adapter


def unread_text(texts: FileTexts) -> str:
    """Texts of a file in which no reader found settings, cut for showing."""
    named = [(name, text) for name, text in texts.texts.items() if name not in _NO_SETTINGS]
    named += [("User comment", texts.user_comment), ("Description", texts.description), *texts.camera.items()]
    named += [("XMP", texts.xmp)]
    parts = [f"{shorten(name, 60)}: {text[:MAX_TEXT]}" for name, text in named if text.strip()]
    return "\n\n".join(parts)[:MAX_TEXTS]


def rows_of(found: ForeignSettings, known: Known) -> list[Row]:
    """Every setting that has its place here, with its value there and here."""
    return [row for make in _ROWS for row in make(found, known)]


def _prompts(found: ForeignSettings, known: Known) -> Iterator[Row]:
    form = "weights in A1111's form" if found.prompt_syntax == "a1111" else "weights in compel's form"
    if found.prompt:
        yield Row("prompt", "Prompt", found.prompt, form)
    if found.negative_prompt:
        yield Row("negative_prompt", "Negative prompt", found.negative_prompt, "the same")


def _sampling(found: ForeignSettings, known: Known) -> Iterator[Row]:
    if found.seed is not None:
        yield Row("seed", "Seed", str(found.seed), SAME_NOISE if found.program == OURS else OTHER_NOISE)
    if found.sampler or found.scheduler:
        label = SCHEDULERS[found.scheduler].label if found.scheduler in SCHEDULERS else NO_COUNTERPART
        theirs = ", ".join(filter(None, (found.sampler, found.schedule)))
        yield Row("sampler", "Sampler", theirs, label, label != NO_COUNTERPART)
    if found.num_inference_steps is not None:
        yield Row("steps", "Steps", str(found.num_inference_steps), str(found.num_inference_steps))
    if found.guidance_scale is not None:
        yield Row("guidance", "Guidance (CFG)", f"{found.guidance_scale:g}", f"{found.guidance_scale:g}")


def _size(found: ForeignSettings, known: Known) -> Iterator[Row]:
    if found.width and found.height:
        size = f"{found.width} \u00d7 {found.height}"
        yield Row("size", "Size", size, size)
    if found.strength is not None:
        yield Row("strength", "Strength", f"{found.strength:g}", "for Image to image")


def _files(found: ForeignSettings, known: Known) -> Iterator[Row]:
    if found.model or found.model_hash:
        card = known.card(found.model, found.model_hash)
        theirs = f"{found.model} ({found.model_hash[:SHOWN_HASH]})".strip() if found.model_hash else found.model
        ours = _found(card.name, known.same(file_of(card), found.model_hash)) if card else NOT_HERE
        yield Row("model", "Model", theirs, ours, card is not None)
    if found.loras:
        theirs = ", ".join(f"{lora.name} {lora.weight:g}" for lora in found.loras)
        here = [(lora, known.lora(lora.name, lora.hash)) for lora in found.loras]
        ours = ", ".join(
            _found(file.name, known.same(file.path, lora.hash)) if file else f"{lora.name}: {NOT_HERE}"
            for lora, file in here
        )
        yield Row("loras", "LoRA", theirs, ours, any(file for _, file in here))


def _found(name: str, same: bool | None) -> str:
    """The name of a file here, with what its hash says."""
    return name if same is None else f"{name} ({SAME_FILE if same else OTHER_FILE})"


_ROWS: Sequence[Callable[[ForeignSettings, Known], Iterator[Row]]] = (_prompts, _sampling, _size, _files)
# What can be chosen -> the fields of a request, by their flat names.
PARTS = {
    "prompt": ("prompt", "prompt_syntax", "styles"), "negative_prompt": ("negative_prompt",), "seed": ("seed",),
    "sampler": ("scheduler",), "steps": ("num_inference_steps",), "guidance": ("guidance_scale",),
    "size": ("width", "height"), "strength": ("strength",), "model": ("model",), "loras": ("loras",),
}  # fmt: skip


def fields_of(found: ForeignSettings, chosen: Sequence[str], known: Known) -> dict[str, object]:
    """The fields of a request that a user chose, by their flat names; what does not fit here is left out."""
    fitting = {row.part for row in rows_of(found, known) if row.fits}
    card = known.card(found.model, found.model_hash)
    loras = [(file.name, lora.weight) for lora in found.loras if (file := known.lora(lora.name, lora.hash))]
    values: dict[str, object] = {
        **{name: getattr(found, name) for name in ("prompt_syntax", "width", "height")},
        **{name: getattr(found, name) for name in (*SAMPLER, "strength")},
        # As it was sent: nothing is added to it or drawn for it here.
        "prompt": escape(found.prompt),
        "negative_prompt": escape(found.negative_prompt),
        "styles": [],
        "seed": str(found.seed),
        "model": card.id if card else "",
        "loras": lora_tags(loras),
    }
    return {name: values[name] for part in PARTS if part in fitting and part in chosen for name in PARTS[part]}
