"""The prompts of a run from what the user typed: styles are added, then each picture's wildcards are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.request import InvalidRequest, TypedPrompt
from presets.prompts import styles as style_texts
from presets.prompts.styles import StyleError, StyleLibrary
from presets.prompts.wildcards import NEGATIVE, Expansion, WildcardError, Wildcards


@dataclass(frozen=True)
class ComposedPrompt:
    """What is sent.

    Attributes:
        prompts: one a picture.
        negative_prompt: of all pictures; its wildcards are drawn by the first one's seed.
        typed: what that was made from; None if it was typed like this.
        missing: names of wildcards without a file, which were left as they are.
    """

    prompts: tuple[str, ...]
    negative_prompt: str
    typed: TypedPrompt | None = None
    missing: tuple[str, ...] = ()


def compose(
    prompt: str,
    negative_prompt: str,
    names: Sequence[str],
    seeds: Sequence[int],
    library: StyleLibrary,
    wildcards: Wildcards,
    reads_negative: bool = True,
) -> ComposedPrompt:
    """The prompts of the pictures with these seeds.

    Args:
        prompt, negative_prompt: as typed.
        names: of styles, in the order in which they are added.
        seeds: of the pictures; equal seeds draw equal words.
        library: has the styles.
        wildcards: has the files of wildcards; a style's text may hold wildcards, too.
        reads_negative: whether the model reads a negative prompt; one that it does not read stays as it is.

    Raises:
        InvalidRequest: for unknown styles, and wildcards that cannot be drawn.
    """
    try:
        styles = library.find(names)
        whole = style_texts.apply(prompt, [style.prompt for style in styles])
        negative = style_texts.apply(negative_prompt, [style.negative_prompt for style in styles])
    except StyleError as problem:
        raise InvalidRequest("styles", str(problem)) from None
    try:
        drawn = {seed: wildcards.expand(whole, seed) for seed in dict.fromkeys(seeds)}
    except WildcardError as problem:
        raise InvalidRequest("prompt", str(problem)) from None
    try:
        unwanted = wildcards.expand(negative, seeds[0], NEGATIVE) if reads_negative else Expansion(negative_prompt)
    except WildcardError as problem:
        raise InvalidRequest("negative_prompt", str(problem)) from None
    pictures = [drawn[seed] for seed in seeds]
    prompts = tuple(picture.text for picture in pictures)
    words = tuple(picture.drawn for picture in pictures) if any(picture.drawn for picture in pictures) else ()
    typed = None
    if styles or words or unwanted.text != negative_prompt or any(text != prompt for text in prompts):
        typed = TypedPrompt(
            prompt=prompt, negative_prompt=negative_prompt, styles=tuple(s.name for s in styles), drawn=words,
            negative_drawn=unwanted.drawn,
        )  # fmt: skip
    missing = dict.fromkeys(name for picture in (*pictures, unwanted) for name in picture.missing)
    return ComposedPrompt(prompts, unwanted.text, typed, tuple(missing))
