"""What is tried, in this order, when memory runs out: slower or coarser each time, until the picture fits."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.device import half_of, needs_range
from pipelines.memory import Machine, Notebook

log = logging.getLogger(__name__)

# Where memory can run out.
LOAD, START, STEP, DECODE = "load", "start", "step", "decode"
Undo = Callable[[], None]


@dataclass(frozen=True)
class Rung:
    """One thing that makes a run need less memory.

    Attributes:
        name: as it is remembered and written into pictures.
        words: as people are told.
        helps: where in a run it saves memory.
        applies: whether it can do something for this model (None while it loads), placement and number of rows, the
            inputs that the denoiser is asked about at once.
        apply: does it to a loaded model; gives what undoes it, or None where only loading anew does.
    """

    name: str
    words: str
    helps: frozenset[str]
    applies: Callable[[Any, Any, int], bool]
    apply: Callable[[Any], Undo | None]


def _nothing() -> None:
    pass


def _has_rows(model: Any, placement: Any, rows: int) -> bool:
    return rows > 1 and not hasattr(model, "own_loop")


def _one(model: Any) -> Undo:
    # ``lent`` below does it, for each loan anew.
    return _nothing


def _has_decoder(model: Any, placement: Any, rows: int) -> bool:
    return hasattr(_vae(model), "enable_tiling")


def _tile(model: Any) -> Undo:
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


def _can_slice(model: Any, placement: Any, rows: int) -> bool:
    # xformers and compiled graphs have no whole attention maps to be sliced.
    # Slices would put their own processors in the place of those that follow a picture.
    follows = getattr(_denoiser(model), "encoder_hid_proj", None) is not None
    plain = placement.attention == "sdpa" and not placement.compile and not follows
    return plain and all(hasattr(_denoiser(model), name) for name in ("set_attention_slice", "set_attn_processor"))


def _slice(model: Any) -> Undo:
    denoiser = _denoiser(model)
    before = dict(denoiser.attn_processors)
    # One head at a time.
    denoiser.set_attention_slice("max")
    return lambda: denoiser.set_attn_processor(dict(before))


def _can_part(model: Any, placement: Any, rows: int) -> bool:
    # Apple's GPU shares the main memory: nothing would be won.
    return placement.device == "cuda" and not placement.quantize


def _part(model: Any) -> None:
    import torch
    from diffusers.hooks import apply_group_offloading

    home, work = torch.device("cpu"), torch.device(model.placement.device)
    for module in model.modules.values():
        module.to(home)
        # A stream that fetches ahead learns the order of the parts from ``forward``, which autoencoders do not use.
        ahead = module is model.denoiser and work.type == "cuda"
        apply_group_offloading(
            module,
            onload_device=work,
            offload_device=home,
            offload_type="leaf_level",
            use_stream=ahead,
            low_cpu_mem_usage=True,
        )


def _is_single(model: Any, placement: Any, rows: int) -> bool:
    return placement.dtype == "float32"


def _halve(model: Any) -> None:
    import torch

    half, parted = half_of(model.placement, model.card), "parts" in model.placement.rungs
    if parted:
        _whole(model)  # its hooks hold copies of the weights as they were
    for module in model.modules.values():
        # float16 is too narrow for such autoencoders; the CPU and newer cards have the wider kind.
        module.to(dtype=torch.bfloat16 if needs_range(model, module) else getattr(torch, half))
    model.placement = replace(model.placement, dtype=half)
    if parted:
        _part(model)
    if hasattr(model, "forget_prompts"):
        model.forget_prompts()


def _whole(model: Any) -> None:
    """Undo ``_part``; the weights are in RAM then."""
    from diffusers.hooks import HookRegistry

    for module in model.modules.values():
        registry = HookRegistry.check_if_exists_or_initialize(module)
        for name in ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading"):
            registry.remove_hook(name, recurse=True)


def _vae(model: Any) -> Any:
    return None if model is None else getattr(model.latents, "vae", None)


def _denoiser(model: Any) -> Any:
    return getattr(model, "denoiser", None)


RUNGS: tuple[Rung, ...] = (
    Rung("one", "one picture at a time", frozenset({STEP}), _has_rows, _one),
    Rung("tiles", "decoder in slices and tiles", frozenset({START, DECODE}), _has_decoder, _tile),
    Rung("slices", "attention in slices", frozenset({STEP}), _can_slice, _slice),
    Rung(
        "parts", "parts of the model moved to the GPU only while they work", frozenset({LOAD, START, STEP, DECODE}),
        _can_part, _part,
    ),
    Rung("half", "half precision", frozenset({LOAD, START, STEP, DECODE}), _is_single, _halve),
)  # fmt: skip
# What a model keeps until it is loaded anew.
LASTING = frozenset({"parts", "half"})


def words(names: Collection[str]) -> tuple[str, ...]:
    """Rungs in words, in their order."""
    return tuple(rung.words for rung in RUNGS if rung.name in names)


def next_rung(stage: str, model: Any, placement: Any, rows: int) -> Rung | None:
    """The next rung that can help at this stage and that the placement does not stand on yet."""
    # A pipeline with a loop of its own decodes in it.
    stages = {stage, DECODE} if stage == STEP and hasattr(model, "own_loop") else {stage}
    open_ = [rung for rung in RUNGS if rung.name not in placement.rungs and rung.helps & stages]
    return next((rung for rung in open_ if rung.applies(model, placement, rows)), None)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Names in the order of the rungs, without what is no rung."""
    wanted = set(names)
    return tuple(rung.name for rung in RUNGS if rung.name in wanted)


