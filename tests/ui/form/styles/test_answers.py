"""What the styles' panel is told: the list, what is sent, changes by the owner alone, files, and previews."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from history.store import History
from pipelines.events import Cancelled, Failed, Finished
from pipelines.images.provenance import xmp_packet
from pipelines.jobs.backend import QueueFull
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.previews import draft_bytes
from pipelines.jobs.users import OWNER, User
from pipelines.models.manager import PipelineManager
from presets import catalogue
from presets.prompts.styles import make_style
from presets.user_presets import UserPresets
from tests.support.form_page import form_page
from ui.context import PageContext
from ui.form.styles import answers

NAMED: dict[str, Any] = {
    "model": "tiny", "prompt": "a {fox|owl}", "negative_prompt": "dull", "guidance_scale": 4.0, "seed": "7",
    "num_images": 2,
}  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> PageContext:
    with gr.Blocks():
        return replace(form_page(tmp_path), presets=UserPresets.of(tmp_path))


def event(**fields: Any) -> gr.EventData:
    return gr.EventData(None, fields)


def presets_of(page: PageContext) -> UserPresets:
    assert page.presets is not None
    return page.presets


def test_the_prompt_is_saved_listed_removed_exported_and_imported(page: PageContext) -> None:
    saved = answers.act(page, NAMED, event(do="save", name="Mine", ask="1"))
    assert saved["ask"] == "1" and saved["note"] == "Saved as Mine." and saved["owner"]
    mine = saved["styles"][0]
    assert (mine["name"], mine["prompt"], mine["negative"], mine["own"]) == ("Mine", "a {fox|owl}", "dull", True)
    assert "already" in answers.act(page, NAMED, event(do="save", name="Mine"))["problem"]
    assert "name" in answers.act(page, NAMED, event(do="save", name=["x"]))["problem"]
    text = answers.act(page, NAMED, event(do="export"))["file"]
    assert json.loads(text)["styles"] == [{"name": "Mine", "prompt": "a {fox|owl}", "negative_prompt": "dull"}]
    answers.act(page, NAMED, event(do="remove", name="Mine"))
    assert presets_of(page).styles.own() == []
    assert answers.act(page, NAMED, event(do="import", text=text))["note"] == "Read 1 new style."
    said = answers.act(page, NAMED, event(do="import", text=text + " "))["note"]
    assert said == "Read 0 new styles, 1 that you had already."
    presets_of(page).sampling.save("Quick", "ddim", 9, 3.5)
    both = answers.act(page, NAMED, event(do="export"))["file"]
    presets_of(page).styles.remove("Mine")
    alone = answers.act(page, NAMED, event(do="export"))["file"]
    presets_of(page).sampling.remove("Quick")
    assert answers.act(page, NAMED, event(do="import", text=alone))["note"] == (
        "Read 0 new styles, 1 new sampling preset."
    )
    assert answers.act(page, NAMED, event(do="import", text=both))["note"] == (
        "Read 1 new style, 1 that you had already."
    )
    assert presets_of(page).sampling.find("Quick").num_inference_steps == 9
    for wrong in ("x", None, 3, "[" * 9999):
        assert "no file of styles" in answers.act(page, NAMED, event(do="import", text=wrong))["problem"]
    assert answers.act(page, NAMED, event(do="format the disk"))["styles"]


def test_guests_see_everything_and_change_nothing(page: PageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    presets_of(page).styles.save(make_style("Mine", "{prompt} x"))
    monkeypatch.setattr(answers, "current_user", lambda: User("guest"))
    listed = answers.listing(page, "tiny")
    assert "Mine" in [style["name"] for style in listed["styles"]] and not listed["owner"]
    for what in ("save", "remove", "import", "export"):
        answer = answers.act(page, NAMED, event(do=what, name="Mine", text="a,b,c"))
        assert answer["problem"] == answers.OWNER_ONLY and "file" not in answer
    assert [style.name for style in presets_of(page).styles.own()] == ["Mine"]
    assert list(answers.draw_previews(page, "tiny"))[-1]["problem"] == answers.OWNER_ONLY
    assert answers.sent(page, NAMED, '["Mine"]')["prompts"]


def test_what_is_sent_is_shown_with_what_one_should_know(page: PageContext) -> None:
    presets_of(page).styles.save(make_style("Mine", "x of {prompt}", "y"))
    found = answers.sent(page, NAMED, '["Mine"]')
    assert set(found["prompts"]) <= {"x of a fox", "x of a owl"} and found["negative"] == "dull, y"
    assert found["notes"] == [answers.SEED_NOTE]
    found = answers.sent(page, {**NAMED, "prompt": "__gone__", "guidance_scale": 1.0}, "[]")
    assert found["prompts"] == ["__gone__"] and found["negative"] == ""
    assert "wildcards/gone.txt" in found["notes"][0] and "not sent" in found["notes"][1]
    found = answers.sent(page, {**NAMED, "negative_prompt": "{a|b}", "num_images": 1}, "[]")
    assert found["negative"] in ("a", "b") and answers.ONE_NEGATIVE not in found["notes"]
    found = answers.sent(page, {**NAMED, "negative_prompt": "{a|b}"}, "[]")
    assert answers.SEED_NOTE in found["notes"] and answers.ONE_NEGATIVE in found["notes"]
    for values in ({"seed": "many"}, {"prompt": "{" * 40}):
        assert answers.sent(page, {**NAMED, **values}, "[]")["problem"]
    assert "not there" in answers.sent(page, NAMED, '["Gone"]')["problem"]


class Drawer:
    """A backend that answers drafts with the next of its outcomes."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.asked = list(outcomes), []

    def submit(self, request: Any, user: User, draft: bool = False) -> Any:
        assert user is OWNER and draft, "nothing of a preview goes into the history"
        self.asked.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is True:
            drawn = draft_bytes(Image.new("RGB", (64, 32), "red"), xmp_packet(request))
            outcome = Finished(request, (), 1.0, drafts=(drawn,))
        return SimpleNamespace(events=lambda: iter([outcome]), cancel=lambda: None)


