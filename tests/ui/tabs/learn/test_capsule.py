"""The lesson as one file: its parts are the page's own, and nothing in it can ask for more."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from presets.catalogue import load
from ui.components import phrases
from ui.tabs.learn.capsule import lesson_capsule
from ui.tabs.learn.figures import chapter_values
from ui.tabs.learn.noise import noise_value

HOSTILE = "</script><script>window.hurt=1</script>"


def _file() -> str:
    cards = {card.id: card for card in load()}
    trace = phrases.recording(cards["pocket"])
    assert trace is not None
    page: Any = SimpleNamespace(card=cards.get)
    value = {
        "lesson": {"chapters": chapter_values(page, trace), "run": "", "whose": HOSTILE},
        "live": {"0": {"noise": noise_value(trace)}},
        "request": trace.request,
        "settings": [("Prompt", HOSTILE)],
        "credits": ["Made by a model."],
    }
    return lesson_capsule(value)


def test_it_mounts_every_part_of_the_lesson_in_one_script_that_its_policy_names() -> None:
    text = _file()
    assert re.findall(r"^mount\('([\w-]+)'", text, re.MULTILINE) == re.findall(r'<div id="(lesson|learn-\w+)">', text)
    assert text.count("<script") == text.count("</script>") == 2 and "default-src 'none'" in text
    assert HOSTILE not in text


def test_it_has_no_address_of_this_program_and_no_text_of_its_styles() -> None:
    text = _file()
    assert "gradio" not in text.lower() and "127.0.0.1" not in text
    assert len(text) < 600_000
