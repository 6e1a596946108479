"""Export of a selection and import of files, as the page asks for them."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder

from history.exchange import ImportProgress
from history.store import History
from pipelines.jobs.users import OWNER, User
from pipelines.system.guest_bytes import BYTES_AN_HOUR
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import png
from tests.support.history_entries import GUEST, keep
from ui.tabs.history import transfers
from ui.tabs.history.transfer import FAILED, STOPPED, Transfer, Transfers


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    folder = Path(get_upload_folder())
    folder.mkdir()
    yield folder


def ended(question: Any, user: User = OWNER) -> dict[str, Any]:
    """The state of a user's transfer once it is over."""
    transfer = question().transfers.of(user)
    assert transfer is not None and transfer.over.wait(60)
    return transfers.progress(question(user))["moving"]


def test_a_selection_is_exported_as_a_zip(history: History, question, uploads: Path) -> None:
    ids = [keep(history, f"fox {k}", seed=k) for k in range(3)]
    assert transfers.start_export(question(ids=[*ids[:2], "nobody"]))["moving"]["kind"] == "export"
    found = ended(question)
    assert found["over"] and found["said"] == "2 pictures exported." and found["name"].startswith("pictures-")
    path = Path(found["file"].removeprefix("gradio_api/file="))
    assert path.is_relative_to(uploads)
    with zipfile.ZipFile(path) as archive:
        listed = json.loads(archive.read("history.json"))["entries"]
    assert [each["id"] for each in listed] == ids[:2]
    assert transfers.start_export(question()) == {"problem": transfers.NOTHING_SELECTED}
    many = [str(k) for k in range(transfers.MAX_EXPORT + 1)]
    assert transfers.start_export(question(ids=many)) == {"problem": transfers.TOO_MANY}


def test_guests_export_their_own_within_their_share(history: History, question) -> None:
    mine, theirs = keep(history), keep(history, user=GUEST)
    transfers.start_export(question(GUEST, ids=[mine, theirs]))
    assert ended(question, GUEST)["said"] == "1 picture exported."
    assert transfers.progress(question()) == {"moving": None}
    size = history.path(theirs).stat().st_size
    question().page.backend.guest_bytes.charge(GUEST.guest, BYTES_AN_HOUR - size - size // 2)
    transfers.start_export(question(GUEST, ids=[theirs]))
    found = ended(question, GUEST)
    assert "used up this hour's space" in found["said"] and found["file"] == ""


def test_without_room_nothing_is_exported(history: History, question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "free_bytes", lambda folder: transfers.RESERVE)
    transfers.start_export(question(ids=[keep(history)]))
    assert ended(question)["said"] == transfers.NO_ROOM


def test_an_export_can_be_stopped_and_leaves_nothing(history: History, question, uploads: Path) -> None:
    transfer = Transfer("export", total=1)
    ids = [keep(history)]
    assert len(list(transfers.details(history, OWNER, ids, transfer))) == transfer.done == 1
    transfer.stop.set()

    def work(running: Transfer) -> None:
        list(transfers.details(history, OWNER, ids, running))

    assert question().transfers.start(OWNER, transfer, work)
    assert ended(question)["said"] == STOPPED and not list(uploads.iterdir())


def test_files_and_zips_are_imported_with_their_settings(history: History, question, uploads: Path) -> None:
    (uploads / "a.png").write_bytes(png({"parameters": samples.A1111}))
    (uploads / "broken.png").write_bytes(b"no picture")
    with zipfile.ZipFile(uploads / "more.zip", "w") as archive:
        archive.writestr("folder/b.png", png({"parameters": samples.FORGE}))
        archive.writestr("folder/same.png", png({"parameters": samples.A1111}))
        archive.writestr("notes.txt", "no picture")
    paths = [str(uploads / name) for name in ("a.png", "broken.png", "more.zip")]
    transfers.start_import(question(paths=[*paths, "/etc/passwd", None]))
    found = ended(question)
    assert found["said"] == "2 pictures imported, 1 here already, 1 could not be read."
    assert (found["done"], found["total"], found["kind"]) == (4, 4, "import")
    programs = {history.detail(OWNER, each.id).foreign["program"] for each in history.catalogue.all(OWNER)}
    assert programs == {"AUTOMATIC1111", "Forge"}


def test_the_owner_may_name_a_folder_and_a_guest_imports_nothing(history: History, question, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "a.png").write_bytes(png({"parameters": samples.A1111}))
    assert transfers.start_import(question(GUEST, folder=str(folder))) == {"problem": transfers.OWNER_ONLY}
    for named in ("theirs", str(folder / "nowhere"), str(folder / "a.png"), 7, "\0", "~nobody-of-this-name/x"):
        assert transfers.start_import(question(folder=named)) == {"problem": transfers.NO_FOLDER}, named
    assert transfers.start_import(question()) == {"problem": transfers.NO_FILES}
    transfers.start_import(question(folder=f" {folder} "))
    assert ended(question)["said"] == "1 picture imported."


def test_one_at_a_time_and_it_can_be_stopped(history: History, question, tmp_path: Path) -> None:
    begun, go = Transfer("import"), Transfer("import").over

    def work(running: Transfer) -> None:
        assert running.stop.wait(60)
        running.said = "ended"
        go.set()

    assert question().transfers.start(OWNER, begun, work)
    assert transfers.start_export(question(ids=[keep(history)])) == {"problem": transfers.BUSY}
    assert not transfers.progress(question())["moving"]["over"]
    transfers.progress(question(stop=True))
    assert ended(question)["said"] == "ended" and go.is_set()


def test_what_came_of_an_import_in_words() -> None:
    assert transfers.import_words(ImportProgress()) == "There is no picture in it (PNG, JPEG or WebP)."
    stopped = ImportProgress(2, 9, 2, problem="The import was stopped; start it again to go on.")
    assert transfers.import_words(stopped) == "2 pictures imported. The import was stopped; start it again to go on."


def test_a_transfer_ends_with_a_sentence_whatever_goes_wrong(
    history: History, question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(transfers, "export", broken)
    transfers.start_export(question(ids=[keep(history)]))
    found = ended(question)
    assert found["over"] and found["said"] == FAILED and not found["file"]


def test_guests_cannot_push_the_owners_export_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.tabs.history.transfer.MAX_USERS", 3)
    found, own, go = Transfers(), Transfer("export"), threading.Event()
    assert found.start(OWNER, own, lambda transfer: go.wait(60) and None)
    for k in range(9):
        assert found.start(User(f"guest {k}"), Transfer("export"), lambda transfer: None)
    assert found.of(OWNER) is own and not found.start(OWNER, Transfer("export"), lambda transfer: None)
    go.set()
    assert own.over.wait(60)
