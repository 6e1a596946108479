"""Pictures of the history over HTTP, in their own format or another one."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from history.store import History
from pipelines.images.decoding_slots import GUEST_SLOTS, MAX_WAITING
from pipelines.images.file_texts import read_texts
from pipelines.images.png import record_of
from pipelines.images.settings_in_files import source_type_of
from pipelines.jobs.users import OWNER, User
from tests.support.history_entries import ask, keep
from tests.support.waiting import wait_for
from ui.server.access import USER_KEY
from ui.server.http.history_files import history_route


@pytest.mark.parametrize("form", ["", "png", "jpeg", "webp"])
@pytest.mark.parametrize("kind", ["picture", "plain"])
def test_a_picture_is_served_in_the_format_that_is_asked_for(tmp_path: Path, form: str, kind: str) -> None:
    history = History(tmp_path)
    history.open(background=False)
    made = keep(history, "secret words")
    client = TestClient(Starlette(routes=[history_route(history)]))
    answer = client.get(f"/history/{kind}/{made}" + (f"?format={form}" if form else ""))
    assert answer.status_code == 200 and answer.headers["content-type"] == f"image/{form or 'png'}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == (form or "png").upper()
    record = record_of(read_texts(answer.content))
    assert (record.request if record else None) == (ask("secret words") if kind == "picture" else None)
    assert source_type_of(answer.content) == "trainedAlgorithmicMedia"
    assert client.get(f"/history/{kind}/{made}?format=exe").status_code == 404
    history.close()


class _Counted:
    """``History.saved`` that waits until it is let go, and counts how often it runs at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, history: History) -> None:
        self.running, self.most, self.go = list[str](), 0, threading.Event()
        self._saved, self._lock = history.saved, threading.Lock()
        monkeypatch.setattr(history, "saved", self)

    def __call__(self, user: User, *given: Any) -> Any:
        with self._lock:
            self.running.append(user.id)
            self.most = max(self.most, len(self.running))
            assert self.running.count(user.id) == 1 or user.owner
        assert self.go.wait(60)
        try:
            return self._saved(user, *given)
        finally:
            with self._lock:
                self.running.remove(user.id)


def test_a_guests_pictures_are_made_one_at_a_time_and_not_all_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path)
    history.open(background=False)
    guests = [User("a"), User("b"), User("c")]
    entries = {user.id: keep(history, "words", user=user) for user in (OWNER, *guests)}
    app, counted = Starlette(routes=[history_route(history)]), _Counted(monkeypatch, history)

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"])[b"x-user"].decode()
            scope[USER_KEY] = next(user for user in (OWNER, *guests) if user.id == name)
        await app(scope, receive, send)

    with TestClient(with_user) as client, ThreadPoolExecutor(40) as threads:

        def status(user: User, kind: str = "picture") -> int:
            target = f"/history/{kind}/{entries[user.id]}?format=webp"
            return client.get(target, headers={"x-user": user.id}).status_code

        guests_answers = [threads.submit(status, guests[0], ("picture", "plain")[k % 2]) for k in range(24)]
        wait_for(lambda: sum(answer.done() for answer in guests_answers) == 24 - 1 - MAX_WAITING)
        others = [threads.submit(status, user) for user in guests[1:]]
        wait_for(lambda: len(counted.running) == GUEST_SLOTS)
        owners = threads.submit(status, OWNER)
        wait_for(lambda: OWNER.id in counted.running)
        assert len(history.export_slots._holders) == GUEST_SLOTS + 1, "the page's exports wait for the same slots"
        counted.go.set()
        assert sorted(answer.result() for answer in guests_answers) == [200] * (1 + MAX_WAITING) + [429] * (
            23 - MAX_WAITING
        )
        assert [answer.result() for answer in (*others, owners)] == [200] * 3
    assert counted.most <= GUEST_SLOTS + 1
    history.close()
