"""The chooser of samplers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pipelines.sampling.schedulers import SCHEDULERS
from presets.catalogue import load
from tests.support.site import tiny_card
from ui.form import controls
from ui.form.choosing.samplers import chosen, line, rows, value_of

CARDS = {card.id: card for card in load()}


def test_a_line_says_what_it_is_good_at_its_noise_and_its_steps() -> None:
    assert line(SCHEDULERS["dpmpp_2m"]) == "Clean pictures soon \u00b7 no new noise \u00b7 15 to 25 steps"
    assert "new noise at every step" in line(SCHEDULERS["euler_a"])
    assert line(SCHEDULERS["own"]) == "What it was published with"


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_each_model_is_offered_its_samplers_with_a_few_first(card: Any) -> None:
    found = rows(card)
    assert [row["name"] for row in found] == [name for _, name in controls.offered(card)]
    first = [row for row in found if row["first"]]
    assert 1 <= len(first) <= 4 and all(row["first"] for row in found if row["own"] or row["starred"])


def test_three_are_starred_and_a_distilled_model_stars_its_own() -> None:
    assert [row["name"] for row in rows(CARDS["sd15"]) if row["starred"]] == ["euler_a", "dpmpp_2m", "unipc"]
    assert [row["name"] for row in rows(CARDS["pocket-turbo"]) if row["starred"]] == ["lcm"]


def test_a_press_takes_the_sampler_over_and_names_the_quality() -> None:
    card = CARDS["pocket"]
    scheduler, quality = chosen(card, 25, "dpmpp_2m")
    assert (scheduler.value, quality) == ("dpmpp_2m", "balanced") and "Lu et al." in scheduler.info
    assert chosen(card, 25, "euler_a")[1] is None


@pytest.mark.parametrize("name", [None, "", "flow_euler", "gone", 3, ["ddim"], "lms"])
def test_what_does_not_work_with_the_model_changes_nothing(name: Any) -> None:
    card = CARDS["pocket"].model_copy(update={"terminal_snr_zero": True})
    assert chosen(card, 25, name) == (gr.skip(), gr.skip())


def test_an_unknown_model_has_no_rows() -> None:
    page: Any = SimpleNamespace(card={"tiny": tiny_card(Path("x"))}.get)
    assert value_of(page, {"model": "gone", "scheduler": None}) == {"rows": [], "chosen": None}
    assert value_of(page, {"model": "tiny", "scheduler": "ddim"})["rows"]
