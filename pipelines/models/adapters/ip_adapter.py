"""IP-Adapter: a UNet that follows a picture as it follows a prompt (Ye et al. 2023, arXiv:2308.06721).

The picture's features go through cross-attention layers of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models.adapters.adapter import Adapter
from pipelines.models.adapters.folders import AdapterFolders, named, prompt_name
from pipelines.models.offloading import spread as offloading
from pipelines.request import InvalidRequest
from pipelines.sampling.conditioning import IPAdapterInput
from pipelines.system.bounded_json import read_json_file
from pipelines.system.fingerprint import stamp
from pipelines.system.gpu.out_of_memory import out_of_memory
from pipelines.system.local_references import refuse_outside_references
from pipelines.system.lru import LruDict
from pipelines.system.safetensors_header import SafetensorsHeader
from pipelines.system.text import first_line

if TYPE_CHECKING:
    import torch

    from pipelines.cards import ModelCard
    from pipelines.model import Model, Placement
    from pipelines.models.adapters.files import AdapterFiles
    from pipelines.request import GenerationRequest

# Image prompts whose features are kept.
REMEMBERED = 8
# Where the image encoder lies in the repositories that these files come from, seen from the file.
_ENCODERS = ("image_encoder", "../image_encoder", "../models/image_encoder")
# Per kind of file: the tensor whose width tells which image encoder it was made with, and that encoder's word for it.
_WIDTHS = {
    "image_proj.proj.weight": "projection_dim",
    "image_proj.proj_in.weight": "hidden_size",
    "image_proj.proj.0.weight": "hidden_size",
}
_FACE = ".to_k_lora."


@dataclass(frozen=True)
class IPAdapterFile:
    """An IP-Adapter on this machine.

    Attributes:
        name: of the file as requests say it (``folders.prompt_name``).
        path: where it is.
        encoder: folder of the image encoder that it was made with.
        width: of the text that its UNet reads (768 for Stable Diffusion 1.x, 2048 for XL), 0 if it does not tell.
        wants: width of the image encoder that it was made with, and its word for it.
    """

    name: str
    path: Path
    encoder: Path
    width: int = 0
    wants: tuple[int, str] = (0, "")


def scan(folders: AdapterFolders) -> dict[str, IPAdapterFile]:
    """Every IP-Adapter below the folders whose image encoder is there too, by name."""
    found = ((file, _encoder(file)) for file in folders.read(read))
    return named(replace(file, encoder=encoder) for file, encoder in found if encoder is not None)


def read(path: Path, header: SafetensorsHeader) -> IPAdapterFile | None:
    """What a file's own header says; None if it is no IP-Adapter, or one that needs more than an image encoder."""
    tensors = header.tensors
    if any(_FACE in name for name in tensors):
        return None
    keys = [name for name in tensors if name.startswith("ip_adapter.") and name.endswith(".to_k_ip.weight")]
    wants = next(((_shape(tensors, name)[-1], word) for name, word in _WIDTHS.items() if name in tensors), None)
    if not keys or wants is None:
        return None
    return IPAdapterFile(prompt_name(path), path, path.parent, _shape(tensors, keys[0])[-1], wants)


def _encoder(file: IPAdapterFile) -> Path | None:
    """The image encoder of the right width that lies near a file."""
    path, (width, word) = file.path, file.wants
    for place in _ENCODERS:
        folder = Path(os.path.realpath(path.parent / place))  # also of a link to itself, which ``resolve`` refuses
        try:
            config = read_json_file(folder / "config.json")
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and config.get(word) == width and any(folder.glob("*.safetensors")):
            return folder
    return None


def _shape(header: Mapping[str, Any], name: str) -> Sequence[int]:
    shape = header[name].get("shape") if isinstance(header[name], dict) else None
    return shape if isinstance(shape, list) and shape else [0]


def resolve(request: GenerationRequest, files: AdapterFiles) -> IPAdapterInput | None:
    """The image prompt of a request with its file and picture; raises InvalidRequest if one is missing."""
    prompt = request.reference
    if prompt is None:
        return None
    file = files.find(scan, prompt.adapter)
    if file is None:
        reason = files.refusal(prompt.adapter, "IP-Adapter")
        raise InvalidRequest("reference", f"{reason}; choose another, or leave it out.")
    return IPAdapterInput(file.path, file.encoder, prompt.image, files.uploads.get(prompt.image), prompt.weight)


def _check(card: ModelCard, request: GenerationRequest, files: AdapterFiles) -> None:
    resolve(request, files)


def _apply(model: Model, request: GenerationRequest, files: AdapterFiles) -> None:
    model.set_ip_adapter(resolve(request, files))


def _remove(model: Model) -> None:
    model.set_ip_adapter(None)


ADAPTER = Adapter(_check, _apply, _remove, read)


