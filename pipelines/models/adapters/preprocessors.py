"""Maps for ControlNets, made from a picture: edges by arithmetic, depth and pose by models on this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipelines.images import geometry
from pipelines.models.adapters.folders import AdapterFolders
from pipelines.request import InvalidRequest
from pipelines.system.bounded_json import read_json_file
from pipelines.system.fingerprint import stamp
from pipelines.system.gpu.graphics_card import MPS, hand_back
from pipelines.system.local_references import refuse_outside_references
from pipelines.system.lru import LruDict
from pipelines.system.text import first_line

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from pipelines.images.uploads import UploadStore
    from pipelines.request import Control

log = logging.getLogger(__name__)

MAP, CANNY, DEPTH, POSE = KINDS = ("map", "canny", "depth", "pose")
# What a model that makes a map calls itself, by the end of its class's name.
_ARCHITECTURES = {DEPTH: "ForDepthEstimation", POSE: "VitPoseForPoseEstimation"}
KEEP_MAPS = 16
# Gradients of an 8-bit picture: an edge begins at HIGH and goes on down to LOW.
LOW, HIGH, BLUR = 100.0, 200.0, 1.4
# COCO's 17 joints: 0 nose, 1-4 eyes and ears, 5-10 arms, 11-16 legs, left before right; 17 is the neck, between the
# shoulders.  Limbs and colours as ControlNets for poses know them (OpenPose; Cao et al. 2018, arXiv:1812.08008).
_LIMBS = (
    (17, 6), (17, 5), (6, 8), (8, 10), (5, 7), (7, 9), (17, 12), (12, 14), (14, 16), (17, 11), (11, 13), (13, 15),
    (17, 0), (0, 2), (2, 4), (0, 1), (1, 3),
)  # fmt: skip
_SURE = 0.3


class ControlMaps:
    """The maps of uploaded pictures that ControlNets see; the last few are kept for a run after its preview.

    Args:
        folders: where models that find depth and poses are looked for.
        uploads: the pictures.
    """

    def __init__(self, folders: Sequence[Path], uploads: UploadStore) -> None:
        self._folders, self._uploads = folders, uploads
        self._maps: LruDict[tuple[Any, ...], Image.Image] = LruDict(KEEP_MAPS)
        self._lock = threading.Lock()

    def get(self, control: Control, width: int, height: int, device: str = "cpu") -> Image.Image:
        """The map that a ControlNet sees, RGB of this size.

        Args:
            control: names the picture and the kind of map.
            width, height: of the map.
            device: of torch, where a model that makes it computes if there is room.

        Raises:
            InvalidRequest: if the picture is gone, or such a map cannot be made on this machine.
        """
        model = _model(control.kind, self._folders) if control.kind in _ARCHITECTURES else None
        key = (control.image, control.kind, width, height, model and (model, stamp(model)))
        with self._lock:
            if key in self._maps:
                return self._maps[key]
        fitted = geometry.fit(self._uploads.get(control.image), width, height, "crop")
        found = make(control.kind, fitted, self._folders, device)
        with self._lock:
            self._maps[key] = found
        return found

    def problem(self, kind: str) -> str:
        """Why a map of this kind cannot be made on this machine, or ""."""
        return problem(kind, self._folders)


def problem(kind: str, folders: Sequence[Path]) -> str:
    """Why a map of this kind cannot be made here and what to do, or ""."""
    if kind not in _ARCHITECTURES or _model(kind, folders) is not None:
        return ""
    what = {DEPTH: "a depth model such as Depth Anything", POSE: "a pose model such as ViTPose"}[kind]
    return (
        f"Nothing here finds {kind} in a picture: put {what} (its folder, with safetensors) into the folder annotators "
        "of your data folder, or give a finished map."
    )


def make(kind: str, image: Image.Image, folders: Sequence[Path], device: str = "cpu") -> Image.Image:
    """The map of a picture, RGB of its size.

    Args:
        kind: map (it is one already), canny, depth or pose.
        image: RGB.
        folders: where models are looked for.
        device: of torch, where a model computes if there is room.

    Raises:
        InvalidRequest: if nothing here can make it.
    """
    if reason := problem(kind, folders):
        raise InvalidRequest("controls", reason)
    if kind == CANNY:
        return canny(image)
    if kind in _ARCHITECTURES and (folder := _model(kind, folders)) is not None:
        return {DEPTH: _depth, POSE: _pose}[kind](image, folder, device)
    return image.convert("RGB")


def canny(image: Image.Image, low: float = LOW, high: float = HIGH) -> Image.Image:
    """Edges, white on black (Canny 1986, doi:10.1109/TPAMI.1986.4767851).

    Args:
        image: any picture.
        low, high: an edge begins where the gradient of the 8-bit grey values is at least ``high``, and goes on along
            its ridge as long as it is at least ``low``.
    """
    import numpy as np
    from PIL import Image
    from scipy import ndimage

    grey = ndimage.gaussian_filter(np.asarray(image.convert("L"), dtype=np.float32), BLUR)
    across, down = ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=0)
    strength = np.hypot(across, down)
    ridge = np.where(_is_ridge(strength, across, down), strength, 0)
    parts, _ = ndimage.label(ridge >= low, structure=np.ones((3, 3)))
    begun = np.unique(parts[ridge >= high])
    edges = np.isin(parts, begun[begun > 0])
    return Image.fromarray((edges * 255).astype(np.uint8)).convert("RGB")


def _is_ridge(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Where the gradient is at least as strong as at both neighbours in its own direction, of four."""
    import numpy as np

    around = np.pad(strength, 1)
    h, w = strength.shape
    angle = np.round(np.arctan2(down, across) / (np.pi / 4)).astype(int) % 4
    ridge = np.zeros(strength.shape, bool)
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = around[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        behind = around[1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w]
        # One of two equal neighbours is enough, or flat ridges would be two pixels wide.
        ridge |= (angle == number) & (strength > ahead) & (strength >= behind)
    return ridge


def _model(kind: str, folders: Sequence[Path]) -> Path | None:
    """The first folder with a model that makes maps of this kind."""
    for config in AdapterFolders(folders).configs():
        if _makes(config, _ARCHITECTURES[kind]) and any(config.parent.glob("*.safetensors")):
            return config.parent
    return None


def _makes(config: Path, ending: str) -> bool:
    try:
        values = read_json_file(config)
        return str(values["architectures"][0]).endswith(ending)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return False


@lru_cache(maxsize=2)
def _loaded(kind: str, folder: Path, version: Any) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation, VitPoseForPoseEstimation

    from pipelines.models.checkpoints.weights import load_network

    cls = AutoModelForDepthEstimation if kind == DEPTH else VitPoseForPoseEstimation
    try:
        refuse_outside_references(folder)
        reader = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        return reader, load_network(cls, folder, local_files_only=True, use_safetensors=True).eval()
    except Exception as error:
        raise InvalidRequest(
            "controls",
            f"The model in {folder.name} that finds {kind} cannot be loaded ({first_line(error, str(folder))}); "
            "give a finished map, or put the model there again.",
        ) from error


def _answer(model: Any, given: Any, field: str, device: str) -> Any:
    """What a model says of its inputs, one field of its answer, on the CPU.

    It comes to the device while it works there and leaves it again; where that fails (memory, an operator that the
    device lacks), it works on the CPU.
    """
    import torch

    with torch.inference_mode():
        if device != "cpu":
            try:
                return _answer_there(model, given, field, device)
            except Exception as error:
                log.warning("A map is made on the CPU (%s)", first_line(error))
            finally:
                model.to("cpu")
                if device == MPS:
                    hand_back(device)
        return getattr(model(**given), field)


def _answer_there(model: Any, given: Any, field: str, device: str) -> Any:
    model.to(device)
    there = {name: value.to(device) if hasattr(value, "to") else value for name, value in given.items()}
    return getattr(model(**there), field).cpu()


def _depth(image: Image.Image, folder: Path, device: str) -> Image.Image:
    """What is near is bright, what is far is dark."""
    import numpy as np
    import torch
    from PIL import Image

    reader, model = _loaded(DEPTH, folder, stamp(folder))
    found = _answer(model, reader(images=image.convert("RGB"), return_tensors="pt"), "predicted_depth", device)
    size = (image.height, image.width)
    depth = torch.nn.functional.interpolate(found[None].float(), size, mode="bicubic", align_corners=False)[0, 0]
    depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp_min(1e-6)
    return Image.fromarray((depth.numpy() * 255).round().astype(np.uint8)).convert("RGB")


def _pose(image: Image.Image, folder: Path, device: str) -> Image.Image:
    """A stick figure of the person that fills the picture."""
    reader, model = _loaded(POSE, folder, stamp(folder))
    boxes = [[[0, 0, image.width, image.height]]]
    given = reader(images=image.convert("RGB"), boxes=boxes, return_tensors="pt")
    answer = SimpleNamespace(heatmaps=_answer(model, given, "heatmaps", device))
    found = reader.post_process_pose_estimation(answer, boxes=boxes)[0][0]
    return stick_figure(found["keypoints"].tolist(), found["scores"].tolist(), image.size)


def stick_figure(joints: Sequence[Sequence[float]], scores: Sequence[float], size: tuple[int, int]) -> Image.Image:
    """A person's joints as the coloured limbs that ControlNets for poses know, on black.

    Args:
        joints: 17 of (x, y) in pixels, in COCO's order.
        scores: how sure each is, 0 to 1; what is below 0.3 is left out.
        size: width and height of the map.
    """
    import colorsys

    from PIL import Image, ImageDraw

    neck = [(a + b) / 2 for a, b in zip(joints[5], joints[6], strict=True)]
    places, sure = [*joints, neck], [*scores, min(scores[5], scores[6])]
    canvas = Image.new("RGB", size)
    draw, width = ImageDraw.Draw(canvas), max(2, min(size) // 64)
    for number, (a, b) in enumerate(_LIMBS):
        if min(sure[a], sure[b]) >= _SURE:
            colour = tuple(round(255 * c) for c in colorsys.hsv_to_rgb(number / len(_LIMBS), 1, 1))
            draw.line([*places[a][:2], *places[b][:2]], fill=colour, width=width)
    for number, ((x, y, *_), score) in enumerate(zip(places, sure, strict=True)):
        if score >= _SURE:
            colour = tuple(round(255 * c) for c in colorsys.hsv_to_rgb(number / len(places), 1, 1))
            draw.ellipse([x - width, y - width, x + width, y + width], fill=colour)
    return canvas
