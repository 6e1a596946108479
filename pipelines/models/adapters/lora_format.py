"""The forms in which LoRA files are written, read from the names of their tensors; no weight is read here.

Trainers name the same matrices in their own ways (kohya, PEFT, diffusers old and new, LyCORIS).  Each name becomes the
name of a layer and one of a few parts: ``down`` and ``up`` (Hu et al. 2021, arXiv:2106.09685), ``mid``, ``alpha``,
``dora`` or ``magnitude`` (LyCORIS' and PEFT's DoRA; Liu et al. 2024, arXiv:2402.09353), the matrices of LoHa and LoKr
(Yeh et al. 2023, arXiv:2309.14859), and ``diff`` for a difference that is stored whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.system.text import shorten

# A part's name in the file, behind that of its layer; PEFT may put the adapter's own name behind it.
_ADAPTER = r"(?:\.(?!weight$|bias$)[^.]+)?"
_PARTS = tuple(
    (re.compile(rf"^(?P<layer>.+?){pattern}$"), part)
    for pattern, part in (
        (r"(?:\.lora_down|\.lora\.down|\.lora_linear_layer\.down|_lora\.down)\.weight", "down"),
        (r"(?:\.lora_up|\.lora\.up|\.lora_linear_layer\.up|_lora\.up)\.weight", "up"),
        (rf"\.lora_A{_ADAPTER}(?:\.weight)?", "down"),
        (rf"\.lora_B{_ADAPTER}(?:\.weight)?", "up"),
        (rf"(?:\.lora_B{_ADAPTER}|\.lora_up|\.lora\.up)\.bias", "up_bias"),
        (r"\.lora_mid\.weight", "mid"),
        (r"(?:\.lora)?\.(?:alpha|network_alpha)", "alpha"),
        (r"\.dora_scale", "dora"),
        (rf"\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?", "magnitude"),
        *((rf"\.{name}{_ADAPTER}", name) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
        *((rf"\.{name}{_ADAPTER}", name) for name in ("hada_t1", "hada_t2", "lokr_t2")),
        *((rf"\.lokr_{name}{_ADAPTER}", f"lokr_{name}") for name in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b")),
        (r"\.diff", "diff"),
        (r"\.diff_b", "diff_bias"),
    )
)
# The name of PEFT's own file, next to which its configuration is; where diffusers keeps the same in the file itself.
PEFT_FILE, DIFFUSERS_CONFIG = "adapter_model", "lora_adapter_metadata"
# The beginning of layers' names in PEFT's own files; diffusers and others write none.
_PEFT_LAYERS = "base_model.model."
# What other kinds of file are called, and a part that only they have.
_UNSUPPORTED = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"\.(?:boft_R|boft_S)\b", "a BOFT file, which rotates weights instead of adding to them"),
        (r"\.(?:oft_blocks|oft_diag|oft_R)\b", "a LyCORIS OFT file, which rotates weights instead of adding to them"),
        (r"\.[ab][12]\.weight$|\.bm\.weight$", "a LyCORIS GLoRA file, which multiplies weights"),
        (r"\.(?:on_input|ia3_l)\b", "an IA3 file, which scales what layers compute"),
        (r"\.(?:w_norm|b_norm)$", "a LyCORIS file that also changes norm layers"),
        (r"\.lora_embedding_[AB]\b", "a LoRA that also changes the text encoder's vocabulary"),
        (r"\.vera_lambda_[bd]\b|^vera_[AB]$", "a VeRA file, whose matrices are not in it"),
        (r"\.(?:absmax|quant_map|quant_state\b.*|SCB|qweight|qzeros)$", "a LoRA in a compressed form of its own"),
    )
)
# Numbers that go with tensors of 8 bits: the weight is the tensor times this.
_SCALE = re.compile(r"^(?P<tensor>.+?)\.(?P<name>scale_weight|weight_scale)$")
# Numbers for activations, which change no weight, and notes.
_IGNORED = re.compile(r"(?:\.scale_input|\.input_scale|\.comfy_quant)$|^(?:.*\.)?scaled_fp8$|^lora_te\d?_logit_scale$")
_BUNDLED = re.compile(r"^bundle_emb\.(?P<name>.+?)\.(?:string_to_param\.)?(?P<key>[^.]+)$")
# Files whose names contain one of these are LoRAs, or what this program cannot apply of their kind.
_MARKS = re.compile(
    r"[._]lora(?:_down|_up|_A|_B|_mid|_linear_layer|_embedding_A|\.down|\.up)?[._]|\.hada_w1_a\b|\.lokr_w[12]"
    r"|\.(?:boft_R|oft_blocks|oft_diag|oft_R|on_input|ia3_l|vera_lambda_b)\b|\.(?:a1|b1)\.weight$|\.(?:diff|diff_b)$"
    r"|\.lora_[AB]$|\.dora_scale$|^bundle_emb\."
)


@dataclass
class LoraLayout:
    """Where each number of a LoRA file belongs.

    Attributes:
        layers: name of the layer in the file -> part -> name of the tensor.
        scales: name of a tensor of 8 bits -> that of its scale.
        bundled: name of a word -> "clip_l", "clip_g" or any -> the tensor with its vectors.
        unknown: names of tensors that are none of these.
    """

    layers: dict[str, dict[str, str]] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    bundled: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a LoRA of any kind, including those that cannot be applied."""
    return any(_MARKS.search(name) for name in names)