class IPAdapterSlot:
    """Applies one IP-Adapter to a UNet and removes it again, bit for bit; shared by all cards of a model."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        # The file that is applied, and what changes when it is replaced.
        self._file: tuple[Path, Any] | None = None
        self._before: tuple[Any, ...] = ()
        self._encoded: LruDict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = LruDict(REMEMBERED)
        self._now: tuple[torch.Tensor, torch.Tensor] | None = None
        self._encoder: tuple[tuple[Any, ...], Any] | None = None

    def set(self, prompt: IPAdapterInput | None, placement: Placement, model_name: str) -> bool:
        """Apply this image prompt, or none; whether anything changed.

        Raises:
            InvalidRequest: if the file or its image encoder is not for this model; then none is applied.
        """
        if prompt is None:
            return self.remove()
        try:
            file = (prompt.path, stamp(prompt.path))
            if file != self._file:
                self.remove()
                self._attach(prompt.path)
                self._file = file
            self._set_weight(prompt.weight)
            self._now = self._features(prompt, placement)
        except Exception as error:
            self.remove()
            if isinstance(error, InvalidRequest) or out_of_memory(error):
                raise
            raise _refusal(prompt.path, model_name, error) from error
        return True

    def features(self, negative: bool) -> torch.Tensor | None:
        """Features of the image prompt, (1, images, ...), or those of no image for the negative prompt."""
        return None if self._now is None else self._now[1 if negative else 0]

    def remove(self) -> bool:
        """Remove the adapter: the UNet is then what it was."""
        if self._file is None and not self._before:
            return False
        processors, projection, kind = self._before
        self._unet.encoder_hid_proj = projection
        self._unet.config.encoder_hid_dim_type = kind
        self._unet.set_attn_processor(dict(processors))
        self._file, self._before, self._now = None, (), None
        return True

    def _attach(self, path: Path) -> None:
        from safetensors.torch import load_file

        unet = self._unet
        state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in load_file(path).items():
            part, _, rest = name.partition(".")
            if part in state:
                state[part][rest] = tensor
        self._before = (dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type)
        if any(type(one).__name__ == "SlicedAttnProcessor" for one in unet.attn_processors.values()):
            # The loader makes new ones of the classes that it finds, and cannot make this one.
            unet.set_default_attn_processor()
        unet._load_ip_adapter_weights([state], low_cpu_mem_usage=True)

    def _image_encoder(self, folder: Path, placement: Placement) -> Any:
        """The image encoder, read once; it waits in RAM, for it is as large as a small model and rarely needed."""
        import torch
        from transformers import CLIPVisionModelWithProjection

        from pipelines.models.checkpoints.weights import load_network

        key = (folder, stamp(folder), placement.dtype)
        if self._encoder is None or self._encoder[0] != key:
            self._encoder = None
            refuse_outside_references(folder)
            encoder = load_network(
                CLIPVisionModelWithProjection, folder, local_files_only=True, use_safetensors=True,
                dtype=getattr(torch, placement.dtype),
            )  # fmt: skip
            how = "" if placement.kind == "cpu" else offloading.WAIT
            offloading.place(encoder, placement, how, in_loop=False)
            self._encoder = key, encoder
        return self._encoder[1]

    def _set_weight(self, weight: float) -> None:
        for processor in self._unet.attn_processors.values():
            if isinstance(getattr(processor, "scale", None), list):
                processor.scale = [weight]

    def _features(self, prompt: IPAdapterInput, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        """The features of the image prompt and of no image: one vector, or one a patch for "plus" files."""
        from diffusers.models import ImageProjection

        fine = not isinstance(self._unet.encoder_hid_proj.image_projection_layers[0], ImageProjection)
        key = (prompt.encoder, stamp(prompt.encoder), prompt.key, fine)
        if key not in self._encoded:
            self._encoded[key] = _encode_image(self._image_encoder(prompt.encoder, placement), prompt, placement, fine)
        device, dtype = placement.device, self._unet.dtype
        found, none = (rows.to(device, dtype)[None] for rows in self._encoded[key])
        return found, none


def _refusal(path: Path, model_name: str, error: Exception) -> InvalidRequest:
    """Why an IP-Adapter cannot be put onto a model."""
    from pipelines.models.checkpoints.weights import is_unreadable

    reason = first_line(error, str(path))
    if is_unreadable(error):
        text = f"The IP-Adapter {path.stem} or its image encoder cannot be read ({reason}); copy or download it again."
    else:
        text = (
            f"The IP-Adapter {path.stem} cannot be used with {model_name} ({reason}); it is probably made for another "
            "kind of model, so choose another one."
        )
    return InvalidRequest("reference", text)


def _encode_image(
    encoder: Any, prompt: IPAdapterInput, placement: Placement, fine: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch
    from transformers import CLIPImageProcessor

    side = encoder.config.image_size
    pixels = CLIPImageProcessor(size=side, crop_size=side)(
        prompt.image.convert("RGB"), return_tensors="pt"
    ).pixel_values
    pixels = pixels.to(placement.device, encoder.dtype)
    with torch.inference_mode():
        if not fine:
            found = encoder(pixels).image_embeds
            return found.cpu(), torch.zeros_like(found).cpu()
        found, none = (
            encoder(rows, output_hidden_states=True).hidden_states[-2] for rows in (pixels, torch.zeros_like(pixels))
        )
        return found.cpu(), none.cpu()
