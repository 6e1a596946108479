"""The lesson as a capsule: one HTML file with the page's own scripts, which recorded values answer."""

from __future__ import annotations

from typing import Any

from pipelines.images.provenance import digital_source_type
from ui.components.assets import asset
from ui.inspector.html_export import Look, page
from ui.inspector.player import PLAYER_HTML
from ui.tabs.learn import dots, noise, runs, template

FILE_NAME = "how-diffusion-models-draw.html"
HEADING = "How diffusion models draw: a lesson in ten chapters"
# The look of the page's own theme, which is not in the file.
_STYLE = """
:root { --mat: #e9e8e4; --chip: #efeeea; --on-accent: #fff; --bad: #b3261e; --view: 100vh; --gap: 24px;
  --reading: Lora, Georgia, serif; }
@media (prefers-color-scheme: dark) { :root { --mat: #232328; --chip: #232328; --on-accent: #06211e; --bad: #ff9d94;
  } }
.capsule { max-width: 1440px; margin: 0 auto; padding: 12px 20px 40px; }
.capsule > h1 { font-size: 16px; margin: 0 0 8px; }
.sentence { font-size: 13px; color: var(--soft); margin: 0; }
.problem { color: var(--bad); }
.lesson :is([data-kind], .more, .saved) { display: none !important; }
.viewer .shot { cursor: default; }
"""
# The parts of the lesson: id of the element, markup, script.
_PARTS = ("lesson", "learn-noise", "learn-dots", "learn-player", "learn-words", "learn-strip")


def lesson_capsule(value: dict[str, Any]) -> str:
    """The page.

    Args:
        value: of ``ui.tabs.learn.recording.record``.
    """
    value = dict(value)
    request, rows, credits = value.pop("request"), value.pop("settings"), value.pop("credits")
    scripts = (asset(*template.SCRIPTS), noise.script(), dots.script(), runs.player_script(), runs.words_script())
    mounts = "".join(
        f"mount('{name}', (element, props, watch, trigger) => {{\n{code}\n}});\n"
        for name, code in zip(_PARTS, (*scripts, runs.strip_script()), strict=True)
    )
    code = f"(() => {{\n{asset('tabs/learn/capsule.js')}\n{mounts}}})();\n"
    style = asset(
        "inspector/player.css",
        "inspector/words/words.css",
        "tabs/compare/viewer.css",
        "tabs/learn/learn.css",
        "tabs/learn/parts.css",
        "tabs/learn/dots.css",
    )
    look = Look(_STYLE + style, code, _body())
    return page(HEADING, HEADING, look, value, rows, credits, digital_source_type(request))


def _body() -> str:
    markup = (noise.NOISE_HTML, dots.DOTS_HTML, PLAYER_HTML, runs.WORDS_HTML, runs.STRIP_HTML)
    live = "".join(f'<div id="{name}">{html}</div>' for name, html in zip(_PARTS[1:], markup, strict=True))
    return (
        f'<div id="learn"><div id="lesson-column"><div id="lesson">{template.LESSON_HTML}</div></div>'
        f'<div id="live-column">{live}</div></div>'
    )
