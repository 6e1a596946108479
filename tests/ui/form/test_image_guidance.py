"""Pictures that guide a run: what is asked for, what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from pipelines.images.uploads import UploadStore
from pipelines.models.adapters.controlnet import ControlNetFile
from pipelines.models.adapters.ip_adapter import IPAdapterFile
from pipelines.request import InvalidRequest, make_request
from ui.form import image_guidance
from ui.form.form import FormSection, FormValues
from ui.form.image_guidance import ImageGuidance

ID, OTHER = "0" * 32, "1" * 32
GIVEN = {
    "map_upload": None, "map_image": None, "net": "edges", "kind": "canny", "weight": 1, "start": 0, "end": 1,
    "reference_upload": None, "reference_image": None, "adapter": "plain", "adapter_weight": 0.6,
}  # fmt: skip


EDGES = ControlNetFile("edges", Path("edges"))


def built(nets: Any = (EDGES,), adapters: Any = ()) -> ImageGuidance:
    backend = SimpleNamespace(adapters=SimpleNamespace(controlnets=lambda: nets, ip_adapters=lambda: adapters))
    page: Any = SimpleNamespace(backend=backend)
    with gr.Blocks():
        return image_guidance.lay_out(page)


def section(parts: ImageGuidance) -> FormSection:
    return parts.section()


@pytest.fixture(scope="module")
def parts() -> ImageGuidance:
    return built(adapters=(IPAdapterFile("plain", Path("plain"), Path("x")),))


def values(parts: ImageGuidance, **changes: Any) -> dict[Any, Any]:
    for name in ("map", "reference"):
        if f"{name}_image" in changes:
            changes[f"{name}_upload"] = f"{name}.png"
            changes[f"{name}_image"] = (f"{name}.png", changes[f"{name}_image"])
    return {getattr(parts, name): value for name, value in {**GIVEN, **changes}.items()}


PLAIN = {
    "model": "m", "prompt": "a fox", "width": 64, "height": 64, "scheduler": "euler", "num_inference_steps": 4,
    "guidance_scale": 4.0, "seed": 1,
}  # fmt: skip


def asked(parts: ImageGuidance, **changes: Any) -> Any:
    return make_request(**PLAIN, **parts.fields(FormValues(values(parts, **changes))))


def test_without_a_picture_the_request_is_as_it_was(parts: ImageGuidance) -> None:
    assert asked(parts) == make_request(**PLAIN)


def test_a_map_and_a_look_go_into_the_request(parts: ImageGuidance) -> None:
    request = asked(parts, map_image=ID, reference_image=OTHER, weight=0.5, end=0.5)
    (control,) = request.controls
    assert (control.net, control.image, control.kind, control.weight, control.end) == ("edges", ID, "canny", 0.5, 0.5)
    assert (request.reference.adapter, request.reference.image, request.reference.weight) == ("plain", OTHER, 0.6)


def test_an_upload_that_is_not_stored_yet_is_not_left_out(tmp_path: Path) -> None:
    """Whoever presses Generate at once: the event that stores the upload may still run, or know an earlier one."""
    new = parts_with_store(tmp_path)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "look.png")
    for earlier in (None, ("earlier.png", OTHER)):
        late = {"reference_upload": str(tmp_path / "look.png"), "reference_image": earlier}
        found = new.fields(FormValues({**values(new), **{getattr(new, name): late[name] for name in late}}))
        assert found["reference"]["image"] in {path.stem for path in (tmp_path / "inputs").rglob("*.png")}
    gone = {new.reference_upload: None, new.reference_image: ("look.png", OTHER)}
    assert "reference" not in new.fields(FormValues({**values(new), **gone}))
    (tmp_path / "bad.png").write_text("no picture")
    bad = {new.map_upload: str(tmp_path / "bad.png")}
    with pytest.raises(InvalidRequest) as caught:
        new.fields(FormValues({**values(new), **bad}))
    assert caught.value.field == "controls"


def parts_with_store(tmp_path: Path) -> ImageGuidance:
    files = SimpleNamespace(
        controlnets=lambda: (EDGES,), ip_adapters=lambda: (IPAdapterFile("plain", Path("plain"), Path("x")),)
    )
    page: Any = SimpleNamespace(
        backend=SimpleNamespace(adapters=files), inputs=UploadStore(tmp_path / "inputs").of(None)
    )
    with gr.Blocks():
        return image_guidance.lay_out(page)


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"map_image": ID, "net": None}, "controls.net", "No ControlNet is chosen"),
        ({"reference_image": ID, "adapter": None}, "reference.adapter", "No IP-Adapter is chosen"),
        ({"map_image": ID, "start": 0.6, "end": 0.4}, "controls.end", "End must lie after its start."),
        ({"map_image": ID, "weight": 9}, "controls.weight", "Weight must be at most 2."),
        ({"map_image": "../etc", "weight": 1}, "controls", "controls.0.image"),
    ],
)
def test_what_does_not_fit_is_said_at_its_control(
    parts: ImageGuidance, changes: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(parts, **changes)
    found = section(parts).show_error(caught.value)
    assert found is not None and found[parts.accordion].open
    shown = found[parts.errors[place]]
    assert words in (shown["text"] if isinstance(shown, dict) else shown)


def test_other_errors_stay_with_the_tab(parts: ImageGuidance) -> None:
    assert section(parts).show_error(InvalidRequest("seed", "Seed is wrong.")) is None


def test_it_is_there_only_where_something_can_be_used(parts: ImageGuidance) -> None:
    assert parts.accordion.visible and parts.control_group.visible and parts.reference_group.visible
    nothing = built(nets=())
    assert not nothing.accordion.visible
    half = built()
    assert half.accordion.visible and half.control_group.visible and not half.reference_group.visible


@pytest.mark.parametrize(
    "given", [(None, "canny", 64, 64), (ID, "magic", 64, 64), (ID, ["canny"], 64, 64), (ID, "canny", None, 64),
              (ID, "canny", 1e9, 64), (ID, "canny", float("nan"), 64), (3, "canny", 64, 64)],
)  # fmt: skip
def test_there_is_no_map_of_what_a_browser_should_not_send(given: tuple[Any, ...]) -> None:
    page: Any = SimpleNamespace(queries=None)
    assert image_guidance.map_uri(page, *given) is None


def test_the_closed_drawer_says_what_is_in_use() -> None:
    titles = [image_guidance.title(*given).label for given in ((None, None), (ID, None), (ID, OTHER))]
    alone = "Guide with an image"
    assert titles == [alone, f"{alone}: ControlNet", f"{alone}: ControlNet and IP-Adapter"]


def test_the_line_above_the_prompt_hears_what_guides(parts: ImageGuidance) -> None:
    found, (control, reference) = section(parts), section(parts).in_use_of
    assert found.in_use({control: "", reference: ""}) == []
    assert found.in_use({control: ID, reference: OTHER}) == [
        ("ControlNet", "map-picture"),
        ("IP-Adapter", "look-picture"),
    ]
