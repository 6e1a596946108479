"""What a model needs, read from the headers of its own files, against what this machine has.

Nothing is loaded: a safetensors file begins with a table of its tensors, their number formats and shapes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.device import gpu
from pipelines.files import appearing

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.device import Placement
    from pipelines.hub import Plan

PROJECT = Path(__file__).resolve().parents[1]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Share of a network's bytes that is left when its matrices are kept in fewer bits.
QUANTIZED = {"": 1.0, "int8": 0.5, "int4": 0.25}
# A header is text of some kilobytes a thousand tensors; more is not a model.
MAX_HEADER = 64 * 2**20
# The widest maps of a decoder are alive in about this many copies at once (input, norm, activation, skip, output).
ALIVE = 5
# What diffusers saves beside a model and no family but ``any`` loads.
UNUSED = ("feature_extractor", "image_encoder")
CHECKER = "safety_checker"
# Beginnings of tensor names in single files; what begins with "model_ema." is a second copy that nobody loads.
PREFIXES = {
    "model.diffusion_model.": "unet",
    "double_blocks.": "transformer",
    "single_blocks.": "transformer",
    "first_stage_model.": "vae",
    "vae.": "vae",
    "cond_stage_model.": "text_encoder",
    "conditioner.": "text_encoder",
    "text_encoders.": "text_encoder",
}
EMA = "model_ema."
# Leftovers of a process that was killed while it wrote; younger ones may belong to one that is writing.
STALE_SECONDS = 60.0


class Machine:
    """The few questions that are asked about this machine, in bytes; tests answer them differently."""

    def ram(self) -> tuple[int, int]:
        """All of the main memory, and what programs can still get of it."""
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available

    def vram(self) -> tuple[int, int]:
        """All of the NVIDIA GPU's memory, and what is free of it; (0, 0) without one."""
        import torch

        if not torch.cuda.is_available():
            return 0, 0
        free, total = torch.cuda.mem_get_info()
        # What PyTorch holds back for itself is free for us.
        return total, free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

    def name(self) -> str:
        """The GPU's name, "" without one."""
        found = gpu()
        return found.name if found else ""

    def disk(self, folder: Path) -> int:
        """Bytes free on the disk that a folder is on, or would be."""
        here = folder.expanduser().absolute()
        return shutil.disk_usage(next(path for path in (here, *here.parents) if path.exists())).free


@dataclass(frozen=True)
class Preflight:
    """What using a model takes, before anything is fetched or loaded; bytes.

    Attributes:
        parts: weights by component in the number format that they will have; empty if that is not known.
        weights: all of them.
        activations: an estimate of what one picture takes besides.
        download: still to be fetched.
        ram, vram, disk: what is needed of each; without a GPU everything is in RAM.
        seconds: how long fetching and loading take, None if that has never been measured.
        ok: whether it can work at all, if need be on the ladder's last rung.
        fits: whether weights and activations fit where the model runs, with nothing moved away.
        sentences: what it needs, what there is, and what to do.
    """

    parts: Mapping[str, int]
    weights: int
    activations: int
    download: int
    ram: int
    vram: int
    disk: int
    seconds: float | None
    ok: bool
    fits: bool
    sentences: tuple[str, ...] = field(default=())


def preflight(
    card: ModelCard,
    placement: Placement,
    machine: Machine,
    folder: Path | None = None,
    plan: Plan | None = None,
    size: tuple[int, int] | None = None,
    speeds: Mapping[str, float] | None = None,
) -> Preflight:
    """Whether and how a model will fit; a warning rather than a refusal wherever it might work.

    Args:
        card: what it is.
        placement: where it would run.
        machine: what there is.
        folder: its diffusers folder or single file, if it is here.
        plan: what a download would fetch, if it is not.
        size: width and height of a picture; the card's own by default.
        speeds: bytes a second that were measured: ``load`` and ``download``.
    """
    parts = {}
    if folder:
        parts = component_bytes(folder, placement.dtype, card.family == "any", placement.checks, card.rest)
    if placement.quantize:
        share = QUANTIZED[placement.quantize]
        parts = {name: round(b * share) if name in ("unet", "transformer") else b for name, b in parts.items()}
    weights = sum(parts.values()) or _guess(card, plan)
    activations = activation_bytes(card, placement, folder, size)
    download = plan.missing if plan else (0 if folder else card.download_bytes)
    on_gpu = placement.device == "cuda"
    total, free = machine.vram() if on_gpu else machine.ram()
    facts = _Facts(card, placement, weights, activations, download, size or (card.width, card.height), machine, plan)
    ok, refusal = facts.refusal()
    fits = weights + activations <= total
    words = (refusal,) if not ok else (facts.need(free, total), *facts.advice(free, total), *facts.fetching())
    seconds = _seconds(weights, download, speeds or {})
    return Preflight(
        parts=parts,
        weights=weights,
        activations=activations,
        download=download,
        ram=weights if on_gpu else weights + activations,
        vram=weights + activations if on_gpu else 0,
        disk=download,
        seconds=seconds,
        ok=ok,
        fits=fits,
        sentences=(*words, *((_time_words(seconds),) if ok else ())),
    )


