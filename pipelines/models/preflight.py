"""What a model needs, read from the headers of its own files, against what this machine has.

Nothing is loaded: a safetensors file begins with a table of its tensors, their number formats and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models.checkpoints.single_file import PREFIXES
from pipelines.models.families import family_of
from pipelines.models.offloading.foretold import begins_in_half, ram_bytes
from pipelines.models.placement import DENOISERS, half_dtype
from pipelines.system.bounded_json import read_json_file
from pipelines.system.gpu.graphics_card import MPS
from pipelines.system.paths import PROJECT
from pipelines.system.safetensors_header import read_header

if TYPE_CHECKING:
    from pipelines.cards import ModelCard
    from pipelines.hub.selection import DownloadPlan
    from pipelines.model import Placement
    from pipelines.models.machine import Machine

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Share of a network's bytes that is left when its matrices are kept in fewer bits.
QUANTIZED = {"": 1.0, "int8": 0.5, "int4": 0.25}
# Share of T5's weights that stays as it is (its ``wo``; of T5 XXL 24 x 4,096 x 10,240 of 4.76e9).
T5_WIDE = 0.21
# The widest maps of a decoder are alive in about this many copies at once (input, norm, activation, skip, output).
LIVE_MAPS = 5
# Of the main memory the system and this program itself keep this much, on small machines a share.
SYSTEM_ROOM, SYSTEM_SHARE = 2 * 10**9, 4
# About what is left of a whole model, its denoiser and T5 in fewer bits; for those whose parts are not known.
QUANTIZED_WHOLE = {"": 1.0, "int8": 0.6, "int4": 0.35}
# What diffusers saves with a model and only pipelines with their own loop load.
UNUSED_COMPONENTS = ("feature_extractor", "image_encoder")
SAFETY_CHECKER = "safety_checker"
# Beginnings of tensor names in single files; what begins with "model_ema." is a second copy (EMA) that is not loaded.
PART_BY_PREFIX = {prefix: part for part in ("unet", "vae", "text_encoder") for prefix in PREFIXES[part]} | {
    "double_blocks.": "transformer",
    "single_blocks.": "transformer",
    "text_encoders.": "text_encoder",
}
EMA_PREFIX = "model_ema."


@dataclass(frozen=True)
class Preflight:
    """What using a model takes, before anything is fetched or loaded; bytes.

    Attributes:
        parts: weights by component in the number format that they will have; empty if that is not known.
        weights: all of them.
        activations: an estimate of what one picture takes in addition.
        download: still to be fetched.
        ram, vram, disk: what is needed of each; without a GPU everything is in RAM, with one what waits there.
        seconds: how long fetching and loading take, None if that has never been measured.
        ok: whether it can work at all, if need be with every fallback.
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
    plan: DownloadPlan | None = None,
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
        parts = component_bytes(folder, placement.dtype, family_of(card).own_loop, placement.checks, card.rest)
    if "vae" in parts and _autoencoder_format(card, placement, folder) != placement.dtype:
        parts["vae"] = parts["vae"] * BYTES["float32"] // BYTES[placement.dtype]
    if placement.quantize:
        parts = {name: round(b * _quantized_share(name, folder, placement.quantize)) for name, b in parts.items()}
    guessed = round(_guess_weights(card, plan, placement.dtype) * QUANTIZED_WHOLE[placement.quantize])
    weights = sum(parts.values()) or guessed
    activations = activation_bytes(card, placement, folder, size)
    download = plan.missing if plan else (0 if folder else card.download_bytes)
    on_gpu = placement.has_own_memory
    total, free = machine.vram() if on_gpu else _shared(machine, placement)
    facts = _Assessment(
        card, placement, parts, weights, activations, download, size or (card.width, card.height), machine, plan
    )
    ok, refusal = facts.refusal()
    fits = weights + activations <= total
    words = (refusal,) if not ok else (facts.need(free, total), *facts.advice(free, total), *facts.fetching())
    seconds = _seconds(weights, download, speeds or {})
    return Preflight(
        parts=parts,
        weights=weights,
        activations=activations,
        download=download,
        ram=facts.waiting if on_gpu else weights + activations,
        vram=weights + activations if on_gpu else 0,
        disk=download,
        seconds=seconds,
        ok=ok,
        fits=fits,
        sentences=(*words, *((_seconds_sentence(seconds),) if ok else ())),
    )


