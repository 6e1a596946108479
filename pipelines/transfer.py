"""Asking a hub and taking in files: requests that are tried again, can be left at any moment, and go on after a cut."""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipelines.repositories import CannotFetch, Plan, PlannedFile, is_plain, size_of

T = TypeVar("T")
Check = Callable[[], None]  # called often; raises Stopped

# Seconds between two looks at whether somebody has stopped the download.
POLL = 0.1
# Seconds over which the speed is averaged.
WINDOW = 5.0


class Stopped(Exception):
    """A download that somebody has stopped; what has arrived is kept."""


class _Silent(Exception):
    """Nothing has come for too long."""


class _Cut(Exception):
    """The connection ended before the file did."""


class _Left(Exception):
    """Nobody listens any more."""


@dataclass(frozen=True)
class Progress:
    """How far a download is.

    Attributes:
        file: the one that is arriving; "" at the end.
        done, total: bytes, of all files together.
        bytes_per_second: over the last seconds.
        seconds_left: None while nothing arrives.
    """

    file: str
    done: int
    total: int
    bytes_per_second: float
    seconds_left: float | None


@dataclass(frozen=True)
class About:
    """What messages are about: a model's name and its page."""

    name: str
    link: str


class Tally:
    """Bytes over all files, their speed, and who is told."""

    def __init__(self, plan: Plan, progress: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.file = plan.total, plan.there, ""
        self._progress = progress
        self._told = (-1.0, "")
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), self.done)])

    def at(self, done: int) -> None:
        """So many bytes are there."""
        if done < self.done:
            self._seen.clear()
        self.done = done

    def add(self, count: int) -> None:
        """So many more (or fewer) bytes are there."""
        self.at(self.done + count)

    def tick(self) -> None:
        """Tell how far it is, at most five times a second and whenever another file begins."""
        now = time.monotonic()
        if self._progress is None or (now - self._told[0] < 2 * POLL and self._told[1] == self.file):
            return
        self._told = (now, self.file)
        self._seen.append((now, self.done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        (then, before) = self._seen[0]
        speed = (self.done - before) / (now - then) if now > then else 0.0
        left = (self.total - self.done) / speed if speed > 0 else None
        self._progress(Progress(self.file, self.done, self.total, speed, left))

    def end(self) -> None:
        """Everything is there."""
        self.at(self.total)
        self.file, self._told = "", (-1.0, "")
        self.tick()


class Part:
    """A file that is arriving; it is added up as it grows, so that it need not be read again."""

    def __init__(self, file: PlannedFile, path: Path, tally: Tally, writing: Callable[[], Any]) -> None:
        self._planned, self._path, self._tally, self._writing = file, path, tally, writing
        self.size = self.furthest = 0

    def __enter__(self) -> Part:
        with self._writing():
            self._file = self._path.open("a+b")
        self._sum = _begin(self._planned)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk has been said already
            self._file.close()

    def read(self, check: Check) -> None:
        """Take up what an earlier download has left."""
        with self._writing():
            self._file.seek(0)
            while block := self._file.read(2**20):
                check()
                self._sum.update(block)
                self.size += len(block)
        self.furthest = self.size

    def append(self, chunk: bytes) -> None:
        """More of the file."""
        with self._writing():
            self._file.write(chunk)
            self._file.flush()  # so that it is there when this process is killed
        self._sum.update(chunk)
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)
        self._tally.add(len(chunk))

    def restart(self) -> None:
        """From nothing."""
        with self._writing():
            self._file.truncate(0)
        self._tally.add(-min(self.size, self._planned.bytes))
        self.size = 0
        self._sum = _begin(self._planned)

    def settle(self, target: Path) -> bool:
        """Move it to its place if it is what it should be, else throw it away."""
        if self._sum.hexdigest() != self._planned.digest:
            self.restart()
            self._path.unlink(missing_ok=True)
            return False
        with self._writing():
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._path, target)
        return True