@pytest.mark.parametrize("end", [Failed("It broke."), Cancelled(0), QueueFull("It broke.")])
def test_previews_are_drawn_once_and_an_end_is_said(page: PageContext, end: Any) -> None:
    styles = presets_of(page).styles
    styles.save(make_style("First", "x of {prompt}", "y"))
    drawer = Drawer(True, True, end)
    page = replace(page, backend=drawer)  # type: ignore[arg-type]
    said = list(answers.draw_previews(page, "tiny"))
    drawn = [answer["name"] for answer in said if "name" in answer]
    assert drawn[0] == "First" and len(drawn) == 2
    assert (drawer.asked[0].prompt, drawer.asked[0].negative_prompt) == ("x of a fox", "y")
    assert said[-1]["done"] and said[-1]["problem"] in ("It broke.", answers.INTERRUPTED)
    listed = {style["name"]: style["picture"] for style in answers.listing(page, "tiny")["styles"]}
    assert listed["First"].startswith("data:image/webp") and list(listed.values()).count("") == len(listed) - 2
    drawer.outcomes = [True] * len(listed)
    assert list(answers.draw_previews(page, "tiny"))[-1] == {"kind": "previews", "done": True, "problem": ""}
    assert len(drawer.asked) == len(listed) + 1, "what was drawn is not drawn again"


@pytest.fixture
def pocket(page: PageContext, tmp_path: Path) -> Iterator[PageContext]:
    """The page with the embedded model in its quick form, and the real backend."""
    card = catalogue.card_for("pocket-turbo", catalogue.load())
    history = History(tmp_path)
    history.open(background=False)
    backend = LocalBackend(PipelineManager([card], device="cpu"), tmp_path / "pictures", threads=1, pictures=history)
    library: Any = SimpleNamespace(cards={card.id: card}, available=lambda: [card])
    yield replace(page, backend=backend, library=library, history=history)
    backend.close()
    history.close()


def test_the_embedded_model_draws_previews_of_ones_own_styles(pocket: PageContext) -> None:
    presets_of(pocket).styles.save(make_style("Blue", "{prompt} on a blue background"))
    presets_of(pocket).styles.save(make_style("Yellow", "{prompt} on a yellow background"))
    said = list(answers.draw_previews(pocket, "pocket-turbo"))
    # The model's own styles have pictures that come with the program.
    assert [answer["name"] for answer in said if "name" in answer] == ["Blue", "Yellow"]
    assert said[-1] == {"kind": "previews", "done": True, "problem": ""}
    card = pocket.library.cards["pocket-turbo"]
    corners = {}
    for style in presets_of(pocket).styles.own():
        with Image.open(io.BytesIO(presets_of(pocket).previews.get(card, style))) as image:
            assert (image.format, image.size) == ("WEBP", (96, 96))
            corners[style.name] = image.convert("RGB").getpixel((3, 3))
    blue, yellow = corners["Blue"], corners["Yellow"]
    assert blue[2] > yellow[2] + 60 and yellow[0] > blue[0] + 60, "a style changes what is drawn"
    assert pocket.history is not None and pocket.history.catalogue.count(OWNER) == 0
    assert len(list(answers.draw_previews(pocket, "pocket-turbo"))) == 1, "what was drawn is not drawn again"