@dataclass(frozen=True)
class _Facts:
    """The figures of a preflight, as sentences."""

    card: ModelCard
    placement: Placement
    weights: int
    activations: int
    download: int
    size: tuple[int, int]
    machine: Machine
    plan: Plan | None

    @property
    def kind(self) -> str:
        return "graphics memory" if self.placement.device == "cuda" else "memory"

    def refusal(self) -> tuple[bool, str]:
        """Whether it can work, and if not, why."""
        name, disk = self.card.name, self._disk()
        if self.download > disk:
            return False, (
                f"{name} needs {gb(self.download)} of disk and {gb(disk)} are free; delete a model or free some space."
            )
        ram, vram = self.machine.ram()[0], self.machine.vram()[0]
        # The last rung keeps weights in 16 bits, and in RAM as well as on the GPU.
        least = self.weights * 2 // BYTES[self.placement.dtype]
        if least > ram + vram:
            there = f"{gb(ram)} of RAM" + (f" and {gb(vram)} of graphics memory" if vram else "")
            return False, (
                f"{name} has {gb(least)} of weights even in half precision, and this machine has {there}; choose a "
                "smaller model."
            )
        return True, ""

    def need(self, free: int, total: int) -> str:
        """What it needs, and what there is."""
        width, height = self.size
        if not self.weights:
            return f"How much memory {self.card.name} needs is not known before its files are here."
        return (
            f"{self.card.name} needs {gb(self.weights)} of {self.kind} for its weights and about "
            f"{gb(self.activations)} for a picture of {width} x {height}; {gb(free)} of {gb(total)} are free."
        )

    def advice(self, free: int, total: int) -> tuple[str, ...]:
        """What to do where it is tight; nothing where it fits."""
        need = self.weights + self.activations
        if need <= free:
            return ()
        if need <= total:
            return ("That is tight: other models are put aside first; if it is not enough, close other programs.",)
        if self.placement.device == "cuda":
            return (
                "That is more than the card has: parts of the model will wait in RAM, which is slower; smaller "
                "pictures or a smaller model are quicker.",
            )
        return (
            "That is more than this machine has: it may become very slow; choose smaller pictures or a smaller model.",
        )

    def fetching(self) -> tuple[str, ...]:
        """What is fetched first."""
        if not self.download:
            return ()
        return (f"{gb(self.download)} are fetched first; {gb(self._disk())} of disk are free.",)

    def _disk(self) -> int:
        return self.plan.free if self.plan else self.machine.disk(Path.home())


def component_bytes(
    source: Path, dtype: str, everything: bool = False, checks: bool = True, rest: str = ""
) -> dict[str, int]:
    """Bytes of each component's weights once they are in a number format; {} where nothing can be read.

    Args:
        source: a diffusers folder, or a single safetensors file.
        dtype: float32, float16 or bfloat16.
        everything: whether components that our own families leave out count too.
        checks: whether its safety checker is used.
        rest: the folder with the components that this one lacks (``ModelCard.rest``), or "".
    """
    try:
        if source.is_file():
            return _single_file_bytes(source, dtype)
        index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
        names = [name for name, what in index.items() if isinstance(what, list) and what and what[0]]
        names = [name for name in names if checks or name != CHECKER]
        wanted = [name for name in names if everything or name not in UNUSED]
        found = {name: _folder_bytes(source / name, dtype) for name in wanted}
        if rest:
            found = {name: size or _folder_bytes(PROJECT / rest / name, dtype) for name, size in found.items()}
        return {name: size for name, size in found.items() if size}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def read_header(path: Path) -> dict[str, Any]:
    """The table of a safetensors file: name -> {"dtype", "shape", "data_offsets"}.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
        if length > min(MAX_HEADER, path.stat().st_size):
            raise ValueError(f"{path.name} is no safetensors file")
        table = json.loads(file.read(length))
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    table.pop("__metadata__", None)
    return table


def activation_bytes(
    card: ModelCard, placement: Placement, folder: Path | None = None, size: tuple[int, int] | None = None
) -> int:
    """About what one picture takes besides the weights: the decoder's widest maps at full size.

    The last block of an autoencoder's decoder works on width x height pixels with the second of its channel counts;
    a few such maps are alive at once.  The denoiser works on 1/64 of the pixels and stays below that.
    """
    width, height = size or (card.width, card.height)
    return ALIVE * _widest(PROJECT / card.rest if card.rest else folder) * width * height * BYTES[placement.dtype]


def _widest(folder: Path | None) -> int:
    """Channels of the maps at full size; those of Stable Diffusion's autoencoders where a model does not say."""
    try:
        config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8")) if folder else {}
        channels = config.get("block_out_channels") or config["decoder_block_out_channels"]
        return int(channels[min(1, len(channels) - 1)])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError):
        return 256