class OneByOne:
    """A loaded model whose denoiser is asked about one picture at a time; in all else the model itself.

    Each picture has its own generator, so the pictures are the same up to rounding, and a run's steps stay whole.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, x: Any, t: Any, told: Any, guidance: float = 0.0) -> Any:
        """As the model's own ``predict``: (n, c, h, w) to (n, c, h, w)."""
        import torch

        many = getattr(t, "ndim", 0) == 1 and len(t) == len(x)
        rows = [
            self._model.predict(x[k : k + 1], t[k : k + 1] if many else t, told.row(k), guidance)
            for k in range(len(x))
        ]
        return torch.cat(rows)


def lent(model: Any) -> Any:
    """The model as a run sees it."""
    return OneByOne(model) if "one" in model.placement.rungs else model


class Ladder:
    """Which rungs were needed, for each graphics card, model and size of a run; kept in a small file.

    Args:
        folder: where the file is, or None to remember until the program ends.
        machine: says which card it is.
        enabled: whether rungs are taken at all.
    """

    def __init__(self, folder: Path | None = None, machine: Machine | None = None, enabled: bool = True) -> None:
        self._notes = Notebook(folder / "ladder.json" if folder else None)
        self._machine = machine or Machine()
        self.enabled = enabled

    def remembered(self, source: str, placement: Any, pixels: int) -> tuple[str, ...]:
        """The rungs that a run of this size has needed, or a smaller one.

        Args:
            source: which weights.
            placement: where the model runs.
            pixels: width x height x pictures; 0 for loading alone.
        """
        if not self.enabled:
            return ()
        known = self._notes.get(self._key(source, placement))
        classes = known.items() if isinstance(known, dict) else ()
        smaller = [names for size, names in classes if size.isdecimal() and int(size) <= size_class(pixels)]
        return ordered(name for names in smaller if isinstance(names, list) for name in names if isinstance(name, str))

    def remember(self, source: str, placement: Any, pixels: int, names: Sequence[str]) -> None:
        """Begin a run of this size there next time."""
        key = self._key(source, placement)
        known = self._notes.get(key)
        classes = dict(known) if isinstance(known, dict) else {}
        self._notes.note(key, {**classes, str(size_class(pixels)): list(ordered(names))})

    def forget(self, source: str, placement: Any) -> None:
        """Begin at the top again."""
        self._notes.note(self._key(source, placement), None)

    def _key(self, source: str, placement: Any) -> str:
        where = self._machine.name() if placement.device == "cuda" else placement.device
        # A path says more about a person than a file of this kind needs to.
        return f"{where} / {hashlib.sha256(source.encode()).hexdigest()[:16]} / {placement.quantize or 'whole'}"


def size_class(pixels: int) -> int:
    """Sizes within a factor of 2 are alike: the binary logarithm, rounded up."""
    return max(0, (pixels - 1).bit_length()) if pixels else 0
