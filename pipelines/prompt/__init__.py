"""What the marks in a prompt mean: LoRA and embedding tags, and the two forms in which words are weighted; no torch."""

from __future__ import annotations

from typing import Literal, get_args

# The form of the compel library, ``(word)1.3``, and that of AUTOMATIC1111's web UI, ``(word:1.3)``.
PromptSyntax = Literal["compel", "a1111"]
COMPEL, A1111 = get_args(PromptSyntax)


class PromptError(ValueError):
    """A prompt that cannot be read; the message is a sentence without its subject, such as "has an open bracket"."""
