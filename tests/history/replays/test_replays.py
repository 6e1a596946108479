"""Replays by the real backend: equal pictures are not listed twice, others are marked as what they are."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from history.entries import CRASHED
from history.parents import REPLAY
from history.replays import replays as replaying
from history.replays.replays import CANCELLED, COMPLETE, DONE, GONE, NO_PICTURE, STOPPED, ReplayState
from pipelines.hub import versions
from pipelines.hub.versions import FileHashes
from pipelines.jobs.users import OWNER, User
from pipelines.request import InvalidRequest
from tests.support.recipe_runs import Workshop, asked, workshop
from tests.support.tiny_loras import make_lora
from tests.support.tiny_model import make_tiny_model, tiny_card
from tests.support.waiting import wait_for

GUEST, OTHER = User("guest-1"), User("guest-2")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    root = tmp_path_factory.mktemp("replays")
    with workshop(root, [tiny_card(make_tiny_model(root / "model"))]) as found:
        yield found


def again(shop: Workshop, entry_id: str, user: User = OWNER) -> ReplayState:
    """What came of a replay."""
    replays = shop.history.replays
    job = replays.start(shop.backend.submit, user, entry_id)
    wait_for(lambda: (state := replays.state(user, job.id)) is not None and state.state != "running")
    found = replays.state(user, job.id)
    assert found is not None
    return found


def ids(shop: Workshop, user: User = OWNER) -> set[str]:
    return {entry.id for entry in shop.history.catalogue.all(user)}


def repaint(path: Path) -> None:
    """A picture as another version might have made it."""
    with Image.open(path) as image:
        other = image.convert("RGB").point(lambda level: 255 - level)
    other.save(path)


def links(shop: Workshop, entry_id: str) -> set[tuple[str, str, str]]:
    return {(link.child, link.parent, link.kind) for link in shop.history.family(OWNER, entry_id).links}


def test_an_equal_picture_is_not_listed_a_second_time(shop: Workshop) -> None:
    made = shop.make("one", seed=3)
    before = ids(shop)
    found = again(shop, made.entry.id)
    assert (found.state, found.same, found.entry) == (DONE, True, "")
    assert found.text.startswith("The same picture, pixel by pixel.")
    assert ids(shop) == before and made.picture is not None and made.picture.is_file()


def test_one_of_several_pictures_is_compared_with_its_own(shop: Workshop) -> None:
    made = shop.make("second", place=1, num_images=2, scheduler="euler_a", seed=30)
    before = ids(shop)
    assert again(shop, made.entry.id).same
    assert ids(shop) == before


def test_another_picture_stays_and_is_marked_as_made_again(shop: Workshop) -> None:
    made = shop.make("two", place=1, num_images=2, seed=40)
    first, second = made.siblings
    assert made.picture is not None
    repaint(made.picture)
    with shop.history.database.write() as connection:
        facts = '{"picture": 1, "device": "cpu", "libraries": {"diffusers": "0.1.0"}}'
        connection.execute("UPDATE details SET facts = ? WHERE number = ?", (facts, made.entry.number))
    found = again(shop, made.entry.id)
    assert (found.state, found.same) == (DONE, False)
    assert "Likely cause: diffusers 0.1.0 then, " in found.text and "perceptual hash" in found.text
    new = shop.history.detail(OWNER, found.entry)
    assert new is not None and new.entry.place == 1
    assert (found.entry, second, REPLAY) in links(shop, second)
    # The other picture of the run came out equal, so it is not there twice.
    assert new.siblings == (found.entry,) and not any(kind == REPLAY for _, _, kind in links(shop, first))


def test_only_equal_pictures_of_a_run_are_removed(shop: Workshop) -> None:
    made = shop.make("first of two", place=0, num_images=2, seed=80)
    first, second = made.siblings
    other = shop.history.detail(OWNER, second)
    assert other is not None and other.picture is not None
    repaint(other.picture)
    before = ids(shop)
    found = again(shop, first)
    assert found.same and "other pictures 1 is new in the history" in found.text
    (new,) = ids(shop) - before
    assert links(shop, second) == {(new, second, REPLAY)}
    # What is deleted cannot be compared with, so the picture in its place stays.
    shop.history.bin.delete(OWNER, [second, new])
    assert again(shop, first).same and len(ids(shop) - before) == 1


def test_guests_replay_their_own_alone(shop: Workshop) -> None:
    owners = shop.make("owners", seed=50)
    with pytest.raises(InvalidRequest, match=GONE):
        shop.history.replays.start(shop.backend.submit, GUEST, owners.entry.id)
    with shop.history.database.write() as connection:
        connection.execute("UPDATE entries SET user = ?, guest = 1 WHERE id = ?", (GUEST.id, owners.entry.id))
    job = shop.history.replays.start(shop.backend.submit, GUEST, owners.entry.id)
    assert job.user == GUEST and shop.history.replays.state(OTHER, job.id) is None
    wait_for(lambda: (state := shop.history.replays.state(GUEST, job.id)) is not None and state.state == DONE)
    assert ids(shop, GUEST) == {owners.entry.id}


def test_what_cannot_be_made_again_is_said(shop: Workshop) -> None:
    made = shop.make("gone", seed=60)
    with pytest.raises(InvalidRequest, match=GONE):
        shop.history.replays.start(shop.backend.submit, OWNER, "nothing")
    assert made.picture is not None
    aside = made.picture.with_suffix(".aside")
    made.picture.rename(aside)
    with pytest.raises(InvalidRequest, match=NO_PICTURE):
        shop.history.replays.start(shop.backend.submit, OWNER, made.entry.id)
    aside.rename(made.picture)


def test_a_run_that_a_crash_cut_off_is_run_again_as_it_was_asked_for(shop: Workshop) -> None:
    upload = shop.backend.inputs.put(Image.linear_gradient("L").resize((32, 40)).convert("RGB"))
    request = asked(init={"image": upload, "strength": 0.5}, num_images=2, scheduler="euler_a", seed=61)
    shop.history.started("crashed-run", request, OWNER)
    shop.history._enter_crashed_runs()
    (cut,) = [entry for entry in shop.history.catalogue.all(OWNER) if entry.kind == CRASHED]
    found = again(shop, cut.id)
    assert found == ReplayState(DONE, COMPLETE.format(count="its 2 pictures are"))
    children = {child for child, parent, kind in links(shop, cut.id) if parent == cut.id and kind == REPLAY}
    assert len(children) == 2
    for child in children:
        made = shop.history.detail(OWNER, child)
        assert made is not None and made.request == request and made.picture is not None


def test_a_missing_file_is_named_before_anything_runs(shop: Workshop) -> None:
    ink = make_lora(shop.root / "model", "stable_diffusion", shop.root / "adapters" / "ink.safetensors", 0)
    made = shop.make("ink", loras=({"name": "ink", "weight": 0.5},))
    assert again(shop, made.entry.id).same
    ink.unlink()
    with pytest.raises(InvalidRequest, match="'ink', which is not here"):
        shop.history.replays.start(shop.backend.submit, OWNER, made.entry.id)


def test_a_replay_can_be_stopped(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.make("stopped", seed=70)
    before = ids(shop)
    monkeypatch.setattr(shop.backend._runner, "on_step", lambda job, step: job.cancel())
    found = again(shop, made.entry.id)
    assert (found.state, found.text) == (STOPPED, CANCELLED) and ids(shop) == before


class SlowHashes:
    """Large files, whose hashes are read once the test lets them be."""

    def __init__(self, shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_read = threading.Event()
        real = hashlib.file_digest

        def slow(*args: Any) -> Any:
            self.may_read.wait()
            return real(*args)

        self.hashes = FileHashes()
        monkeypatch.setattr(versions, "AT_ONCE_BYTES", 0)
        monkeypatch.setattr(versions.hashlib, "file_digest", slow)
        monkeypatch.setattr(shop.backend._runner, "hashes", self.hashes)

    def read(self) -> None:
        """Let all be read, and wait until they are."""
        self.may_read.set()
        wait_for(lambda: not self.hashes._reading)


def changed_model(shop: Workshop, entry_id: str) -> str:
    """Record another hash of one of the model's files, as if that had been replaced since; its name."""
    detail = shop.history.detail(OWNER, entry_id)
    assert detail is not None and detail.picture is not None
    repaint(detail.picture)
    facts = json.loads(json.dumps(dict(detail.facts)))
    name = sorted(facts["model"]["sha256"])[0]
    facts["model"]["sha256"][name] = "0" * 64
    with shop.history.database.write() as connection:
        connection.execute("UPDATE details SET facts = ? WHERE number = ?", (json.dumps(facts), detail.entry.number))
    return name


