"""What guests and anonymous clients may use: login attempts, uploads, calls, sessions and requests at once.

The owner and, while nothing is shared, this computer's own clients have no limits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.jobs.users import User
from pipelines.system import guest_bytes

# Wrong passwords without a delay, and the longest delay after more of them.
FREE_ATTEMPTS, MAX_DELAY_SECONDS = 3, 60.0
# Wrong passwords a minute from all addresses together, beyond which every login has to wait.
WRONG_PASSWORDS_A_MINUTE = 30
MINUTE, HOUR = 60.0, 3600.0
# Uploads of one guest in an hour: requests and bytes.
UPLOADS_AN_HOUR, UPLOAD_BYTES_AN_HOUR = 60, 300 * 2**20
# The same for all guests together, since a guest who logs in again counts as another one.
ALL_UPLOAD_BYTES_AN_HOUR = 2**30
# Files (open ones of this process) of one upload, a guest's and the owner's, and of all uploads that arrive now, of one
# guest and of all.
GUEST_FILES_A_REQUEST, OWNERS_FILES_A_REQUEST, GUEST_FILES, ALL_GUEST_FILES = 8, 64, 16, 32
# Calls of one guest in a minute that are looked at and refused.
REFUSED_CALLS_A_MINUTE = 600
# Bytes of one guest's calls in a minute, and those that are held at once, of one guest and of all.
CALL_BYTES_A_MINUTE, GUEST_CALL_BYTES, ALL_GUEST_CALL_BYTES = 64 * 2**20, 16 * 2**20, 64 * 2**20
# Calls of functions by one guest in a minute, and sessions (open pages) in an hour: Gradio keeps the state of a limited
# number of sessions (``ui.page.SESSIONS``) and drops the oldest.
CALLS_A_MINUTE, SESSIONS_AN_HOUR = 600, 120
# Calls at once, of one guest and of all: each may hold one of ``ui.page.MAX_WAITING`` threads; some stay for the owner.
GUEST_CALLS, ALL_GUEST_CALLS = 24, 96
# Requests at once: of one guest (a browser opens up to 6 connections, two of them for as long as the page is open), of
# all guests, and of all anonymous clients. With ``ui.server.timeouts.MAX_IDLE`` fewer than macOS's 256 files a process.
GUEST_REQUESTS, ALL_GUEST_REQUESTS, ANONYMOUS_REQUESTS = 24, 96, 32
# The key under which anonymous clients are counted.
ANONYMOUS = ""


class TooManyAttempts(RuntimeError):
    """A wrong password after many others; ``seconds`` until the next attempt."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many wrong passwords; try again in {max(1, round(seconds))} seconds.")
        self.seconds = seconds


@dataclass
class _Attempts:
    wrong: int = 0
    blocked_until: float = 0.0


class LoginThrottle:
    """Tells clients to wait after wrong passwords, by address and in total.  Not thread-safe.

    It is asked about wrong passwords alone: nobody can lock a guest out by sending them.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_address: dict[str, _Attempts] = {}
        self._wrong: deque[float] = deque()

    def check(self, address: str) -> None:
        """Whether a wrong password is answered as one now.

        Args:
            address: of the client; "" where it says nothing, as behind a tunnel.

        Raises:
            TooManyAttempts: if it is not.
        """
        now = self._clock()
        while self._wrong and self._wrong[0] < now - MINUTE:
            self._wrong.popleft()
        if len(self._wrong) >= WRONG_PASSWORDS_A_MINUTE:
            raise TooManyAttempts(self._wrong[0] + MINUTE - now)
        attempts = self._by_address.get(address) if address else None
        if attempts and attempts.blocked_until > now:
            raise TooManyAttempts(attempts.blocked_until - now)

    def failed(self, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        self._wrong.append(now)
        if not address:
            return
        # Addresses are dropped an hour after their last delay, so that the table stays small.
        self._by_address = {name: one for name, one in self._by_address.items() if one.blocked_until > now - HOUR}
        attempts = self._by_address.setdefault(address, _Attempts())
        attempts.wrong += 1
        beyond = attempts.wrong - FREE_ATTEMPTS
        attempts.blocked_until = now + (min(MAX_DELAY_SECONDS, 2.0**beyond) if beyond > 0 else 0.0)

    def succeeded(self, address: str) -> None:
        """Forget the wrong passwords of an address."""
        self._by_address.pop(address, None)


class SlidingSum:
    """Amounts of the last ``seconds``, by client and of all.  Not thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._entries: deque[tuple[float, str, int]] = deque()
        self._sums: Counter[str] = Counter()
        self._total = 0

    def add(self, client: str, amount: int) -> None:
        """Add to a client's amount."""
        self._entries.append((self._clock(), client, amount))
        self._sums[client] += amount
        self._total += amount

    def of(self, client: str) -> int:
        """A client's amount."""
        self._drop_old()
        return self._sums[client]

    @property
    def total(self) -> int:
        """The amounts of all clients together."""
        self._drop_old()
        return self._total

    def _drop_old(self) -> None:
        since = self._clock() - self._seconds
        while self._entries and self._entries[0][0] <= since:
            _, client, amount = self._entries.popleft()
            self._sums[client] -= amount
            self._total -= amount
            if not self._sums[client]:
                del self._sums[client]


