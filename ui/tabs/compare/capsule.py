"""A comparison as a capsule: one HTML file that plays all of its runs on one timeline, by noise level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.images.provenance import digital_source_type
from ui.components import phrases
from ui.components.assets import asset
from ui.inspector import lens_frames
from ui.inspector.export import credit_lines
from ui.inspector.html_export import Look, page
from ui.tabs.compare.cells import MADE_IN, two_value
from ui.tabs.compare.running import kept_value
from ui.tabs.compare.templates import VIEWER_HTML
from ui.tabs.compare.ways import SCRIPTS, WAYS_HTML, kept_map

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.grid.plan import Grid
    from pipelines.grid.sheet import Place
    from pipelines.trace.trace import Trace

_STYLE = """
:root { --mat: #e9e8e4; --chip: #efeeea; --on-accent: #fff; --bad: #b3261e; --reading: Lora, Georgia, serif; }
@media (prefers-color-scheme: dark) { :root { --mat: #232328; --chip: #232328; --on-accent: #06211e; --bad: #ff9d94; } }
.capsule { max-width: 1440px; margin: 0 auto; padding: 20px 24px 40px; }
.capsule .screen { container-type: inline-size; min-width: 0; }
.capsule .quiet { border: 1px solid var(--edge); border-radius: 9px; background: var(--ground); color: var(--ink);
  padding: 6px 12px; font-size: 13px; cursor: pointer; }
@media (max-width: 800px) { .capsule { padding: 12px 16px 32px; } }
"""
# Starts to play at once, unless the reader's system asks for less motion.
_START = """
const reel = JSON.parse(document.getElementById('reel').textContent);
const viewer = new Viewer(document.querySelector('.viewer'));
if (reel.map) {
  const map = new LaneMap(document.querySelector('.compared-ways'));
  map.draw(reel.map);
  document.addEventListener('playground:level', ({ detail }) => map.follow(detail.level));
}
viewer.take(reel);
if (!matchMedia('(prefers-reduced-motion: reduce)').matches) viewer.play();
"""


def capsule(plan: Grid | None, traces: Mapping[Place, Trace]) -> str:
    """The page.

    Args:
        plan: of the comparison; None for two runs that were chosen.
        traces: the finished runs by place, at least one.
    """
    runs = [traces[place] for place in sorted(traces)]
    value = kept_value(plan, traces, "capsule") if plan else two_value(runs[0], runs[-1])
    title = phrases.heading(runs[0].request) or "A comparison"
    drawn = kept_map(plan, traces)
    markup = WAYS_HTML.replace(" hidden>", ">") if drawn else ""
    look = Look(
        _STYLE + asset("tabs/compare/viewer.css", "inspector/origins/origins.css"),
        asset("tabs/compare/viewer.js", *SCRIPTS) + _START,
        f'<div class="screen">{VIEWER_HTML}</div>{markup}',
    )
    value |= {"map": drawn}
    made, recorded = zip(*map(credit_lines, runs), strict=True)
    credits = list(dict.fromkeys((*made, *recorded)))
    heading = "The same noise, compared" if _same_noise(runs) else "Pictures out of noise, compared"
    return page(title, heading, look, value, shared_settings(runs), credits, digital_source_type(runs[0].request))


def shared_settings(runs: Sequence[Trace]) -> list[tuple[str, str]]:
    """The settings that all runs have in common."""
    sides = [dict(lens_frames.settings(trace, 0)) for trace in runs]
    return [
        (label, text)
        for label, text in sides[0].items()
        if label != MADE_IN and all(side.get(label) == text for side in sides)
    ]


def _same_noise(runs: Sequence[Trace]) -> bool:
    """Whether all runs began with the same noise: one seed and size, and no picture."""
    starts: set[Any] = {(r.request.seeds[0], r.request.width, r.request.height, r.request.init) for r in runs}
    return len(starts) == 1
