"""AdapterResolver: finds what a request adds to a model by name, and applies it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pipelines.models import adapters
from pipelines.models.adapters import controlnet, ip_adapter, lora, textual_inversion
from pipelines.models.adapters.files import AdapterFiles
from pipelines.models.offloading.spread import gathered, spread_of
from pipelines.prompt.tags import embedding_names
from pipelines.request import prompt_fields
from pipelines.system.building import BUILDING
from pipelines.system.fingerprint import stamp

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.cards import ModelCard
    from pipelines.images.uploads import UploadStore
    from pipelines.model import Model
    from pipelines.models.adapters.controlnet import ControlNetFile
    from pipelines.models.adapters.ip_adapter import IPAdapterFile
    from pipelines.models.adapters.lora import LoraFile
    from pipelines.models.adapters.textual_inversion import EmbeddingFile
    from pipelines.request import Control, GenerationRequest


class AdapterResolver:
    """The files that requests may name, of every kind in ``ADAPTERS``; a missing one is refused before a run begins.

    Args:
        folders: where they are looked for.
        uploads: the pictures that requests name.
    """

    def __init__(self, folders: Sequence[Path], uploads: UploadStore) -> None:
        readers = [adapter.read for adapter in adapters.ADAPTERS.values() if adapter.read is not None]
        self._files = AdapterFiles(folders, uploads, readers)
        # What was applied to each model last, by its denoiser.
        self._applied: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()

    def loras(self) -> tuple[LoraFile, ...]:
        """The LoRAs that requests may name; looks at the disk."""
        return self._files.all(lora.scan)

    def ip_adapters(self) -> tuple[IPAdapterFile, ...]:
        """The IP-Adapters that requests may name; looks at the disk."""
        return self._files.all(ip_adapter.scan)

    def controlnets(self) -> tuple[ControlNetFile, ...]:
        """The ControlNets that requests may name; looks at the disk."""
        return self._files.all(controlnet.scan)

    def embeddings(self) -> tuple[EmbeddingFile, ...]:
        """The textual inversion embeddings that prompts may name; looks at the disk."""
        return self._files.all(textual_inversion.scan)

    def paths(self, request: GenerationRequest) -> dict[str, Path]:
        """The files of the adapters that a request names, by these names; those that are not here are left out."""
        names = [lora.name for lora in request.loras]
        found: list[Any] = [self._files.find(lora.scan, name) for name in names]
        found += [self._files.find(controlnet.scan, control.net) for control in request.controls]
        if request.reference is not None:
            found.append(self._files.find(ip_adapter.scan, request.reference.adapter))
        return {file.name: file.path for file in found if file is not None}

    def files(self, request: GenerationRequest) -> list[Path]:
        """The files of everything that a request adds to its model, embeddings included."""
        words = embedding_names(*(text for _, text in prompt_fields(request)))
        found = [self._files.find(textual_inversion.scan, name) for name in words]
        return [*self.paths(request).values(), *(file.path for file in found if file is not None)]

    def notes(self, request: GenerationRequest) -> tuple[str, ...]:
        """What is not certain of what a request adds to a model, one sentence each."""
        found = [self._files.find(lora.scan, each.name) for each in request.loras]
        return tuple(dict.fromkeys(file.note for file in found if file is not None and file.note))

    def control_map(self, control: Control, width: int, height: int, device: str = "cpu") -> Image.Image:
        """The map that a ControlNet sees, RGB of this size, made on a device of torch; raises InvalidRequest."""
        with BUILDING:
            return self._files.control_maps.get(control, width, height, device)

    def check(self, card: ModelCard, request: GenerationRequest) -> None:
        """Raise InvalidRequest if the request names files that are missing or not for this model."""
        self._files.look_again()
        for adapter in adapters.ADAPTERS.values():
            adapter.check(card, request, self._files)

    def apply(self, model: Model, request: GenerationRequest) -> None:
        """Give a loaded model exactly what the request names.

        Raises:
            InvalidRequest: if a file is missing, or not for this model.
        """
        self._files.look_again()
        with BUILDING, self._changing(model, self._layers(request)):
            for adapter in adapters.ADAPTERS.values():
                adapter.apply(model, request, self._files)

    def remove(self, model: Model) -> None:
        """Leave a loaded model as it is by itself."""
        with self._changing(model, ()):
            for adapter in adapters.ADAPTERS.values():
                adapter.remove(model)

    def _layers(self, request: GenerationRequest) -> tuple[Any, ...]:
        """What of a request adds networks, layers or words to a model, with the versions of its files."""
        words = embedding_names(*(text for _, text in prompt_fields(request)))
        versions = tuple((name, stamp(path)) for name, path in sorted(self.paths(request).items()))
        embeddings = tuple(self._files.find(textual_inversion.scan, name) for name in words)
        versions += tuple((file.name, stamp(file.path)) for file in embeddings if file is not None)
        nets = tuple(control.net for control in request.controls)
        return (request.loras, words, nets, request.reference.adapter if request.reference else "", versions)

    @contextmanager
    def _changing(self, model: Model, layers: tuple[Any, ...]) -> Iterator[None]:
        """Gather a streamed model in RAM while adapters are put on or taken off, unless it has these already."""
        if not spread_of(model.placement):
            yield
            return
        key = (model.card.id, layers)
        changes = self._applied.get(model.denoiser) != key
        self._applied.pop(model.denoiser, None)
        with gathered(model, changes):
            yield
        self._applied[model.denoiser] = key