class GuestQuotas:
    """Uploads, calls and sessions of guests over time.  Thread-safe.

    Args:
        clock: seconds.
        has_room: whether the disk of a folder has room for guests' files.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, has_room: Callable[[Path], bool] = guest_bytes.has_room
    ) -> None:
        self._clock, self._has_room = clock, has_room
        self._uploads, self._upload_bytes = SlidingSum(HOUR, clock), SlidingSum(HOUR, clock)
        self._calls, self._refused = SlidingSum(MINUTE, clock), SlidingSum(MINUTE, clock)
        self._call_bytes = SlidingSum(MINUTE, clock)
        self._sessions: dict[str, dict[str, float]] = {}
        self._next_sweep = clock() + MINUTE
        self._lock = threading.Lock()

    def allow_upload(self, user: User, size: int = 0) -> bool:
        """Whether a guest may make one more upload of at least so many bytes in this hour; if so, both are counted.

        Pass the bytes that have arrived, not those that a client announces; more come with ``allow_upload_bytes``.
        """
        if user.unmetered:
            return True
        from gradio.utils import get_upload_folder  # Gradio reads its settings when it is imported

        if not self._has_room(Path(get_upload_folder())):
            return False
        with self._lock:
            if self._uploads.of(user.id) >= UPLOADS_AN_HOUR or not self._fits(user, size):
                return False
            self._uploads.add(user.id, 1)
            self._upload_bytes.add(user.id, size)
            return True

    def allow_upload_bytes(self, user: User, size: int) -> bool:
        """Whether these bytes of a guest's upload, which have arrived, are allowed; if so, they are counted."""
        if user.unmetered:
            return True
        with self._lock:
            fits = self._fits(user, size)
            if fits and size:
                self._upload_bytes.add(user.id, size)
            return fits

    def has_room_for(self, user: User, size: int) -> bool:
        """Whether one more upload of this announced size could be allowed; nothing is counted."""
        with self._lock:
            return user.unmetered or (self._uploads.of(user.id) < UPLOADS_AN_HOUR and self._fits(user, size))

    def forget_upload(self, user: User) -> None:
        """Undo the count of an upload of which not one byte came."""
        if not user.unmetered:
            with self._lock:
                self._uploads.add(user.id, -1)

    def _fits(self, user: User, size: int) -> bool:
        own, all_bytes = self._upload_bytes.of(user.id), self._upload_bytes.total
        return own + size <= UPLOAD_BYTES_AN_HOUR and all_bytes + size <= ALL_UPLOAD_BYTES_AN_HOUR

    def may_call(self, user: User) -> bool:
        """Whether a guest's next call is looked at; nothing is counted."""
        with self._lock:
            return user.unmetered or (
                self._calls.of(user.id) < CALLS_A_MINUTE and self._refused.of(user.id) < REFUSED_CALLS_A_MINUTE
            )

    def count_refused_call(self, user: User) -> None:
        """Count a call that was looked at and refused."""
        if not user.unmetered:
            with self._lock:
                self._refused.add(user.id, 1)

    def allow_call(self, user: User, session: str) -> bool:
        """Whether a guest may call a function now from this session (``session_hash``); if so, the call is counted."""
        if user.unmetered:
            return True
        with self._lock:
            if self._calls.of(user.id) >= CALLS_A_MINUTE or not self._allow_session(user, session):
                return False
            self._calls.add(user.id, 1)
            return True

    def allow_call_bytes(self, user: User, size: int) -> bool:
        """Whether these bytes of a guest's calls, which have arrived, are allowed; they are counted."""
        if user.unmetered or not size:
            return True
        with self._lock:
            self._call_bytes.add(user.id, size)
            return self._call_bytes.of(user.id) <= CALL_BYTES_A_MINUTE

    def _allow_session(self, user: User, session: str) -> bool:
        now = self._clock()
        if now >= self._next_sweep:  # not at each call: there may be very many guests
            self._next_sweep = now + MINUTE
            self._sessions = {name: kept for name, each in self._sessions.items() if (kept := _recent(each, now))}
        sessions = self._sessions[user.id] = _recent(self._sessions.get(user.id, {}), now)
        if session not in sessions and len(sessions) >= SESSIONS_AN_HOUR:
            return False
        sessions[session] = now
        return True


def _recent(sessions: dict[str, float], now: float) -> dict[str, float]:
    """The sessions of the last hour."""
    return {session: at for session, at in sessions.items() if at > now - HOUR}


class Held:
    """Bytes or files of guests' requests that are held now.  Only for the server's event loop."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def add(self, client: str, size: int, own: int, total: int) -> bool:
        """Count what a client sent; whether it holds no more than ``own``, and all together no more than ``total``."""
        self._held[client] += size
        return self._held[client] <= own and self._held.total() <= total

    def release(self, client: str, size: int) -> None:
        """Forget what is gone."""
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]


class ConcurrentRequests:
    """Requests that are being answered, by guest id or ``ANONYMOUS``; None has no limit.  Not thread-safe."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    def has_room(self, client: str | None) -> bool:
        """Whether a client may have one more request."""
        if client is None:
            return True
        anonymous = self._running[ANONYMOUS]
        if client == ANONYMOUS:
            return anonymous < ANONYMOUS_REQUESTS
        return self._running[client] < GUEST_REQUESTS and self._running.total() - anonymous < ALL_GUEST_REQUESTS

    @contextmanager
    def counted(self, client: str | None) -> Iterator[None]:
        """Count one request for as long as the context lasts."""
        if client is None:
            yield
            return
        self._running[client] += 1
        try:
            yield
        finally:
            self._running[client] -= 1
            self._running += Counter()  # drops clients without requests


def has_too_many_calls(guest: User, callers: list[User]) -> bool:
    """Whether a guest, or all guests, have as many calls in the queue as allowed.

    Args:
        callers: who made the calls that wait or run.
    """
    guests = [user.id for user in callers if not user.unmetered]
    return guests.count(guest.id) >= GUEST_CALLS or len(guests) >= ALL_GUEST_CALLS
