"""Attention probabilities, softmax(Q K^T / sqrt(d)), read off while a denoiser runs as it always does.

The hooks compute what the attention layers compute between their inputs and their outputs, with the layers' own
projections.  Nothing of the network is replaced, so its output stays what it is with SDPA, xformers, LoRAs and
IP-Adapters; without a probe there are no hooks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch


@dataclass(frozen=True)
class AttentionLayer:
    """One layer whose queries are the picture and whose keys hold the prompt.

    Attributes:
        name: of its module.
        module: the attention.
        joint: whether the picture attends to itself in the same softmax (Stable Diffusion 3, FLUX).
    """

    name: str
    module: Any
    joint: bool


# take(layer, shares): shares (n, heads, positions, words), float32.
Take = Callable[[AttentionLayer, torch.Tensor], None]


def attention_layers(denoiser: torch.nn.Module) -> list[AttentionLayer]:
    """The layers that read the prompt, in the order of the network; empty for a network of another kind."""
    found = []
    for name, module in denoiser.named_modules():
        kind, last = type(module).__name__, name.rpartition(".")[2]
        if kind == "Attention" and last == "attn2" and getattr(module, "is_cross_attention", False):
            found.append(AttentionLayer(name, module, joint=False))
        elif last == "attn" and (kind == "FluxAttention" or getattr(module, "add_k_proj", None) is not None):
            found.append(AttentionLayer(name, module, joint=True))
    return found


@contextmanager
def probing(denoiser: torch.nn.Module, groups: torch.Tensor, take: Take) -> Iterator[None]:
    """Hand over the attention of every layer while the denoiser runs in this thread.

    Args:
        denoiser: a UNet or transformer of diffusers.
        groups: (tokens, words), 1 where a token belongs to a word: its words' shares are added up.
        take: called once for each layer and call of the denoiser.
    """
    thread = threading.get_ident()

    def before(layer: AttentionLayer, module: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        if threading.get_ident() == thread:  # a compiler may try the network in a thread of its own
            hidden = args[0] if args else inputs["hidden_states"]
            text = args[1] if len(args) > 1 else inputs.get("encoder_hidden_states")
            rotary = inputs.get("image_rotary_emb")
            shares = _joint if layer.joint else _cross
            take(layer, shares(module, hidden, text, rotary, groups.to(hidden.device)))

    with ExitStack() as hooks:
        if getattr(denoiser, "_compiled_call_impl", None) is not None:
            hooks.enter_context(torch.compiler.set_stance("force_eager"))
        for layer in attention_layers(denoiser):
            hook = layer.module.register_forward_pre_hook(partial(before, layer), with_kwargs=True)
            hooks.callback(hook.remove)
        yield


def _cross(attn: Any, hidden: torch.Tensor, text: Any, rotary: Any, groups: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) of a cross-attention, (n, heads, positions, words)."""
    text = text[0] if isinstance(text, tuple) else text  # behind it are an IP-Adapter's pictures, read on their own
    if attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    query, key = (attn.head_to_batch_dim(part) for part in (attn.to_q(hidden), attn.to_k(text)))
    scores = attn.get_attention_scores(query, key).float() @ groups
    return scores.unflatten(0, (-1, attn.heads))


def _joint(attn: Any, hidden: torch.Tensor, text: Any, rotary: Any, groups: torch.Tensor) -> torch.Tensor:
    """The prompt's part of softmax(Q K^T / sqrt(d)) of a joint attention, for the picture's positions.

    The softmax goes over text and picture, so these shares add up to less than 1 (Helbling et al. 2025,
    arXiv:2502.04320).  One head at a time: a large picture has thousands of positions.
    """
    count = len(groups)
    query, key = _heads(attn, attn.to_q(hidden), attn.norm_q), _heads(attn, attn.to_k(hidden), attn.norm_k)
    if text is None:  # FLUX's later blocks get both in one row, the text first
        query = query[:, count:]
    else:
        key = torch.cat([_heads(attn, attn.add_k_proj(text), attn.norm_added_k), key], dim=1)
    if rotary is not None:
        from diffusers.models.embeddings import apply_rotary_emb

        key = apply_rotary_emb(key, rotary, sequence_dim=1)
        query = apply_rotary_emb(query, tuple(part[count:] for part in rotary), sequence_dim=1)
    scale = query.shape[-1] ** -0.5
    found = []
    for head in range(query.shape[2]):
        scores = torch.einsum("nqd,nkd->nqk", query[:, :, head].float(), key[:, :, head].float()) * scale
        found.append(scores.softmax(dim=-1)[..., :count] @ groups)
    return torch.stack(found, dim=1)


def _heads(attn: Any, projected: torch.Tensor, norm: Any) -> torch.Tensor:
    """(n, positions, heads, dim), normalized where the layer does so."""
    split = projected.unflatten(-1, (attn.heads, -1))
    return split if norm is None else norm(split)
