"""Charts of a trace: noise, signal-to-noise, change and guidance over the steps, with the timeline's cursor.

Plotly is imported when the first figure is drawn.  A figure's margins and axis ranges are fixed, so that the cursor
is placed by the style sheet alone: ``--at`` and ``--dot`` are its position in the plot, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from ui.components.assets import asset
from ui.inspector.panel import Panel, opened_trace

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from pipelines.trace.trace import Trace
    from ui.context import PageContext

Values = list[float | None]

# Pixels; panels.css places the cursor with the same numbers.
HEIGHT, MARGINS = 220, {"l": 60, "r": 16, "t": 12, "b": 44, "autoexpand": False}
# The page's three colours, each of which stands out from white and from near black: teal acts, violet is noise, amber
# is picture.  Texts and grid lines take their colour from panels.css.
ACT, NOISE, PICTURE = "#0d9488", "#8567e0", "#b8700c"
_GREY = "#71717a"

HEAD = """
<div class="chart-head">
  <h3 data-part="title"></h3>
  <p class="term" data-part="term"></p>
  <p data-part="about"></p>
  <p class="say" data-part="say"></p>
  <p class="now" data-part="now"></p>
</div>
"""


@dataclass(frozen=True)
class Axis:
    """A fixed axis: ``low`` to ``high`` in the values' own unit."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float | None) -> float | None:
        """Where a value stands on the axis, 0 to 1; None where it cannot stand."""
        if value is None or not math.isfinite(value) or (self.log and value <= 0):
            return None
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    @property
    def range(self) -> list[float]:
        """As Plotly wants it: powers of ten on a logarithmic axis."""
        return [math.log10(self.low), math.log10(self.high)] if self.log else [self.low, self.high]


@dataclass(frozen=True)
class Series:
    """One line of a figure; ``label`` names it in the hover text when there are several."""

    values: Sequence[float | None]
    label: str = ""
    colour: str = ACT


def percent(share: float) -> str:
    """A share as people read it: 0.2%, 6%, 96%, 99.7%; never 0% or 100% for what is neither."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "less than 0.1%" if share < 0.5 else "more than 99.9%"
    return f"{share:.1%}" if 0 < share < 0.0995 or 0.9 < share < 1 else f"{share:.0%}"


def ratio(snr: float) -> str:
    """A signal-to-noise ratio in words: "1 part picture to 350 parts noise"."""
    more, side = (snr, "picture") if snr >= 1 else (1 / snr, "noise")
    parts = f"{more:.1f}" if more < 10 else f"{float(f'{more:.2g}'):,.0f}"
    other = "noise" if side == "picture" else "picture"
    return f"{parts} parts {side} to 1 part {other}"


def decade(power: int) -> str:
    """10**power as a proportion of picture to noise: "1:100", "100:1", "1:10⁶"."""
    size = abs(power)
    many = f"{10**size:,}" if size <= 4 else "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(size))
    return "1:1" if power == 0 else f"{many}:1" if power > 0 else f"1:{many}"


def axis_for(values: Sequence[float | None], *, log: bool = False, top: float | None = None) -> Axis:
    """An axis that holds these values with a small margin; from 0, or between powers of ten if logarithmic."""
    there = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    if log:
        if not there:
            return Axis(0.1, 10.0, log=True)
        low, high = math.floor(math.log10(min(there))), math.ceil(math.log10(max(there)))
        return Axis(10.0**low, 10.0 ** max(high, low + 1), log=True)
    return Axis(0.0, 1.06 * (top or max(there, default=0.0) or 1.0))


def draw(x: Sequence[float], lines: Sequence[Series], axes: tuple[Axis, Axis], x_title: str) -> go.Figure:
    """A figure with a transparent background that fills its column and cannot be dragged or zoomed.

    Args:
        x: places of the points on the horizontal axis.
        lines: one or two.
        axes: horizontal and vertical.
        x_title: the horizontal axis in words.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for line in lines:
        named = f"{line.label}: " if line.label else ""
        figure.add_scatter(
            x=list(x),
            y=[v if axes[1].share(v) is not None else None for v in line.values],
            mode="lines+markers" if len(x) <= 60 else "lines",
            line={"color": line.colour, "width": 2},
            marker={"size": 5},
            # A point on the edge is drawn whole.
            cliponaxis=False,
            hovertemplate=f"{named}%{{y:.3g}}<extra></extra>",
        )
    figure.update_layout(
        template="none",
        height=HEIGHT,
        margin=MARGINS,
        autosize=True,
        showlegend=False,
        dragmode=False,
        hovermode="x unified" if len(lines) > 1 else "closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "IBM Plex Sans, system-ui, sans-serif", "size": 13, "color": _GREY},
        hoverlabel={"bgcolor": "#27272a", "font": {"color": "#ffffff"}},
    )
    _axes(figure, axes, x_title)
    return figure