def gb(count: float) -> str:
    """Bytes for people to read."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _tensor_bytes(entry: Mapping[str, Any], dtype: str) -> int:
    count = math.prod(entry["shape"])
    kind = entry["dtype"]
    if kind.startswith(("F", "BF")):
        return count * BYTES[dtype]
    start, end = entry["data_offsets"]
    return end - start


def _file_bytes(path: Path, dtype: str) -> int:
    return sum(_tensor_bytes(entry, dtype) for entry in read_header(path).values())


def _folder_bytes(folder: Path, dtype: str) -> int:
    return sum(_file_bytes(folder / name, dtype) for name in _one_set(folder)) if folder.is_dir() else 0


def _one_set(folder: Path) -> Sequence[str]:
    """The files of one complete copy of a component's weights: the plain one, else a variant such as fp16."""
    sets = []
    for index in folder.glob("*.safetensors.index*.json"):
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        sets.append((len(index.name), files))
    shards = {name for _, files in sets for name in files}
    sets += [(len(path.name), [path.name]) for path in folder.glob("*.safetensors") if path.name not in shards]
    whole = [files for _, files in sorted(sets) if all((folder / name).is_file() for name in files)]
    return whole[0] if whole else ()


def _single_file_bytes(path: Path, dtype: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, entry in read_header(path).items():
        if name.startswith(EMA):
            continue
        part = next((part for prefix, part in PREFIXES.items() if name.startswith(prefix)), "transformer")
        found[part] = found.get(part, 0) + _tensor_bytes(entry, dtype)
    return found


def _guess(card: ModelCard, plan: Plan | None) -> int:
    """Weights of a model that is not here: the files' own bytes, as if they had the wanted number format already."""
    files = [file.bytes for file in plan.files if file.name.endswith(".safetensors")] if plan else []
    return sum(files) or card.download_bytes


def _seconds(weights: int, download: int, speeds: Mapping[str, float]) -> float | None:
    if not speeds.get("load") or (download and not speeds.get("download")):
        return None
    return weights / speeds["load"] + (download / speeds["download"] if download else 0.0)


def _time_words(seconds: float | None) -> str:
    if seconds is None:
        return "How long it takes is known after the first time."
    if seconds < 90:
        return f"It takes about {max(1, round(seconds))} seconds until it is ready."
    return f"It takes about {round(seconds / 60)} minutes until it is ready."


class Notebook:
    """Small facts that outlast the program, in one JSON file.  Thread-safe.

    A missing or broken file counts as empty, and the next note writes it anew.  A file that cannot be written costs
    the memory of it, nothing else.

    Args:
        path: the file, or None to remember until the program ends.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = _read(path) if path else {}
        if path:
            _sweep(path)

    def get(self, key: str) -> Any:
        """What is noted under a key, or None."""
        with self._lock:
            return self._facts.get(key)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Everything that is noted."""
        with self._lock:
            return iter(list(self._facts.items()))

    def note(self, key: str, value: Any) -> None:
        """Note a value that JSON can hold; None takes it out."""
        with self._lock:
            if self._facts.get(key) == value:
                return
            self._facts = {name: kept for name, kept in self._facts.items() if name != key}
            if value is not None:
                self._facts[key] = value
            if self._path:
                with suppress(OSError):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    with appearing(self._path, sync=False) as file:
                        file.write(json.dumps(self._facts, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _sweep(path: Path) -> None:
    """Delete what a process that was killed while it wrote has left beside the file."""
    with suppress(OSError):
        for part in path.parent.glob(f".{path.name}.*.part"):
            if time.time() - os.stat(part).st_mtime > STALE_SECONDS:
                part.unlink(missing_ok=True)
