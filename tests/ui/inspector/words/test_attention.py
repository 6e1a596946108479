"""The panel of attention: asked once, kept, and what it says where there are no maps."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gradio import EventData

from pipelines.jobs.backend import QueryFailed
from pipelines.trace.words.attention import AttentionMaps, attention_maps, batches, head_maps
from pipelines.trace.words.tokens import PromptWord
from tests.support.pipeline_parity import load
from tests.support.recorded_runs import ask, fork, record
from tests.support.tiny_families import make
from tests.support.tiny_model import make_tiny_model, tiny_card
from ui.components.frame_cache import FrameCache
from ui.inspector.html_export import html_export
from ui.inspector.words import attention, text_encoder
from ui.inspector.words.packing import NAMES, REST


class Words:
    """Answers with a model, in this thread."""

    def __init__(self, model: Any) -> None:
        self.model, self.asked, self.problem = model, [], ""

    def attention(self, trace: Any, k: int, steps: Any) -> Any:
        self.asked.append(list(steps))
        if self.problem:
            raise QueryFailed(self.problem)
        with torch.inference_mode():
            parts = [attention_maps(self.model, trace, k, batch) for batch in batches(trace, steps, 8)]
            return reduce(AttentionMaps.followed_by, parts)

    def heads(self, trace: Any, k: int, step: int, layer: str) -> Any:
        with torch.inference_mode():
            return head_maps(self.model, trace, k, step, layer)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(make_tiny_model(tmp_path_factory.mktemp("words")), "stable_diffusion")


@pytest.fixture
def page(model: Any) -> Any:
    queries = SimpleNamespace(words=Words(model))
    return SimpleNamespace(
        queries=queries, frame_cache=FrameCache(), cards={"tiny": tiny_card("x")}, bundled_trace=None
    )


def event(**values: Any) -> EventData:
    return EventData(None, values)


def test_maps_are_computed_in_parts_and_kept(page: Any, model: Any) -> None:
    _, trace = record(model, ask(num_inference_steps=10))
    assert attention.panel_value(page, trace, 0)["state"] == "closed"
    values = list(attention.compute(page, trace, 0))
    assert [value["state"] for value in values] == ["busy", "busy", "ready"]
    assert page.queries.words.asked == [list(range(8)), [8, 9]]
    assert "step 9 of 10" in values[1]["text"]
    assert {**attention.panel_value(page, trace, 0), "answer": True} == values[-1]
    assert attention.panel_value(page, trace, 1)["state"] == "closed"
    capsule = attention.capsule_value(trace, 0, page.frame_cache)
    assert capsule["attention"]["maps"]["steps"] == 10 and attention.capsule_value(trace, 1, page.frame_cache) == {}


def test_a_capsule_has_the_maps_or_no_place_for_them() -> None:
    value = {"title": "x", "settings": []}
    assert "word-maps" not in html_export(value, [], "s")
    shown = html_export({**value, "attention": {"run": "x:0"}}, [], "s")
    assert 'class="word-maps"' in shown and "new WordMaps" in shown


def test_heads_are_asked_for_within_bounds(page: Any, model: Any) -> None:
    _, trace = record(model, ask())
    *_, ready = attention.compute(page, trace, 0)
    maps, layer = ready["maps"], ready["maps"]["layers"][0]["name"]
    found = attention.heads(page, trace, 0, maps, event(step=1, word=1, layer=layer))
    assert found is not None and found["heads"] == len(found["peak"]) == 4
    for wrong in ({"step": 9}, {"word": -1}, {"word": float("nan")}, {"layer": "x"}, {"layer": None}, {"step": "1"}):
        assert attention.heads(page, trace, 0, maps, event(**{"step": 1, "word": 1, "layer": layer, **wrong})) is None


def test_a_word_of_the_page_is_found_among_those_of_a_step() -> None:
    words = [PromptWord(text, kind, (k,)) for k, (text, kind) in enumerate(
        [("a", "word"), ("fox", "word"), ("a", "word"), ("start", "start"), ("end", "end")])]  # fmt: skip
    shown = [("word", "fox"), ("word", "a"), ("word", "a"), ("word", "a"), ("end", NAMES["end"]), ("mark", REST)]
    assert [attention.place_of(k, shown, words) for k in range(len(shown))] == [1, 0, 2, None, 4, None]


def test_the_first_steps_of_a_fork_show_the_other_prompts_words(page: Any, model: Any) -> None:
    _, original = record(model, ask(prompt="a red fox", num_inference_steps=4))
    _, trace = fork(model, original, 2, prompt="a blue fox")
    *_, ready = attention.compute(page, trace, 0)
    maps = ready["maps"]
    names = [word["text"] for word in maps["words"]]
    blue, red = names.index("blue"), names.index("red")
    assert maps["absent"] == [[blue], [blue], [red], [red]] and "first 2 steps" in maps["about"] and not maps["note"]
    layer = maps["layers"][0]["name"]
    found = [attention.heads(page, trace, 0, maps, event(step=step, word=red, layer=layer)) for step in (1, 2)]
    assert found[0]["heads"] == 4 and found[1]["text"] == attention.NOT_READ


def test_what_cannot_be_shown_says_why(page: Any, model: Any) -> None:
    _, trace = record(model, ask())
    page.queries.words.problem = "The model is gone."
    *_, last = attention.compute(page, trace, 0)
    assert last["state"] == "failed" and last["text"] == "The model is gone."
    bare = replace(trace, cond=None, uncond=None)
    assert attention.panel_value(page, bare, 0)["state"] == "unavailable"
    assert text_encoder.panel_value(page, bare, 0)["state"] == "unavailable"
    page.cards = {}
    assert "not here any more" in text_encoder.panel_value(page, trace, 0)["text"]


def test_the_sentences_about_a_prompt_are_true(page: Any, model: Any, tmp_path: Any) -> None:
    asked = ask(prompt="(red:1.2) " + "abcdefghij " * 9, prompt_syntax="a1111", num_inference_steps=2)
    *_, ready = attention.compute(page, record(model, asked)[1], 0)
    assert "2 chunks" in ready["maps"]["about"] and "weights" in ready["maps"]["about"]
    *_, cut = attention.compute(page, record(model, ask(prompt="abcdefghij " * 9, num_inference_steps=2))[1], 0)
    assert "not read" in cut["maps"]["about"]
    flux = load(make("flux", tmp_path), "flux")
    page.queries.words = Words(flux)
    run = record(flux, ask(scheduler="flow_euler", num_inference_steps=2))[1]
    *_, joint = attention.compute(page, run, 0)
    assert "attends to itself" in joint["maps"]["about"] and joint["maps"]["joint"]


def test_the_text_encoders_pictures_are_counted_before_they_are_drawn(page: Any, model: Any) -> None:
    _, trace = record(model, ask(prompt="a red fox"))
    asked: list[tuple[str, float]] = []

    def draw(request: Any, share: float) -> Any:
        from PIL import Image

        asked.append((request.prompt, share))
        if len(asked) == 6:
            raise QueryFailed("No more.")
        return Image.new("RGB", (32, 32))

    page.queries.words = SimpleNamespace(text_layers=lambda name: 2, draw=draw)
    assert "6 pictures of 2 steps each with Tiny" in text_encoder.panel_value(page, trace, 0, 2)["foretold"]
    page.bundled_trace = trace
    assert "about" not in text_encoder.panel_value(page, trace, 0)["foretold"]
    assert "Up to 27 pictures" in text_encoder.panel_value(page, trace, 0)["foretold"]
    values = list(text_encoder.draw_all(page, trace, 0))
    assert [share for _, share in asked[:3]] == [0, 0.5, 1]
    assert [prompt for prompt, _ in asked[3:]] == ["red fox", "a fox", "a red"]
    assert values[-1]["state"] == "failed" and values[-1]["text"] == "No more."
    assert values[-1]["layers"][0]["title"].startswith("before the first layer")
    assert len(values[-1]["words"]) == 2
