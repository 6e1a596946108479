"""Drafts while typing, without a browser: what a change leads to on the page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from pipelines.events import Loading, Preview, Queued
from pipelines.jobs import drafts as engine
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.users import User
from pipelines.request import InvalidRequest
from tests.support.site import tiny_card
from tests.support.toy_backend import WAIT, ToyManager, ask, finish, toy_denoise
from ui.components import stage_updates
from ui.form import drafts
from ui.form.drafts import DraftEvents, DraftSection, DraftSessions
from ui.form.form import FormValues

CARDS = {"toy": tiny_card("x", id="toy", live=True), "slow": tiny_card("x", id="slow")}


class Stage:
    """What handlers need of a form: components are their own names."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend, self.at_hand = backend, ["slow", "toy"]
        library = SimpleNamespace(available=lambda: [CARDS[name] for name in self.at_hand])
        page: Any = SimpleNamespace(
            backend=backend, latest_job="job", tab_job="mine", library=library,
            card=lambda model: CARDS.get(model) if isinstance(model, str) else None,
            tab=SimpleNamespace(id="text-to-image"), trace=lambda opened: None,
            find_job=lambda name: next((job for job in backend._jobs.all() if job.id == name), None),
        )  # fmt: skip
        form: Any = SimpleNamespace(
            page=page, controls=SimpleNamespace(model="model"), stage="film", run_error="error", request=self.request,
            clear_errors=dict, show_error=lambda problem: {"error": str(problem)},
            stage_updates=lambda request, value: {"film": value},
        )  # fmt: skip
        section: Any = DraftSection("toggle", "note", "faster", "changes", "before", DraftSessions(backend))  # type: ignore[arg-type]
        self.page, self.section, self.drawing = page, section, DraftEvents(form, section)
        self.more: dict[str, Any] = {}

    def request(self, values: FormValues) -> Any:
        if values["prompt"] == "wrong":
            raise InvalidRequest("prompt", "prompt is wrong.")
        fields = {"keep_seed": False, **self.section.fields(values)}
        return ask(values["prompt"], seed=7 if fields["keep_seed"] else 9, **self.more)

    def submit(self, request: Any) -> Any:
        """What Generate does."""
        return self.section.reuse(self.page, request) or (self.backend.submit(request, drafts.current_user()), {})

    def values(self, prompt: str, **changes: Any) -> Any:
        return FormValues({"prompt": prompt, "toggle": True, "model": "toy", "mine": None, **changes})

    def draw(self, prompt: str, **changes: Any) -> list[dict[Any, Any]]:
        """Everything that a change leads to."""
        return list(self.drawing.draw(self.values(prompt, **changes)))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("pipelines.sampling.denoise.denoise", toy_denoise)
    # Pauses and slowness must not depend on the machine.
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(engine, "SLOW_SECONDS", 30.0)
    backend = LocalBackend(ToyManager(), tmp_path / "pictures", threads=1)  # type: ignore[arg-type]
    yield Stage(backend)
    backend.close()


def pictures(stage: Stage) -> int:
    return len(list((stage.backend.blocked.path.parent / "pictures").glob("*.png")))


def test_a_change_is_drawn_and_after_a_pause_kept(stage: Stage) -> None:
    updates = stage.draw("a fox")
    values = [update["film"] for update in updates if "film" in update]
    drawn, kept = values[-2:]
    assert (drawn["live"], drawn["state"], drawn["run"]) == (True, "live", kept["run"])
    assert drawn["text"].startswith("Drawn in ") and drawn["pictures"][0]["uri"].startswith("data:image/png")
    assert "live" not in kept and (kept["state"], len(kept["frames"])) == ("done", 4)
    assert kept["text"].startswith("Kept. 4 steps in ") and kept["pictures"][0]["file"]["path"].endswith(".png")
    assert updates[-1]["mine"] == updates[-1]["job"] == kept["run"]
    assert pictures(stage) == 1


def test_the_seed_stays_while_drafts_are_drawn(stage: Stage) -> None:
    stage.draw("a fox")
    (job,) = stage.backend._jobs.all()
    assert job.request.sampling.seed == 7
    assert stage.request(FormValues(stage.values("a fox"), new_seed=True)).sampling.seed == 9
    assert stage.request(stage.values("a fox", toggle=False)).sampling.seed == 9


