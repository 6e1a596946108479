"""What is said of one entry, and of two."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from PIL import Image

from history.store import History
from pipelines.images.uploads import upload_id
from tests.support.history_entries import keep, picture
from tests.support.known_trace import make_trace
from ui.tabs.history import comparison, detail
from ui.tabs.history.detail import KEPT, NO_TIMELINE, STRIP


def rows(found: dict[str, Any], name: str) -> dict[str, str]:
    return {label: value for _, label, value in found["entry"][name]}


def test_every_setting_and_how_it_was_made(history: History, question) -> None:
    made = keep(
        history, "a fox", model="tiny", negative_prompt="blur", num_images=2, number=1, run="r", notes=("Cut.",),
        loras=({"name": "ink", "weight": 0.8},), init={"image": "0" * 32, "strength": 0.5},
    )  # fmt: skip
    found = detail.entry_value(question(ids=[made]))
    expected = {
        "Negative prompt": "blur", "Model": "Tiny", "Scheduler": "DDIM", "Steps": "2 of 4", "Guidance scale": "4",
        "Seed": "8", "Size": "16 \u00d7 16", "Strength": "0.5", "LoRA": "ink 0.8", "Picture": "2 of 2",
    }  # fmt: skip
    assert expected.items() <= rows(found, "settings").items()
    assert rows(found, "facts")["Device"] == "cpu" and rows(found, "facts")["File"].startswith(made)
    assert found["entry"]["notes"] == ["Cut."] and found["entry"]["kind"] == "Image to image"


def test_settings_that_cannot_be_run_are_shown_as_written(history: History, question) -> None:
    made = keep(history)
    with history.database.write() as connection:
        connection.execute("""UPDATE details SET request = '{"model": "old", "deep": {"a": [1, {"b": 2}]}}'""")
    entry = detail.entry_value(question(ids=[made]))["entry"]
    assert not entry["usable"] and entry["notes"] == [detail.OLD]
    assert ("deep", "Deep", "a 1, b 2") in entry["settings"]


def test_the_timeline_is_the_traces_or_the_strip_that_remains() -> None:
    trace = replace(make_trace(), finals=(b"",))
    found: Any = SimpleNamespace(entry=SimpleNamespace(place=0), strip=None)
    kept = detail.timeline(found, trace)
    assert kept["kept"] and kept["text"] == KEPT and kept["strip"].startswith("data:image/jpeg")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    found.strip = SimpleNamespace(read_bytes=file.getvalue)
    assert detail.timeline(found, None)["text"] == STRIP
    found.strip = None
    assert detail.timeline(found, None) == {"strip": "", "kept": False, "text": NO_TIMELINE}
    found.entry.place = 99
    assert detail.timeline(found, trace)["text"] == NO_TIMELINE


def test_a_family_is_a_tree_by_generations(history: History, question) -> None:
    root = keep(history, colour="red")
    child = keep(history, colour="green", init={"image": upload_id(picture("red")), "strength": 0.5})
    grandchild = keep(history, colour="blue", init={"image": upload_id(picture("green")), "strength": 0.5})
    sibling = keep(history, colour="pink", seed=9, init={"image": upload_id(picture("red")), "strength": 0.5})
    found = detail.entry_value(question(ids=[child]))["entry"]["family"]
    depths = {member["id"]: member["depth"] for member in found["members"]}
    assert depths == {root: -1, child: 0, grandchild: 1}
    assert (root, child, "made from") in found["links"]
    assert sibling in {each["id"] for each in detail.entry_value(question(ids=[root]))["entry"]["family"]["members"]}
    assert detail.entry_value(question(ids=[keep(history, colour="white")]))["entry"]["family"]["members"] == []


def test_two_entries_are_compared(history: History, question) -> None:
    one, two = keep(history, "a fox", seed=1), keep(history, "a fox", seed=2, negative_prompt="blur")
    found = comparison.comparison(question(ids=[one, two]))
    differing = {row["label"]: row["values"] for row in found["rows"] if row["differs"]}
    assert differing == {"Seed": ["1", "2"], "Negative prompt": [comparison.NONE, "blur"]}
    assert [row["differs"] for row in found["rows"]] == sorted((row["differs"] for row in found["rows"]), reverse=True)
    assert comparison.comparison(question(ids=[one]))["problem"] == comparison.CHOOSE_TWO


def test_values_in_words() -> None:
    assert detail.value_of({"a": {"b": {"c": {"d": {"e": 1}}}}}).startswith("a b c d {")
    assert detail.value_of(2.34, "seconds") == "2.3 s" and len(detail.value_of("x" * 9000)) <= detail.MAX_VALUE
    assert detail.size_words(0) == "0 KB" and detail.size_words(2_500_000) == "2.5 MB"
