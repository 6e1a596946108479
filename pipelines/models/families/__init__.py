"""FAMILIES: one record a model family; its modules are imported when a model of it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.model import CannotLoad

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.model import Model, Placement, Report

_FOLDER = "pipelines.models.families"
# Pipelines of diffusers 0.42 that need nothing but a prompt and give a picture: these run their own loop.
_GENERIC_PIPELINES = tuple(
    f"{name}Pipeline"
    for name in (
        *("AuraFlow", "Bria", "BriaFibo", "BriaFibo2", "Chroma", "CogView3Plus", "CogView4", "Cosmos2TextToImage"),
        *("DreamLite", "DreamLiteMobile", "ErnieImage", "Flux2", "Flux2Klein", "Flux2KleinKV", "FluxKontext"),
        *("GlmImage", "HiDreamImage", "HunyuanDiT", "HunyuanDiTPAG", "HunyuanImage", "IF", "Ideogram4", "Kandinsky3"),
        *("Kandinsky5T2I", "KandinskyCombined", "KandinskyV22Combined", "Kolors", "KolorsPAG", "Krea2"),
        *("LDMTextToImage", "LongCatImage", "Lumina", "Lumina2", "NucleusMoEImage", "OmniGen", "OvisImage", "PRX"),
        *("PRXPixel", "PixArtAlpha", "PixArtSigma", "PixArtSigmaPAG", "QwenImage", "QwenImage21", "Sana", "SanaPAG"),
        *("SanaSprint", "StableCascadeCombined", "StableDiffusion3PAG", "StableDiffusionPAG", "StableDiffusionXLPAG"),
        *("WuerstchenCombined", "ZImage", "ZImageOmni"),
    )
)


@dataclass(frozen=True)
class Family:
    """What the program needs to know of a model family before a model of it is loaded.

    Attributes:
        loader: ``load(card, placement, report)``, as "module:function"; see ``stable_diffusion.load``.
        card_fields: ``fields(read, pipeline)``, as "module:function"; see ``pipelines.models.families.card_fields``.
        pipelines: diffusers' pipeline classes whose folders are of this family.
        own_loop: whether its models bring their own denoising loop (``Model.own_loop``).
        xformers: whether diffusers has attention processors of xformers for it.
        controlnet: the kind of its ControlNets, sd or sdxl, or "" for none.
        upcast_vae: whether its autoencoder overflows in float16 if its configuration has ``force_upcast``.
        prompt_weights: whether its models read weights in prompts (``Model.supports_prompt_weights``).
    """

    loader: str
    card_fields: str
    pipelines: tuple[str, ...]
    own_loop: bool = False
    xformers: bool = False
    controlnet: str = ""
    upcast_vae: bool = False
    prompt_weights: bool = False


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "stable_diffusion": Family(
            loader=f"{_FOLDER}.stable_diffusion:load",
            card_fields=f"{_FOLDER}.card_fields:stable_diffusion",
            pipelines=(
                "StableDiffusionPipeline",
                "StableDiffusionImg2ImgPipeline",
                "StableDiffusionInpaintPipeline",
                "LatentConsistencyModelPipeline",
                "LatentConsistencyModelImg2ImgPipeline",
            ),
            xformers=True,
            controlnet="sd",
            prompt_weights=True,
        ),
        "stable_diffusion_xl": Family(
            loader=f"{_FOLDER}.stable_diffusion_xl:load",
            card_fields=f"{_FOLDER}.card_fields:stable_diffusion",
            pipelines=(
                "StableDiffusionXLPipeline",
                "StableDiffusionXLImg2ImgPipeline",
                "StableDiffusionXLInpaintPipeline",
            ),
            xformers=True,
            controlnet="sdxl",
            prompt_weights=True,
            upcast_vae=True,
        ),
        "stable_diffusion_3": Family(
            loader=f"{_FOLDER}.stable_diffusion_3:load",
            card_fields=f"{_FOLDER}.card_fields:stable_diffusion_3",
            pipelines=("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"),
            xformers=True,
        ),
        "flux": Family(
            loader=f"{_FOLDER}.flux:load",
            card_fields=f"{_FOLDER}.card_fields:flux",
            pipelines=("FluxPipeline", "FluxImg2ImgPipeline"),
        ),
        # The key stands in catalogues and users' files.
        "any": Family(
            loader=f"{_FOLDER}.generic:load",
            card_fields=f"{_FOLDER}.card_fields:generic",
            pipelines=_GENERIC_PIPELINES,
            own_loop=True,
        ),
    }
)
_UNKNOWN = Family("", "", ())


def family_of(card: ModelCard) -> Family:
    """The record of a card's family; an empty one for a name that is not in ``FAMILIES``."""
    return FAMILIES.get(card.family, _UNKNOWN)


def family_of_pipeline(pipeline: object) -> str:
    """The family of a pipeline class of diffusers by its name, "" if none runs it."""
    return next((name for name, family in FAMILIES.items() if pipeline in family.pipelines), "")


def loader(family: str) -> Callable[[ModelCard, Placement, Report], Model]:
    """The function that loads models of a family.

    Raises:
        CannotLoad: if no family has this name.
    """
    if family not in FAMILIES:
        raise CannotLoad(f"The model family is {family!r}; allowed: {', '.join(FAMILIES)}.")
    return _function(FAMILIES[family].loader)


def read_card_fields(family: str, read: Callable[..., Mapping[str, Any]], pipeline: str) -> dict[str, Any]:
    """What a card says of a model, read from the configuration files of its diffusers folder; nothing is loaded.

    Args:
        family: key of ``FAMILIES``.
        read: reads a JSON file of the folder by its path in it; with ``optional=True`` a missing one is empty.
        pipeline: the folder's pipeline class.
    """
    return _function(FAMILIES[family].card_fields)(read, pipeline)


def _function(path: str) -> Callable[..., Any]:
    module, name = path.split(":")
    return getattr(import_module(module), name)
