"""The images that runs started from: what is remembered, and what goes back."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from pipelines.images.uploads import UPLOAD_GONE, UploadStore
from tests.support.source_tab import SourceTab, noise_image
from ui.tabs.image_to_image import source_history

JUNK: list[Any] = [None, "x", 7, True, {}, [None], [[]], [{}], [{"id": 3}], [{"id": None, "label": "Yours 1"}]]


@pytest.mark.parametrize("links", JUNK)
def test_malformed_browser_state_is_dropped(links: Any, inputs: UploadStore):
    assert source_history.read(links) == []
    assert source_history.value(links, inputs, links) == {"items": [], "now": links if links == "x" else ""}
    assert source_history.add(links, "a", source_history.YOURS) == [{"id": "a", "label": "Yours 1"}]


def test_pictures_join_the_history_once_and_keep_their_place():
    links: list[dict[str, str]] = []
    for name, kind in (
        ("a", source_history.YOURS),
        ("b", source_history.RESULT),
        ("c", source_history.RESULT),
        ("b", source_history.RESULT),
    ):
        links = source_history.add(links, name, kind)
    assert [(link["id"], link["label"]) for link in links] == [("a", "Yours 1"), ("b", "Result 1"), ("c", "Result 2")]
    assert source_history.add([], "e", source_history.EXAMPLE) == [{"id": "e", "label": "Example"}]


def test_a_long_history_keeps_its_first_picture_and_the_newest_ones():
    links = source_history.add([], "mine", source_history.YOURS)
    for i in range(source_history.MAX_ITEMS + 5):
        links = source_history.add(links, f"r{i}", source_history.RESULT)
        assert len(links) <= source_history.MAX_ITEMS
        assert links[0]["id"] == "mine"
        assert links[-1]["id"] == f"r{i}"
    labels = [link["label"] for link in links]
    assert len(set(labels)) == len(labels), "no two pictures have one name"


def test_images_that_are_gone_are_left_out_and_labels_are_short(inputs: UploadStore):
    kept = inputs.put(noise_image(200, 100))
    links = [{"id": kept, "label": "x" * 99}, {"id": "0" * 32, "label": "gone"}, {"id": "../../etc", "label": "no"}]
    value = source_history.value(links, inputs, kept)
    assert [item["id"] for item in value["items"]] == [kept]
    assert len(value["items"][0]["label"]) == 40
    assert value["items"][0]["uri"].startswith("data:image/jpeg")
    assert value["now"] == kept


@pytest.mark.parametrize("sent", [None, 3, "x", {}, {"id": 3}, {"id": "nobody", "picture": 0}, {"id": "bundled"}])
def test_what_was_sent_from_nowhere_is_no_picture(tab: SourceTab, sent: Any):
    assert source_history.sent_image(tab.page, sent) is None


def test_pictures_join_the_history_when_they_are_brought_and_come_back_with_a_click(tab: SourceTab, path: str):
    links = source_history.SourceHistory(tab.page)
    picture, found, value, error = links.upload(path, None)
    now = value["now"]
    assert found == [{"id": now, "label": "Yours 1"}] and error == ""
    assert "value" not in picture, "the picture stays as it was brought"
    again, kept, used, _ = links.back(found, gr.EventData(None, {"id": now}))
    assert np.array_equal(np.asarray(again), tab.stored(now)) and (kept, used["now"]) == (found, now)
    offer = links.enter(None, found, None)
    assert offer and (offer["links"], offer["shown"]) == (found, value)
    with Image.open(offer["image"]["path"]) as last:
        assert np.array_equal(np.asarray(last), tab.stored(now))


def test_an_earlier_image_that_was_gone_back_to_is_the_one_after_a_reload(tab: SourceTab, path: str):
    links = source_history.SourceHistory(tab.page)
    _, found, first, _ = links.upload(path, None)
    _, found, second, _ = links.add(noise_image(40, 30), found, source_history.RESULT)
    _, found, _, _ = links.back(found, gr.EventData(None, {"id": first["now"]}))
    offer = links.enter(None, found, None)
    assert offer and offer["shown"]["now"] == first["now"]
    assert links.enter(None, offer["links"], None)["shown"]["now"] == first["now"]  # type: ignore[index]
    # The next image, and one that is gone back to, take its place.
    _, more, third, _ = links.add(noise_image(20, 30), found, source_history.RESULT)
    assert links.enter(None, more, None)["shown"]["now"] == third["now"]  # type: ignore[index]
    _, again, _, _ = links.back(found, gr.EventData(None, {"id": second["now"]}))
    assert links.enter(None, again, None)["shown"]["now"] == second["now"]  # type: ignore[index]


def test_what_is_gone_changes_nothing_but_the_sentence(tab: SourceTab, path: str):
    links = source_history.SourceHistory(tab.page)
    same = links.unchanged()
    assert links.upload(None, []) == links.upload(__file__, []) == same
    # Neither over an image that is there, nor over one that was sent and is on its way.
    assert links.enter(path, [], None) is links.enter(None, [], {"id": "x"}) is None
    # Nothing of this browser's is there any more, and this model brings no recording.
    assert links.enter(None, [{"id": "0" * 32, "label": "Yours 1"}], None) is None
    assert links.back([], gr.EventData(None, {"id": "0" * 32})) == (*same[:3], UPLOAD_GONE)
    assert links.receive({"id": "nobody"}, []) == (*same[:3], source_history.SENT_GONE)
