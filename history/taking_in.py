"""Entries made from files alone: pictures of earlier versions and of other programs, and those that a kill left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from history.entries import FOREIGN, NewEntry, of_request, time_in_name
from history.readers import read_settings
from history.thumbnails import Thumbnails
from pipelines.images.file_texts import read_texts
from pipelines.images.geometry import flatten
from pipelines.images.png import record_of
from pipelines.images.uploads import MAX_PIXELS, decode_upload, upload_id
from pipelines.jobs.users import OWNER, User
from pipelines.request import InvalidRequest
from pipelines.system.bounded_json import read_json_file

# The user of a picture of which only is known that a guest made it.
SOME_GUEST = User("guest")
# The end of the names of guests' pictures, before the ending.
GUEST_MARK = "-guest"
MAX_FILE_BYTES = 256 * 2**20
# The latest moment that an entry can have, in the year 2255; a file's time can be any.
LATEST = 9e9


@dataclass(frozen=True)
class TracedPicture:
    """What a trace says of a picture.

    Attributes:
        run: id of the trace; ``place`` is the picture's number in it.
        user: whose run it was.
        created: seconds since the epoch.
    """

    run: str
    place: int
    user: User
    created: float


def traced_pictures(traces: Path) -> dict[str, TracedPicture]:
    """The pictures that the traces in a folder name, by the names of their files."""
    found = {}
    for folder, user in ((traces, OWNER), (traces / "guests", SOME_GUEST)):
        for path in folder.glob("*.json"):
            try:
                facts = read_json_file(path)
                for place, picture in enumerate(facts["pictures"]):
                    name = str(picture["path"]).replace("\\", "/").rpartition("/")[2]
                    found[name] = TracedPicture(path.stem, place, user, float(facts["created"]))
            except (OSError, ValueError, TypeError, KeyError):
                continue
    return found


def entry_from_file(
    path: Path, thumbnails: Thumbnails, traced: Mapping[str, TracedPicture] | None = None, entry_id: str = ""
) -> NewEntry:
    """The entry of a picture that has none; its thumbnail is written, too.

    Args:
        path: of the file, inside the history's folders.
        thumbnails: of the history.
        traced: see ``traced_pictures``.
        entry_id: of the entry; by default the file's name without its ending.

    Raises:
        InvalidRequest: if it is no picture.
        OSError: if it cannot be read.
    """
    stat = path.stat()
    if stat.st_size > MAX_FILE_BYTES:
        raise InvalidRequest("image", f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MB.")
    data = path.read_bytes()
    picture = flatten(decode_upload(data, MAX_PIXELS).image)
    thumbnails.write(entry_id or path.stem, picture)
    known = (traced or {}).get(path.name)
    created = min(max(time_in_name(path.name) or (known.created if known else stat.st_mtime), 0.0), LATEST)
    fields = settings_of(data)
    if known:
        fields |= {"run": known.run, "place": known.place}
    return NewEntry(
        id=entry_id or path.stem, created=created, user=known.user if known else _maker(path), file=path.name,
        bytes=stat.st_size, width=picture.width, height=picture.height, pixels=upload_id(picture),
        digest=hashlib.sha256(data).hexdigest(), **fields,
    )  # fmt: skip


def _maker(path: Path) -> User:
    """Whose picture it is, by the name that this program gave it."""
    return SOME_GUEST if path.stem.endswith(GUEST_MARK) and time_in_name(path.name) else OWNER


def settings_of(data: bytes) -> dict[str, Any]:
    """The fields of an entry that a file itself tells: by what this program wrote into it, or another one."""
    texts = read_texts(data)
    try:
        record = record_of(texts)
    except InvalidRequest:  # of a newer version
        record = None
    if record is not None:
        return {**of_request(record.request, record.seed, record.place), "place": record.place, "facts": record.facts}
    found = read_settings(data, texts)
    if found is None:
        return {"kind": FOREIGN}
    return {
        "kind": FOREIGN, "model": found.model, "scheduler": found.scheduler, "seed": found.seed or 0,
        "prompt": found.prompt, "negative_prompt": found.negative_prompt, "foreign": found.as_dict(),
    }  # fmt: skip
