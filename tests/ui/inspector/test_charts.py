"""The figures and the sentences say what the trace says."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from tests.support.known_trace import make_trace, stand
from ui.components.assets import asset
from ui.inspector import charts
from ui.inspector.charts import Axis, Series


@pytest.fixture(scope="module")
def trace():
    return make_trace()


def points(figure, line: int = 0) -> list:
    return list(figure.data[line].y)


def test_a_chart_holds_one_point_a_step(trace):
    for name in charts.CHARTS:
        figure, head = charts.chart(trace, 0, name)
        assert list(figure.data[0].x) == [1, 2, 3, 4, 5, 6]
        assert len(points(figure)) == len(head["now"]) == len(head["at"]) == len(head["dot"]) == 6


def test_the_points_are_the_traces_figures(trace):
    drawn = {name: points(charts.chart(trace, 0, name)[0]) for name in charts.CHARTS}
    assert drawn["sigma"] == [step.sigma for step in trace.steps]
    assert drawn["snr"] == [None] + [(step.alpha / step.sigma) ** 2 for step in trace.steps[1:]]
    assert drawn["change"][1:] == [trace.change(i, 0) for i in range(1, 6)]
    pull = trace.cond[:, 0] - trace.uncond[:, 0]
    assert drawn["guidance"] == pytest.approx([float(np.sqrt((one.astype(np.float64) ** 2).mean())) for one in pull])


def test_the_second_picture_has_lines_of_its_own():
    trace = make_trace(num_images=2)
    for name in ("change", "guidance"):
        first, second = (points(charts.chart(trace, k, name)[0])[1:] for k in (0, 1))
        assert first != second


def test_the_cursor_stands_on_the_line(trace):
    """Where the style sheet puts the cursor is where Plotly draws the point, from margins and range alone."""
    for name in charts.CHARTS:
        figure, head = charts.chart(trace, 0, name)
        (x_low, x_high), (y_low, y_high) = figure.layout.xaxis.range, figure.layout.yaxis.range
        for i, y in enumerate(points(figure)):
            assert head["at"][i] == pytest.approx((i + 1 - x_low) / (x_high - x_low))
            if y is None:
                assert head["dot"][i] is None
                continue
            y = math.log10(y) if figure.layout.yaxis.type == "log" else y
            assert head["dot"][i] == pytest.approx((y - y_low) / (y_high - y_low))
            assert 0 <= head["dot"][i] <= 1


def test_nothing_moves_a_figures_frame(trace):
    figure, _ = charts.chart(trace, 0, "snr")
    assert figure.layout.margin.to_plotly_json() == charts.MARGINS
    assert not figure.layout.margin.autoexpand
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert axis.fixedrange and axis.automargin is False
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_the_style_sheet_knows_the_margins():
    css = asset("inspector/panels.css")
    for name, side in (("left", "l"), ("right", "r"), ("top", "t"), ("bottom", "b")):
        assert f"--{name}: {charts.MARGINS[side]}px;" in css
    assert f"--high: {charts.HEIGHT}px;" in css
    # The legend of two lines: the picture's share, and the model's prediction.
    assert charts.PICTURE in css and charts.ACT in css


@pytest.mark.parametrize("colour", [charts.ACT, charts.NOISE, charts.PICTURE])
@pytest.mark.parametrize("ground", ["#ffffff", "#f6f6f4", "#111114", "#19191d"])
def test_a_line_stands_out_in_both_themes(colour: str, ground: str):
    low, high = sorted(map(luminance, (colour, ground)))
    assert (high + 0.05) / (low + 0.05) >= 3


def luminance(colour: str) -> float:
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_noise_is_violet_picture_is_amber_and_what_acts_is_teal(trace):
    drawn = {name: charts.chart(trace, 0, name)[0].data[0].line.color for name in charts.CHARTS}
    assert drawn == {
        "sigma": charts.NOISE, "snr": charts.PICTURE, "change": charts.PICTURE, "guidance": charts.ACT,
    }  # fmt: skip


def test_sentences_name_the_run_they_are_about(trace):
    said = {name: charts.chart(trace, 0, name)[1]["say"] for name in charts.CHARTS}
    # Pure noise at first, then cos(t pi / 1998): more picture than noise below t = 499.5.
    assert "100% of the mix" in said["sigma"]
    assert "step 4 of 6 (t = 400)" in said["snr"]
    assert "no signal at all" in said["snr"]
    largest = max(range(1, 6), key=lambda i: trace.change(i, 0))
    assert f"most in step {largest + 1} of 6" in said["change"]
    assert "hardest in step 1 of 6 (t = 999) and least in step 6" in said["guidance"]


def test_a_run_without_guidance_says_so():
    figure, head = charts.chart(make_trace(guidance_scale=1.0), 0, "guidance")
    assert points(figure) == [None] * 6
    assert "no guidance" in head["say"] and "no guidance" in head["now"][0]


def test_a_run_of_one_step_has_charts():
    trace = make_trace(done=1)
    said = {name: charts.chart(trace, 0, name)[1]["say"] for name in charts.CHARTS}
    assert "single step" in said["change"]
    assert "noise outweighs the picture before every step" in said["snr"]


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0%"), (1, "100%"), (0.0004, "less than 0.1%"), (0.99996, "more than 99.9%"), (0.064, "6.4%"), (0.5, "50%")],
)
def test_a_percentage_is_never_rounded_to_all_or_nothing(share: float, words: str):
    assert charts.percent(share) == words


def test_proportions_are_read_as_picture_to_noise():
    assert [charts.decade(power) for power in (-12, -2, 0, 3)] == ["1:10¹²", "1:100", "1:1", "1,000:1"]
    assert charts.ratio(0.00289) == "350 parts noise to 1 part picture"
    assert charts.ratio(2.5) == "2.5 parts picture to 1 part noise"


def test_an_axis_places_what_it_can():
    steep = Axis(0.01, 100.0, log=True)
    assert steep.share(1.0) == pytest.approx(0.5)
    assert [steep.share(v) for v in (0.0, None, math.inf, -1.0)] == [None] * 4
    assert charts.axis_for([0.002, 30.0], log=True).range == [-3, 2]
    assert charts.axis_for([None, 0.0]).high > 0
    assert charts.axis_for([0.0, None], log=True).high > charts.axis_for([], log=True).low


def test_a_gap_is_left_where_there_is_no_value():
    figure = charts.draw(
        [1, 2, 3],
        [Series([1.0, None, 3.0]), Series([0.5, 0.6, 0.7], "b", charts.PICTURE)],
        (Axis(0, 4), Axis(0, 4)),
        "x",
    )
    assert points(figure) == [1.0, None, 3.0]
    assert figure.data[1].line.color != figure.data[0].line.color


def test_refreshing_gives_one_update_for_each_output():
    import gradio as gr

    page = stand()
    with gr.Blocks():
        page.opened = gr.State(None)
        panel = charts.build(page)
    for opened in ({"id": "one", "picture": 0}, {"id": "gone", "picture": 0}, None):
        updates = panel.refresh(opened)
        assert len(updates) == len(panel.outputs)
        assert all(update is None for update in updates) == (opened is None or opened["id"] == "gone")


def test_the_plotting_library_waits_for_the_first_figure():
    modules = "ui.inspector.charts, ui.inspector.forward_process, ui.inspector.guidance"
    code = f"import sys, {modules}; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