def _axes(figure: go.Figure, axes: tuple[Axis, Axis], x_title: str) -> None:
    still = {"fixedrange": True, "automargin": False, "zeroline": False, "gridcolor": "rgba(113,113,122,0.25)"}
    across, up = axes
    title = {"text": x_title, "standoff": 8, "font": {"size": 13}}
    figure.update_xaxes(range=across.range, title=title, showgrid=False, nticks=8, **still)
    figure.update_yaxes(range=up.range, type="log" if up.log else "linear", nticks=5, **still)
    if up.log:
        low, high = (round(end) for end in up.range)
        stride = max(1, math.ceil((high - low) / 4))
        powers = [power for power in range(low, high + 1) if power % stride == 0]
        figure.update_yaxes(tickvals=[10.0**power for power in powers], ticktext=[decade(power) for power in powers])


# -- the charts of a trace --------------------------------------------------------------------------------------


def sigmas(trace: Trace, k: int) -> Values:
    """sigma of each step."""
    return [step.sigma for step in trace.steps]


def snrs(trace: Trace, k: int) -> Values:
    """(alpha / sigma)^2 of each step; None where it is 0 or infinite, which a logarithmic axis cannot show."""
    return [step.snr if 0 < step.snr < math.inf else None for step in trace.steps]


def changes(trace: Trace, k: int) -> Values:
    """Root mean square change of the predicted x0 in each step; the first has nothing to compare with."""
    return [None, *(trace.change(i, k) for i in range(1, len(trace.steps)))]


def guidance_norms(trace: Trace, k: int) -> Values:
    """Root mean square of cond - uncond in each step; None without guidance."""
    found = [trace.guidance(i) for i in range(len(trace.steps))]
    return [None if one is None else float(np.sqrt(np.mean(np.square(one[k], dtype=np.float64)))) for one in found]


def formatted(value: float | None, words: str) -> str:
    """A value with three figures, or the words for none."""
    return words if value is None else f"{value:.3g}"


def step_name(trace: Trace, i: int) -> str:
    """Step i as people count, with its timestep."""
    return f"step {i + 1} of {len(trace.steps)} (t = {trace.steps[i].timestep:.0f})"


def describe_sigma(trace: Trace, k: int, values: Values) -> str:
    """The noise share before the first and the last step."""
    first, last = trace.steps[0], trace.steps[-1]
    return (
        f"Before the first step noise makes up {percent(1 - first.alpha_bar)} of the mix, before the last one "
        f"{percent(1 - last.alpha_bar)}."
    )


def describe_snr(trace: Trace, k: int, values: Values) -> str:
    """From which step on the signal outweighs the noise."""
    over = next((i for i, step in enumerate(trace.steps) if step.snr >= 1), None)
    blank = (
        "The first step has no signal at all, and 0 cannot be shown on this scale. " if trace.steps[0].snr == 0 else ""
    )
    if over is None:
        return f"{blank}In this run noise outweighs the picture before every step."
    if over == 0:
        return f"{blank}In this run the picture outweighs the noise from the first step on."
    name, snr = step_name(trace, over), trace.steps[over].snr
    return f"{blank}The picture outweighs the noise from {name} on, with SNR {snr:.2f}."


def describe_change(trace: Trace, k: int, values: Values) -> str:
    """The largest change, and when half of it all was done."""
    if len(trace.steps) < 2 or not any(v for v in values):
        return "This run has a single step, so there is no change to show."
    largest = max(range(1, len(values)), key=lambda i: values[i] or 0.0)
    half = next((i for i, share in enumerate(trace.cumulative_change(k)) if share >= 0.5), len(values) - 1)
    return f"The guess changed most in {step_name(trace, largest)}; half of all change was done after step {half + 1}."


