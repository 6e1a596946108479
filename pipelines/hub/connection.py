"""Requests to a hub: they are retried where that may help, and can be cancelled at any moment."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipelines.hub import errors
from pipelines.hub.errors import DownloadError, ModelPage
from pipelines.hub.progress import POLL_SECONDS, Check, DownloadStopped
from pipelines.hub.selection import PlannedFile, is_safe_path, size_of

T = TypeVar("T")


class IncompleteRead(Exception):
    """The connection ended before the file did."""


class _Silence(Exception):
    """Nothing has arrived for too long."""


class _Abandoned(Exception):
    """The receiver of a background thread has left."""


class Connection:
    """Requests to one hub, through huggingface_hub's session; a request that fails is retried where that may help.

    Args:
        endpoint: address of the hub; None for HF_ENDPOINT.
        timeout, tries, backoff, max_wait: as in ``pipelines.hub.hub.Hub``.
    """

    def __init__(self, endpoint: str | None, timeout: float, tries: int, backoff: float, max_wait: float) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self._tries, self._backoff, self._max_wait = tries, backoff, max_wait

    def list_files(self, page: ModelPage, source: str, check: Check) -> dict[str, PlannedFile]:
        """Every file of a repository's current version, by name."""
        from huggingface_hub import HfApi

        def ask(send: Callable[[Any], None]) -> None:
            send(HfApi(endpoint=self._address).model_info(source, files_metadata=True, timeout=self._timeout))

        def attempt() -> Any:
            with closing(_in_background(ask, check, self._timeout)) as answers:
                return next(answers)

        info = self.retry(page, attempt, check)
        listing = {}
        for item in info.siblings or []:
            digest = item.lfs.sha256 if item.lfs else item.blob_id
            # Names become paths here; sizes and digests are what a file is checked by.
            known = item.size is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest or "")
            if known and is_safe_path(item.rfilename):
                listing[item.rfilename] = PlannedFile(source, info.sha, item.rfilename, item.size, digest)
        if not listing or not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise DownloadError(
                f"{self._host} does not say how large the files of {source} are, so they cannot be checked; let "
                "HF_ENDPOINT name another hub."
            )
        return listing

    def read_file(self, page: ModelPage, file: PlannedFile, blob: Path, check: Check) -> bytes:
        """The content of a small file, from its blob in the cache or from the hub; nothing is written."""

        def attempt() -> bytes:
            if size_of(blob) == file.bytes:
                return blob.read_bytes()
            with closing(self.open(file, 0, check)) as stream:
                next(stream)
                data = b"".join(stream)
            if not file.matches(data):
                raise IncompleteRead
            return data

        return self.retry(page, attempt, check)

    def open(self, file: PlannedFile, start: int, check: Check) -> Generator[Any, None, None]:
        """Yield the offset at which the hub's answer begins (``start``, or 0 if it has no ranges), then the bytes."""
        return _in_background(partial(self._stream, file, start), check, self._timeout)

    def retry(
        self, page: ModelPage, attempt: Callable[[], T], check: Check, position: Callable[[], int] = lambda: 0
    ) -> T:
        """Call ``attempt`` until it succeeds, fails for good, or fails too often with ``position`` unchanged.

        Raises:
            DownloadError: if it fails.
            DownloadStopped: if ``check`` says so.
        """
        failures, last_position = 0, position()
        while True:
            try:
                return attempt()
            except (DownloadStopped, DownloadError):
                raise
            except Exception as error:
                failures = failures + 1 if position() == last_position else 1
                last_position = position()
                delay = self._required_delay(page, error, failures >= self._tries)
                delay = max(delay, self._backoff * 2 ** (failures - 1))
            end = time.monotonic() + delay
            while time.monotonic() < end:
                check()
                time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))

    @property
    def _host(self) -> str:
        return urlsplit(self._address).hostname or "the hub"

    @property
    def _address(self) -> str:
        from huggingface_hub import constants

        address = (self._endpoint or constants.ENDPOINT).rstrip("/")
        try:
            valid = urlsplit(address).scheme in ("http", "https") and urlsplit(address).hostname
        except ValueError:
            valid = None
        if not valid:
            raise DownloadError(
                f"HF_ENDPOINT is {address[:80]!r}, which is not the address of a hub; correct or unset it."
            )
        return address

    def _stream(self, file: PlannedFile, start: int, send: Callable[[Any], None]) -> None:
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
            offset = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            send(int(offset[1]) if offset and response.status_code == 206 else 0)
            for chunk in response.iter_bytes():
                send(chunk)

    def _required_delay(self, page: ModelPage, error: Exception, last: bool) -> float:
        """Seconds that the hub asks to wait before another try.

        Raises:
            DownloadError: if another try would not help, or this was the last one.
        """
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            raise DownloadError(errors.offline(page)) from None
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        # A signed address of the store behind the hub may have expired; the hub gives a new one.
        if 400 <= status < 500 and status not in (408, 416, 429) and response.url.host == self._host:
            raise DownloadError(errors.refusal(page, status, response.headers, self._host)) from None
        if status == 429:
            wait = _retry_after(response.headers)
            if last or (wait or 0) > self._max_wait:
                raise DownloadError(errors.too_many_requests(self._host, wait)) from None
            return wait or 0.0
        if last:
            raise DownloadError(self._failure(page, error, status)) from None
        return 0.0

    def _failure(self, page: ModelPage, error: Exception, status: int) -> str:
        name = type(error).__name__
        if status:
            return errors.outage(self._host, status)
        if name.startswith("Connect"):
            return errors.unreachable(self._host)
        if isinstance(error, _Silence) or name.endswith("Timeout"):
            return errors.silence(page, self._host, self._timeout)
        return errors.broken_connection(self._host, error)


def _in_background(
    work: Callable[[Callable[[Any], None]], None], check: Check, timeout: float
) -> Generator[Any, None, None]:
    """Run ``work(send)`` in a thread and yield what it sends; closing this generator abandons a blocked request.

    Raises:
        _Silence: if nothing is sent for ``timeout`` seconds.
        Exception: what ``check`` or ``work`` raises.
    """
    messages: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=32)
    abandoned = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not abandoned.is_set():
            with suppress(queue.Full):
                messages.put((kind, value), timeout=POLL_SECONDS)
                return
        raise _Abandoned

    def run() -> None:
        try:
            work(partial(put, "value"))
            put("end", None)
        except _Abandoned:
            pass
        except Exception as error:
            with suppress(_Abandoned):
                put("error", error)

    threading.Thread(target=run, daemon=True, name="hub").start()
    try:
        yield from _received(messages, check, timeout)
    finally:
        abandoned.set()


def _received(messages: queue.Queue[tuple[str, Any]], check: Check, timeout: float) -> Iterator[Any]:
    last_message = time.monotonic()
    while True:
        check()
        try:
            kind, value = messages.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if time.monotonic() - last_message > timeout:
                raise _Silence from None
            continue
        if kind == "error":
            raise value
        if kind == "end":
            return
        yield value
        last_message = time.monotonic()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a hub asks to wait, from its Retry-After or RateLimit header."""
    from huggingface_hub.utils import parse_ratelimit_headers

    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    if value:
        with suppress(ValueError):
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    info = parse_ratelimit_headers(headers)
    return float(info.reset_in_seconds) if info else None
