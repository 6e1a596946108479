"""What a script needs to know of an entry: its request, its model's files and configuration, and what was added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from pipelines.hub.cache import HubCache
from pipelines.models.adapters.folders import find_by_name
from pipelines.prompt.tags import embedding_names
from pipelines.request import prompt_fields
from pipelines.system.bounded_json import read_json_file
from pipelines.system.paths import PROJECT

if TYPE_CHECKING:
    from PIL import Image

    from history.entries import EntryDetail
    from pipelines.cards import BuiltInLora, ModelCard
    from pipelines.models.adapters.resolver import AdapterResolver
    from pipelines.request import GenerationRequest

SD, XL, SD3, FLUX, OWN = "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux", "any"
# Values that take more characters stand on several lines.
LONG_LITERAL = 110
LORA, CONTROLNET, EMBEDDING = "LoRA", "ControlNet", "word"
_GONE = "The {kind} {name} is not on this computer any more; put its file back to get the script."


class NoScript(ValueError):
    """An entry that cannot be written as a script; the message is one sentence for the user."""


@dataclass(frozen=True)
class Materials:
    """Where a recipe finds what an entry names.

    Attributes:
        card: of the entry's model, None if it is not in the catalogue any more.
        adapters: the LoRA, ControlNet and textual inversion files.
        upload: an uploaded picture by its id; raises InvalidRequest if it is gone.
        shows_paths: whether folders of this computer may stand in the script; guests see names alone.
    """

    card: ModelCard | None
    adapters: AdapterResolver
    upload: Callable[[str], Image.Image]
    shows_paths: bool = True


@dataclass(frozen=True)
class AdapterFile:
    """A file that is added to the model: how the script calls it, where it is, its weight."""

    name: str
    path: Path
    weight: float = 1.0


@dataclass(frozen=True)
class ImagePromptFile:
    """The IP-Adapter of a plan: its file, the folder of its image encoder, its weight.

    Attributes:
        fine: whether it reads a vector for each patch of the picture ("plus" files), not one for all of it.
    """

    name: str
    path: Path
    encoder: Path
    weight: float
    fine: bool


@dataclass(frozen=True)
class Plan:
    """What a script is written from.

    Attributes:
        detail: the entry.
        request: of its run.
        card: of its model.
        materials: see there.
        loras: that are applied, the model's own first; those of weight 0 are left out.
        controlnets: one for each of the request's controls.
        embeddings: textual inversion files by the names that prompts use.
        image_prompt: the IP-Adapter, or None.
    """

    detail: EntryDetail
    request: GenerationRequest
    card: ModelCard
    materials: Materials
    loras: tuple[AdapterFile, ...] = ()
    controlnets: tuple[AdapterFile, ...] = ()
    embeddings: tuple[AdapterFile, ...] = ()
    image_prompt: ImagePromptFile | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the picture was made."""
        return self.detail.facts

    def fact(self, name: str, default: str = "") -> str:
        """A fact's text."""
        found = self.facts.get(name)
        return found if isinstance(found, str) and found.isprintable() and len(found) <= 200 else default

    @property
    def dtype(self) -> str:
        """The number format of the networks, by torch's name."""
        found = self.fact("dtype", "float32")
        return found if found in ("float32", "float16", "bfloat16") else "float32"

    @property
    def device(self) -> str:
        """The device, by torch's name."""
        found = self.fact("device", "cpu")
        return found if found.replace(":", "").isalnum() else "cpu"

    @property
    def family(self) -> str:
        """Of the model."""
        return self.card.family

    @property
    def count(self) -> int:
        """Pictures of the run."""
        return self.request.num_images

    @cached_property
    def folder(self) -> Path | None:
        """The diffusers folder with the model's configuration, in the hub's cache too; None if it is not known."""
        if self.is_single_file:
            return Path(self.card.config)
        local = PROJECT / self.card.source
        if local.is_dir():
            return local
        return next(iter(HubCache(None).snapshots(self.card.source)), None) if self.is_on_hub else None

    @property
    def is_single_file(self) -> bool:
        """Whether the model is one safetensors file."""
        return self.card.is_single_file

    @property
    def is_on_hub(self) -> bool:
        """Whether the model is named by its repository on the hub."""
        return not self.is_single_file and not (PROJECT / self.card.source).is_dir()

    def config(self, part: str) -> Mapping[str, Any]:
        """The configuration of a part of the model; empty where it is not known."""
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        rest = PROJECT / self.card.rest if self.card.rest else None
        for folder in (self.folder, rest):
            found = _json(folder / part / name) if folder else {}
            if found:
                return found
        return {}

    @property
    def index(self) -> Mapping[str, Any]:
        """The model's own model_index.json; empty where it is not known."""
        return _json(self.folder / "model_index.json") if self.folder else {}

    @property
    def embeds_guidance(self) -> bool:
        """Whether the guidance scale is an input of the network."""
        if self.family == FLUX:
            return True
        known = self.config("unet")
        return known["time_cond_proj_dim"] is not None if "time_cond_proj_dim" in known else self.card.guidance_embedded

    @property
    def is_guided(self) -> bool:
        """Whether the negative prompt is read, too."""
        return self.request.sampling.guidance_scale > 1 and not self.embeds_guidance

    @property
    def inpaints(self) -> bool:
        """Whether the network itself sees a mask."""
        channels = self.config("vae").get("latent_channels", 4)
        return self.family in (SD, XL) and self.config("unet").get("in_channels") == 2 * channels + 1

    @property
    def texts(self) -> list[str]:
        """The prompts that the run reads."""
        return [text for field, text in prompt_fields(self.request) if self.is_guided or field != "negative_prompt"]

    def shown(self, path: Path | str) -> str:
        """A path as it stands in the script."""
        return str(path) if self.materials.shows_paths else Path(path).name