class Connection:
    """Requests to one hub, through huggingface_hub's session; a request that fails is tried again where that may help.

    Args:
        endpoint: address of the hub; None for HF_ENDPOINT.
        timeout, tries, pause, longest_wait: as in ``pipelines.hub.Hub``.
    """

    def __init__(self, endpoint: str | None, timeout: float, tries: int, pause: float, longest_wait: float) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self._tries, self._pause, self._longest_wait = tries, pause, longest_wait

    @property
    def _host(self) -> str:
        return urlsplit(self._address).hostname or "the hub"

    @property
    def _address(self) -> str:
        from huggingface_hub import constants

        address = (self._endpoint or constants.ENDPOINT).rstrip("/")
        try:
            known = urlsplit(address).scheme in ("http", "https") and urlsplit(address).hostname
        except ValueError:
            known = None
        if not known:
            raise CannotFetch(f"HF_ENDPOINT is {address[:80]!r}, which is no address of a hub; mend it or unset it.")
        return address

    def listing(self, about: About, source: str, check: Check) -> dict[str, PlannedFile]:
        """Every file of a repository's current version, by name."""
        from huggingface_hub import HfApi

        def ask(say: Callable[[Any], None]) -> None:
            say(HfApi(endpoint=self._address).model_info(source, files_metadata=True, timeout=self._timeout))

        def attempt() -> Any:
            with closing(_heard(ask, check, self._timeout)) as answers:
                return next(answers)

        info = self._retrying(about, attempt, check)
        listing = {}
        for item in info.siblings or []:
            digest = item.lfs.sha256 if item.lfs else item.blob_id
            # Names become paths here; sizes and checksums are what a file is checked by.
            known = item.size is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest or "")
            if known and is_plain(item.rfilename):
                listing[item.rfilename] = PlannedFile(source, info.sha, item.rfilename, item.size, digest)
        if not listing or not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise CannotFetch(
                f"{self._host} does not say how large the files of {source} are, so they cannot be checked; let "
                "HF_ENDPOINT name another hub."
            )
        return listing

    def read(self, about: About, file: PlannedFile, blob: Path, check: Check) -> bytes:
        """A small file, from its place in the cache or the hub; nothing is written."""

        def attempt() -> bytes:
            if size_of(blob) == file.bytes:
                return blob.read_bytes()
            with closing(_heard(partial(self._stream, file, 0), check, self._timeout)) as stream:
                next(stream)
                data = b"".join(stream)
            if _digest(file, data) != file.digest:
                raise _Cut
            return data

        return self._retrying(about, attempt, check)

    def pull(self, about: About, file: PlannedFile, part: Part, check: Check) -> None:
        """Append what is missing of a file."""
        self._retrying(about, partial(self._pull, file, part, check), check, lambda: part.furthest)

    def _pull(self, file: PlannedFile, part: Part, check: Check) -> None:
        if part.size > file.bytes:
            part.restart()
        if part.size == file.bytes:
            return
        with closing(_heard(partial(self._stream, file, part.size), check, self._timeout)) as stream:
            if next(stream) != part.size:
                part.restart()  # it does not give ranges
            for chunk in stream:
                # More than it should be is damaged: the sum will tell.
                part.append(chunk[: file.bytes - part.size])
        if part.size != file.bytes:
            raise _Cut

    def _stream(self, file: PlannedFile, start: int, say: Callable[[Any], None]) -> None:
        """Say where the file begins that the hub gives (``start`` or 0), then its bytes."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(file.source, file.name, revision=file.commit, endpoint=self._address)
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=headers, timeout=self._timeout) as response:
            if response.status_code >= 400:
                response.read()
                hf_raise_for_status(response)
            at = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            say(int(at[1]) if at and response.status_code == 206 else 0)
            for chunk in response.iter_bytes():
                say(chunk)

    def _retrying(
        self, about: About, attempt: Callable[[], T], check: Check, position: Callable[[], int] = lambda: 0
    ) -> T:
        """Try until it succeeds, fails for good, or fails too often without having got any further."""
        failures, so_far = 0, position()
        while True:
            try:
                return attempt()
            except (Stopped, CannotFetch):
                raise
            except Exception as error:
                failures = failures + 1 if position() == so_far else 1
                so_far = position()
                wait = max(self._verdict(about, error, failures >= self._tries), self._pause * 2 ** (failures - 1))
            end = time.monotonic() + wait
            while time.monotonic() < end:
                check()
                time.sleep(min(POLL, max(0.0, end - time.monotonic())))

    def _verdict(self, about: About, error: Exception, last: bool) -> float:
        """Seconds to wait before another try.

        Raises:
            CannotFetch: if another try would not help.
        """
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            raise CannotFetch(not_here(about)) from None
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        # A signed address of the store behind the hub can have run out; the hub gives a new one.
        if 400 <= status < 500 and status not in (408, 416, 429) and response.url.host == self._host:
            raise CannotFetch(_refusal(about, status, response.headers, self._host)) from None
        if status == 429:
            wait = _asked_to_wait(response.headers)
            if last or (wait or 0) > self._longest_wait:
                when = f"in {_duration(wait)}" if wait else "in some minutes"
                raise CannotFetch(
                    f"{self._host} has had too many requests from here: try again {when}, what has arrived is kept."
                ) from None
            return wait or 0.0
        if last:
            raise CannotFetch(_trouble(about, error, status, self._host, self._timeout)) from None
        return 0.0


def part_path(blob: Path) -> Path:
    """Where a file lies while it is arriving."""
    return blob.with_name(f"{blob.name}.incomplete")


def _begin(file: PlannedFile) -> Any:
    """The sum that a file is checked by, before its first byte."""
    return hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % file.bytes)


def _digest(file: PlannedFile, data: bytes) -> str:
    added = _begin(file)
    added.update(data)
    return added.hexdigest()


def _heard(work: Callable[[Callable[[Any], None]], None], check: Check, patience: float) -> Iterator[Any]:
    """What ``work`` says, from a thread of its own, so that it can be left behind while it waits for an answer.

    Raises:
        _Silent: if it says nothing for ``patience`` seconds.
        Exception: what ``check`` or ``work`` raises.
    """
    said: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=32)
    left = threading.Event()

    def say(kind: str, thing: Any) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                said.put((kind, thing), timeout=POLL)
                return
        raise _Left

    def run() -> None:
        try:
            work(partial(say, "thing"))
            say("end", None)
        except _Left:
            pass
        except Exception as error:
            with suppress(_Left):
                say("error", error)

    threading.Thread(target=run, daemon=True, name="hub").start()
    try:
        yield from _take(said, check, patience)
    finally:
        left.set()


def _take(said: queue.Queue[tuple[str, Any]], check: Check, patience: float) -> Iterator[Any]:
    heard = time.monotonic()
    while True:
        check()
        try:
            kind, thing = said.get(timeout=POLL)
        except queue.Empty:
            if time.monotonic() - heard > patience:
                raise _Silent from None
            continue
        if kind == "error":
            raise thing
        if kind == "end":
            return
        yield thing
        heard = time.monotonic()


def raise_if_stopped(cancelled: Callable[[], bool] | None) -> None:
    """A check that asks somebody."""
    if cancelled is not None and cancelled():
        raise Stopped


def until(end: float) -> None:
    """A check that stops at a time of ``time.monotonic``."""
    if time.monotonic() > end:
        raise Stopped


def go_on() -> None:
    """A check that lets everything go on."""


# Messages.


def not_here(about: About) -> str:
    """A model that is not here, and nobody may be asked for it."""
    return (
        f"{about.name} is not on this machine and nothing may be fetched (offline mode): unset HF_HUB_OFFLINE and "
        "start again with a network, or choose a model that is here."
    )


def _refusal(about: About, status: int, headers: Mapping[str, str], host: str) -> str:
    code = headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return (
            f"{about.name} is only for people who have agreed to its terms: agree at {about.link}, put an access token "
            "of that account into the environment variable HF_TOKEN, and start again."
        )
    if code == "EntryNotFound":
        return f"A file of {about.name} is no longer on the hub; start the download again."
    if status == 404 or code == "RepoNotFound":
        return (
            f"There is no {about.name} at {about.link}, or it is private: look at the name, and for a private model "
            "set HF_TOKEN to an access token."
        )
    if status in (401, 403):
        return (
            f"{host} refuses {about.name}: agree to its terms at {about.link} if it has any, and set HF_TOKEN to a "
            "valid access token of that account."
        )
    return f"{host} refuses the request for {about.name} (error {status}); look at {about.link}."


def _trouble(about: About, error: Exception, status: int, host: str, timeout: float) -> str:
    name = type(error).__name__
    if status:
        return f"{host} is out of order (error {status}): try again later, what has arrived is kept."
    if name.startswith("Connect"):
        return f"{host} cannot be reached: look at the network, then start again; what has arrived is kept."
    if isinstance(error, _Silent) or name.endswith("Timeout"):
        return (
            f"{host} was silent for {_duration(timeout)}, again and again, while {about.name} was being fetched: try "
            "again later, what has arrived is kept."
        )
    return (
        f"The connection to {host} keeps breaking off ({name.strip('_')}): try again later, what has arrived is kept."
    )


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a hub asks to wait, from its Retry-After or RateLimit header."""
    from huggingface_hub.utils import parse_ratelimit_headers

    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        with suppress(ValueError):
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    info = parse_ratelimit_headers(headers)
    return float(info.reset_in_seconds) if info else None


def _duration(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = -int(-seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError
