"""What a visitor waits for, in a real browser: row 18, a first visit; row 19, an open page.

Unlike other rows these are seconds: a visitor notices them on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.rows.page import browser_of, browser_page
from benchmarks.rows.program import ServedProgram, card_of, program
from benchmarks.rows.results import Result, percentile
from benchmarks.rows.workshop import STEPS, Bench

# Notes when the stage's first two different frames were on view, milliseconds since the page was asked for.
NOISE_MOVES = """
window.framesSeen = [];
const look = () => {
  const source = document.querySelector('#stage .cell img:not(.fading)')?.src;
  if (source && source !== window.framesSeen.at(-1)?.source) window.framesSeen.push({source, at: performance.now()});
  if (window.framesSeen.length < 2) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
# The page, and what it asked for until then: requests, bytes that were sent and bytes after unpacking.
ASKED = """() => {
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const sum = (name) => all.reduce((total, one) => total + one[name], 0);
  return {
    seconds: window.framesSeen[1].at / 1000, first_frame_ms: Math.round(window.framesSeen[0].at),
    requests: all.length, sent_kb: Math.round(sum('transferSize') / 1000),
    unpacked_kb: Math.round(sum('decodedBodySize') / 1000), page_kb: Math.round(all[0].decodedBodySize / 1000),
    page_ms: Math.round(all[0].responseEnd),
  };
}"""
_FRAME = "const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));"
FIRST_FRAME = f"""async () => {{
  {_FRAME}
  const stage = document.querySelector('#stage .stage');
  const before = stage.dataset.run;
  const started = performance.now();
  document.querySelector('.generate-button button, button.generate-button').click();
  while (stage.dataset.run === before || !(Number(stage.dataset.seen) > 0)) await frame();
  const seen = performance.now();
  while (stage.dataset.state !== 'done') await frame();
  return (seen - started) / 1000;
}}"""
SWITCH = f"""async (name) => {{
  {_FRAME}
  const started = performance.now();
  document.querySelector(`#tabs button[data-tab-id="${{name}}"]`).click();
  while (!document.getElementById(`tab-${{name}}`)?.checkVisibility()) await frame();
  await frame();
  return (performance.now() - started) / 1000;
}}"""
LOOK_INSIDE = f"""async () => {{
  {_FRAME}
  const run = document.querySelector('#stage .stage').dataset.run;
  const player = () => document.querySelector('#player .player');
  const draws = () => Number(player()?.dataset.draws || 0);
  const before = draws();
  const started = performance.now();
  document.querySelector('#stage [data-part="inside"]').click();
  while (!(player()?.checkVisibility() && player().dataset.run === `${{run}}:0` && draws() > before)) await frame();
  const first = performance.now();
  // What the stage had is shown at first: two lenses.  The rest comes from the server.
  const lenses = () => [...player().querySelector('select').options];
  while (lenses().length < 3 || lenses().some((one) => one.disabled)) await frame();
  return [(first - started) / 1000, (performance.now() - started) / 1000, lenses().length];
}}"""
TABS = "[...document.querySelectorAll('#tabs > .tab-wrapper button[data-tab-id]')].map((one) => one.dataset.tabId)"
ALL_BUILT = f"() => {TABS}.every((name) => document.getElementById(`tab-${{name}}`)?.childElementCount)"


def first_visit(bench: Bench) -> Iterator[Result]:
    """Row 18: each time a browser that has nothing of the page yet; the first after the program's start counts, too."""
    with program(bench, card_of(bench)) as served, browser_of(served) as visitor:
        found = []
        for _ in range(max(3, bench.rounds // 3)):
            page = visitor()
            page.add_init_script(NOISE_MOVES)
            page.goto(f"http://127.0.0.1:{served.server.port}", wait_until="commit")
            page.wait_for_function("() => window.framesSeen.length > 1", timeout=120_000)
            found.append(page.evaluate(ASKED))
            page.context.close()
        visited = visitor()
        again = [_visit_again(visited, served) for _ in range(3)]
    seconds = [one.pop("seconds") for one in found]
    facts = {**found[-1], "first_s": round(seconds[0], 2), "again_s": round(sorted(again)[1], 2)}
    yield limit(18, "seconds from a first visit to noise that moves", seconds, 2.0, **facts)


def _visit_again(page: Any, served: ServedProgram) -> float:
    """Seconds of another visit with the same browser."""
    page.add_init_script(NOISE_MOVES)
    page.goto(f"http://127.0.0.1:{served.server.port}", wait_until="commit")
    page.wait_for_function("() => window.framesSeen.length > 1", timeout=120_000)
    return float(page.evaluate(ASKED)["seconds"])


def open_page(bench: Bench) -> Iterator[Result]:
    """Row 19: the page's answers to clicks."""
    card = card_of(bench)
    with program(bench, card) as served, browser_page(served) as page:
        served.warm_up(STEPS)
        page.wait_for_function(ALL_BUILT, timeout=120_000)
        page.wait_for_timeout(2000)
        frames, firsts, alls, switches, count = [], [], [], [], 0
        names = page.evaluate(TABS)
        for k in range(bench.rounds + 1):
            page.evaluate(SWITCH, "text-to-image")
            page.wait_for_timeout(300)
            clicked = page.evaluate(FIRST_FRAME)
            first, every, count = page.evaluate(LOOK_INSIDE)
            page.wait_for_timeout(300)
            switched = [page.evaluate(SWITCH, name) for name in names]
            if k:  # the first round warms up
                frames.append(clicked)
                firsts.append(first)
                alls.append(every)
                switches += switched
    yield limit(19, "seconds from Generate to the first frame", frames, 0.3)
    yield limit(19, "seconds from a tab's click to the tab", switches, 0.1, tabs=len(names))
    yield limit(19, "seconds from Look inside to the first lens", firsts, 0.3)
    yield limit(19, "seconds from Look inside to all lenses", alls, 1.0, lenses=count)


def limit(row: int, what: str, seconds: list[float], target: float, **facts: Any) -> Result:
    """Seconds that may be no more than so many."""
    median, most = percentile(seconds, 0.5), percentile(seconds, 0.95)
    return Result(row, what, round(median, 3), round(most, 3), target, facts=facts)