def test_the_same_again_changes_nothing(stage: Stage) -> None:
    stage.draw("a fox")
    assert stage.draw("a fox") == [{"error": gr.skip()}]
    assert pictures(stage) == 1


def test_generate_keeps_what_is_there_once(stage: Stage) -> None:
    changes = stage.drawing.draw(stage.values("a fox"))
    while next(changes).get("film", {}).get("state") != "live":
        pass
    request = stage.request(stage.values("a fox"))
    first, said = stage.submit(request)
    assert (said, pictures(stage), first.draft) == ({}, 1, False)
    list(changes)
    second, said = stage.submit(request)
    assert second is first and said == {"note": drafts.KEPT} and pictures(stage) == 1
    other, said = stage.submit(ask("a whale"))
    assert other is not first and said == {}
    finish(other)
    assert pictures(stage) == 2


def test_a_page_that_goes_away_loses_nothing(stage: Stage) -> None:
    changes = stage.drawing.draw(stage.values("a fox"))
    while next(changes).get("film", {}).get("state") != "live":
        pass
    changes.close()
    assert pictures(stage) == 1


def test_switching_it_off_keeps_what_is_there(stage: Stage) -> None:
    changes = stage.drawing.draw(stage.values("a fox"))
    while next(changes).get("film", {}).get("state") != "live":
        pass
    *_, last = stage.drawing.switch(False)
    assert last["film"]["state"] == "done" and pictures(stage) == 1


def test_a_slow_model_turns_it_off_with_a_sentence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TOO_SLOW_FACTOR", 1e9)
    monkeypatch.setattr(engine, "SLOW_SECONDS", 1e-7)
    prompts = iter("abcdef")
    updates = [update for _ in range(3) for update in stage.draw(next(prompts))]  # the first one loads the model
    off = [update for update in updates if update.get("toggle") is False]
    assert len(off) == 1 and off[0]["note"].startswith("Turned off: a picture takes 0.0 s here")
    assert pictures(stage) == 3


def test_a_draft_that_does_not_end_is_stopped_and_not_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.draw("loads the model")
    monkeypatch.setattr(engine, "SLOW_SECONDS", 1e-7)
    stage.backend._runner.on_step = lambda job, step: job.wait_cancelled(WAIT)
    updates = stage.draw("a fox")
    assert updates[-1]["toggle"] is False and updates[-1]["note"].startswith("Turned off")
    assert [job.cancelled for job in stage.backend._jobs.all()] == [False, True]
    # Switching it on again draws.
    monkeypatch.setattr(engine, "SLOW_SECONDS", 30.0)
    stage.backend._runner.on_step = None
    assert list(stage.drawing.switch(True)) == [{"note": drafts.ABOUT}]
    assert stage.draw("a fox")[-1]["film"]["state"] == "done"


def test_variations_and_blends_wait_for_generate(stage: Stage) -> None:
    stage.more = {"variation": {"seed": 3, "strength": 0.5}}
    assert stage.draw("a fox") == [{"note": drafts.BLENDS}]
    assert not stage.backend._jobs.all()


def test_what_is_wrong_is_said_where_it_belongs(stage: Stage) -> None:
    assert stage.draw("wrong") == [{"error": "prompt is wrong."}]
    *_, last = stage.draw("crash")
    assert last["error"].startswith("Something went wrong with toy (ValueError)")
    assert pictures(stage) == 0


def test_it_is_for_quick_models_and_the_owner_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(model: str) -> bool:
        update, note, way = stage.drawing.offer(model)
        assert note == drafts.ABOUT and not update.value
        # The button for a faster model is offered if the user may draw with one, but not with this model.
        assert way.visible == (not update.visible and drafts.current_user().owner)
        return update.visible

    assert offered("toy")
    assert not offered("slow") and not offered("gone")
    assert stage.draw("a fox", model="slow") == stage.draw("a fox", toggle=False) == [{"error": gr.skip()}]
    guest = User("guest")
    monkeypatch.setattr("ui.form.drafts.current_user", lambda: guest)
    assert not offered("toy")
    _, way, chosen, before = stage.drawing.choose_faster_model()
    assert not way.visible and chosen == before == gr.skip()
    assert stage.draw("a fox") == [{"error": gr.skip()}]
    assert not stage.backend._jobs.all()
    job, said = stage.submit(ask())
    assert job.user is guest and not job.draft and said == {}