def split(names: Iterable[str]) -> LoraLayout:
    """Sort the tensors of a LoRA file by layer and part."""
    found, known = LoraLayout(), set(names)
    for name in sorted(known):
        if match := _SCALE.match(name):
            tensor = match["tensor"]
            found.scales[f"{tensor}.weight" if f"{tensor}.weight" in known else tensor] = name
        elif match := _BUNDLED.match(name):
            found.bundled.setdefault(match["name"], {})[match["key"]] = name
        elif place := _place(name):
            layer, part = place
            if part in found.layers.setdefault(layer, {}):
                found.unknown.append(name)  # two adapters in one file
            found.layers[layer].setdefault(part, name)
        elif not _IGNORED.search(name):
            found.unknown.append(name)
    return found


def lacks_peft_config(layout: LoraLayout) -> bool:
    """Whether the layers are called as PEFT's own are and say no strength: PEFT keeps that in a file next to theirs."""
    return any(
        name.startswith(_PEFT_LAYERS) and "alpha" not in parts and "diff" not in parts
        for name, parts in layout.layers.items()
    )


def _place(name: str) -> tuple[str, str] | None:
    for pattern, part in _PARTS:
        if match := pattern.match(name):
            return match["layer"], part
    return None


def problem(tensors: Mapping[str, Any]) -> str:
    """Why a LoRA file cannot be applied in full, in words that follow its name, or "" if it can.

    Args:
        tensors: names of the file's tensors, with what its header says of each.
    """
    for pattern, kind in _UNSUPPORTED:
        if any(pattern.search(name) for name in tensors):
            return f"is {kind}, so it cannot be added here; leave it out"
    layout = split(tensors)
    if layout.unknown:
        return f"holds {shorten(layout.unknown[0], 80)!r}, which no known form of LoRA has; leave it out"
    if not layout.layers and not layout.bundled:
        return "holds no LoRA; leave it out"
    for layer, parts in layout.layers.items():
        if lacking := missing_part(parts):
            return f"lacks {lacking} of its layer {shorten(layer, 80)}; copy or download it again, or leave it out"
    return ""


def missing_part(parts: Iterable[str]) -> str:
    """Which part a layer lacks for its form, as its makers call it, or ""."""
    have = set(parts) - {"alpha", "dora", "magnitude", "up_bias", "diff_bias"}
    if "diff" in have or not have:
        return "" if have or "diff_bias" in parts else "the matrices"
    if have & {"down", "up", "mid"}:
        return next((word for part, word in (("down", "lora_A"), ("up", "lora_B")) if part not in have), "")
    if any(part.startswith("hada") for part in have):
        return next((part for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b") if part not in have), "")
    for name in ("lokr_w1", "lokr_w2"):
        if name not in have and (lacking := {f"{name}_a", f"{name}_b"} - have):
            return min(lacking) if len(lacking) == 1 else name
    return ""
