"""Access control: who is the owner, who is a guest, and under which host names the server may be asked.

The owner has a secret key, guests have a password.  The address that a request comes from, and its headers about that,
count for nothing: requests through a tunnel come from this computer, too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.jobs.users import OWNER, User
from ui.server.limits import LoginThrottle

# The key of a request's user in its ASGI scope.
USER_KEY = "playground.user"
# A client of this computer without a cookie: may generate pictures while nothing is shared, but is not the owner.
LOCAL = User("local", unmetered=True, may_use_api=True)
# A guest without a request for so long counts as gone.
PRESENT_SECONDS = 60.0


@dataclass
class Access:
    """Who may use this server.  Thread-safe.

    Args:
        key: the owner's secret, 32 bytes; see ``owner_key``.
        port: of the server; browsers share cookies between the ports of a host, so cookie names contain it.
        hosts: host names of the server besides those of this computer; ".example.org" for all below, "*" for any.
        user, password: what guests must give; without a password only this computer's own clients have access.
        api: whether guests may use the API.
        clock: seconds; tests replace it.
        paused: whether guests' requests are refused for now.
        ending: whether the program is about to end.
        root_path: the path of the page behind a proxy, such as ``/paint``; "" for none.
        root_url: the page's whole address there; "" if the requests say it.
        origins: hosts, with their ports if they are no usual ones, under which a proxy shows the page.
        names_key: signs guests' ids, so that a browser that logs in again, after a restart too, is the same guest and
            has its own history; it opens nothing.  32 bytes; see ``owner_key``.
    """

    key: bytes
    port: int = 0
    hosts: frozenset[str] = frozenset()
    user: str = ""
    password: str = ""
    api: bool = False
    clock: Callable[[], float] = time.monotonic
    paused: bool = False
    ending: bool = False
    root_path: str = ""
    root_url: str = ""
    origins: frozenset[str] = frozenset()
    names_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _initial_login: tuple[str, str] = field(init=False)
    _throttle: LoginThrottle = field(init=False)
    _guest_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _link_tokens: dict[str, str] = field(default_factory=dict)
    _last_seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._initial_login = (self.user, self.password)
        self._throttle = LoginThrottle(self.clock)

    @property
    def exposed(self) -> bool:
        """Whether others than this computer's own clients may log in."""
        return bool(self.password)

    def allow_guests(self, password: str, hosts: Iterable[str] = ()) -> str:
        """Allow guests with this password under these host names, too; earlier guests must log in again.

        Returns:
            The password that counts: the one given at the start, if there was one.
        """
        with self._lock:
            if not self._initial_login[1]:
                self.user, self.password = "", password
            self.paused = False
            self.hosts = self.hosts | frozenset(hosts)
            self._guest_key = secrets.token_bytes(32)
            return self.password

    def revoke_guests(self, hosts: Iterable[str] = ()) -> None:
        """Undo ``allow_guests``: log all guests out and stop answering to these host names."""
        with self._lock:
            self.user, self.password = self._initial_login
            self.paused = False
            self.hosts = self.hosts - frozenset(hosts)
            self._guest_key = secrets.token_bytes(32)
            self._last_seen.clear()

    def is_own_host(self, host: str) -> bool:
        """Whether this is a host name of the server (a Host header, with or without a port)."""
        name = _hostname(f"//{host}") if host and not re.search(r"[\s/\\@]", host) else ""
        if name in ("localhost", "127.0.0.1", "::1") or name in self.hosts:
            return True
        return bool(name) and any(known == "*" or (known[0] == "." and name.endswith(known)) for known in self.hosts)

    # -- the owner ---------------------------------------------------------------------------------------------

    def link_token(self) -> str:
        """A new token that makes one browser the owner's."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._link_tokens[_token_id(token)] = token
        return token

    def redeem_token(self, token: str) -> bool:
        """Whether this is a token of ``link_token``; each works once."""
        return bool(self.cookie_for_token(token, keep=False))

    def cookie_for_token(self, token: str, keep: bool) -> str:
        """The value of an owner's cookie for a browser that follows a link; "" if the token is not one, or is used up.

        Args:
            token: of ``link_token``.
            keep: whether it is used up only once a request brings this cookie back.  Programs that look at links
                before people do follow none, so that they do not use one up.
        """
        given = token.encode("utf-8", "replace")
        with self._lock:
            known = self._link_tokens.items()
            found = next((name for name, one in known if hmac.compare_digest(one.encode(), given)), None)
            if found is not None and not keep:
                del self._link_tokens[found]
        return f"{self.owner_cookie[1]}.{found}" if found is not None else ""

    @property
    def owner_cookie(self) -> tuple[str, str]:
        """Name and value of the cookie of the owner's browsers."""
        return f"playground-owner-{self.port}", _mac(self.key, "owner")

    # -- guests ------------------------------------------------------------------------------------------------

    @property
    def guest_cookie_name(self) -> str:
        """Name of the cookie of guests' browsers."""
        return f"playground-guest-{self.port}"

    def log_in(self, user: str, password: str, address: str, cookies: Sequence[str] = ()) -> str | None:
        """The value of a guest's cookie, or None if the password is wrong.

        The right password always counts: how many wrong ones came before, from here or elsewhere, says nothing about
        the person who knows it.

        Args:
            address: of the client; that of this computer says nothing, since requests through a tunnel have it, too.
            cookies: earlier ones of the browser: whose guest it was, it is again.

        Raises:
            TooManyAttempts: for a wrong password after many others from this address, or in total.
        """
        address = "" if _is_this_computer(address) else address
        with self._lock:
            right = hmac.compare_digest(_bytes(user), self.user.encode()) or not self.user
            right &= hmac.compare_digest(_bytes(password), self.password.encode())
            if not (right and self.password):
                self._throttle.check(address)
                self._throttle.failed(address)
                return None
            self._throttle.succeeded(address)
            guest = next(filter(None, map(self._guest_before, cookies)), "") or secrets.token_urlsafe(12)
            return f"{guest}.{_mac(self._guest_key, guest)}.{_mac(self.names_key, guest)}"

    def _guest_before(self, cookie: str) -> str:
        """The guest whose cookie this was, of any share; "" if this program has not written it."""
        guest, _, macs = cookie.partition(".")
        mac = macs.rpartition(".")[2]
        return guest if guest and hmac.compare_digest(_bytes(mac), _mac(self.names_key, guest).encode()) else ""

    def guest_count(self) -> int:
        """Guests with a request in the last minute."""
        with self._lock:
            since = self.clock() - PRESENT_SECONDS
            return sum(seen >= since for seen in self._last_seen.values())

    # -- both --------------------------------------------------------------------------------------------------

    def identify(self, cookies: Mapping[str, str | Sequence[str]], token: str = "") -> User | None:
        """The user of a request; None for one who must log in.

        Args:
            cookies: one value or several of each name; a browser sends several if they were set for several paths.
            token: a bearer token (``Authorization``).
        """
        name, value = self.owner_cookie
        if any(self._is_owner(given, value) for given in (*_values(cookies.get(name, ())), token)):
            return OWNER
        if self.exposed:
            for value in _values(cookies.get(self.guest_cookie_name, ())):
                guest, mac = [*value.split("."), ""][:2]
                if guest and len(mac) == 64 and hmac.compare_digest(_bytes(mac), _mac(self._guest_key, guest).encode()):
                    self._note_seen(guest)
                    return User(guest, may_use_api=self.api)
        return None if self.exposed else LOCAL

    def _is_owner(self, given: str, expected: str) -> bool:
        """Whether this is an owner's cookie; uses up the link that it came from."""
        mac, _, link = given.partition(".")
        if not hmac.compare_digest(_bytes(mac), expected.encode()):
            return False
        if link:
            with self._lock:
                self._link_tokens.pop(link, None)
        return True

    @property
    def guest_epoch(self) -> bytes:
        """Changes when all guests are logged out."""
        return self._guest_key

    def _note_seen(self, guest: str) -> None:
        with self._lock:
            now = self.clock()
            if guest not in self._last_seen:  # drop guests who left, so that the table stays small
                self._last_seen = {
                    name: seen for name, seen in self._last_seen.items() if seen >= now - PRESENT_SECONDS
                }
            self._last_seen[guest] = now


def is_guest(user: User) -> bool:
    """Whether a user has logged in with the password."""
    return not user.owner and user is not LOCAL


def owner_key(path: Path) -> bytes:
    """The owner's secret of this computer; created at the first start, readable only by its user.

    Raises:
        OSError: if it can be neither read nor written.
    """
    try:
        found = path.read_bytes()
        if len(found) == 32:
            return found
        path.unlink()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    return key


def _token_id(token: str) -> str:
    """A name for a token from which it cannot be found."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _values(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _is_this_computer(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return not address


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # brackets that do not close
        return ""