def describe_guidance(trace: Trace, k: int, values: Values) -> str:
    """Where the prompt pulls hardest, or why there is nothing."""
    there = {i: v for i, v in enumerate(values) if v is not None}
    if not there:
        return "This run had no guidance (1 or below), so there is no pull to draw. Raise it above 1 to see one."
    hardest, weakest = max(there, key=lambda i: there[i]), min(there, key=lambda i: there[i])
    return f"The prompt pulls hardest in {step_name(trace, hardest)} and least in step {weakest + 1}."


@dataclass(frozen=True)
class Chart:
    """One chart of a trace.

    Attributes:
        title: everyday words.
        term: the field's term.
        about: one sentence for a beginner.
        values: (trace, picture) -> one number a step; None leaves a gap.
        describe: (trace, picture, values) -> what is to be seen in this run, with its figures.
        readout: one of the values -> the words at the cursor.
        colour: of its line.
        log: whether the axis is logarithmic.
        top: end of the axis, when the quantity has one.
    """

    title: str
    term: str
    about: str
    values: Callable[[Trace, int], Values]
    describe: Callable[[Trace, int, Values], str]
    readout: Callable[[float | None], str]
    colour: str
    log: bool = False
    top: float | None = None


CHARTS: Mapping[str, Chart] = MappingProxyType(
    {
        "sigma": Chart(
            "How noisy it still is",
            "noise level, sigma",
            "1 is nothing but noise, 0 is a clean picture. The scheduler sets these levels before the run starts.",
            sigmas,
            describe_sigma,
            lambda v: "" if v is None else f"{v:.3f}, that is {percent(v * v)} noise",
            NOISE,
            top=1.0,
        ),
        "snr": Chart(
            "Picture against noise",
            "signal-to-noise ratio, SNR",
            "At 1 there is as much picture as noise. Each line up is more picture, by the same factor every time.",
            snrs,
            describe_snr,
            lambda v: "outside this scale" if v is None else f"{v:.3g}, {ratio(v)}",
            PICTURE,
            log=True,
        ),
        "change": Chart(
            "How much each step changed",
            "change of the predicted x0, root mean square",
            "High where the model changes its guess, low where it only refines it.",
            changes,
            describe_change,
            lambda v: formatted(v, "the first step has nothing to compare with"),
            PICTURE,
        ),
        "guidance": Chart(
            "How hard the prompt pulls",
            "guidance direction, norm of cond - uncond",
            "The difference between the answer with the prompt and the one without it; guidance multiplies it.",
            guidance_norms,
            describe_guidance,
            lambda v: formatted(v, "no guidance"),
            ACT,
        ),
    }
)


def chart(trace: Trace, k: int, name: str) -> tuple[go.Figure, dict[str, Any]]:
    """A chart's figure and the value of its head: words, and where the cursor stands at each step."""
    spec = CHARTS[name]
    values = spec.values(trace, k)
    count = len(trace.steps)
    across, up = Axis(0.5, count + 0.5), axis_for(values, log=spec.log, top=spec.top)
    steps = list(range(1, count + 1))
    head = {
        "run": trace.id,
        "title": spec.title,
        "term": spec.term,
        "about": spec.about,
        "say": spec.describe(trace, k, values),
        "now": [f"Step {i} of {count}: {spec.readout(v)}" for i, v in zip(steps, values, strict=True)],
        "at": [across.share(i) for i in steps],
        "dot": [up.share(v) for v in values],
    }
    return draw(steps, [Series(values, colour=spec.colour)], (across, up), "step"), head


def build(page: PageContext) -> Panel:
    """The panel: a grid of charts, each with its words above it."""
    heads, plots = [], []
    with gr.Row(elem_id="charts"):
        for name in CHARTS:
            with gr.Column(elem_classes="chart", min_width=0):
                heads.append(
                    gr.HTML(None, html_template=HEAD, js_on_load=asset("inspector/charts.js"), apply_default_css=False)
                )
                plots.append(graph(f"chart-{name}"))

    def refresh(value: Any) -> tuple[Any, ...]:
        found = opened_trace(page, value)
        if found is None:
            return tuple(None for _ in [*heads, *plots])
        drawn = [chart(*found, name) for name in CHARTS]
        return (*(head for _, head in drawn), *(figure for figure, _ in drawn))

    return Panel(refresh, [*heads, *plots])


def graph(elem_id: str) -> gr.Plot:
    """A place for a figure; inside a column of class ``chart`` it carries the cursor."""
    return gr.Plot(None, show_label=False, container=False, elem_id=elem_id, elem_classes="graph")