def test_a_replaced_file_is_named_once_its_hash_is_read(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.make("replaced", seed=90)
    name = changed_model(shop, made.entry.id)
    slow, real = SlowHashes(shop, monkeypatch), shop.history.replays._facts
    # The comparison is done and waits: only now are the files read.
    monkeypatch.setattr(
        shop.history.replays, "_facts", lambda *args: (threading.Timer(0, slow.may_read.set).start(), real(*args))[1]
    )
    found = again(shop, made.entry.id)
    assert f"Likely cause: the model's file {name} is another one now." in found.text
    slow.read()


def test_a_hash_that_takes_too_long_is_said_to_be_unknown(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop.make("too large", seed=91)
    name = changed_model(shop, made.entry.id)
    slow = SlowHashes(shop, monkeypatch)
    monkeypatch.setattr(replaying, "HASH_SECONDS", 0.0)
    found = again(shop, made.entry.id)
    assert f"Whether {name}" in found.text and "Nothing that was recorded differs" not in found.text
    slow.read()


def test_hashes_read_before_the_pictures_are_saved_are_added(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, results = SlowHashes(shop, monkeypatch), shop.backend._runner.results
    real = results.save_pictures
    monkeypatch.setattr(results, "save_pictures", lambda *args: (slow.read(), real(*args))[1])
    made = shop.make("in between", seed=92)
    wait_for(lambda: "sha256" in (shop.history.detail(OWNER, made.entry.id).facts["model"]))
