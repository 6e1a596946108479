"""Exports and imports that run in a thread, one at a time for each user; the page asks how far they are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

from history.database import HistoryUnavailable
from pipelines.jobs.users import User
from pipelines.request import InvalidRequest
from pipelines.system.guest_bytes import NoBytesLeft
from pipelines.system.lru import LruDict
from pipelines.system.text import hide_paths

log = logging.getLogger(__name__)
EXPORT, IMPORT = "export", "import"
MAX_USERS = 200  # guests
STOPPED = "Stopped; nothing was exported."
FAILED = "It ended early because of an error of the program, which is in its log; start it again."


class Stopped(Exception):
    """The user has stopped an export."""


@dataclass(eq=False)
class Transfer:
    """How far an export or import is.

    Attributes:
        kind: EXPORT or IMPORT.
        done, total: pictures or files.
        said: what came of it, once it is over.
        file: path of the zip, "" for none.
        over, stop: set when it has ended, and when it is to end.
    """

    kind: str
    done: int = 0
    total: int = 0
    said: str = ""
    file: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


class Transfers:
    """The latest transfer of each user.  Thread-safe."""

    def __init__(self) -> None:
        self._own: dict[str, Transfer] = {}
        # Apart, so that guests cannot push the owner's out.
        self._guests: LruDict[str, Transfer] = LruDict(max_entries=MAX_USERS)
        self._lock = threading.Lock()

    def of(self, user: User) -> Transfer | None:
        """The user's latest one, over or not."""
        with self._lock:
            return self._of(user).get(user.id)

    def start(self, user: User, transfer: Transfer, work: Callable[[Transfer], None]) -> bool:
        """Run ``work`` in a thread; False if another one of this user's still runs."""

        def run() -> None:
            try:
                work(transfer)
            except Stopped:
                transfer.said = STOPPED
            except (HistoryUnavailable, InvalidRequest, NoBytesLeft) as problem:
                transfer.said = str(problem)
            except OSError as error:
                transfer.said = f"A file could not be read or written ({hide_paths(str(error.strerror))}); try again."
            except Exception:  # whatever it is, the page says so
                log.exception("The %s failed", transfer.kind)
                transfer.said = FAILED
            finally:
                transfer.over.set()

        with self._lock:
            latest = self._of(user).get(user.id)
            if latest is not None and not latest.over.is_set():
                return False
            self._of(user)[user.id] = transfer
        threading.Thread(target=run, name=transfer.kind, daemon=True).start()
        return True

    def _of(self, user: User) -> MutableMapping[str, Transfer]:
        return self._guests if user.guest else self._own
