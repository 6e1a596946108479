"""Replays: an entry is made again as a job like any other, and compared with its picture when that is done."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from history.bin import Bin
from history.database import Database, HistoryUnavailable
from history.entries import CRASHED
from history.parents import REPLAY
from history.replays.causes import likely_cause, unhashed_files
from history.replays.comparison import PictureDifference, compare
from pipelines.events import Cancelled, Failed, Finished
from pipelines.images.uploads import decode_upload
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from history.entries import EntryDetail
    from pipelines.jobs.job import Job
    from pipelines.jobs.users import User

log = logging.getLogger(__name__)
# Replays that are remembered.
MOST = 50
# Hashes of large files are read in the background and added to a new entry: how long a comparison waits for them, and
# how often it looks.
HASH_SECONDS, HASH_POLL = 120.0, 0.25
RUNNING, DONE, STOPPED = "running", "done", "stopped"
GONE = "This picture is no longer here."
NO_SETTINGS = "The settings of this picture are not known in a form that can be run again."
NO_PICTURE = "The file of this picture is missing, so there is nothing to compare with."
CANCELLED = "Making it again was stopped."
WITHHELD = "The model's safety checker withheld the picture this time, so it cannot be compared."
UNREADABLE = "The pictures could not be read to compare them; try again."
NOT_ADDED = "It is not listed a second time."
OTHERS = "Of the run's other pictures {count} {are} new in the history, marked as made again."
ADDED = "The new one is in the history, marked as this one made again."
NOT_KEPT = "The new one could not be kept."
COMPLETE = "The run is complete: {count} in the history, marked as this one made again."


@dataclass(frozen=True)
class ReplayState:
    """How a replay stands.

    Attributes:
        state: RUNNING, DONE or STOPPED; a replay that failed is STOPPED.
        text: what came of it, one or a few sentences.
        same: whether the pictures are equal, pixel by pixel.
        entry: id of the new entry; "" where there is none, as for an equal picture.
    """

    state: str
    text: str = ""
    same: bool = False
    entry: str = ""


class Replays:
    """Makes entries again.  Thread-safe.

    Args:
        database, bin: of the history.
        detail: finds an entry that a user may see.
    """

    def __init__(self, database: Database, bin: Bin, detail: Callable[[User, str], EntryDetail | None]) -> None:
        self._database, self._bin, self._detail = database, bin, detail
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[User, ReplayState]] = OrderedDict()

    def start(self, submit: Callable[..., Job], user: User, entry_id: str) -> Job:
        """Make the run of an entry again, and compare in a thread of its own when it is done.

        The whole run is made: a picture of several has the same pixels only together with the others.  A run that a
        crash cut off has nothing to compare with: it is made as it was asked for.

        Args:
            submit: of the backend.
            user: who asks, and may see the entry.
            entry_id: of the entry.

        Returns:
            The job; its id is what ``state`` asks for.

        Raises:
            InvalidRequest: if the entry cannot be made again.
            QueueFull: if too many jobs wait.
            HistoryUnavailable: if the history cannot be read.
        """
        found = self._detail(user, entry_id)
        if found is None:
            raise InvalidRequest("", GONE)
        if found.request is None:
            raise InvalidRequest("", NO_SETTINGS)
        if found.picture is None and found.entry.kind != CRASHED:
            raise InvalidRequest("", NO_PICTURE)
        job = submit(found.request, user, watched=False)
        self._remember(job.id, user, ReplayState(RUNNING))
        threading.Thread(target=self._watch, args=(job, user, found), name="replay", daemon=True).start()
        return job

    def state(self, user: User, job_id: str) -> ReplayState | None:
        """How a replay of a user stands; None if it is not known."""
        with self._lock:
            owner, state = self._known.get(job_id, (None, None))
        return state if owner is not None and owner.id == user.id else None

    def _remember(self, job_id: str, user: User, state: ReplayState) -> None:
        with self._lock:
            self._known[job_id] = (user, state)
            while len(self._known) > MOST:
                self._known.popitem(last=False)

    def _watch(self, job: Job, user: User, then: EntryDetail) -> None:
        """Wait for the job's end, and remember what came of it; never raises."""
        try:
            *_, last = job.events()
            state = self._outcome(last, job, user, then)
        except HistoryUnavailable as problem:
            state = ReplayState(STOPPED, str(problem))
        except (OSError, InvalidRequest):
            state = ReplayState(STOPPED, UNREADABLE)
        except Exception:
            log.exception("The replay of %s could not be compared", then.entry.id)
            state = ReplayState(STOPPED, UNREADABLE)
        self._remember(job.id, user, state)

    def _outcome(self, last: object, job: Job, user: User, then: EntryDetail) -> ReplayState:
        if isinstance(last, Failed):
            return ReplayState(STOPPED, last.message)
        if isinstance(last, Cancelled) or not isinstance(last, Finished):
            return ReplayState(STOPPED, CANCELLED)
        ids = [picture.path.stem for picture in last.pictures]
        place = then.entry.place
        if then.entry.kind == CRASHED:
            return self._completed(ids, user, then)
        if any(last.withheld[place : place + 1]):
            self._link(user, ids, then)
            return ReplayState(STOPPED, WITHHELD)
        found = [self._detail(user, entry_id) for entry_id in ids]
        new = found[place] if place < len(found) else None
        difference = compare(_picture_of(then), _picture_of(new) if new else _unsaved(last, place))
        others = [each for each in found if each is not None and each is not new]
        equal = [each.entry.id for each in others if self._is_equal(user, each, then)]
        equal += [new.entry.id] if new and difference.is_same else []
        return self._concluded(difference, user, then, [each for each in ids if each not in equal], equal, new)

    def _completed(self, ids: Sequence[str], user: User, then: EntryDetail) -> ReplayState:
        """What came of a run that a crash had cut off."""
        kept = [each for each in ids if self._detail(user, each) is not None]
        if not kept:
            return ReplayState(STOPPED, NOT_KEPT)
        self._link(user, kept, then)
        count = "its picture is" if len(kept) == 1 else f"its {len(kept)} pictures are"
        return ReplayState(DONE, COMPLETE.format(count=count))

    def _is_equal(self, user: User, new: EntryDetail, then: EntryDetail) -> bool:
        """Whether a picture of the new run has the pixels of the old run's picture in its place, if that is here."""
        rows = self._database.read(
            "SELECT id FROM entries WHERE run = ? AND run != '' AND place = ? AND deleted IS NULL",
            (then.entry.run, new.entry.place),
        )
        before = self._detail(user, rows[0][0]) if rows else None
        if before is None or before.picture is None:
            return False
        try:
            return compare(_picture_of(before), _picture_of(new)).is_same
        except (OSError, InvalidRequest):  # the old file was changed by hand
            return False

    def _concluded(
        self,
        difference: PictureDifference,
        user: User,
        then: EntryDetail,
        others: Sequence[str],
        equal: Sequence[str],
        new: EntryDetail | None,
    ) -> ReplayState:
        """Remove what is there already (``equal``), mark what is not (``others``), and say what was found."""
        self._bin.empty(user, self._bin.delete(user, equal))
        self._link(user, others, then)
        more = len(others) - (new is not None and not difference.is_same)
        kept = OTHERS.format(count=more, are="is" if more == 1 else "are") if more else ""
        if difference.is_same:
            return ReplayState(DONE, " ".join(filter(None, (difference.sentence(), NOT_ADDED, kept))), same=True)
        cause = likely_cause(then.facts, self._facts(new, user, then)) if new else ""
        text = " ".join(filter(None, (difference.sentence(), cause, ADDED if new else NOT_KEPT, kept)))
        return ReplayState(DONE, text, entry=new.entry.id if new else "")

    def _facts(self, new: EntryDetail, user: User, then: EntryDetail) -> Mapping[str, Any]:
        """The facts of a new entry, with the hashes of large files, which are added to it once they are read."""
        facts, end = new.facts, time.monotonic() + HASH_SECONDS
        while unhashed_files(then.facts, facts) and time.monotonic() < end:
            time.sleep(HASH_POLL)
            found = self._detail(user, new.entry.id)
            if found is None:
                break
            facts = found.facts
        return facts

    def _link(self, user: User, ids: Sequence[str], then: EntryDetail) -> None:
        """Mark new entries as those of the old run made again: each by its place in it, else as the one asked for."""
        with self._database.write() as connection:
            for entry_id in ids:
                child = connection.execute(
                    "SELECT number, place FROM entries WHERE id = ? AND user = ?", (entry_id, user.id)
                ).fetchone()
                if child is None:
                    continue
                parent = connection.execute(
                    "SELECT number FROM entries WHERE run = ? AND run != '' AND place = ?", (then.entry.run, child[1])
                ).fetchone()
                number = parent[0] if parent else then.entry.number
                connection.execute(
                    "INSERT OR IGNORE INTO parents (child, parent, kind) VALUES (?, ?, ?)", (child[0], number, REPLAY)
                )


def _picture_of(detail: EntryDetail) -> Image.Image:
    """The pixels of an entry; raises OSError or InvalidRequest."""
    if detail.picture is None:
        raise FileNotFoundError(detail.entry.id)
    return decode_upload(detail.picture.read_bytes()).image


def _unsaved(last: Finished, place: int) -> Image.Image:
    """A picture that could not be kept: it is in the last event."""
    from PIL import Image

    return Image.open(io.BytesIO(last.drafts[place]), formats=("PNG", "JPEG"))
