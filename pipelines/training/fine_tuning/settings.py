"""What the user chooses for a fine-tuning, with its bounds; free of torch, so that the page can show it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from pipelines.request import MAX_PROMPT, InvalidRequest
from pipelines.system.text import refuse_control_characters

LORA, TEXTUAL_INVERSION = "lora", "textual_inversion"
# Way -> (label, what it does).
WAYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        LORA: ("LoRA", "Small layers are added to the denoiser: learns shapes that the model has never drawn."),
        TEXTUAL_INVERSION: (
            "Textual inversion",
            "Only the word's own vectors learn; the model stays as it is and forgets nothing, but can name no more "
            "than what it could draw already.",
        ),
    }
)
MIN_PICTURES, MAX_PICTURES = 3, 40
# From so many pictures on, some are kept from the model to measure what it makes of pictures that it has not seen.
HELD_OUT_FROM = 8
# A denoiser with fewer parameters learns at a rate at which larger ones fall apart, and redraws quickly.
SMALL_PARAMETERS = 100_000_000
_WORD = re.compile(r"[^\W_][\w' -]*")
MAX_WORD = 40


@dataclass(frozen=True)
class TrainingPlan:
    """How a model learns.

    Attributes:
        steps: of training, at most.
        batch: of a step: pictures of the user and as many of the model's own.
        rank: of the added layers; the number of vectors of a word is ``vectors``.
        rate: the learning rate; it rises over the first steps and falls to 0 along half a cosine.
        own: pictures that the model draws before, so that it keeps what it can (prior preservation, Ruiz et al. 2022,
            arXiv:2208.12242).
        own_weight: of their loss.
        convolutions: whether the convolutions get layers too.
        every: steps between two checkpoints.
        patience: checkpoints without a better loss on held-out pictures after which it ends; 0 for never.
        mirrored: whether pictures are also learnt mirrored.
        vectors: of the word in textual inversion.
        seed: of batches, noise and new layers.
    """

    steps: int = 120
    batch: int = 8
    rank: int = 16
    rate: float = 2e-3
    own: int = 48
    own_weight: float = 1.0
    convolutions: bool = True
    every: int = 20
    patience: int = 3
    mirrored: bool = False
    vectors: int = 4
    seed: int = 0


@dataclass(frozen=True)
class TrainingPreset:
    """A named choice.

    Attributes:
        label, about: what the user reads.
        small, large: what it means for small and for large denoisers.
    """

    label: str
    about: str
    small: TrainingPlan
    large: TrainingPlan


_LARGE = TrainingPlan(batch=1, rank=16, rate=1e-4, own=32, convolutions=False, every=100, patience=4)
PRESETS: Mapping[str, TrainingPreset] = MappingProxyType(
    {
        "quick": TrainingPreset(
            "Quick", "Half the steps: a first look.", TrainingPlan(steps=60, own=32), replace(_LARGE, steps=400)
        ),
        "balanced": TrainingPreset(
            "Balanced", "Learns the new and keeps the old.", TrainingPlan(), replace(_LARGE, steps=1000)
        ),
        "thorough": TrainingPreset(
            "Thorough",
            "More steps at a lower rate, with more of the model's own pictures.",
            TrainingPlan(steps=300, rate=1e-3, own=96),
            replace(_LARGE, steps=2000, rate=5e-5, own=64),
        ),
    }
)
DEFAULT_PRESET = "balanced"
# Name -> (label, what it does, the numbers to choose from).
DRAWER: Mapping[str, tuple[str, str, tuple[float, ...]]] = MappingProxyType(
    {
        "steps": (
            "Training steps", "More learn the new thing better, and change more of the old.",
            (20, 40, 60, 120, 200, 300, 400, 1000, 2000),
        ),
        "rate": (
            "Learning rate", "How far each step goes; too high breaks the model, too low learns nothing.",
            (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3),
        ),
        "rank": ("Rank", "How much the added layers can hold; the file grows with it.", (1, 2, 4, 8, 16, 32, 64)),
        "batch": ("Pictures a step", "More steady the direction; memory and time grow with it.", (1, 2, 4, 8, 16)),
        "own": (
            "The model's own pictures", "It learns them again, so that it keeps what it can.", (0, 8, 16, 32, 48, 96),
        ),
        "vectors": ("Vectors of the word", "Of textual inversion: how many tokens the word is worth.", (1, 2, 4, 8)),
    }
)  # fmt: skip


@dataclass(frozen=True)
class TeachingSettings:
    """One fine-tuning.

    Attributes:
        model: id of a model's card.
        word: the new word.
        captions: of each picture, with the word.
        setting: a prompt that shows the word in a setting that no picture had.
        way: key of ``WAYS``.
        preset: key of ``PRESETS``.
        changed: what differs from the preset, by names of ``DRAWER``.
        licence: the user's note on who may use the result.
    """

    model: str
    word: str
    captions: tuple[str, ...]
    setting: str = ""
    way: str = LORA
    preset: str = DEFAULT_PRESET
    changed: tuple[tuple[str, float], ...] = ()
    licence: str = ""

    def plan(self, parameters: int) -> TrainingPlan:
        """The plan for a denoiser of so many parameters."""
        preset = PRESETS[self.preset]
        plan = preset.small if parameters < SMALL_PARAMETERS else preset.large
        if self.way == TEXTUAL_INVERSION:
            # The model itself does not change, so there is nothing to keep; a few numbers learn at a higher rate.
            plan = replace(plan, own=0, rate=max(5e-3, plan.rate), convolutions=False)
        whole = {field.name for field in fields(TrainingPlan) if field.type in ("int", int)}
        changed: dict[str, Any] = {name: int(value) if name in whole else value for name, value in self.changed}
        if self.way == TEXTUAL_INVERSION:
            changed.pop("own", None)
        return replace(plan, **changed)


def read_settings(model: str, values: Mapping[str, Any], captions: Sequence[Any]) -> TeachingSettings:
    """Settings that a client sent; raises InvalidRequest."""
    word = read_word(values.get("word"))
    if not MIN_PICTURES <= len(captions) <= MAX_PICTURES:
        raise InvalidRequest(
            "pictures", f"Give {MIN_PICTURES} to {MAX_PICTURES} pictures; there are {len(captions)} now."
        )
    texts = tuple(_text(caption, "caption") or f"a {word}" for caption in captions)
    for text in texts:
        if not has_word(text, word):
            raise InvalidRequest("caption", f"A picture's words leave out {word!r}; write it where the new thing is.")
    setting = _text(values.get("setting"), "setting") or f"a {word}"
    if not has_word(setting, word):
        raise InvalidRequest("setting", f"The prompt of the new setting leaves out {word!r}; write it in.")
    way, preset = values.get("way", LORA), values.get("preset", DEFAULT_PRESET)
    if way not in WAYS or preset not in PRESETS:
        raise InvalidRequest("preset", "This way of teaching is not there; choose another.")
    licence = _text(values.get("licence"), "licence")
    return TeachingSettings(model, word, texts, setting, way, preset, _changed(values.get("changed")), licence)


def read_word(value: Any) -> str:
    """The new word; raises InvalidRequest."""
    word = " ".join(value.split()) if isinstance(value, str) else ""
    if not word:
        raise InvalidRequest("word", "Write the new word first, such as zorp.")
    if len(word) > MAX_WORD or not _WORD.fullmatch(word):
        raise InvalidRequest("word", f"The new word has letters, digits and spaces, at most {MAX_WORD}; shorten it.")
    return word


def has_word(text: str, word: str) -> bool:
    """Whether a text has a word, in capitals or not."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def as_json(settings: TeachingSettings) -> dict[str, Any]:
    """For the run's file."""
    return asdict(settings)


def from_json(values: Mapping[str, Any]) -> TeachingSettings:
    """What ``as_json`` wrote."""
    given = {field.name: values[field.name] for field in fields(TeachingSettings)}
    changed = tuple((name, value) for name, value in given.pop("changed"))
    return TeachingSettings(**{**given, "captions": tuple(given["captions"]), "changed": changed})


def _text(value: Any, field: str) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if len(text) > MAX_PROMPT:
        raise InvalidRequest(field, f"A text has at most {MAX_PROMPT} letters; shorten it.")
    try:
        return refuse_control_characters(text)
    except ValueError as problem:
        raise InvalidRequest(field, f"A text {problem}; write it again.") from None


def _changed(given: Any) -> tuple[tuple[str, float], ...]:
    pairs = given.items() if isinstance(given, dict) else ()
    found = []
    for name, value in pairs:
        if name not in DRAWER or isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest("preset", "A setting of the training cannot be read; choose it again.")
        if not any(math.isclose(value, known) for known in DRAWER[name][2]):
            raise InvalidRequest("preset", f"This choice of {DRAWER[name][0].lower()} is not there; choose another.")
        found.append((name, value))
    return tuple(sorted(found))
