"""FALLBACKS: what is tried, in this order, when memory runs out, each slower or coarser, until the picture fits."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models.machine import Machine, Measurements
from pipelines.models.offloading.spread import BLOCKS, LAYERS, OFFLOADS, WAIT, gather, spread, spread_of
from pipelines.models.placement import half_dtype, needs_float32
from pipelines.system.gpu.number_formats import convert
from pipelines.system.gpu.out_of_memory import out_of_memory as out_of_memory

if TYPE_CHECKING:
    from pipelines.model import Model, Placement

log = logging.getLogger(__name__)

# Where memory can run out.
LOAD, ADAPT, START, STEP, DECODE = "load", "adapt", "start", "step", "decode"
# An autoencoder whose number format was too narrow.
OVERFLOW = "overflow"
# A card has more room than when memory ran out, if so much more of it can be used.
MORE_ROOM = 1.1
# Of the main memory other programs take and leave more.
MORE_RAM = 1.25
Undo = Callable[[], None]


@dataclass(frozen=True)
class Fallback:
    """One thing that makes a run need less memory.

    Attributes:
        name: as it is remembered and written into pictures.
        words: as the user reads it.
        helps: where in a run it saves memory.
        applies: whether it can help this model (None while it loads) with this placement and batch size.
        apply: applies it to a loaded model; returns what reverts it, or None where only loading the model again does.
    """

    name: str
    words: str
    helps: frozenset[str]
    applies: Callable[[Model | None, Placement, int], bool]
    apply: Callable[[Model], Undo | None]


def _do_nothing() -> None:
    pass


def _has_batch(model: Model | None, placement: Placement, rows: int) -> bool:
    return rows > 1 and (model is None or model.own_loop is None)


def _one_by_one(model: Model) -> Undo:
    # ``leased`` below does it, for each lease.
    return _do_nothing


def _can_tile(model: Model | None, placement: Placement, rows: int) -> bool:
    return hasattr(_vae(model), "enable_tiling")


def _enable_tiling(model: Model) -> Undo:
    vae = _vae(model)
    names = [name for name in ("tile_sample_min_size", "tile_latent_min_size") if hasattr(vae, name)]
    before = {name: getattr(vae, name) for name in names}
    vae.enable_tiling()
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
    if "tile_latent_min_size" in before:
        # Tiles as large as the pictures that it was trained on would leave those pictures whole.  Neighbours share a
        # quarter, so a tile's side must be a multiple of 4 for its parts to meet.
        latent = max(before["tile_latent_min_size"] // 8 * 4, 4)
        vae.tile_latent_min_size, vae.tile_sample_min_size = latent, latent * model.latents.factor

    def undo() -> None:
        vae.disable_tiling()
        if hasattr(vae, "disable_slicing"):
            vae.disable_slicing()
        for name, size in before.items():
            setattr(vae, name, size)

    return undo


def _can_slice(model: Model | None, placement: Placement, rows: int) -> bool:
    # xformers and compiled graphs have no whole attention maps to be sliced.
    # Slicing would replace the processors of an IP-Adapter.
    has_ip_adapter = getattr(_denoiser(model), "encoder_hid_proj", None) is not None
    plain = placement.attention == "sdpa" and not placement.compile and not has_ip_adapter
    return plain and all(hasattr(_denoiser(model), name) for name in ("set_attention_slice", "set_attn_processor"))


def _slice_attention(model: Model) -> Undo:
    denoiser = _denoiser(model)
    before = dict(denoiser.attn_processors)
    # One head at a time.
    denoiser.set_attention_slice("max")
    return lambda: denoiser.set_attn_processor(dict(before))


def _is_slower(how: str, placement: Placement) -> bool:
    """Whether a way to spread a model leaves more of it in RAM than the one that is active."""
    active = spread_of(placement)
    return not active or OFFLOADS.index(how) > OFFLOADS.index(active)


def _can_offload(model: Model | None, placement: Placement, rows: int) -> bool:
    # Apple's GPU shares the main memory: nothing would be won.
    return placement.has_own_memory and not placement.quantize and _is_slower(LAYERS, placement)


def _can_wait(model: Model | None, placement: Placement, rows: int) -> bool:
    return _has_loop_of_ours(model, placement) and _is_slower(WAIT, placement)


def _can_stream_blocks(model: Model | None, placement: Placement, rows: int) -> bool:
    return _has_loop_of_ours(model, placement) and not placement.quantize and _is_slower(BLOCKS, placement)


def _has_loop_of_ours(model: Model | None, placement: Placement) -> bool:
    # Pipelines with a loop of their own ask their parts where they are.
    return placement.has_own_memory and (model is None or model.own_loop is None)


def _spread(how: str) -> Callable[[Model], None]:
    return lambda model: spread(model, how)


def _is_float32(model: Model | None, placement: Placement, rows: int) -> bool:
    # Cards of the GTX 16 series have no 16-bit format that computes right.
    return placement.dtype == "float32" and (placement.kind == "cpu" or bool(placement.half))


def _use_half_precision(model: Model) -> None:
    import torch

    half, how = half_dtype(model.placement, model.card), spread_of(model.placement)
    if how:
        gather(model)  # hooks hold copies of the weights as they were
    # float16 is too narrow for some autoencoders; where there is no wider 16-bit format, they stay as they are.
    wide = torch.bfloat16 if half == "bfloat16" else torch.float32
    for module in model.modules.values():
        convert(module, wide if needs_float32(model, module) else getattr(torch, half))
    model.placement = replace(model.placement, dtype=half)
    if how:
        spread(model, how)
    model.clear_prompt_cache()


def _vae(model: Model | None) -> Any:
    return None if model is None else model.latents.vae


def _denoiser(model: Model | None) -> Any:
    return None if model is None else model.denoiser


_EVERYWHERE = frozenset({LOAD, ADAPT, START, STEP, DECODE})
FALLBACKS: tuple[Fallback, ...] = (
    Fallback("one", "one prompt of one picture at a time", frozenset({STEP}), _has_batch, _one_by_one),
    Fallback("tiles", "decoder in slices and tiles", frozenset({START, DECODE}), _can_tile, _enable_tiling),
    Fallback(
        WAIT, "text encoders and decoder waiting in RAM until they work", _EVERYWHERE, _can_wait, _spread(WAIT),
    ),
    Fallback("slices", "attention in slices", frozenset({STEP}), _can_slice, _slice_attention),
    Fallback(
        BLOCKS, "the model moved to the GPU block by block", _EVERYWHERE, _can_stream_blocks, _spread(BLOCKS),
    ),
    Fallback(
        LAYERS, "parts of the model moved to the GPU only while they work", _EVERYWHERE, _can_offload, _spread(LAYERS),
    ),
    Fallback("half", "half precision", _EVERYWHERE, _is_float32, _use_half_precision),
)  # fmt: skip
# Those that a model keeps until it is loaded again.
LASTING = frozenset({*OFFLOADS, "half"})


def fallback_named(name: str) -> Fallback:
    """The fallback of this name."""
    return next(fallback for fallback in FALLBACKS if fallback.name == name)


def words(names: Collection[str]) -> tuple[str, ...]:
    """Fallbacks in words, in their order."""
    return tuple(fallback.words for fallback in FALLBACKS if fallback.name in names)


def next_fallback(stage: str, model: Model | None, placement: Placement, rows: int) -> Fallback | None:
    """The next fallback that can help at this stage and is not active yet."""
    # A pipeline with a loop of its own decodes in it.
    stages = {stage, DECODE} if stage == STEP and model is not None and model.own_loop is not None else {stage}
    inactive = [
        fallback for fallback in FALLBACKS if fallback.name not in placement.fallbacks and fallback.helps & stages
    ]
    return next((fallback for fallback in inactive if fallback.applies(model, placement, rows)), None)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the order of ``FALLBACKS``, without unknown ones."""
    wanted = set(names)
    return tuple(fallback.name for fallback in FALLBACKS if fallback.name in wanted)


