"""The control that writes a LoRA into the prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.loras import LoraFile
from ui.controls import lora_control, lora_label, with_lora

INK = LoraFile("ink", Path("ink.safetensors"), ("Inkwash", "fox"))
CLAY = LoraFile("my clay", Path("my clay.safetensors"))
FILES = (INK, CLAY)


def test_the_control_is_there_only_where_there_is_something_to_choose() -> None:
    assert lora_control(()).visible is False
    shown = lora_control(FILES)
    assert shown.visible and [name for _, name in shown.choices] == ["ink", "my clay"]
    assert lora_label(INK) == "ink (say: Inkwash, fox)" and lora_label(CLAY) == "my clay"


@pytest.mark.parametrize(
    ("prompt", "name", "then"),
    [
        ("a fox ", "ink", "a fox, Inkwash <lora:ink:1>"),
        ("an inkwash fox", "ink", "an inkwash fox <lora:ink:1>"),
        ("a fox", "my clay", "a fox <lora:my clay:1>"),
        ("", "my clay", "<lora:my clay:1>"),
        (None, "ink", "Inkwash <lora:ink:1>"),
        ("a fox <lora:ink:0.4>", "ink", "a fox <lora:ink:0.4>"),
        ("a fox", "gone", "a fox"),
        ("a fox", None, "a fox"),
    ],
)
def test_choosing_one_writes_it_into_the_prompt(prompt: str | None, name: str | None, then: str) -> None:
    assert with_lora(prompt, name, FILES) == then
