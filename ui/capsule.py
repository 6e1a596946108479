"""The capsule: one HTML file that replays a run anywhere, with the page's own player and no network.

The reel travels as JSON with every character escaped that could end its element; the player draws text with
``textContent`` alone.  A content security policy names the one script by its hash and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ui.player import PLAYER_HTML, script

HERE = Path(__file__).resolve().parent
# Ends of elements and comments, and the two line ends that old scripts stumble over.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --edge: #d4d4d8; --ink: #27272a; --soft: #52525b; --accent: #0f766e;
  --well: #e4e4e7; --paper: #fafafa; }
@media (prefers-color-scheme: dark) { :root { --ground: #18181b; --edge: #3f3f46; --ink: #e4e4e7; --soft: #a1a1aa;
  --accent: #5eead4; --well: #27272a; --paper: #09090b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
/* As wide as the player may be for its readouts to stay on the first screen; headings and table share its edges. */
.capsule { max-width: clamp(588px, calc(200vh - 832px), 1080px); margin: 0 auto; padding: 20px 24px 40px; }
.capsule .player { --square: calc((100cqw - 20px) / 2); }
.capsule button, .capsule select { font: inherit; }
.capsule h1 { font-size: 18px; margin: 0 0 8px; }
.capsule h2 { font-size: 16px; margin: 24px 0 8px; }
.capsule table { border-collapse: collapse; }
.capsule th { text-align: start; font-weight: 400; color: var(--soft); padding: 3px 24px 3px 0; vertical-align: top; }
.capsule td { padding: 3px 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.capsule :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.capsule li { margin: 2px 0; }
@media (max-width: 800px) {
  .capsule { max-width: none; padding: 12px 16px 32px; }
  .capsule .player { --square: 100%; }
}
"""
_START = """
const reel = JSON.parse(document.getElementById('reel').textContent);
const player = new Player(document.querySelector('.player'));
player.take(reel);
"""


def capsule(reel: dict[str, Any], credits: Sequence[str], source: str) -> str:
    """A self-contained page.

    Args:
        reel: everything of one run (``ui.reel.whole``).
        credits: sentences about who and what made it.
        source: IPTC's word for where the picture comes from (``pipelines.marks.source``).
    """
    style = _STYLE + (HERE / "player.css").read_text(encoding="utf-8")
    code = script() + _START
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(code)}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = html.escape(reel.get("title") or "A picture without a prompt")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Diffusion Playground">
<meta name="Iptc4xmpExt:DigitalSourceType" content="{source}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main class="capsule">
<h1>How this picture came out of noise</h1>
{PLAYER_HTML}
<h2>Settings</h2>
<table>{_rows(reel.get("settings") or [])}</table>
<h2>Credits</h2>
<ul>{"".join(f"<li>{html.escape(str(line))}</li>" for line in credits)}</ul>
</main>
<script type="application/json" id="reel">{as_json(reel)}</script>
<script>{code}</script>
</body>
</html>
"""


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever text it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char, escape in _ESCAPES.items():
        text = text.replace(char, escape)
    return text


def _rows(settings: Sequence[Sequence[str]]) -> str:
    cells = [(html.escape(str(label)), html.escape(str(text))) for label, text in settings]
    return "".join(f"<tr><th scope='row'>{label}</th><td>{text}</td></tr>" for label, text in cells)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
