"""What is said of one entry, and of two."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from PIL import Image
from pydantic import BaseModel

from history.store import History
from pipelines import request
from pipelines.images.uploads import upload_id
from tests.support.history_entries import ask, keep, picture
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


ONE, TWO = "1" * 32, "2" * 32
INIT = {"image": ONE, "strength": 0.5}
MASKED = {**INIT, "mask": ONE}
CONTROL = {"net": "edges", "image": ONE, "kind": "map", "start": 0.1, "end": 0.9}
LOOK = {"adapter": "look", "image": ONE, "weight": 0.5}
TYPED = {"prompt": "a {fox|owl}", "negative_prompt": "x", "drawn": (("fox",),), "negative_drawn": ("x",)}
FORK = {"run": "r", "step": 1, "original": ask("a cat").model_dump()}
EACH = {"num_images": 2, "prompts": ("a fox", "a cat")}
# A field -> two requests' values that differ in it alone.
SWEEP: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": ({}, {"model": "tiny"}), "prompt": ({}, {"prompt": "a cat"}),
    "negative_prompt": ({}, {"negative_prompt": "blur"}), "width": ({}, {"width": 24}), "height": ({}, {"height": 24}),
    "sampling": ({}, {"seed": 8}), "scheduler": ({}, {"scheduler": "euler"}), "seed": ({}, {"seed": 9}),
    "num_inference_steps": ({}, {"num_inference_steps": 5}), "guidance_scale": ({}, {"guidance_scale": 5.0}),
    "num_images": ({}, {"num_images": 2}), "prompts": (EACH, {**EACH, "prompts": ("a fox", "a dog")}),
    "prompt_syntax": ({}, {"prompt_syntax": "a1111"}),
    "init": ({}, {"init": INIT}), "init.image": ({"init": INIT}, {"init": {**INIT, "image": TWO}}),
    "init.strength": ({"init": INIT}, {"init": {**INIT, "strength": 0.6}}),
    "init.noise_only": (
        {"init": {**INIT, "strength": 1.0}}, {"init": {**INIT, "strength": 1.0, "noise_only": True}}
    ),
    "init.mask": ({"init": MASKED}, {"init": {**MASKED, "mask": TWO}}),
    "init.feather": ({"init": MASKED}, {"init": {**MASKED, "feather": 3}}),
    "init.only_masked": ({"init": MASKED}, {"init": {**MASKED, "only_masked": True}}),
    "init.padding": tuple({"init": {**MASKED, "only_masked": True, "padding": k}} for k in (3, 4)),
    "variation": ({}, {"variation": {"seed": 1, "strength": 0.1}}),
    **{
        f"variation.{name}": tuple({"variation": {"seed": 1, "strength": 0.1, name: value}} for value in values)
        for name, values in {"seed": (1, 2), "strength": (0.1, 0.2)}.items()
    },
    "interpolation": ({"num_images": 2}, {"num_images": 2, "interpolation": {"seed": 0}}),
    "interpolation.seed": tuple({"num_images": 2, "interpolation": {"prompt": "b", "seed": k}} for k in (None, 0)),
    "interpolation.prompt": tuple({"num_images": 2, "interpolation": {"prompt": k, "seed": 1}} for k in (None, "")),
    "loras": ({}, {"loras": ({"name": "ink", "weight": 0.8},)}),
    "loras.name": tuple({"loras": ({"name": k, "weight": 0.8},)} for k in ("ink", "clay")),
    "loras.weight": tuple({"loras": ({"name": "ink", "weight": k},)} for k in (0.8, 0.9)),
    "controls": ({}, {"controls": (CONTROL,)}),
    **{
        f"controls.{name}": ({"controls": (CONTROL,)}, {"controls": ({**CONTROL, name: value},)})
        for name, value in
        {"net": "lines", "image": TWO, "kind": "canny", "weight": 0.5, "start": 0.2, "end": 0.8}.items()
    },
    "reference": ({}, {"reference": LOOK}),
    **{
        f"reference.{name}": ({"reference": LOOK}, {"reference": {**LOOK, name: value}})
        for name, value in {"adapter": "fine", "image": TWO, "weight": 0.6}.items()
    },
    "typed": ({}, {"typed": TYPED}),
    **{
        f"typed.{name}": ({"typed": TYPED}, {"typed": {**TYPED, name: value}})
        for name, value in
        {
            "prompt": "b", "negative_prompt": "y", "styles": ("Ink",), "drawn": (("owl",),), "negative_drawn": ("y",)
        }.items()
    },
    "fork": ({}, {"fork": FORK}), "fork.step": ({"fork": FORK}, {"fork": {**FORK, "step": 2}}),
    "fork.original": ({"fork": FORK}, {"fork": {**FORK, "original": ask("a dog").model_dump()}}),
    "fork.seed": tuple({"fork": {**FORK, "seed": k}} for k in (0, 1)),
}  # fmt: skip


def fields_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """The fields of a request and of its parts."""
    found = {f"{prefix}{name}" for name in model.model_fields}
    parts = {
        "init": request.InitImage, "variation": request.Variation, "interpolation": request.Interpolation,
        "loras": request.Lora, "controls": request.Control, "reference": request.ImagePrompt,
        "typed": request.TypedPrompt, "fork": request.Fork,
    }  # fmt: skip
    if prefix:
        return found
    return found.union(
        set(request.Sampling.model_fields), *(fields_of(part, f"{name}.") for name, part in parts.items())
    )


def test_every_field_of_a_request_is_shown_and_compared(history: History, question) -> None:
    assert set(SWEEP) | {"fork.run"} == fields_of(request.GenerationRequest)  # a run's id is no setting
    for name, (one, other) in SWEEP.items():
        place = 1 if name == "prompts" else 0
        ids = [keep(history, **{"prompt": "a fox", **values}, number=place) for values in (one, other)]
        found = comparison.comparison(question(ids=ids))
        assert any(row["differs"] for row in found["rows"]), name


def test_values_in_words() -> None:
    assert detail.value_of({"a": {"b": {"c": {"d": {"e": 1}}}}}).startswith("a b c d {")
    assert detail.value_of(10**400, "seconds").startswith("1000")
    assert detail.value_of(2.34, "seconds") == "2.3 s" and len(detail.value_of("x" * 9000)) <= detail.MAX_VALUE
    assert detail.size_words(0) == "0 KB" and detail.size_words(2_500_000) == "2.5 MB"
