"""What an untrusted picture says of how it was made, each setting next to its counterpart here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from history.readers import read_settings
from history.readers.settings import ForeignLora, ForeignSettings
from pipelines.images.file_texts import FileTexts, read_texts
from pipelines.images.png import PictureRecord, record_of
from pipelines.request import InvalidRequest
from pipelines.sampling.schedulers import SCHEDULERS
from pipelines.system.text import shorten
from presets.prompts.wildcards import escape
from ui.form.taken_settings import SAMPLER, lora_tags

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.models.adapters.lora import LoraFile
    from pipelines.request import GenerationRequest

OURS = "Diffusion Playground"
NO_COUNTERPART, NOT_HERE = "no counterpart", "not on this computer"
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
    """

    cards: Sequence[ModelCard] = ()
    loras: Sequence[LoraFile] = ()

    def card(self, name: str) -> ModelCard | None:
        """The model that another program calls so, by its id, its name or its file."""
        return next((card for card in self.cards if _plain(name) in _names(card)), None) if name else None

    def lora(self, name: str) -> str:
        """A LoRA's own name here, "" if it is not here; capitals do not matter."""
        return next((file.name for file in self.loras if _plain(file.name) == _plain(name)), "")


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
        model=request.model, loras=tuple(ForeignLora(lora.name, lora.weight) for lora in request.loras),
        unused=dict(_left_out(request)),
    )  # fmt: skip


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
    named += [("User comment", texts.user_comment), ("Description", texts.description)]
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
        card = known.card(found.model)
        theirs = f"{found.model} ({found.model_hash})" if found.model_hash else found.model
        yield Row("model", "Model", theirs, card.name if card else NOT_HERE, card is not None)
    if found.loras:
        theirs = ", ".join(f"{lora.name} {lora.weight:g}" for lora in found.loras)
        here = [known.lora(lora.name) for lora in found.loras]
        ours = ", ".join(name or f"{lora.name}: {NOT_HERE}" for name, lora in zip(here, found.loras, strict=True))
        yield Row("loras", "LoRA", theirs, ours, any(here))


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
    card = known.card(found.model)
    values: dict[str, object] = {
        **{name: getattr(found, name) for name in ("prompt_syntax", "negative_prompt", "width", "height")},
        **{name: getattr(found, name) for name in (*SAMPLER, "strength")},
        # As it was sent: nothing is added to it or drawn for it here.
        "prompt": escape(found.prompt),
        "styles": [],
        "seed": str(found.seed),
        "model": card.id if card else "",
        "loras": lora_tags([(name, lora.weight) for lora in found.loras if (name := known.lora(lora.name))]),
    }
    return {name: values[name] for part in PARTS if part in fitting and part in chosen for name in PARTS[part]}
