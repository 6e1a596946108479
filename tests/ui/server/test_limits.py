"""Limits of guests and anonymous clients: wrong passwords, uploads and calls."""

from __future__ import annotations

import pytest

from pipelines.jobs.users import OWNER, User
from tests.support.access_client import PASSWORD, Clock, client, logged_in, make_access
from ui.server.limits import (
    CALLS_A_MINUTE,
    HOUR,
    MAX_DELAY_SECONDS,
    UPLOAD_BYTES_AN_HOUR,
    UPLOADS_AN_HOUR,
    WRONG_PASSWORDS_A_MINUTE,
    GuestQuotas,
    TooManyAttempts,
)
from ui.server.middleware import MAX_UPLOAD_BYTES


def test_wrong_passwords_are_slowed_by_address() -> None:
    of = make_access(PASSWORD)
    waits = []
    for _ in range(10):
        try:
            assert of.log_in("", "wrong", "10.0.0.1") is None
        except TooManyAttempts as problem:
            waits.append(problem.seconds)
            of.clock.now += problem.seconds  # type: ignore[attr-defined]
    assert waits == sorted(waits) and waits[0] >= 1 and len(waits) >= 3
    for _ in range(20):
        try:
            of.log_in("", "wrong", "10.0.0.1")
        except TooManyAttempts as problem:
            assert problem.seconds <= MAX_DELAY_SECONDS
            of.clock.now += problem.seconds  # type: ignore[attr-defined]
    with pytest.raises(TooManyAttempts):
        of.log_in("", "wrong", "10.0.0.1")
    assert of.log_in("", "wrong", "10.0.0.2") is None, "other addresses are not delayed"
    assert of.log_in("", PASSWORD, "10.0.0.1"), "the right password is always looked at"


def test_behind_a_tunnel_addresses_say_nothing() -> None:
    of = make_access(PASSWORD)
    # Everybody's requests come from this computer: the wrong ones of one guest do not slow those of another.
    for address in ("127.0.0.1", "::1", "127.0.0.1", "::ffff:127.0.0.1", "") * 4:
        assert of.log_in("", "wrong", address) is None
    assert of.log_in("", PASSWORD, "127.0.0.1")


def test_wrong_passwords_are_slowed_in_total() -> None:
    of = make_access(PASSWORD)
    for k in range(WRONG_PASSWORDS_A_MINUTE):
        assert of.log_in("", "wrong", f"10.0.{k}.1") is None
    with pytest.raises(TooManyAttempts):
        of.log_in("", "wrong", "10.1.0.1")
    assert of.log_in("", PASSWORD, "10.1.0.1")
    of.clock.now += 61  # type: ignore[attr-defined]
    assert of.log_in("", "wrong", "10.1.0.1") is None


def test_too_many_wrong_passwords_get_a_retry_after_header() -> None:
    of = make_access(PASSWORD)
    answers = [client(of).post("/login", data={"password": "x"}) for _ in range(6)]
    assert [a.status_code for a in answers[:3]] == [401] * 3
    assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) >= 1


def test_uploads_of_a_guest_are_limited_by_the_hour_and_the_owners_are_not() -> None:
    of = make_access(PASSWORD)
    guest, owner, path = logged_in(of), client(of), "/gradio_api/upload"
    file = {"files": ("a.png", b"x")}
    owner.cookies.set(*of.owner_cookie)
    assert [guest.post(path, files=file).status_code for _ in range(UPLOADS_AN_HOUR)] == [200] * UPLOADS_AN_HOUR
    assert guest.post(path, files=file).status_code == 429
    assert logged_in(of).post(path, files=file).status_code == 200
    assert {owner.post(path, files=file).status_code for _ in range(UPLOADS_AN_HOUR + 5)} == {200}
    of.clock.now += 3601  # type: ignore[attr-defined]
    guest = logged_in(of)
    assert guest.post(path, files=file).status_code == 200


def test_upload_bytes_are_limited_and_too_large_requests_are_not_read() -> None:
    quotas, user = GuestQuotas(), User("anna")
    assert (
        quotas.allow_upload(user, UPLOAD_BYTES_AN_HOUR - 1)
        and not quotas.allow_upload(user, 2)
        and quotas.allow_upload(user, 1)
    )
    answer = client(make_access()).post(
        "/gradio_api/upload", headers={"Content-Length": str(MAX_UPLOAD_BYTES + 1)}, content=b""
    )
    assert answer.status_code == 413
    for size in ("-1", "1e3", "", "x"):
        bad = client(make_access()).post("/gradio_api/upload", headers={"Content-Length": size}, content=b"")
        assert bad.status_code == 411


def test_calls_of_a_guest_are_limited_by_the_minute() -> None:
    clock = Clock()
    clock.now = 0.0
    quotas, guest = GuestQuotas(clock), User("anna")
    assert [quotas.allow_call(guest, "p") for _ in range(CALLS_A_MINUTE + 1)] == [True] * CALLS_A_MINUTE + [False]
    assert quotas.allow_call(OWNER, "p") and quotas.allow_call(User("bert"), "p")
    clock.now = 61
    assert quotas.allow_call(guest, "p")


def test_guests_upload_nothing_while_the_disk_is_nearly_full() -> None:
    quotas = GuestQuotas(has_room=lambda folder: False)
    assert not quotas.allow_upload(User("a"), 1)
    assert quotas.allow_upload(OWNER, 10**9)


def test_very_many_guests_are_not_gone_through_at_each_call() -> None:
    """A guest who logs in again counts as another one, so that there may be any number; calls are on the event loop."""
    now = [0.0]
    quotas = GuestQuotas(lambda: now[0])
    for k in range(50):
        assert quotas.allow_call(User(str(k)), "s")
    known = quotas._sessions
    now[0] = 30.0
    assert quotas.allow_call(User("0"), "t") and quotas._sessions is known and len(known) == 50
    now[0] = HOUR + 61.0
    assert quotas.allow_call(User("new"), "s") and set(quotas._sessions) == {"new"}