def literal(value: Any) -> str:
    """A value as Python writes it, on several lines where it is long, texts in double quotes where they hold none."""
    text = repr(value)
    if len(text) > LONG_LITERAL:
        return pformat(value, width=LONG_LITERAL, sort_dicts=False)
    return f'"{text[1:-1]}"' if isinstance(value, str) and text[0] == "'" and '"' not in text else text


def plan_of(detail: EntryDetail, materials: Materials) -> Plan:
    """What a script is written from.

    Raises:
        NoScript: if a part of it is not known any more.
    """
    request, card = detail.request, materials.card
    if request is None:
        raise NoScript("The settings of this picture are not known in a form that can be run again.")
    if card is None:
        raise NoScript(f"The model {request.model} is not in this program any more; add it again to get the script.")
    adapters = materials.adapters
    names = embedding_names(*(text for _, text in prompt_fields(request)))
    return Plan(
        detail, request, card, materials,
        loras=_loras(request, card, adapters),
        controlnets=tuple(
            AdapterFile(each.net, _found({one.name: one.path for one in adapters.controlnets()}, each.net, CONTROLNET),
                        each.weight)
            for each in request.controls
        ),
        embeddings=tuple(
            AdapterFile(name, _found({one.name: one.path for one in adapters.embeddings()}, name, EMBEDDING))
            for name in names
        ),
        image_prompt=_image_prompt(request, adapters),
    )  # fmt: skip


def _image_prompt(request: GenerationRequest, adapters: AdapterResolver) -> ImagePromptFile | None:
    if request.reference is None:
        return None
    files = {one.name: one for one in adapters.ip_adapters()}
    file = find_by_name(files, request.reference.adapter)
    if file is None:
        raise NoScript(_GONE.format(kind="IP-Adapter", name=request.reference.adapter))
    # The width that it wants is that of the encoder's last vector, or of each of its patches'.
    return ImagePromptFile(file.name, file.path, file.encoder, request.reference.weight, file.wants[1] == "hidden_size")


def _loras(request: GenerationRequest, card: ModelCard, adapters: AdapterResolver) -> tuple[AdapterFile, ...]:
    """Each file once, with the sum of its weights."""
    known = {one.name: one.path for one in adapters.loras()} if request.loras else {}
    own = [(Path(each.file).stem, _of_model(each), each.weight) for each in card.additions]
    weights: dict[Path, tuple[str, float]] = {}
    for name, path, weight in [*own, *((one.name, _found(known, one.name, LORA), one.weight) for one in request.loras)]:
        weights[path] = (name, weights.get(path, ("", 0.0))[1] + weight)
    return tuple(AdapterFile(name, path, weight) for path, (name, weight) in weights.items() if weight)


def _of_model(addition: BuiltInLora) -> Path:
    """The file of a LoRA that is part of a model: in its folder, or in the hub's cache."""
    folder = PROJECT / addition.source
    if not folder.is_dir():
        folder = next(iter(HubCache(None).snapshots(addition.source)), folder)
    return folder / addition.file


def _found(files: Mapping[str, Path], name: str, kind: str) -> Path:
    path = find_by_name(files, name)
    if path is None:
        raise NoScript(_GONE.format(kind=kind, name=name))
    return path


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json_file(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
