"""What a request adds to a model by name: LoRAs, learnt words, ControlNets with their maps, an IP-Adapter's picture.

Files are found by name in a few folders; a name that is not there is refused before a run begins.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import adapters, annotators, controlnets, embeddings, geometry, loras
from pipelines.conditioning import Controlled, Followed
from pipelines.request import Control, GenerationRequest, InvalidRequest, named_embeddings

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.adapters import AdapterFile
    from pipelines.cards import ModelCard
    from pipelines.controlnets import ControlFile
    from pipelines.embeddings import EmbeddingFile
    from pipelines.loras import LoraFile
    from pipelines.uploads import Inputs

# Maps that are kept, for one is looked at before the run that uses it.
KEEP_MAPS = 16


class Extras:
    """The files that requests may name, and what becomes of them on a model.

    Args:
        folders: where they are looked for.
        inputs: the pictures that requests name.
    """

    def __init__(self, folders: Sequence[Path], inputs: Inputs) -> None:
        self._folders, self._inputs = tuple(folders), inputs
        self._loras: Mapping[str, LoraFile] = {}
        self._words: Mapping[str, EmbeddingFile] = {}
        self._adapters: Mapping[str, AdapterFile] = {}
        self._nets: Mapping[str, ControlFile] = {}
        self._maps: OrderedDict[tuple[Any, ...], Image.Image] = OrderedDict()
        self._lock = threading.Lock()  # guards the maps

    # Each of these looks anew.

    def loras(self) -> tuple[LoraFile, ...]:
        """The LoRAs that requests may name."""
        self._loras = loras.scan(self._folders)
        return tuple(self._loras.values())

    def adapters(self) -> tuple[AdapterFile, ...]:
        """The IP-Adapters that requests may name."""
        self._adapters = adapters.scan(self._folders)
        return tuple(self._adapters.values())

    def controls(self) -> tuple[ControlFile, ...]:
        """The ControlNets that requests may name."""
        self._nets = controlnets.scan(self._folders)
        return tuple(self._nets.values())

    def map_of(self, control: Control, width: int, height: int) -> Image.Image:
        """The map that a ControlNet is shown, RGB of this size.

        Raises:
            InvalidRequest: if the picture is gone, or nothing here can make such a map.
        """
        key = (control.image, control.kind, width, height)
        with self._lock:
            if key in self._maps:
                return self._maps[key]
        fitted = geometry.fit(self._inputs.get(control.image), width, height, "crop")
        found = annotators.make(control.kind, fitted, self._folders)
        with self._lock:
            self._maps[key] = found
            while len(self._maps) > KEEP_MAPS:
                self._maps.popitem(last=False)
        return found

    def why_no_map(self, kind: str) -> str:
        """Why a map of this kind cannot be made here, or ""."""
        return annotators.problem(kind, self._folders)

    def check(self, card: ModelCard, request: GenerationRequest) -> None:
        """Raise InvalidRequest if the request names what is not here or not for this model."""
        self._worn(request)
        self._learnt(request)
        self._followed(request)
        for wish in request.controls:
            file = self._net(wish)
            if file.xl != (card.family == "stable_diffusion_xl"):
                raise InvalidRequest(f"The ControlNet {file.name} is not for {card.name}; choose another one.")
            self._inputs.get(wish.image)
            if reason := self.why_no_map(wish.kind):
                raise InvalidRequest(reason)

    def put_on(self, model: Any, request: GenerationRequest) -> None:
        """Give a loaded model exactly what the request names.

        Raises:
            InvalidRequest: if a file is gone, or not for this model.
        """
        model.wear(self._worn(request))
        model.learn(self._learnt(request))
        model.follow(self._followed(request))
        model.control([self._controlled(wish, request) for wish in request.controls])

    @staticmethod
    def take_off(model: Any) -> None:
        """Leave a loaded model as it is by itself; words that it learnt do no harm and stay."""
        model.wear(())
        model.follow(None)
        model.control(())

    def _worn(self, request: GenerationRequest) -> list[tuple[str, str, float]]:
        """The files of the request's LoRAs: folder, file, weight."""
        if any(lora.name not in self._loras for lora in request.loras):
            self.loras()
        for lora in request.loras:
            if lora.name not in self._loras:
                name = _short(lora.name)
                raise InvalidRequest(f"prompt names the LoRA {name}, which is not here; take its mark out.")
        files = [(self._loras[lora.name].path, lora.weight) for lora in request.loras]
        return [(str(path.parent), path.name, weight) for path, weight in files]

    def _learnt(self, request: GenerationRequest) -> dict[str, Path]:
        """The files of the words that the request's texts name."""
        blend = request.interpolation
        texts = (request.prompt, request.negative_prompt, (blend and blend.prompt) or "")
        names = named_embeddings(*texts)
        if any(name not in self._words for name in names):
            self._words = embeddings.scan(self._folders)
        for name in names:
            if name not in self._words:
                raise InvalidRequest(f"prompt names the word {_short(name)}, which is not here; take its mark out.")
        return {name: self._words[name].path for name in names}

    def _followed(self, request: GenerationRequest) -> Followed | None:
        """The picture that a request follows."""
        wish = request.reference
        if wish is None:
            return None
        if wish.adapter not in self._adapters:
            self.adapters()
        if wish.adapter not in self._adapters:
            name = _short(wish.adapter)
            raise InvalidRequest(f"There is no IP-Adapter {name} here; choose another, or leave it out.")
        file = self._adapters[wish.adapter]
        return Followed(file.path, file.encoder, wish.image, self._inputs.get(wish.image), wish.weight)

    def _net(self, wish: Control) -> ControlFile:
        if wish.net not in self._nets:
            self.controls()
        if wish.net not in self._nets:
            raise InvalidRequest(f"There is no ControlNet {_short(wish.net)} here; choose another, or leave it out.")
        return self._nets[wish.net]

    def _controlled(self, wish: Control, request: GenerationRequest) -> Controlled:
        image = self.map_of(wish, request.width, request.height)
        return Controlled(self._net(wish).path, image, wish.weight, wish.start, wish.end)


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:37] + "...")