def test_it_stays_on_over_a_reload_and_draws_nothing_twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def back(*kept: Any) -> tuple[Any, Any]:
        toggle, _, _, before = stage.drawing.bring_back(json.dumps(kept) if kept else "", "slow")
        return toggle.value, before

    assert back(True, "toy", "what was") == (True, "what was")
    for kept in ((), (False, "toy", ""), (True, "slow", ""), (True, "gone", ""), (True, ["toy"], ""), (1, "toy", "")):
        assert back(*kept) == (False, gr.skip()), kept
    guest = User("guest")
    with monkeypatch.context() as patch:
        patch.setattr("ui.form.drafts.current_user", lambda: guest)
        assert back(True, "toy", "") == (False, gr.skip())
    made = stage.draw("a fox")[-1]["mine"]
    # A page that was opened again has no drafts yet, and the picture of this request on its stage.
    again = Stage(stage.backend)
    assert again.draw("a fox", mine=made) == [{"error": gr.skip()}] and pictures(stage) == 1
    assert again.draw("an owl", mine=made)[-1]["film"]["state"] == "done" and pictures(stage) == 2
    assert again.draw("a fox", mine=made)[-1]["film"]["state"] == "done"


@pytest.mark.parametrize("before", [None, 7, "", "[", "[]", "{}", '{"model": "toy"}', "[" * 9000])
def test_what_is_no_former_form_is_not_put_back(stage: Stage, before: Any) -> None:
    assert stage.drawing.put_back(False, before, "toy", "a fox") == {"before": gr.skip()}


def test_only_waits_that_last_are_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    job: Any = SimpleNamespace(
        wait_for_event=lambda *_: True, request=ask(), id="x", submitted_at=0.0, done=False, running_seconds=0.0
    )
    events = iter([[Queued(1)], [Queued(1)], [Loading("toy", "unet", 0, 2)], [Preview(0, 1, 0.0, 0.0, ())]])
    job.poll = lambda seen=0: next(events)
    clock = iter([0.0, 0.1, 0.5, 0.6, 0.7])
    monkeypatch.setattr(drafts, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found: Any = SimpleNamespace(is_too_slow=lambda job: False, is_newest=lambda job: True)
    words = drafts.wait_texts(found, stage_updates.JobView(job))
    assert [next(words), next(words)] == [
        "Queued, 2nd in line: 1 picture is made before yours",
        "Loading toy: 0 of 2 parts, next unet",
    ]


def test_each_page_has_drafts_of_its_own(stage: Stage) -> None:
    found, lives = {}, stage.section.sessions

    def look(name: str) -> None:
        LocalContext.request.set(SimpleNamespace(session_hash=name))
        found.setdefault(name, []).append(lives.current())

    for name in ("one", "two", "one", *map(str, range(drafts.PAGES)), "one"):
        thread = threading.Thread(target=look, args=(name,))
        thread.start()
        thread.join(WAIT)
    first, again, later = found["one"]
    assert first is again and first is not found["two"][0]
    assert later is not first  # forgotten in the meantime
    assert len(lives._pages) == drafts.PAGES


def test_a_draft_replaces_the_picture_and_brings_no_frames(stage: Stage) -> None:
    job = stage.backend.submit(ask(), draft=True)
    finish(job)
    roll = stage_updates.JobView(job)
    for event in job.poll():
        roll.take(event)
    value = drafts.draft_value(roll, "Drawn")
    assert value["frames"] == [] and roll.snapshot()["frames"] == [] and value["asked"] == job.submitted_at
    assert replace(job.poll()[-1], drafts=()) != job.poll()[-1]


def test_one_press_leads_to_the_faster_model_and_names_it_first(stage: Stage) -> None:
    *_, way = stage.drawing.offer("slow")
    assert CARDS["toy"].name in way.value
    toggle, way, chosen, before = stage.drawing.choose_faster_model("a fox", 7)
    assert toggle.value and toggle.visible and not way.visible
    assert (chosen["model"], chosen["tab"], chosen["prompt"]) == ("toy", "text-to-image", "")
    assert json.loads(before) == {"model": "toy", "form": '["a fox", 7]'}
    stage.at_hand = ["slow"]
    *_, way = stage.drawing.offer("slow")
    assert not way.visible
