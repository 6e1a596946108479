"""ControlNet: networks that see a map and add to what a UNet computes (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.folders import CONFIG, AdapterFolders, named, prompt_name
from pipelines.models.families import family_of
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import Conditioning, ControlNetConditioning, ControlNetInput
from pipelines.system.bounded_json import read_json_file
from pipelines.system.building import BUILDING
from pipelines.system.fingerprint import stamp
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.local_references import refuse_outside_references
from pipelines.system.safetensors_header import SafetensorsHeader
from pipelines.system.text import first_line

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.model import Model, Placement
    from pipelines.models.adapters.files import AdapterFiles
    from pipelines.request import Control, GenerationRequest

# What a ControlNet and its UNet have in common.
_COMMON_CONFIG = ("in_channels", "cross_attention_dim", "block_out_channels", "addition_embed_type")
# Names of weights that only a ControlNet has: as its first makers had them, and as diffusers has them.
_ONLY_IN_CONTROLNETS = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
_PREFIX = "control_model."
_XL = ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
# Words in names that tell what a ControlNet wants to be given.
_KINDS = {"canny": "canny", "depth": "depth", "openpose": "pose", "pose": "pose"}


@dataclass(frozen=True)
class ControlNetFile:
    """A ControlNet on this machine.

    Attributes:
        name: of its folder or file as requests say it (``folders.prompt_name``).
        path: a diffusers folder, or a single safetensors file.
        xl: whether it is for Stable Diffusion XL.
        kind: what it was trained on as far as its name tells (canny, depth or pose), else "".
    """

    name: str
    path: Path
    xl: bool = False
    kind: str = ""


def scan(folders: AdapterFolders) -> dict[str, ControlNetFile]:
    """Every ControlNet below the folders, by name; no weight is read."""
    single = (file for file in folders.read(read) if not (file.path.parent / CONFIG).is_file())
    return named([*filter(None, map(_of_folder, folders.configs())), *single])


def read(path: Path, header: SafetensorsHeader) -> ControlNetFile | None:
    """What a single file's own header says; None if it is no ControlNet."""
    names = {name.removeprefix(_PREFIX) for name in header.tensors}
    if not names & set(_ONLY_IN_CONTROLNETS):
        return None
    return ControlNetFile(prompt_name(path), path, bool(names & set(_XL)), _kind(path.stem))


def _of_folder(config: Path) -> ControlNetFile | None:
    try:
        values: Any = read_json_file(config)
    except (OSError, ValueError):
        return None
    folder = config.parent
    if not isinstance(values, Mapping) or values.get("_class_name") != "ControlNetModel":
        return None
    if not any(folder.glob("*.safetensors")):
        return None
    return ControlNetFile(
        prompt_name(folder), folder, values.get("addition_embed_type") == "text_time", _kind(folder.name)
    )


def _kind(name: str) -> str:
    return next((kind for word, kind in _KINDS.items() if word in name.lower()), "")


def _find(control: Control, files: AdapterFiles) -> ControlNetFile:
    file = files.find(scan, control.net)
    if file is None:
        reason = files.refusal(control.net, "ControlNet")
        raise InvalidRequest("controls", f"{reason}; choose another, or leave it out.")
    return file


def _check(card: ModelCard, request: GenerationRequest, files: AdapterFiles) -> None:
    for control in request.controls:
        file = _find(control, files)
        if file.xl != (family_of(card).controlnet == "sdxl"):
            raise InvalidRequest("controls", f"The ControlNet {file.name} is not for {card.name}; choose another one.")
        files.uploads.get(control.image)
        if reason := files.control_maps.problem(control.kind):
            raise InvalidRequest("controls", reason)


def _apply(model: Model, request: GenerationRequest, files: AdapterFiles) -> None:
    model.set_controlnets(
        [
            ControlNetInput(
                _find(control, files).path,
                files.control_maps.get(control, request.width, request.height, model.placement.device),
                control.weight,
                control.start,
                control.end,
            )
            for control in request.controls
        ]
    )


def _remove(model: Model) -> None:
    model.set_controlnets(())


ADAPTER = Adapter(_check, _apply, _remove, read)


