"""The buttons next to errors: which remedy leads to which."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipelines.request_errors import LEAVE_OUT, SHORTEN, SMALLER, TRY_AGAIN, VALUE, Remedy
from ui.components.assets import asset
from ui.components.next_steps import NEXT_STEPS, next_step


@pytest.mark.parametrize(
    ("remedy", "step"),
    [
        (Remedy(VALUE, 2048), {"label": "Use 2048", "to": "set", "value": 2048}),
        (Remedy(VALUE, 1.0), {"label": "Use 1", "to": "set", "value": 1.0}),
        (Remedy(VALUE, "9223372036854775804"), {"label": "Use 9223372036854775804", "to": "set"}),
        (Remedy(SHORTEN, 2000), {"label": "Cut to 2000 characters", "to": "cut", "value": 2000}),
        (Remedy(LEAVE_OUT, "ink"), {"label": "Leave out ink", "to": "remove", "value": "ink"}),
        (Remedy(SMALLER), {"label": "Make it smaller", "to": "fix", "fix": SMALLER}),
        (TRY_AGAIN, {"label": "Try again", "to": "generate"}),
        (Remedy("controls.0.image"), {"label": "Remove the map", "to": "fix", "fix": "controls.image"}),
        (Remedy("controls.0.net"), {"label": "Remove the map", "to": "fix", "fix": "controls.net"}),
        (Remedy("variation.seed"), {"label": "Draw a random seed", "to": "seed"}),
        (Remedy("prompt"), {}),
        (Remedy("controls.0.end"), {}),
        (Remedy(""), {}),
    ],
)
def test_a_remedy_is_one_button(remedy: Remedy, step: dict[str, Any]) -> None:
    found = next_step(remedy)
    assert {name: found[name] for name in step} == step and bool(found) == bool(step)


def test_a_long_text_of_the_user_does_not_widen_the_button() -> None:
    found = next_step(Remedy(LEAVE_OUT, "x" * 400))
    assert len(found["label"]) < 50 and found["value"] == "x" * 400


def test_the_browser_can_do_each_of_them() -> None:
    table = asset("form/next_steps.js").partition("const DOES = {")[2].partition("\n};")[0]
    known = set(re.findall(r"^  (\w+)(?:\(|: )", table, re.MULTILINE))
    assert {to for _, to in NEXT_STEPS.values() if not to.startswith("#/")} == known
