"""The figures of a run that the lesson's texts name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipelines.trace import lenses
from ui.tabs.learn.chapters import CHAPTERS

if TYPE_CHECKING:
    from pipelines.trace.trace import Trace
    from ui.context import PageContext

_NAME = re.compile(r"\{(\w+)\}")
# Words of a prompt that say nothing to lead away from.
_PLAIN = frozenset({"a", "an", "the", "on", "in", "of", "with", "and", "background", "picture", "photo"})


# Of a usual picture of 512 x 512 pixels, for a lesson without a run.
_USUAL = {
    "prompt": "a picture",
    "steps": "25",
    "half": "9",
    "pixels": "786,432",
    "latents": "16,384",
    "ratio": "48",
    "width": "512",
    "height": "512",
    "guidance": "5 to 8",
    "model": "most models",
    "negative": "background",
}


def figures_of(page: PageContext, trace: Trace | None) -> dict[str, str]:
    """What stands for each name in braces."""
    if trace is None:
        return _USUAL
    pixels, latents = lenses.value_counts(trace)
    shares = trace.cumulative_change(0)
    half = next((i for i, share in enumerate(shares) if share >= 0.5), len(shares) - 1)
    request, card = trace.request, page.card(trace.request.model)
    return {
        "prompt": request.prompt_of(0) or "the picture of a run without a prompt",
        "steps": str(len(trace.steps)),
        "half": str(half + 1),
        "pixels": f"{pixels:,}",
        "latents": f"{latents:,}",
        "ratio": f"{pixels / latents:.0f}",
        "width": str(request.width),
        "height": str(request.height),
        "guidance": f"{card.guidance_scale:g}" if card else "5 to 8",
        "model": card.name if card else "most models",
        "negative": negative_word(request.prompt_of(0)),
    }


def negative_word(prompt: str) -> str:
    """The last telling word of a prompt: without it the picture must change."""
    words = [word.strip(".,;:()[]").lower() for word in prompt.split()]
    telling = [word for word in words if word.isalpha() and word not in _PLAIN]
    return telling[-1] if telling else "background"


def chapter_values(page: PageContext, trace: Trace | None) -> list[dict[str, Any]]:
    """The chapters as the browser shows them, with the figures of a run."""
    known = figures_of(page, trace)

    def said(text: str) -> str:
        # In one pass, so that braces in a prompt stay what they are.
        return _NAME.sub(lambda found: known[found[1]], text)

    return [
        {
            "title": each.title,
            "text": [said(sentence) for sentence in each.text],
            "live": each.live,
            "question": each.question.text,
            "answers": list(each.question.answers),
            "right": each.question.right,
            "why": said(each.question.why),
            "plans": [plan.label for plan in each.plans],
            "go": {"left": each.left, "right": each.right, "share": each.share},
            "more": list(each.more),
        }
        for each in CHAPTERS
    ]
