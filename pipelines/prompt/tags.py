"""Tags in prompts: ``<lora:name:0.8>`` and ``<embedding:name>``; what is nearly one is refused, never read as words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from pipelines.prompt import PromptError
from pipelines.system.text import shorten

MAX_LORA_WEIGHT = 10.0
_LORA_KINDS = ("lora", "lyco", "lycoris", "locon")
_TAG = re.compile(r"<\s*(?P<kind>[a-z]+)\s*:(?P<body>[^<>\n]*)>", re.IGNORECASE)
EMBEDDING_TAG = re.compile(r"<embedding:([^:<>/\\]{1,128})>")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
# What only a tag that went wrong looks like: an opening sign (full-width and escaped ones too) before a kind of tag, or
# a LoRA's name and weight without one.
_NEARLY = re.compile(
    r"(?:[<\uff1c\u2039]|&lt;)\s*(?:lora|lyco|lycoris|locon|hypernet|embedding)\b[^>\uff1e\n]{0,60}[>\uff1e]?"
    r"|(?<![\w\\])(?:lora|lyco)\s*[:=]\s*[^\s:=<>,]{1,60}\s*:\s*[+-]?[\d.]+[>)\]}]?",
    re.IGNORECASE,
)
# How ComfyUI names an embedding; a sentence may end behind it.
_COMFY = re.compile(r"(?<![\w<:\\])embedding:(?P<name>[^\s,()\[\]{}<>:|]*[^\s,()\[\]{}<>:|.;!?])", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_SUFFIX = re.compile(r"\.(?:safetensors|pt|bin)$", re.IGNORECASE)


def take_lora_tags(prompt: str) -> tuple[str, tuple[tuple[str, float], ...]]:
    """A prompt without its LoRA tags, and their names and weights (1 where a tag has none).

    Raises:
        PromptError: for a tag that is not understood.
    """
    found: list[tuple[str, float]] = []

    def take(tag: re.Match[str]) -> str:
        kind = tag["kind"].lower()
        if kind in _LORA_KINDS:
            found.append(_lora(tag))
            return ""
        return tag[0]

    text = _TAG.sub(take, prompt)
    return (re.sub(r"\s{2,}", " ", text).strip() if found else prompt), tuple(found)


def _lora(tag: re.Match[str]) -> tuple[str, float]:
    shown, (name, *weights) = shorten(tag[0], 60), tag["body"].split(":")
    name = name.strip()
    if not name:
        raise PromptError(f"has the mark {shown} without a name; write <lora:name:0.8>, or take it out")
    numbers = [_number(weight) for weight in weights]
    if None in numbers:
        raise PromptError(f"has the mark {shown}, whose weight is not a number; write <lora:{name}:0.8>")
    if len(set(numbers)) > 1 or len(numbers) > 2:
        raise PromptError(
            f"has the mark {shown} with several weights, for text encoder and denoiser apart; a LoRA has one weight "
            f"here, so write <lora:{name}:0.8>"
        )
    weight = 1.0 if not numbers else numbers[0] or 0.0
    if abs(weight) > MAX_LORA_WEIGHT:
        raise PromptError(f"has the mark {shown}, whose weight is too large; allowed: -10 to 10")
    return name, weight


def _number(text: str) -> float | None:
    """The number in a text, or None; ``1.`` and ``+.5`` are numbers, as in Python."""
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def read_embedding_tags(text: str) -> str:
    """A text with every way of naming an embedding as ``<embedding:name>``.

    Raises:
        PromptError: for a tag that is not understood.
    """
    return _COMFY.sub(_from_comfy, _TAG.sub(_embedding, text))


def _embedding(tag: re.Match[str]) -> str:
    if tag["kind"].lower() != "embedding":
        return tag[0]
    shown, name = shorten(tag[0], 60), tag["body"].strip()
    if ":" in name:
        raise PromptError(f"has the mark {shown}; an embedding's weight stands outside: (<embedding:name>)1.2")
    plain = f"<embedding:{name}>"
    if not EMBEDDING_TAG.fullmatch(plain):
        raise PromptError(f"has the mark {shown}, which names no embedding; write <embedding:name>, or take it out")
    # A name may begin or end with a space.
    return f"<embedding:{tag['body']}>"


def _from_comfy(mark: re.Match[str]) -> str:
    name = _SUFFIX.sub("", re.split(r"[/\\]", mark["name"])[-1])
    return f"<embedding:{name}>" if name else mark[0]


def name_bare_embeddings(text: str, names: Collection[str]) -> str:
    """A text with embeddings that are named without a mark, as A1111 reads them, as ``<embedding:name>``.

    Args:
        text: may hold marks, too, which stay.
        names: of the embeddings that are here; capitals do not matter.
    """
    known = {name.casefold(): name for name in names if _LETTER.search(name) and EMBEDDING_TAG.fullmatch(_tag(name))}
    if not known:
        return text
    # The longest first: one name may begin with another one.
    ordered = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    bare = re.compile(rf"<[^<>]*>|\bembedding:\S+|(?<![\w-])(?P<name>{ordered})(?![\w-])", re.IGNORECASE)
    return bare.sub(
        lambda mark: _tag(known.get(mark["name"].casefold(), mark["name"])) if mark["name"] else mark[0], text
    )


def _tag(name: str) -> str:
    return f"<embedding:{name}>"


def refuse_lora_tags(text: str) -> None:
    """Raise PromptError for a LoRA tag where none is read: in a negative prompt, or at the end of a blend."""
    for tag in _TAG.finditer(text):
        if tag["kind"].lower() in _LORA_KINDS:
            raise PromptError(
                f"has the mark {shorten(tag[0], 60)}, but a LoRA changes the whole picture; write it into the prompt, "
                "with a weight below 0 to turn it round"
            )


def refuse_near_tags(text: str) -> None:
    """Raise PromptError for what only looks like a tag, once the tags that are understood are taken out."""
    for mark in _NEARLY.finditer(EMBEDDING_TAG.sub(" ", text)):
        raise PromptError(
            f"has the mark {shorten(mark[0].strip(), 60)!r}, which is not understood; write <lora:name:0.8> or "
            "<embedding:name>, or take it out"
        )


def embedding_names(*texts: str) -> tuple[str, ...]:
    """The names of the textual inversion embeddings in texts, each once: ``<embedding:name>``."""
    return tuple(dict.fromkeys(name.strip() for text in texts for name in EMBEDDING_TAG.findall(text)))


def split_embeddings(text: str) -> Iterator[tuple[str, bool]]:
    """The pieces of a text, in order, and whether each is an embedding's tag."""
    at = 0
    for tag in EMBEDDING_TAG.finditer(text):
        if tag.start() > at:
            yield text[at : tag.start()], False
        yield tag[0], True
        at = tag.end()
    if at < len(text):
        yield text[at:], False