class OneByOne:
    """A loaded model whose denoiser is called for one row of a batch at a time; in all else the model itself.

    A row is one picture with one of its prompts: guidance has two rows a picture, so one guided picture is split too.
    Each row is computed by itself, so the pictures are the same up to rounding, and a run's steps stay whole.
    """

    def __init__(self, model: Any) -> None:
        vars(self)["_model"] = model

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._model, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, x: Any, t: Any, conditioning: Any, guidance: float = 0.0) -> Any:
        """As the model's own ``predict``: (n, c, h, w) to (n, c, h, w)."""
        import torch

        many = getattr(t, "ndim", 0) == 1 and len(t) == len(x)
        rows = [
            self._model.predict(x[k : k + 1], t[k : k + 1] if many else t, conditioning.row(k), guidance)
            for k in range(len(x))
        ]
        return torch.cat(rows)


def leased(model: Any) -> Any:
    """The model as a run sees it."""
    return OneByOne(model) if "one" in model.placement.fallbacks else model


class OomFallback:
    """Which fallbacks were needed, for each graphics card, model and size of a run; stored in a small file.

    Args:
        folder: where the file is, or None to remember until the program ends.
        machine: says which card it is.
        enabled: whether fallbacks are used at all.
        notes: of another device of this machine, which is kept in the same file; None for a file of its own.
    """

    def __init__(
        self,
        folder: Path | None = None,
        machine: Machine | None = None,
        enabled: bool = True,
        notes: Measurements | None = None,
    ) -> None:
        self.notes = notes or Measurements(folder / "ladder.json" if folder else None)
        self._machine = machine or Machine()
        self.enabled = enabled

    def remembered(self, source: str, placement: Placement, pixels: int) -> tuple[str, ...]:
        """The fallbacks that a run of this size has needed, or a smaller one.

        Args:
            source: which weights.
            placement: where the model runs.
            pixels: width x height x pictures; 0 for loading alone.
        """
        if not self.enabled:
            return ()
        known = self.notes.get(self._key(source, placement))
        classes = known.items() if isinstance(known, dict) else ()
        smaller = [note for size, note in classes if size.isdecimal() and int(size) <= size_class(pixels)]
        lists = [self._still_needed(note, placement) for note in smaller]
        return ordered(name for names in lists if isinstance(names, list) for name in names if isinstance(name, str))

    def remember(self, source: str, placement: Placement, pixels: int, names: Sequence[str]) -> None:
        """Begin a run of this size there next time."""
        key = self._key(source, placement)
        known = self.notes.get(key)
        classes = dict(known) if isinstance(known, dict) else {}
        note = {"names": list(ordered(names)), "usable": self._usable(placement)}
        self.notes.note(key, {**classes, str(size_class(pixels)): note})

    def forget(self, source: str, placement: Placement) -> None:
        """Begin at the top again."""
        self.notes.note(self._key(source, placement), None)

    def _still_needed(self, note: Any, placement: Placement) -> Any:
        """The names of a note, none where there is more room now: another program used it then."""
        if not isinstance(note, dict):
            return note
        usable = note.get("usable")
        more = MORE_ROOM if placement.has_own_memory else MORE_RAM
        if isinstance(usable, int) and self._usable(placement) > usable * more:
            return []
        return note.get("names")

    def _usable(self, placement: Placement) -> int:
        return self._machine.usable() if placement.has_own_memory else self._machine.usable_ram()

    def _key(self, source: str, placement: Placement) -> str:
        where = self._machine.name() if placement.has_own_memory else placement.device
        # A path says more about a person than a file of this kind needs to.
        return f"{where} / {hashlib.sha256(source.encode()).hexdigest()[:16]} / {placement.quantize or 'whole'}"


def size_class(pixels: int) -> int:
    """Sizes within a factor of 2 are alike: the binary logarithm, rounded up."""
    return max(0, (pixels - 1).bit_length()) if pixels else 0
