"""The capsule: one HTML file that replays a run anywhere, with the page's own player and questions and no network.

The run is embedded as JSON with every character escaped that could end its element; the player writes text with
``textContent`` alone.  A content security policy names the one script by its hash and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ui.components.assets import asset
from ui.inspector.player import PLAYER_HTML, script
from ui.inspector.questions import QUESTIONS_HTML
from ui.inspector.words.attention import WORDS_HTML

# Characters that end elements and comments, and two line separators that older JavaScript rejects in strings.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --edge: #d4d4d8; --ink: #27272a; --soft: #52525b; --accent: #0f766e;
  --well: #e4e4e7; --page: #fafafa; --noise: #6d4bd0; --picture: #9a5b00; }
@media (prefers-color-scheme: dark) { :root { --ground: #18181b; --edge: #3f3f46; --ink: #e4e4e7; --soft: #a1a1aa;
  --accent: #5eead4; --well: #27272a; --page: #09090b; --noise: #a58cf2; --picture: #f0b145; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
.capsule button, .capsule select { font: inherit; }
.capsule h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; }
.capsule h2 { font-size: 16px; margin: 24px 0 8px; }
.capsule .settings { border-collapse: collapse; }
.capsule .settings th { text-align: start; font-weight: 400; color: var(--soft); padding: 3px 24px 3px 0;
  vertical-align: top; }
.capsule .settings td { padding: 3px 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.capsule :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.capsule li { margin: 2px 0; }
"""
_RUN_STYLE = """
/* The questions stand beside the player, which is as wide as it may be for its figures to stay on the first screen. */
.capsule { max-width: calc(clamp(588px, 200vh - 820px, 1080px) + 380px); margin: 0 auto; padding: 20px 24px 40px; }
.capsule .watched { display: grid; grid-template-columns: minmax(0, 1fr) 340px; gap: 32px; align-items: start; }
.capsule .screen { container-type: inline-size; min-width: 0; }
.capsule .player { --square: calc((100cqw - 20px) / 2); }
@media (max-width: 1000px) {
  .capsule .watched { display: block; }
  .capsule .questions { margin-top: 24px; max-width: 75ch; }
}
@media (max-width: 800px) {
  .capsule { max-width: none; padding: 12px 16px 32px; }
  .capsule .player { --square: 100%; }
}
"""
_START = """
const playback = JSON.parse(document.getElementById('reel').textContent);
const player = new Player(document.querySelector('.player'));
player.take(playback);
new Questions(document.querySelector('.questions')).take(playback.questions);
"""
_START_WORDS = """
new WordMaps(document.querySelector('.word-maps')).take(playback.attention);
"""


def html_export(playback: dict[str, Any], credits: Sequence[str], source: str) -> str:
    """A self-contained page.

    Args:
        playback: the whole run (``ui.inspector.lens_frames.complete_value``).
        credits: sentences about who and what made it.
        source: IPTC digital source type (``pipelines.images.provenance.digital_source_type``).
    """
    style = _RUN_STYLE + asset("inspector/player.css", "inspector/questions.css")
    code, words = script() + asset("inspector/questions.js") + _START, ""
    if playback.get("attention"):
        style += asset("inspector/words/words.css")
        code += asset("inspector/words/attention.js") + _START_WORDS
        words = f"<h2>Which word drew what</h2>\n{WORDS_HTML}"
    body = f"""<div class="watched">
<div class="screen">{PLAYER_HTML}</div>
{QUESTIONS_HTML}
</div>
{words}"""
    title = playback.get("title") or "A picture without a prompt"
    heading = "How this picture came out of noise"
    look = Look(style, code, body)
    return page(title, heading, look, playback, playback.get("settings") or [], credits, source)


@dataclass(frozen=True)
class Look:
    """What a capsule shows: its own style sheet, its script, which reads the JSON of #reel, and its markup."""

    style: str
    code: str
    body: str


def page(
    title: str,
    heading: str,
    look: Look,
    value: Any,
    settings: Sequence[Sequence[str]],
    credits: Sequence[str],
    source: str,
) -> str:
    """A page that needs no network: its one script is named by its hash, and everything else is forbidden.

    Args:
        title, heading: of the page.
        look: how ``value`` is shown.
        value: what the script reads.
        settings: rows of label and text.
        credits, source: as of ``html_export``.
    """
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(look.code)}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Diffusion Playground">
<meta name="Iptc4xmpExt:DigitalSourceType" content="{source}">
<title>{html.escape(title)}</title>
<style>{_STYLE}{look.style}</style>
</head>
<body>
<main class="capsule">
<h1>{html.escape(heading)}</h1>
{look.body}
<h2>Settings</h2>
<table class="settings">{_rows(settings)}</table>
<h2>Credits</h2>
<ul>{"".join(f"<li>{html.escape(str(line))}</li>" for line in credits)}</ul>
</main>
<script type="application/json" id="reel">{as_json(value)}</script>
<script>{look.code}</script>
</body>
</html>
"""


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element with any text."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char, escape in _ESCAPES.items():
        text = text.replace(char, escape)
    return text


def _rows(settings: Sequence[Sequence[str]]) -> str:
    cells = [(html.escape(str(label)), html.escape(str(text))) for label, text in settings]
    return "".join(f"<tr><th scope='row'>{label}</th><td>{text}</td></tr>" for label, text in cells)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