@dataclass(frozen=True)
class _Assessment:
    """The figures of a preflight, as sentences."""

    card: ModelCard
    placement: Placement
    parts: Mapping[str, int]
    weights: int
    activations: int
    download: int
    size: tuple[int, int]
    machine: Machine
    plan: DownloadPlan | None

    @property
    def kind(self) -> str:
        return "graphics memory" if self.placement.has_own_memory else "memory"

    def refusal(self) -> tuple[bool, str]:
        """Whether it can work, and if not, why."""
        name, disk = self.card.name, self._disk()
        if self.download > disk:
            return False, (
                f"{name} needs {gb(self.download)} of disk and {gb(disk)} are free; delete a model or free some space."
            )
        least, half = self._least(), half_dtype(self.placement, self.card)
        ram, vram = _shared(self.machine, self.placement)[0], self.machine.vram()[0]
        room = 0 if self.placement.kind == MPS else min(SYSTEM_ROOM, ram // SYSTEM_SHARE)
        needed, there = least.waiting, f"{gb(ram)} of RAM"
        what = f"has {gb(least.weights)} of weights"
        if self.placement.has_own_memory:
            if 0 < needed < least.weights:
                what += f", of which {gb(needed)} wait in RAM,"
        else:
            # There is nowhere else to wait: a picture needs room too, in tiles a quarter.
            needed += least.activations // 4
        if ram - room < needed <= ram:
            there += f" (the system needs {gb(room)} of it)"
        if self.placement.has_own_memory:
            there += f" and {gb(vram)} of graphics memory"
        if self.placement.kind == MPS:  # its bound is firm
            what, there = f"needs {gb(needed)}", f"{gb(ram)} for its GPU"
        if self.placement.quantize and not needed and least.weights > vram:
            return False, (
                f"{name} has {gb(least.weights)} of weights in {self.placement.quantize}, which cannot wait in RAM, "
                f"and this machine has {gb(vram)} of graphics memory; start without --quantize, or choose a "
                "smaller model."
            )
        if needed <= ram - room:
            return True, ""
        gpu = self.machine.name() or str(self.placement)
        how = "even in half precision" if half else f"in float32, the one format in which {gpu} computes right"
        return False, f"{name} {what} {how}, and this machine has {there}; {self._instead(least, half, ram - room)}."

    @property
    def waiting(self) -> int:
        """Bytes of RAM that the weights take."""
        return ram_bytes(self, self.machine.vram()[0], self.placement, self.card)

    def _least(self) -> _Assessment:
        """With every fallback: in 16 bits, where the machine computes right in them."""
        if not half_dtype(self.placement, self.card):
            return self
        share = {name: size * 2 // BYTES[self.placement.dtype] for name, size in self.parts.items()}
        return replace(self, parts=share, weights=self.weights * 2 // BYTES[self.placement.dtype])

    def _instead(self, least: _Assessment, half: str, ram: int) -> str:
        """What to do where it cannot work."""
        nvidia = self.placement.has_own_memory and not self.placement.gpu
        if nvidia and not self.placement.quantize and QUANTIZED_WHOLE["int4"] * least.weights <= self.machine.vram()[0]:
            return "start with --quantize int4, or choose a smaller model"
        on_cpu = self.weights * 2 // BYTES[self.placement.dtype]
        if self.placement.has_own_memory and not half and on_cpu <= ram:
            return f"choose a smaller model, or start with --device cpu, which needs {gb(on_cpu)} in half precision"
        return "choose a smaller model"

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
            tight = "That is tight: other models are put aside first; if it is not enough, close other programs."
            return (tight, *self._half())
        if self.placement.has_own_memory:
            return (
                "That is more than the card has: parts of the model will wait in RAM, which is slower; smaller "
                "pictures or a smaller model are quicker.",
                *self._tight_ram(),
                *self._half(),
            )
        if self.placement.kind == MPS:
            return ("That is more than its GPU gets: pictures are decoded in tiles; smaller ones are quicker.",)
        return (
            "That is more than this machine has: it may become very slow; choose smaller pictures or a smaller model.",
            *self._half(),
        )

    def _tight_ram(self) -> tuple[str, ...]:
        """What to do where little of the main memory is free for what waits there."""
        waiting, free = self.waiting, self.machine.ram()[1]
        if waiting <= free:
            return ()
        return (f"{gb(waiting)} of it wait in RAM, and {gb(free)} are free there: close other programs.",)

    def _half(self) -> tuple[str, ...]:
        """How a model begins that does not fit in float32."""
        free = self.machine.ram()[1]
        if not begins_in_half(self, self.machine.vram()[0], free, self.placement, self.card):
            return ()
        return (f"It begins in half precision, in which its weights take {gb(self._least().weights)}.",)

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
        index = read_json_file(source / "model_index.json")
        names = [name for name, what in index.items() if isinstance(what, list) and what and what[0]]
        names = [name for name in names if checks or name != SAFETY_CHECKER]
        wanted = [name for name in names if everything or name not in UNUSED_COMPONENTS]
        found = {name: _folder_bytes(source / name, dtype) for name in wanted}
        if rest:
            found = {name: size or _folder_bytes(PROJECT / rest / name, dtype) for name, size in found.items()}
        return {name: size for name, size in found.items() if size}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def activation_bytes(
    card: ModelCard, placement: Placement, folder: Path | None = None, size: tuple[int, int] | None = None
) -> int:
    """About what one picture takes in addition to the weights: the decoder's widest maps at full size.

    The last block of an autoencoder's decoder works on width x height pixels with the second of its channel counts;
    a few such maps are alive at once.  The denoiser works on 1/64 of the pixels and stays below that.
    """
    width, height = size or (card.width, card.height)
    folder = PROJECT / card.rest if card.rest else folder
    count = BYTES[_autoencoder_format(card, placement, folder)]
    return LIVE_MAPS * _widest_channels(folder) * width * height * count


def _quantized_share(part: str, folder: Path | None, kind: str) -> float:
    """The share of a component's bytes that is left where fewer bits are asked for (``placement.settle``)."""
    if part in DENOISERS:
        return QUANTIZED[kind]
    try:
        found = read_json_file(folder / part / "config.json").get("architectures") if folder else None
    except (OSError, ValueError, AttributeError):
        found = None
    if not (isinstance(found, list) and "T5EncoderModel" in found):
        return 1.0
    return T5_WIDE + (1 - T5_WIDE) * QUANTIZED[kind]


def _autoencoder_format(card: ModelCard, placement: Placement, folder: Path | None) -> str:
    """The number format of its autoencoder: that of SDXL overflows in float16 (``placement.needs_float32``)."""
    if placement.dtype != "float16" or not family_of(card).upcast_vae:
        return placement.dtype
    try:
        config = read_json_file(folder / "vae" / "config.json") if folder else {}
        upcast = config.get("force_upcast", True)
    except (OSError, ValueError, AttributeError):
        upcast = True
    return "float32" if upcast else placement.dtype


def _widest_channels(folder: Path | None) -> int:
    """Channels of the maps at full size; those of Stable Diffusion's autoencoders where a model does not say."""
    try:
        config = read_json_file(folder / "vae" / "config.json") if folder else {}
        channels = config.get("block_out_channels") or config["decoder_block_out_channels"]
        return int(channels[min(1, len(channels) - 1)])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError):
        return 256


def _shared(machine: Machine, placement: Placement) -> tuple[int, int]:
    return machine.shared() if placement.kind == MPS else machine.ram()


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
    return sum(_tensor_bytes(entry, dtype) for entry in read_header(path).tensors.values())


def _folder_bytes(folder: Path, dtype: str) -> int:
    return sum(_file_bytes(folder / name, dtype) for name in _weight_files(folder)) if folder.is_dir() else 0


def _weight_files(folder: Path) -> Sequence[str]:
    """The files of one complete copy of a component's weights: the plain one, else a variant such as fp16."""
    sets = []
    for index in folder.glob("*.safetensors.index*.json"):
        files = sorted(set(read_json_file(index)["weight_map"].values()))
        sets.append((len(index.name), files))
    shards = {name for _, files in sets for name in files}
    sets += [(len(path.name), [path.name]) for path in folder.glob("*.safetensors") if path.name not in shards]
    whole = [files for _, files in sorted(sets) if all((folder / name).is_file() for name in files)]
    return whole[0] if whole else ()


def _single_file_bytes(path: Path, dtype: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, entry in read_header(path).tensors.items():
        if name.startswith(EMA_PREFIX):
            continue
        part = next((part for prefix, part in PART_BY_PREFIX.items() if name.startswith(prefix)), "transformer")
        found[part] = found.get(part, 0) + _tensor_bytes(entry, dtype)
    return found


def _guess_weights(card: ModelCard, plan: DownloadPlan | None, dtype: str) -> int:
    """Weights of a model that is not here, by the bytes of its files.

    Files of a variant, and of models that are made for bfloat16, have 16 bits; others are taken to have the format that
    is wanted.
    """
    files = [file.bytes for file in plan.files if file.name.endswith(".safetensors")] if plan else []
    found = sum(files) or card.download_bytes
    narrow = card.variant in ("fp16", "bf16") or card.half == "bfloat16"
    return found * BYTES[dtype] // 2 if narrow else found


def _seconds(weights: int, download: int, speeds: Mapping[str, float]) -> float | None:
    if not speeds.get("load") or (download and not speeds.get("download")):
        return None
    return weights / speeds["load"] + (download / speeds["download"] if download else 0.0)


def _seconds_sentence(seconds: float | None) -> str:
    if seconds is None:
        return "How long it takes is known after the first time."
    if seconds < 90:
        return f"It takes about {max(1, round(seconds))} seconds until it is ready."
    return f"It takes about {round(seconds / 60)} minutes until it is ready."
