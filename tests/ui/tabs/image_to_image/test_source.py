"""From the source image's controls to a request."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from history.store import History
from pipelines.images.uploads import UploadStore, upload_id
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.users import OWNER
from pipelines.request import MAX_SIDE, InvalidRequest
from tests.support.history_entries import ask
from tests.support.source_tab import SourceTab, noise_image
from ui.components import mask_editor
from ui.tabs.image_to_image import crop_frame, prepared_image, source
from ui.tabs.image_to_image.prepared_image import INPAINT, OUTPAINT, WHOLE
from ui.tabs.image_to_image.source import NO_IMAGE, UNMARKED


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> str:
    """What the painting surface sends: a stroke on nothing."""
    found, file = Image.new("RGBA", size), io.BytesIO()
    found.paste((15, 118, 110, 255), box)
    found.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_without_a_picture_one_is_asked_for(tab: SourceTab):
    assert tab.prepare() is None
    with pytest.raises(InvalidRequest, match="Choose an image") as problem:
        tab.request()
    assert str(problem.value) == NO_IMAGE


def test_a_picture_of_the_models_size_starts_a_run_as_it_is(tab: SourceTab, path: str):
    base = tab.prepare(upload=path, strength=1)
    assert base is not None and base.mode == WHOLE and base.notes == ()
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height, request.init.strength, request.init.mask) == (64, 64, 1.0, None)
    assert np.array_equal(tab.stored(request.init.image), np.asarray(noise_image(64, 64)))


def test_each_way_to_fit_another_shape_gives_another_picture(tab: SourceTab, tmp_path: Path):
    file = tmp_path / "wide.png"
    noise_image(130, 64).save(file)
    found = [tab.prepare(upload=str(file), fit=how, colour="#ff0000") for how in ("crop", "pad", "stretch")]
    pictures = [tab.stored(one.image) for one in found if one]
    assert [one.shape for one in pictures] == [(64, 64, 3)] * 3
    assert len({one.tobytes() for one in pictures}) == 3
    assert (pictures[1][0] == (255, 0, 0)).all(), "a padded picture has the chosen colour around it"
    with pytest.raises(InvalidRequest, match="fit is"):
        tab.prepare(fit="bend")


@pytest.mark.parametrize("mode", [WHOLE, OUTPAINT])
def test_a_crop_of_a_picture_of_the_history_has_it_as_its_parent(inputs: UploadStore, tmp_path: Path, mode: str):
    history = History(tmp_path)
    history.open(background=False)
    tab = SourceTab(inputs, history)
    wide = noise_image(130, 64)
    parent = history.keep(wide, ask(), PictureFacts(7, 0, "run", OWNER))
    assert tab.prepare(upload=str(history.path(parent)), fit="crop", mode=mode, strength=0.5)
    request = tab.request()
    child = history.keep(noise_image(64, 64, 1), request, PictureFacts(7, 0, "run2", OWNER))
    assert [(link.parent, link.child) for link in history.family(OWNER, child).links] == [(parent, child)]
    history.close()


def test_the_frame_chooses_the_part_that_a_crop_keeps(tab: SourceTab, tmp_path: Path):
    file = str(tmp_path / "wide.png")
    noise_image(130, 64).save(file)
    whole = np.asarray(noise_image(130, 64))
    for x, left in ((0.0, 0), (0.5, 33), (1.0, 66)):
        base = tab.prepare(upload=file, focus=(file, x, 0.5))
        assert base is not None and np.array_equal(tab.stored(base.image), whole[:, left : left + 64]), x
    frame = crop_frame.crop_frame_value(tab.source.preparation(tab.values, tab.form), file, base.original)
    assert (frame["size"], frame["x"], frame["y"], frame["shown"]) == ([64, 64], 1.0, 0.5, True)
    # The browser keeps the place under the image's own id, which is the same in another file.
    assert frame["original"] == upload_id(noise_image(130, 64))
    tab.hold(fit="pad")
    assert not crop_frame.crop_frame_value(tab.source.preparation(tab.values, tab.form), file, "")["shown"]
    # On another image the frame is in the middle again.
    assert crop_frame.focus_of("another.png", (file, 1.0, 0.5)) == (0.5, 0.5)


@pytest.mark.parametrize("sent", [{}, {"x": "1", "y": 0}, {"x": 2, "y": 0}, {"x": float("nan"), "y": 0}, None])
def test_a_place_that_is_none_moves_no_frame(sent: Any):
    data = gr.EventData(None, sent)
    assert crop_frame.moved("a.png", data) == gr.skip()
    assert crop_frame.moved("a.png", gr.EventData(None, {"x": 0.25, "y": 1})) == ("a.png", 0.25, 1.0)


def test_a_model_brings_its_own_strength(tab: SourceTab):
    assert tab.source.strength.value == source.own_strength(tab.page, "tiny") == 0.6
    assert source.own_strength(tab.page, "gone") == source.own_strength(tab.page, ["tiny"]) == gr.skip()


def test_a_strength_that_was_kept_stays_until_a_model_is_chosen(tab: SourceTab):
    here = replace(tab.page, tab=SimpleNamespace(id="image-to-image"))
    for found in (source.picked_strength, source.taken_strength):
        assert found(here, {"tab": "text-to-image", "model": "tiny", "fields": {"model": "tiny"}}) == gr.skip()
        assert found(here, None) == found(here, {"tab": "image-to-image"}) == gr.skip()
    assert source.picked_strength(here, {"tab": "image-to-image", "model": "tiny"}) == 0.6
    for fields, strength in (({"model": "tiny"}, 0.6), ({"model": "tiny", "strength": 0.3}, 0.3), ({}, gr.skip())):
        assert source.taken_strength(here, {"tab": "image-to-image", "fields": fields}) == strength


def test_transparency_shows_the_chosen_colour(tab: SourceTab, tmp_path: Path):
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    base = tab.prepare(upload=str(tmp_path / "clear.png"), colour="#0000ff")
    assert base is not None and (tab.stored(base.image) == (0, 0, 255)).all()


def test_what_was_painted_is_the_mask(tab: SourceTab, path: str):
    base = tab.prepare(upload=path, mode=INPAINT)
    canvas = source.canvas_for(tab.page, base)
    assert base is not None and canvas is not None
    assert canvas["size"] == [512, 512] and canvas["key"] == base.image
    tab.hold(
        mask=mask_editor.read_mask(painted((512, 512), (80, 160, 240, 320)), (64, 64), tab.page.inputs), feather=6.0
    )
    init = tab.request().init
    assert init is not None and init.feather == 6 and not init.only_masked
    want = np.zeros((64, 64), bool)
    want[20:40, 10:30] = True
    assert np.array_equal(tab.stored(init.mask) == 255, want)


@pytest.mark.parametrize(
    "uri", [None, 3, "", "x", "data:image/png;base64,", "data:image/png;base64,@@", "data:image/png;base64,AAAA",
            "data:image/svg+xml;base64,AAAA", painted((2000, 8), (0, 0, 9, 8)), painted((64, 64), (0, 0, 0, 0))],
)  # fmt: skip
def test_what_is_no_painting_marks_nothing(tab: SourceTab, path: str, uri: Any):
    tab.prepare(upload=path, mode=INPAINT)
    tab.hold(mask=mask_editor.read_mask(uri, (64, 64), tab.page.inputs))
    with pytest.raises(InvalidRequest) as problem:
        tab.request()
    assert str(problem.value) == UNMARKED


@pytest.mark.parametrize("size", [(64, 64), (8, 2048), (1500, 900), (600, 300)])
def test_the_painting_surface_is_neither_tiny_nor_huge_and_keeps_the_shape(size: tuple[int, int]):
    width, height = mask_editor.editor_value(noise_image(*size), "x")["size"]
    assert mask_editor.MIN_SIDE <= max(width, height) <= mask_editor.MAX_SIDE
    assert abs(width * size[1] - height * size[0]) <= max(size) * 2


def test_only_the_marked_part_keeps_the_pictures_own_size(tab: SourceTab, tmp_path: Path):
    noise_image(150, 100).save(tmp_path / "large.png")
    base = tab.prepare(upload=str(tmp_path / "large.png"), mode=INPAINT, only_masked=True)
    assert base is not None and base.image != base.fitted
    tab.hold(
        mask=mask_editor.read_mask(painted((450, 300), (30, 30, 60, 60)), (150, 100), tab.page.inputs), padding=12.0
    )
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height) == (64, 64)
    assert (request.init.only_masked, request.init.padding) == (True, 12)
    assert np.array_equal(tab.stored(request.init.image), np.asarray(noise_image(150, 100)))
    assert tab.stored(request.init.mask).shape == (100, 150)


def test_the_canvas_grows_by_what_is_asked_and_holds_the_picture(tab: SourceTab, path: str):
    base = tab.prepare(upload=path, mode=OUTPAINT, left=8, right=None, up=16, down=0)
    assert base is not None and base.size == (72, 80)
    request = tab.request()
    assert request.init is not None
    assert (request.width, request.height, request.init.feather) == (72, 80, 0)
    marked = tab.stored(request.init.mask) > 0
    assert not marked[16:, 8:].any() and marked[:16].all() and marked[:, :8].all()
    assert np.array_equal(tab.stored(request.init.image)[16:, 8:], np.asarray(noise_image(64, 64)))
    assert base.note == "The canvas is 72 x 80 pixels now."


@pytest.mark.parametrize("edge", [-8, MAX_SIDE + 1, "x", True, float("nan"), float("inf")])
def test_an_edge_that_is_no_number_of_pixels_is_refused(tab: SourceTab, path: str, edge: Any):
    with pytest.raises(InvalidRequest, match="whole number"):
        tab.prepare(upload=path, mode=OUTPAINT, left=edge)


def test_notes_of_a_file_are_told(tab: SourceTab, tmp_path: Path):
    one, two = noise_image(64, 64), noise_image(64, 64, 1)
    one.save(tmp_path / "moves.webp", save_all=True, append_images=[two], lossless=True)
    base = tab.prepare(upload=str(tmp_path / "moves.webp"))
    assert base is not None
    assert base.note == "Only the first frame of this animation is used."


def test_only_a_part_is_painted_on(tab: SourceTab, path: str):
    assert source.canvas_for(tab.page, None) is None
    assert source.canvas_for(tab.page, tab.prepare(upload=path, mode=WHOLE)) is None


@pytest.mark.parametrize(
    ("field", "text", "turns"),
    [("init.image", NO_IMAGE, False), ("init.mask", UNMARKED, True), ("image", "It is gone.", False)],
)
def test_errors_of_the_image_are_shown_below_it(tab: SourceTab, field: str, text: str, turns: bool) -> None:
    updates = tab.form.show_error(InvalidRequest(field, text))
    value = updates[tab.source.error]
    # A button chooses an image, or changes the whole of it.
    assert value["text"] == text and value["to"] == ("whole" if turns else "source")
    assert updates[tab.form.run_error] == ""
    assert (tab.views.target in updates) is turns


@pytest.mark.parametrize("size", [(64, 64), (100, 60), (512, 300), (900, 20), (1, 1)])
def test_small_pictures_are_shown_a_whole_number_of_times_as_large(size: tuple[int, int]):
    shown = prepared_image.enlarged(noise_image(*size))
    times = shown.width // size[0]
    assert shown.size == (size[0] * times, size[1] * times) and times >= 1
    assert max(shown.size) <= prepared_image.SHOWN_SIDE or times == 1
