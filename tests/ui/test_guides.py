"""Pictures that guide a run: what is asked for, what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from pipelines.adapters import AdapterFile
from pipelines.controlnets import ControlFile
from pipelines.request import InvalidRequest, make_request
from ui import guides
from ui.guides import Guides
from ui.making import Asking

ID, OTHER = "0" * 32, "1" * 32
GIVEN = {
    "image": None, "net": "edges", "kind": "canny", "weight": 1, "start": 0, "end": 1, "seen": None,
    "adapter": "plain", "strength": 0.6,
}  # fmt: skip


EDGES = ControlFile("edges", Path("edges"))


def built(nets: Any = (EDGES,), adapters: Any = ()) -> Guides:
    backend = SimpleNamespace(controls=lambda: nets, adapters=lambda: adapters)
    page: Any = SimpleNamespace(backend=backend)
    with gr.Blocks():
        return guides.build(page)


@pytest.fixture(scope="module")
def parts() -> Guides:
    return built(adapters=(AdapterFile("plain", Path("plain"), Path("x")),))


def values(parts: Guides, **changes: Any) -> dict[Any, Any]:
    return {getattr(parts, name): value for name, value in {**GIVEN, **changes}.items()}


def plain() -> Any:
    return make_request(
        model="m", prompt="a fox", width=64, height=64, scheduler="euler", num_inference_steps=4, guidance_scale=4.0,
        seed=1,
    )  # fmt: skip


def asked(parts: Guides, **changes: Any) -> Any:
    asking = Asking(set(), [], lambda given, new: plain())
    return guides.added(asking, parts).request_of(values(parts, **changes), False)


def test_without_a_picture_the_request_is_as_it_was(parts: Guides) -> None:
    assert asked(parts) == plain()


def test_a_map_and_a_look_go_into_the_request(parts: Guides) -> None:
    request = asked(parts, image=ID, seen=OTHER, weight=0.5, end=0.5)
    (control,) = request.controls
    assert (control.net, control.image, control.kind, control.weight, control.end) == ("edges", ID, "canny", 0.5, 0.5)
    assert (request.reference.adapter, request.reference.image, request.reference.weight) == ("plain", OTHER, 0.6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": ID, "net": None}, "There is no ControlNet chosen"),
        ({"seen": ID, "adapter": None}, "There is no IP-Adapter chosen"),
        ({"image": ID, "start": 0.6, "end": 0.4}, "controls.0 its end must lie after its start"),
        ({"image": ID, "weight": 9}, "controls.0.weight"),
        ({"image": "../etc", "weight": 1}, "controls.0.image"),
    ],
)
def test_what_does_not_fit_is_said_where_it_is(parts: Guides, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(parts, **changes)
    assert words in str(caught.value)
    found = parts.explain(str(caught.value))
    assert found is not None and found[parts.error] == str(caught.value)


def test_other_errors_stay_with_the_tab(parts: Guides) -> None:
    asking = Asking(set(), [], lambda given, new: plain(), explain=lambda text: {"theirs": text})  # type: ignore[dict-item]
    assert guides.added(asking, parts).explain("seed is wrong") == {"theirs": "seed is wrong"}


def test_it_is_there_only_where_something_can_be_used(parts: Guides) -> None:
    assert parts.box.visible and parts.where.visible and parts.how.visible
    nothing = built(nets=())
    assert not nothing.box.visible
    half = built()
    assert half.box.visible and half.where.visible and not half.how.visible


@pytest.mark.parametrize(
    "given", [(None, "canny", 64, 64), (ID, "magic", 64, 64), (ID, ["canny"], 64, 64), (ID, "canny", None, 64),
              (ID, "canny", 1e9, 64), (ID, "canny", float("nan"), 64), (3, "canny", 64, 64)],
)  # fmt: skip
def test_there_is_no_map_of_what_a_browser_should_not_send(given: tuple[Any, ...]) -> None:
    page: Any = SimpleNamespace(backend=SimpleNamespace(map_of=None))
    assert guides.map_uri(page, *given) is None
