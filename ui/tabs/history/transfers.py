"""Pictures out and in: a selection as a zip, and pictures of any program into the history."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from history.exchange import ImportProgress, export
from pipelines.request import InvalidRequest
from pipelines.system.guest_bytes import free_bytes
from ui.components.gradio_events import event_value
from ui.components.uploaded_file import MAX_PATH, uploaded_file
from ui.tabs.history.transfer import EXPORT, IMPORT, Stopped, Transfer

if TYPE_CHECKING:
    from history.entries import EntryDetail
    from history.store import History
    from pipelines.jobs.users import User
    from ui.tabs.history.question import Question

TEMPLATE = """
<dialog class="transfer" data-part="import-dialog" aria-label="Import pictures">
  <header><h2>Import pictures</h2><button type="button" class="quiet" data-do="close-import">Close</button></header>
  <p class="sentence">Pictures of this and other programs are copied into the history, with the settings that they
    hold. A picture that is here already is left out.</p>
  <button type="button" class="quiet second" data-do="choose-files">Choose pictures or a zip</button>
  <input type="file" data-part="files" multiple accept=".png,.jpg,.jpeg,.webp,.zip" hidden
    aria-label="Pictures or a zip">
  <form data-part="folder-form"><label for="import-folder">Or a folder or zip, of any size, on the computer that
      runs this page</label>
    <span><input type="text" id="import-folder" data-part="folder" maxlength="4096" autocomplete="off"
      spellcheck="false" placeholder="/home/me/pictures">
      <button type="submit" class="quiet">Import</button></span>
    <p class="sentence" data-part="import-said" role="status"></p></form>
</dialog>
<div class="moving" data-part="moving" role="group" aria-label="Import or export" hidden>
  <p data-part="moving-text" role="status"></p><progress data-part="moving-bar" aria-label="How far it is"></progress>
  <button type="button" class="quiet" data-do="stop-moving">Stop</button></div>
"""
MAX_EXPORT, MAX_FILES = 5000, 5000
# Left free on the disk by an export.
RESERVE = 512 * 2**20
NOTHING_SELECTED = "Select the pictures to export first."
TOO_MANY = f"At most {MAX_EXPORT:,} pictures go into one zip; select fewer."
NO_FILES = "Choose pictures, a zip, or a folder to import."
OWNER_ONLY = "Only the owner of this computer can import pictures."
NO_FOLDER = "There is no such folder or zip on this computer; write its whole path, such as /home/me/pictures."
BUSY = "Another import or export is not over yet; wait for it, or stop it."
NO_ROOM = "There is not enough room on the disk for these pictures; select fewer, or make room."


# -- answers ---------------------------------------------------------------------------------------------------------


def start_export(question: Question) -> dict[str, Any]:
    """Begin to write a zip of the entries that a question names."""
    ids = question.texts("ids", MAX_EXPORT + 1)
    if not ids or len(ids) > MAX_EXPORT:
        return {"problem": TOO_MANY if ids else NOTHING_SELECTED}
    history, user, page = question.history, question.user, question.page

    def work(transfer: Transfer) -> None:
        with page.export_slots.hold(user.guest):
            size = sum(entry.bytes for each in ids if (entry := history.catalogue.find(user, each)))
            if free_bytes(Path(get_upload_folder())) < size + RESERVE:
                raise InvalidRequest("", NO_ROOM)
            page.backend.guest_bytes.charge(user.guest, size)
            folder = Path(get_upload_folder()) / secrets.token_hex(32)
            folder.mkdir(parents=True)
            target = folder / f"pictures-{time.strftime('%Y%m%d-%H%M%S')}.zip"
            count = export(details(history, user, ids, transfer), target)
        transfer.file, transfer.said = str(target), f"{count:,} picture{'s' * (count != 1)} exported."

    return begun(question, Transfer(EXPORT, total=len(ids)), work)


def details(history: History, user: User, ids: Sequence[str], transfer: Transfer) -> Iterator[EntryDetail]:
    """The entries that a user may see, one at a time; raises Stopped."""
    for each in ids:
        if transfer.stop.is_set():
            raise Stopped
        if (found := history.detail(user, each)) is not None:
            yield found
        transfer.done += 1


def start_import(question: Question) -> dict[str, Any]:
    """Begin to import uploaded files (``paths``), or a folder or zip of this computer (``folder``)."""
    if not question.user.owner:
        return {"problem": OWNER_ONLY}
    sources = uploads(event_value(question.event, "paths", []))
    if named := event_value(question.event, "folder", ""):
        folder = folder_of(named)
        if folder is None:
            return {"problem": NO_FOLDER}
        sources = [folder]
    if not sources:
        return {"problem": NO_FILES}
    importer = question.history.importer(question.user)

    def work(transfer: Transfer) -> None:
        def report(progress: ImportProgress) -> None:
            transfer.done, transfer.total = progress.done, progress.total

        last = importer.run(*sources, progress=report, cancelled=transfer.stop.is_set)
        transfer.said = import_words(last)

    return begun(question, Transfer(IMPORT), work)


def uploads(paths: Any) -> list[Path]:
    """Uploaded files that a browser names."""
    named = paths[:MAX_FILES] if isinstance(paths, list) else []
    return [found for path in named if (found := uploaded_file(path))]


def folder_of(named: Any) -> Path | None:
    """The folder or zip that the owner names by its whole path, None if there is none."""
    if not isinstance(named, str) or not 0 < len(named.strip()) <= MAX_PATH:
        return None
    try:
        path = Path(named.strip()).expanduser()
        is_there = path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")
        return path if path.is_absolute() and is_there else None
    except (OSError, RuntimeError, ValueError):
        return None


def import_words(last: ImportProgress) -> str:
    """What came of an import, in words."""
    if not last.total:
        return last.problem or "There is no picture in it (PNG, JPEG or WebP)."
    counts = [f"{last.added:,} picture{'s' * (last.added != 1)} imported"]
    counts += [f"{last.known:,} here already"] if last.known else []
    counts += [f"{last.refused:,} could not be read"] if last.refused else []
    return f"{', '.join(counts)}. {last.problem}".strip()


def begun(question: Question, transfer: Transfer, work: Callable[[Transfer], None]) -> dict[str, Any]:
    """The answer to a question that begins a transfer."""
    return state(transfer) if question.transfers.start(question.user, transfer, work) else {"problem": BUSY}


def progress(question: Question) -> dict[str, Any]:
    """How far the user's transfer is; ``stop`` ends it."""
    transfer = question.transfers.of(question.user)
    if transfer is None:
        return {"moving": None}
    if question.flag("stop"):
        transfer.stop.set()
    return state(transfer)


def state(transfer: Transfer) -> dict[str, Any]:
    """A transfer as the page shows it."""
    over = transfer.over.is_set()
    file = f"gradio_api/file={transfer.file}" if over and transfer.file else ""
    return {
        "moving": {
            "kind": transfer.kind, "done": transfer.done, "total": transfer.total, "over": over,
            "said": transfer.said if over else "", "file": file, "name": Path(transfer.file).name,
        }
    }  # fmt: skip
