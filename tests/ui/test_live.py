"""Drawing while somebody types, without a browser: what a change leads to on the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from pipelines import live as engine
from pipelines.backend import LocalBackend
from pipelines.events import Loading, Preview, Queued
from pipelines.request import InvalidRequest
from pipelines.visitors import Visitor
from tests.browser.site import tiny_card
from tests.pipelines.test_backend import WAIT, ToyManager, ask, finish, toy_denoise
from ui import live, stream
from ui.live import Drawing, Lives, Typing
from ui.making import Asking

CARDS = {"toy": tiny_card("x", id="toy", live=True), "slow": tiny_card("x", id="slow")}


class Stage:
    """What handlers need of a page and a desk: components are their own names."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend, self.at_hand = backend, ["slow", "toy"]
        controls = SimpleNamespace(model="model", keep_seed="keep", seed="seed")
        desk: Any = SimpleNamespace(controls=controls, film="film", mine="mine", run_error="error", errors=dict)
        library = SimpleNamespace(offered=lambda: [CARDS[name] for name in self.at_hand])
        tab = SimpleNamespace(id="text-to-image")
        page: Any = SimpleNamespace(backend=backend, job="job", card=CARDS.get, library=library, tab=tab)
        typing: Any = Typing("toggle", "note", "quicker", "hands", Lives(backend))  # type: ignore[arg-type]
        self.asking = live.added(page, Asking(set(), [], self.request_of), typing, desk)
        self.drawing, self.typing = Drawing(page, desk, self.asking, typing), typing
        self.more: dict[str, Any] = {}

    def request_of(self, values: Any, new_seed: bool) -> Any:
        if values["prompt"] == "wrong":
            raise InvalidRequest("prompt is wrong.")
        return ask(values["prompt"], seed=9 if new_seed or not values["keep"] else 7, **self.more)

    def values(self, prompt: str, **changes: Any) -> dict[Any, Any]:
        return {"prompt": prompt, "keep": False, "toggle": True, "model": "toy", **changes}

    def draw(self, prompt: str, **changes: Any) -> list[dict[Any, Any]]:
        """Everything that a change leads to."""
        return list(self.drawing.draw(self.values(prompt, **changes)))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("pipelines.denoise.denoise", toy_denoise)
    monkeypatch.setattr("ui.live.making.explain", lambda desk, asking, problem: {"error": str(problem)})
    # Neither a pause nor slowness is what the machine makes of it.
    monkeypatch.setattr(engine, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(engine, "SLOW_SECONDS", 30.0)
    backend = LocalBackend(ToyManager(), tmp_path / "pictures", threads=1)  # type: ignore[arg-type]
    yield Stage(backend)
    backend.close()


def pictures(stage: Stage) -> int:
    return len(list(stage.backend._pictures_dir.glob("*.png")))


def test_a_change_is_drawn_and_after_a_pause_kept(stage: Stage) -> None:
    updates = stage.draw("a fox")
    films = [update["film"] for update in updates if "film" in update]
    drawn, kept = films[-2:]
    assert (drawn["live"], drawn["state"], drawn["run"]) == (True, "live", kept["run"])
    assert drawn["text"].startswith("Drawn in ") and drawn["pictures"][0]["uri"].startswith("data:image/png")
    assert "live" not in kept and (kept["state"], len(kept["frames"])) == ("done", 4)
    assert kept["text"].startswith("Kept. Done in ") and kept["pictures"][0]["file"]["path"].endswith(".png")
    assert updates[-1]["mine"] == updates[-1]["job"] == kept["run"]
    assert pictures(stage) == 1


def test_the_seed_stays_while_drafts_are_drawn(stage: Stage) -> None:
    stage.draw("a fox")
    (job,) = stage.backend._jobs.values()
    assert job.request.sampling.seed == 7
    assert stage.asking.request_of(stage.values("a fox"), True).sampling.seed == 9
    assert stage.asking.request_of(stage.values("a fox", toggle=False), False).sampling.seed == 9


def test_the_same_again_changes_nothing(stage: Stage) -> None:
    stage.draw("a fox")
    assert stage.draw("a fox") == [{"error": gr.skip()}]
    assert pictures(stage) == 1


def test_generate_keeps_what_is_there_once(stage: Stage) -> None:
    changes = stage.drawing.draw(stage.values("a fox"))
    while next(changes).get("film", {}).get("state") != "live":
        pass
    request = stage.asking.request_of(stage.values("a fox"), False)
    first, said = stage.asking.submit(request)
    assert (said, pictures(stage), first.draft) == ({}, 1, False)
    list(changes)
    second, said = stage.asking.submit(request)
    assert second is first and said == {"note": live.KEPT} and pictures(stage) == 1
    other, said = stage.asking.submit(ask("a whale"))
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
    monkeypatch.setattr(engine, "HOPELESS", 1e9)
    monkeypatch.setattr(engine, "SLOW_SECONDS", 1e-7)
    prompts = iter("abcdef")
    updates = [update for _ in range(3) for update in stage.draw(next(prompts))]  # the first one loads the model
    off = [update for update in updates if update.get("toggle") is False]
    assert len(off) == 1 and off[0]["note"].startswith("Turned off, since a picture takes 0.0 s here")
    assert pictures(stage) == 3


def test_a_draft_that_does_not_end_is_stopped_and_not_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.draw("loads the model")
    monkeypatch.setattr(engine, "SLOW_SECONDS", 1e-7)
    stage.backend._on_step = lambda job, step: job._stop.wait(WAIT)
    updates = stage.draw("a fox")
    assert updates[-1]["toggle"] is False and updates[-1]["note"].startswith("Turned off")
    assert [job.cancelled for job in stage.backend._jobs.values()] == [False, True]
    # Whoever switches it on again has it drawn.
    monkeypatch.setattr(engine, "SLOW_SECONDS", 30.0)
    stage.backend._on_step = None
    assert list(stage.drawing.switch(True)) == [{"note": live.ABOUT}]
    assert stage.draw("a fox")[-1]["film"]["state"] == "done"


def test_variations_and_blends_wait_for_generate(stage: Stage) -> None:
    stage.more = {"variation": {"seed": 3, "strength": 0.5}}
    assert stage.draw("a fox") == [{"note": live.BLENDS}]
    assert not stage.backend._jobs


def test_what_is_wrong_is_said_where_it_belongs(stage: Stage) -> None:
    assert stage.draw("wrong") == [{"error": "prompt is wrong."}]
    *_, last = stage.draw("crash")
    assert last["error"].startswith("Something went wrong with toy (ValueError)")
    assert pictures(stage) == 0


def test_it_is_for_quick_models_and_the_owner_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(model: str) -> bool:
        update, note, way = stage.drawing.offer(model)
        assert note == live.ABOUT and not update.value
        # The way to a quicker model is for whoever may use that, where this one is none.
        assert way.visible == (not update.visible and live.visitor().owner)
        return update.visible

    assert offered("toy")
    assert not offered("slow") and not offered("gone")
    assert stage.draw("a fox", model="slow") == stage.draw("a fox", toggle=False) == [{"error": gr.skip()}]
    guest = Visitor("guest")
    monkeypatch.setattr("ui.live.visitor", lambda: guest)
    assert not offered("toy")
    _, way, chosen = stage.drawing.quicken()
    assert not way.visible and chosen == gr.skip()
    assert stage.draw("a fox") == [{"error": gr.skip()}]
    assert not stage.backend._jobs
    job, said = stage.asking.submit(ask())
    assert job.visitor is guest and not job.draft and said == {}


def test_only_waits_that_last_are_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    job: Any = SimpleNamespace(wait_more=lambda *_: True, request=ask(), id="x", asked=0.0, done=False, runs_for=0.0)
    told = iter([[Queued(1)], [Queued(1)], [Loading("toy", "unet", 0, 2)], [Preview(0, 1, 0.0, 0.0, ())]])
    job.poll = lambda seen=0: next(told)
    clock = iter([0.0, 0.1, 0.5, 0.6, 0.7])
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found: Any = SimpleNamespace(late=lambda job: False, is_newest=lambda job: True)
    words = live.waiting(found, stream.Roll(job))
    assert [next(words), next(words)] == [
        "Queued, 2nd in line: 1 picture is made before yours",
        "Loading toy: 0 of 2 parts, next unet",
    ]


def test_each_page_has_drafts_of_its_own(stage: Stage) -> None:
    found, lives = {}, stage.typing.lives

    def look(name: str) -> None:
        LocalContext.request.set(SimpleNamespace(session_hash=name))
        found.setdefault(name, []).append(lives.here())

    for name in ("one", "two", "one", *map(str, range(live.PAGES)), "one"):
        thread = threading.Thread(target=look, args=(name,))
        thread.start()
        thread.join(WAIT)
    first, again, later = found["one"]
    assert first is again and first is not found["two"][0]
    assert later is not first  # forgotten in the meantime
    assert len(lives._pages) == live.PAGES


def test_a_draft_replaces_the_picture_and_brings_no_frames(stage: Stage) -> None:
    job = stage.backend.submit(ask(), draft=True)
    finish(job)
    roll = stream.Roll(job)
    for event in job.poll():
        roll.take(event)
    value = live.as_draft(roll, "Drawn")
    assert value["frames"] == [] and roll.whole()["frames"] == [] and value["asked"] == job.asked
    assert replace(job.poll()[-1], drafts=()) != job.poll()[-1]


def test_one_press_leads_to_the_quicker_model_and_names_it_first(stage: Stage) -> None:
    *_, way = stage.drawing.offer("slow")
    assert CARDS["toy"].name in way.value
    toggle, way, chosen = stage.drawing.quicken()
    assert toggle.value and toggle.visible and not way.visible
    assert (chosen["model"], chosen["tab"], chosen["prompt"]) == ("toy", "text-to-image", "")
    stage.at_hand = ["slow"]
    *_, way = stage.drawing.offer("slow")
    assert not way.visible
