"""What goes from the history to the other tabs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from history.store import History
from pipelines.jobs.users import OWNER
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import png
from tests.support.history_entries import GUEST, keep
from ui.form import taken_settings
from ui.tabs.history import detail, sending
from ui.tabs.history.detail import GONE


def test_all_settings_or_a_part_of_them(history: History, question) -> None:
    made = keep(history, "a fox", negative_prompt="blur", loras=({"name": "ink", "weight": 0.8},), seed=5)
    sent, problem = sending.outcome(question(ids=[made], to="text-to-image", what="settings"))
    fields = sent["settings"]["fields"]
    assert not problem and sent["settings"]["tab"] == "text-to-image" and "image" not in sent
    assert fields["prompt"] == "a fox <lora:ink:0.8>" and fields["seed"] == "5" and fields["model"] == "pocket"
    assert "strength" not in fields
    parts = {"seed": {"seed"}, "prompt": set(sending.PROMPT), "sampler": set(sending.SAMPLER)}
    for what, names in parts.items():
        sent, _ = sending.outcome(question(ids=[made], to="text-to-image", what=what))
        assert set(sent["settings"]["fields"]) == names


def test_what_a_form_does_not_take_over_is_named(history: History, question) -> None:
    upload, more = "0" * 32, {"variation": {"seed": 1, "strength": 0.1}, "num_images": 2}
    made = keep(
        history, init={"image": upload, "strength": 0.5, "mask": upload}, controls=({"net": "edges", "image": upload},),
        reference={"adapter": "look", "image": upload}, **more,
    )  # fmt: skip
    sent, _ = sending.outcome(question(ids=[made], to="text-to-image", what="settings"))
    left_out = sent["settings"]["fields"]["left_out"]
    assert left_out == [
        "the picture that it started from", "the mask", "ControlNet", "the image prompt", "the variation",
        "the number of pictures",
    ]  # fmt: skip
    form: Any = SimpleNamespace(
        page=SimpleNamespace(card=lambda name: None), controls=SimpleNamespace(), run_error="error"
    )
    said = taken_settings.updates_of(form, {"left_out": left_out[:2]}, "tiny")["error"]
    assert said.startswith("Not taken over: the picture that it started from, the mask. Its Recipe")
    sent, _ = sending.outcome(question(ids=[keep(history)], to="text-to-image", what="settings"))
    assert "left_out" not in sent["settings"]["fields"]


def test_the_picture_or_both_to_image_to_image(history: History, question) -> None:
    made = keep(history, run="r", number=0, init={"image": "0" * 32, "strength": 0.5})
    sent, _ = sending.outcome(question(ids=[made], to="image-to-image", what="picture"))
    assert sent["image"]["entry"] == made and "settings" not in sent
    sent, _ = sending.outcome(question(ids=[made], to="image-to-image", what="both"))
    assert sent["image"]["entry"] == made and sent["settings"]["fields"]["strength"] == 0.5
    history.path(made).unlink()
    assert sending.outcome(question(ids=[made], to="image-to-image", what="both"))[1] == sending.NO_PICTURE


def test_what_is_not_there_is_said(history: History, question) -> None:
    made = keep(history, run="r")
    assert sending.outcome(question(GUEST, ids=[made], to="text-to-image", what="seed")) == ({}, GONE)
    assert sending.outcome(question(ids=[made], to="denoising")) == ({}, sending.NO_STEPS)
    assert sending.outcome(question(ids=[made], to="text-to-image", what="picture"))[1] == sending.NO_PICTURE
    assert sending.outcome(question(ids=[made], to="nowhere", what="magic"))[1] == sending.NO_SETTINGS
    assert sending.outcome(question())[1] == GONE


def test_a_prompt_that_was_drawn_is_sent_as_it_was_or_as_it_was_typed(history: History, question) -> None:
    typed = {"prompt": "a {fox|owl}", "negative_prompt": "blur", "styles": ("Ink",), "drawn": (("{fox|x}",), ("owl",))}
    texts = ("a {fox|x}", "an owl")
    made = keep(history, texts[0], num_images=2, prompts=texts, typed=typed, negative_prompt="blur, dull")
    other = keep(history, texts[0], num_images=2, number=1, prompts=texts, typed=typed)
    sent, _ = sending.outcome(question(ids=[made], to="text-to-image", what="prompt"))
    assert sent["settings"]["fields"]["prompt"] == r"a \{fox\|x\}" and sent["settings"]["fields"]["styles"] == []
    sent, _ = sending.outcome(question(ids=[other], to="text-to-image", what="settings"))
    fields = sent["settings"]["fields"]
    assert (fields["prompt"], fields["seed"], fields["styles"]) == ("an owl", "8", [])
    sent, _ = sending.outcome(question(ids=[made], to="text-to-image", what="typed"))
    fields = sent["settings"]["fields"]
    assert (fields["prompt"], fields["negative_prompt"], fields["styles"]) == ("a {fox|owl}", "blur", ["Ink"])


def test_settings_of_another_program_are_taken_over_as_far_as_they_fit(
    history: History, question, tmp_path: Path
) -> None:
    (tmp_path / "theirs.png").write_bytes(png({"parameters": samples.A1111}))
    history.importer(OWNER).run(tmp_path / "theirs.png")
    (entry,) = history.catalogue.all(OWNER)
    sent, problem = sending.outcome(question(ids=[entry.id], to="text-to-image", what="settings"))
    fields = sent["settings"]["fields"]
    assert not problem and fields["seed"] == "1234567890" and fields["scheduler"] == "dpmpp_2m_karras"
    assert "model" not in fields and fields["prompt"].startswith(samples.PROMPT)
    for what, names in {"seed": {"seed"}, "sampler": set(sending.SAMPLER)}.items():
        sent, _ = sending.outcome(question(ids=[entry.id], to="text-to-image", what=what))
        assert set(sent["settings"]["fields"]) == names
    assert sending.outcome(question(ids=[entry.id], to="text-to-image", what="typed"))[1] == sending.NO_SETTINGS
    about = detail.entry_value(question(ids=[entry.id]))["entry"]
    assert about["usable"] and not about["recipe"] and about["prompt"].startswith(samples.PROMPT)