class ControlNets:
    """The ControlNets that are applied to a model, shared by all its cards."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        # By file or folder, and what changes when it is replaced.
        self._nets: dict[tuple[Path, Any], Any] = {}
        self.controls: tuple[ControlNetConditioning, ...] = ()

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The networks, by names that no part of a model has."""
        return {f"controlnet_{k}": net for k, net in enumerate(self._nets.values())}

    def set(self, inputs: Sequence[ControlNetInput], placement: Placement, model_name: str) -> None:
        """Apply exactly these in the next run; the networks of others are dropped.

        Raises:
            InvalidRequest: if one is not for this model; then there are none.
        """
        self.controls = ()
        keys = [(one.path, stamp(one.path)) for one in inputs]
        self._nets = {key: net for key, net in self._nets.items() if key in keys}
        for key in keys:
            if key not in self._nets:
                self._nets[key] = self._load(key[0], placement, model_name)
        self.controls = tuple(
            ControlNetConditioning(
                self._nets[key], _to_tensor(one.image, self._unet, placement), one.weight, one.start, one.end
            )
            for key, one in zip(keys, inputs, strict=True)
        )

    def _load(self, path: Path, placement: Placement, model_name: str) -> Any:
        from pipelines.models.checkpoints.weights import is_unreadable

        try:
            net = _load_network(path, self._unet)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = first_line(error, str(path))
            if is_unreadable(error):
                text = f"The ControlNet {path.stem} cannot be read ({reason}); copy or download it again."
            else:
                text = (
                    f"The ControlNet {path.stem} cannot be used with {model_name} ({reason}); it is probably made for "
                    "another kind of model, so choose another one."
                )
            raise InvalidRequest("controls", text) from error
        ours = self._unet.config
        differs = next((name for name in _COMMON_CONFIG if not _is_same(net.config[name], ours[name], name)), "")
        if differs or net.config.global_pool_conditions:
            raise InvalidRequest(
                "controls",
                f"The ControlNet {path.stem} is made for another kind of model than {model_name}; choose another one.",
            )
        from pipelines.models.components import use_attention

        net = net.to(self._unet.device, self._unet.dtype).eval().requires_grad_(False)
        use_attention(net, placement)
        return net


def controlnet_residuals(
    x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, added: dict[str, Any] | None
) -> dict[str, Any]:
    """The sums of what all ControlNets active in this step add, as arguments of the UNet; {} without any.

    Args:
        x: the UNet's input without a mask, (n, c, h, w).
        t: timestep.
        conditioning: the prompts, and the ControlNets with their maps.
        added: the UNet's further conditioning (``added_cond_kwargs``).
    """
    down: Any = None
    middle: Any = None
    for control in conditioning.controls:
        more, mid = control.controlnet(
            x,
            t,
            encoder_hidden_states=conditioning.prompt_embeds,
            controlnet_cond=control.image.expand(len(x), -1, -1, -1),
            conditioning_scale=control.weight,
            added_cond_kwargs=added,
            return_dict=False,
        )
        down = more if down is None else [a + b for a, b in zip(down, more, strict=True)]
        middle = mid if middle is None else middle + mid
    if down is None:
        return {}
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def _to_tensor(image: Image.Image, unet: Any, placement: Placement) -> torch.Tensor:
    """A map as (1, 3, h, w), 0 to 1."""
    import numpy as np
    import torch

    pixels = np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)[None] / 255
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(placement.device, unet.dtype)


def _load_network(path: Path, unet: Any) -> Any:
    """A ControlNet from its folder, or from a single file with the configuration that its UNet implies."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
    from safetensors.torch import load_file

    from pipelines.models.checkpoints.weights import load_network

    if path.is_dir():
        refuse_outside_references(path)
        has_plain = (path / "diffusion_pytorch_model.safetensors").is_file()
        has_plain = has_plain or any(path.glob("diffusion_pytorch_model.safetensors.index.json"))
        variant = None if has_plain else "fp16"
        return load_network(ControlNetModel, path, local_files_only=True, use_safetensors=True, variant=variant)
    weights = convert_controlnet_checkpoint(load_file(path), dict(unet.config))
    with BUILDING:
        net = ControlNetModel.from_unet(_plain(unet, weights), load_weights_from_unet=False)
    net.load_state_dict(weights)
    return net


def _plain(unet: Any, weights: Mapping[str, Any]) -> Any:
    """What a UNet's ControlNets are made from: it sees the latents alone, and no picture by an IP-Adapter."""
    config = {**unet.config, "in_channels": weights["conv_in.weight"].shape[1]}
    if config.get("encoder_hid_dim_type") == "ip_image_proj":
        config["encoder_hid_dim_type"] = None
    return SimpleNamespace(config=type(unet.config)(config))


def _is_same(theirs: Any, ours: Any, name: str) -> bool:
    # An inpainting UNet sees more channels; its ControlNets see the latents alone.
    if name == "in_channels":
        return ours in (theirs, 2 * theirs + 1)
    return (tuple(theirs) if isinstance(theirs, list) else theirs) == (tuple(ours) if isinstance(ours, list) else ours)
