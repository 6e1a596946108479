"""A selection as a zip, a picture in another format, and folders of other programs' pictures."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from history import exchange
from history.entries import FOREIGN, NewEntry, time_in_name
from history.exchange import ImportProgress, export, saved_as
from history.readers import read_settings
from history.readers.settings import ForeignSettings
from history.search import Filters
from history.store import History
from history.transfers import export_listing
from history.transfers.import_sources import Unreadable, pictures_in
from pipelines.images.carried_texts import encode_with_texts
from pipelines.images.file_texts import CARRIED, read_texts
from pipelines.images.png import record_of
from pipelines.images.settings_in_files import source_type_of
from pipelines.jobs.users import OWNER
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import hidden_in_alpha, png, unicode_comment, with_exif
from tests.support.history_entries import GUEST, ask
from ui.tabs.history.transfers import import_words

Make = Callable[..., str]


def test_a_selection_is_a_zip_with_one_json(history: History, make: Make, tmp_path: Path) -> None:
    first, gone = make("a fox, Größe 狐", run="secret-job"), make("gone", user=GUEST)
    history.set_tags(OWNER, [first], add=["best"])
    history.path(gone).unlink()
    details = [found for each in (first, gone) if (found := history.detail(OWNER, each))]
    assert export(details, tmp_path / "out.zip") == 1
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["history.json", f"pictures/{first}.png"]
        assert archive.read(f"pictures/{first}.png") == history.path(first).read_bytes()
        text = archive.read("history.json").decode()
    found = json.loads(text)
    assert found["version"] == 1 and [each["id"] for each in found["entries"]] == [first, gone]
    assert found["entries"][0]["request"]["prompt"] == "a fox, Größe 狐" and found["entries"][0]["tags"] == ["best"]
    assert "secret-job" not in text and GUEST.id not in text


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("settings", [True, False])
def test_a_picture_is_saved_in_any_format_with_or_without_settings(
    history: History, make: Make, form: str, settings: bool
) -> None:
    detail = history.detail(OWNER, make("secret words"))
    assert detail is not None
    data = saved_as(detail, form, settings)
    record = record_of(read_texts(data))
    assert source_type_of(data) == "trainedAlgorithmicMedia"
    assert (record.request if record else None) == (ask("secret words") if settings else None)
    assert settings or b"secret" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == form.upper() and image.size == (16, 16)


def foreign_folder(folder: Path) -> Path:
    below = folder / "2026" / "nested"
    below.mkdir(parents=True)
    (folder / "a.png").write_bytes(png({"parameters": samples.A1111}))
    (folder / "b.jpg").write_bytes(with_exif("JPEG", unicode_comment(samples.SDNEXT)))
    (below / "C.WEBP").write_bytes(with_exif("WEBP", json.dumps(samples.FOOOCUS_JSON), True))
    (below / "same as a.png").write_bytes(png({"parameters": samples.A1111}))
    (below / "holiday.jpeg").write_bytes(with_exif("JPEG", b""))
    (below / "broken.png").write_bytes(b"no picture")
    (below / ".hidden.png").write_bytes(png({}))
    (below / "notes.txt").write_text("no picture")
    for same in (folder / "a.png", below / "same as a.png"):
        os.utime(same, (1_600_000_000, 1_600_000_000))
    return folder


def test_a_folder_of_other_programs_is_imported_once(history: History, tmp_path: Path) -> None:
    source, seen = foreign_folder(tmp_path / "theirs"), list[ImportProgress]()
    done = history.importer(OWNER).run(source, progress=seen.append)
    assert (done.total, done.done, done.added, done.known, done.refused) == (6, 6, 4, 1, 1) and done.problem == ""
    assert [each.done for each in seen] == [1, 2, 3, 4, 5, 6]
    entries = history.catalogue.page(OWNER, Filters(kind=FOREIGN)).entries
    assert len(entries) == 4 and entries[-1].created == 1_600_000_000
    (found,) = history.catalogue.page(OWNER, Filters(text="curious second")).entries
    detail = history.detail(OWNER, found.id)
    assert detail is not None and detail.request is None and detail.facts == {"imported_from": "same as a.png"}
    assert detail.foreign["program"] == "AUTOMATIC1111" and detail.foreign["loras"][0]["name"] == "ink wash"
    assert (found.model, found.scheduler, found.seed) == ("v1-5-pruned-emaonly", "dpmpp_2m_karras", 1234567890)
    again = history.importer(OWNER).run(source)
    assert (again.added, again.known, again.refused) == (0, 5, 1)
    assert len(list((tmp_path / "pictures").iterdir())) == 4
    assert (source / "a.png").is_file()


def test_our_own_pictures_are_imported_with_their_requests(history: History, make: Make, tmp_path: Path) -> None:
    entry = make("mine")
    other = tmp_path / "copies"
    other.mkdir()
    (other / "copy.png").write_bytes(history.path(entry).read_bytes())
    # A copy under another name is known by its pixels and its bytes; on another computer it is new.
    done = history.importer(OWNER).run(other)
    assert (done.added, done.known) == (0, 1) and len(list((tmp_path / "pictures").iterdir())) == 1
    (tmp_path / "elsewhere").mkdir()
    elsewhere = History(tmp_path / "elsewhere")
    elsewhere.open(background=False)
    assert elsewhere.importer(OWNER).run(other).added == 1
    (newest,) = elsewhere.catalogue.page(OWNER).entries
    detail = elsewhere.detail(OWNER, newest.id)
    assert detail is not None and detail.request == ask("mine") and newest.kind == "text-to-image"
    elsewhere.close()


def test_the_history_does_not_import_itself_and_an_import_can_be_stopped(
    history: History, make: Make, tmp_path: Path
) -> None:
    make()
    assert history.importer(OWNER).run(tmp_path).total == 0
    source = foreign_folder(tmp_path.with_name(tmp_path.name + "-theirs"))
    assert "was stopped" in history.importer(OWNER).run(source, cancelled=lambda: True).problem
    assert history.importer(OWNER).run(source / "nowhere").total == 0


def test_an_import_ends_early_when_the_disk_is_full(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = foreign_folder(tmp_path / "theirs")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("history.exchange.atomic_write", full)
        done = history.importer(OWNER).run(source)
    assert "No space left on device" in done.problem and history.catalogue.count(OWNER) == 0
    assert history.importer(OWNER).run(source).added == 4


@pytest.mark.parametrize("seed", [2**63, -1, 1e300, 1.5, "7", None])
def test_a_record_with_a_seed_beyond_all_bounds_is_none(history: History, tmp_path: Path, seed: object) -> None:
    record = json.dumps({"version": 1, "request": ask().model_dump(mode="json"), "seed": seed})
    source = tmp_path / "theirs"
    source.mkdir()
    (source / "a.png").write_bytes(png({"diffusion_playground": record}))
    assert record_of(read_texts((source / "a.png").read_bytes())) is None
    assert history.importer(OWNER).run(source).added == 1
    (entry,) = history.catalogue.all(OWNER)
    assert entry.kind == FOREIGN and entry.seed == 0


def test_a_file_that_cannot_be_entered_leaves_nothing_and_the_rest_are_imported(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "theirs"
    source.mkdir()
    Image.new("RGB", (300, 200)).save(source / "a.png")
    Image.new("RGB", (300, 201)).save(source / "b.png")
    os.replace(source / "b.png", os.fsencode(source) + b"/caf\xe9.png")
    real = exchange.entry_from_file

    def read(path: Path, *args: Any) -> NewEntry:
        new = real(path, *args)
        return replace(new, seed=2**70) if new.height == 200 else new

    monkeypatch.setattr(exchange, "entry_from_file", read)
    done = history.importer(OWNER).run(source)
    assert (done.total, done.added, done.refused, done.problem) == (2, 1, 1, "")
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert len(list((tmp_path / "thumbnails").rglob("*.jpg"))) == 1
    (entry,) = history.catalogue.all(OWNER)
    found = history.detail(OWNER, entry.id)
    assert found is not None and found.facts["imported_from"] == "caf\ufffd.png"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_photograph_that_lies_among_the_pictures_gets_no_mark_and_stays_upright(
    history: History, tmp_path: Path, form: str
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    (tmp_path / "pictures").mkdir()
    path = tmp_path / "pictures" / f"photo.{form.lower()}"
    Image.new("RGB", (16, 8)).save(path, form, exif=exif.tobytes())
    if form == "PNG":  # what another program has signed
        chunk = (4).to_bytes(4, "big") + b"caBX" + b"sign" + zlib.crc32(b"caBXsign").to_bytes(4, "big")
        path.write_bytes(path.read_bytes()[:33] + chunk + path.read_bytes()[33:])
    history.reconciler.run()
    detail = history.detail(OWNER, "photo")
    assert detail is not None and detail.entry.kind == FOREIGN
    data = saved_as(detail, form.lower(), settings=False)
    assert source_type_of(data) == "" and b"Camera" not in data and (b"caBX" in data) == (form == "PNG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112) == 6 and image.size == (16, 8)
    other = "webp" if form == "PNG" else "png"
    data = saved_as(detail, other, settings=False)
    assert source_type_of(data) == ""
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (8, 16)


FOREIGN_FILES = {
    "a1111.png": png({"parameters": samples.A1111}),
    "sdnext.jpg": with_exif("JPEG", unicode_comment(samples.SDNEXT)),
    "fooocus.webp": with_exif("WEBP", json.dumps(samples.FOOOCUS_JSON), True, t0131="Fooocus v2.5.5"),
    "comfy.png": png({"prompt": json.dumps(samples.COMFY), "workflow": json.dumps({"nodes": ["x" * 99_000]})}),
    "comfy.webp": with_exif("WEBP", b"", t0110=f"prompt:{json.dumps(samples.COMFY)}"),
    "invoke.png": png({"invokeai_metadata": json.dumps(samples.INVOKE)}),
    "swarm.png": png({"parameters": json.dumps(samples.SWARM)}),
    "novel.png": png(samples.novelai_texts()),
    "hidden.png": png({}, image=hidden_in_alpha(json.dumps(samples.novelai_texts()))),
    "hidden a1111.png": png({}, image=hidden_in_alpha(samples.A1111)),
    "draw.png": png({"XML:com.adobe.xmp": samples.draw_things_xmp(samples.DRAW_THINGS)}, international=True),
}


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("name", FOREIGN_FILES)
def test_a_picture_of_another_program_keeps_its_settings_in_another_format(
    history: History, tmp_path: Path, name: str, form: str
) -> None:
    (tmp_path / "pictures").mkdir(exist_ok=True)
    (tmp_path / "pictures" / name).write_bytes(FOREIGN_FILES[name])
    history.reconciler.run()
    detail = history.detail(OWNER, Path(name).stem)
    assert detail is not None and detail.foreign
    data = saved_as(detail, form)
    assert read_settings(data) == ForeignSettings.from_dict(detail.foreign)
    if Path(name).suffix == exchange.FORMATS[form]:
        assert data == FOREIGN_FILES[name]
    else:
        assert source_type_of(data) == "trainedAlgorithmicMedia"
    # Once more, into the format that it had.
    path = tmp_path / f"again{exchange.FORMATS[form]}"
    path.write_bytes(data)
    back = saved_as(replace(detail, picture=path), {".jpg": "jpeg"}.get(Path(name).suffix, Path(name).suffix[1:]))
    assert read_settings(back) == ForeignSettings.from_dict(detail.foreign)
    plain = saved_as(detail, form, settings=False)
    assert read_settings(plain) is None or "hidden" in name


def test_texts_that_a_jpeg_has_no_room_for_are_left_out_the_longest_first() -> None:
    noise = "".join(chr(33 + k * k * 7919 % 94) + hex(k * 2654435761 % 2**32) for k in range(40_000))
    texts = read_texts(png({"prompt": json.dumps(samples.COMFY), "workflow": noise}))
    data = encode_with_texts(Image.new("RGB", (8, 8)), "jpeg", texts)
    assert read_texts(data).texts.keys() == {"prompt"}
    assert read_texts(encode_with_texts(Image.new("RGB", (8, 8)), "webp", texts)).texts == texts.texts


def test_what_a_newer_version_wrote_is_kept_in_another_format(history: History, make: Make) -> None:
    detail = history.detail(OWNER, make("a fox"))
    assert detail is not None
    for form in ("jpeg", "webp"):
        data = saved_as(replace(detail, request=None), form)
        record = record_of(read_texts(data))
        assert record is not None and record.request == ask("a fox")


@pytest.mark.parametrize("note", [b"", b"no", b"[1]", b'{"prompt": 1}', b"[" * 100_000, b'{"a": "' + b"x" * 5_000_000])
def test_a_hostile_note_of_carried_texts_is_nothing(note: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = CARRIED + zlib.compress(note)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "WEBP", exif=exif.tobytes())
    assert read_texts(file.getvalue()).texts == {}


def test_a_file_from_before_zips_is_exported(history: History, make: Make, tmp_path: Path) -> None:
    entry = make()
    os.utime(history.path(entry), (1, 1))
    detail = history.detail(OWNER, entry)
    assert detail is not None and export([detail], tmp_path / "out.zip") == 1


# -- zips --------------------------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 9, 13, 12, 0, 0)), data, method)
    return path


def test_pictures_of_a_zip_are_imported_at_their_own_time(history: History, tmp_path: Path) -> None:
    theirs = png({"parameters": samples.A1111})
    members = {
        "x/a.png": theirs, "x/again.png": theirs, "../../b.webp": with_exif("WEBP", b""), "c.txt": b"", "d/": b"",
        "__MACOSX/._a.png": b"x",
    }  # fmt: skip
    done = history.importer(OWNER).run(zipped(tmp_path / "a.ZIP", members))
    assert (done.total, done.added, done.known, done.refused) == (3, 2, 1, 0)
    newest, oldest = history.catalogue.page(OWNER).entries
    assert 1_599_900_000 < newest.created < 1_600_100_000 and newest.created >= oldest.created
    assert not (tmp_path.parent / "b.webp").exists() and len(list((tmp_path / "pictures").iterdir())) == 2


def exported(history: History, target: Path) -> Path:
    """A zip of the whole history."""
    export(filter(None, [history.detail(OWNER, each.id) for each in history.catalogue.all(OWNER)]), target)
    return target


def test_an_export_is_recognised_and_its_marks_are_read_back(history: History, make: Make, tmp_path: Path) -> None:
    ids = [make(f"a fox {k}", colour=colour, notes=("Cut.",)) for k, colour in enumerate(("red", "blue", "green"))]
    history.set_tags(OWNER, ids[:1], add=["best"])
    history.set_favourite(OWNER, ids[:1], True)
    file = exported(history, tmp_path / "out.zip")
    # Meanwhile one has lost its marks, one was deleted and one has lost its file.
    history.set_tags(OWNER, ids[:1], remove=["best"])
    history.set_favourite(OWNER, ids[:1], False)
    history.bin.delete(OWNER, ids[1:2])
    history.path(ids[2]).unlink()
    done = history.importer(OWNER).run(file)
    assert (done.added, done.known, done.refused) == (2, 1, 0)
    entries = {entry.id: entry for entry in history.catalogue.all(OWNER)}
    assert set(entries) == set(ids) and entries[ids[0]].favourite and history.path(ids[2]).is_file()
    first = history.detail(OWNER, ids[0])
    assert first is not None and first.tags == ("best",)
    assert history.catalogue.page(OWNER, Filters(text="best")).entries == (entries[ids[0]],)
    again = history.importer(OWNER).run(file)
    assert (again.added, again.known) == (0, 3) and len(list((tmp_path / "pictures").iterdir())) == 3


@pytest.mark.parametrize("unpacked", [False, True])
def test_an_export_brings_marks_and_names_to_another_computer(
    history: History, make: Make, tmp_path: Path, unpacked: bool
) -> None:
    entry = make("a fox", notes=("Cut.",))
    history.set_tags(OWNER, [entry], add=["best"])
    history.set_favourite(OWNER, [entry], True)
    source = exported(history, tmp_path / "out.zip")
    if unpacked:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "unpacked")
        source = tmp_path / "unpacked"
    (tmp_path / "elsewhere").mkdir()
    elsewhere = History(tmp_path / "elsewhere")
    elsewhere.open(background=False)
    assert elsewhere.importer(OWNER).run(source).added == 1
    detail = elsewhere.detail(OWNER, entry)
    assert detail is not None and detail.entry.favourite and detail.entry.created == time_in_name(f"{entry}.png")
    assert (detail.tags, detail.notes, detail.request) == (("best",), ("Cut.",), ask("a fox"))
    elsewhere.close()


def test_another_picture_under_a_known_name_is_a_new_one(history: History, make: Make, tmp_path: Path) -> None:
    entry = make("a fox")
    file = exported(history, tmp_path / "out.zip")
    with Image.open(history.path(entry)) as image:
        other = image.convert("RGB").point(lambda level: 255 - level)
    other.save(tmp_path / f"{entry}.png")
    assert history.importer(OWNER).run(tmp_path / f"{entry}.png").added == 1
    assert history.importer(OWNER).run(file).known == 1 and history.catalogue.count(OWNER) == 2


@pytest.mark.parametrize(
    "listing",
    [b"", b"[]", b"{", b'{"version": 2, "entries": []}', b'{"version": 1, "entries": {"a": 1}}',
     b'{"version": 1, "entries": [1, {"file": 1}, {"file": "../a.png", "tags": "x", "notes": [1], "favourite": "y"}]}',
     b'{"version": 1, "entries": [{"file": "../a.png", "tags": [' + b'"t", ' * 9999 + b'"u"], "favourite": 1}]}',
     b"[" * 100_000],
)  # fmt: skip
def test_a_listing_that_is_none_changes_nothing(history: History, tmp_path: Path, listing: bytes) -> None:
    good = png({"parameters": samples.A1111})
    done = history.importer(OWNER).run(zipped(tmp_path / "a.zip", {"history.json": listing, "pictures/a.png": good}))
    assert (done.added, done.refused) == (1, 0)
    (entry,) = history.catalogue.all(OWNER)
    detail = history.detail(OWNER, entry.id)
    assert not entry.favourite and detail is not None and len(detail.tags) <= 40 and detail.notes == ()


def test_bombs_and_broken_zips_are_refused_member_by_member(history: History, tmp_path: Path) -> None:
    good = png({"parameters": samples.A1111})
    bomb = zipped(tmp_path / "bomb.zip", {"a.png": bytes(20 * 2**20), "b.png": good}, zipfile.ZIP_DEFLATED)
    done = history.importer(OWNER).run(bomb)
    assert (done.total, done.added, done.refused) == (2, 1, 1)
    data = zipped(tmp_path / "whole.zip", {"a.png": good, "b.png": png({"parameters": samples.FORGE})}).read_bytes()
    broken = tmp_path / "broken.zip"
    # The first member's checksum does not fit; then, no directory at its end.
    broken.write_bytes(data.replace(b"IDAT", b"IDAX", 1))
    assert history.importer(OWNER).run(broken).refused == 1
    broken.write_bytes(data[: len(data) // 2])
    assert history.importer(OWNER).run(broken).refused == 1
    encrypted = bytearray(data)
    encrypted[6] |= 1
    encrypted[data.index(b"PK\1\2") + 8] |= 1
    broken.write_bytes(bytes(encrypted))
    assert history.importer(OWNER).run(broken).refused == 1


def test_pipes_and_links_below_a_folder_are_left_out(history: History, tmp_path: Path) -> None:
    source = tmp_path.with_name(tmp_path.name + "-special")
    (source / "inner").mkdir(parents=True)
    (source / "a.png").write_bytes(png({"parameters": samples.A1111}))
    for name in ("pipe.png", "history.json", "inner/other.jpg", "pipe.zip"):
        os.mkfifo(source / name)
    (source / "link.png").symlink_to(source / "a.png")
    (source / "folder").symlink_to(source / "inner", target_is_directory=True)
    done = history.importer(OWNER).run(source, source / "pipe.zip", source / "pipe.png")
    assert (done.total, done.added, done.refused) == (1, 1, 0)
    # One that took a picture's place since it was found.
    found = next(pictures_in(source, history.folders))
    (source / "a.png").unlink()
    os.mkfifo(source / "a.png")
    with pytest.raises(Unreadable, match="no file"):
        found.read()


def test_an_import_that_counts_its_files_can_be_stopped(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path.with_name(tmp_path.name + "-many")
    for k in range(30):  # folders without a picture
        (source / f"{k:02}" / "inner").mkdir(parents=True)
    for k in range(6):
        (source / "29" / f"{k}.png").write_bytes(png({"parameters": samples.A1111}))
    read, real = list[str](), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (read.append(str(path)), real(path))[1])
    done = history.importer(OWNER).run(source, cancelled=lambda: len(read) > 3)
    assert done.problem == exchange.STOPPED and len(read) < 10
    assert import_words(done) == exchange.STOPPED
    # Its files are counted while the page looks on.
    monkeypatch.setattr(exchange, "COUNTED_AT_ONCE", 2)
    told = list[exchange.ImportProgress]()
    done = history.importer(OWNER).run(source, progress=told.append)
    assert [each.total for each in told[:3]] == [2, 4, 6] and told[0].done == 0 and (done.done, done.problem) == (6, "")
    told.clear()
    done = history.importer(OWNER).run(source, progress=told.append, cancelled=lambda: bool(told))
    assert (done.total, done.done, done.problem) == (2, 0, exchange.STOPPED)


def test_a_long_listing_is_still_read(
    history: History, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [make(f"{'a long prompt ' * 100}{k}", colour=colour) for k, colour in enumerate(("red", "blue"))]
    history.set_tags(OWNER, ids, add=["best"])
    monkeypatch.setattr(export_listing, "MAX_BYTES", 2000)
    source = exported(history, tmp_path / "out.zip")
    with zipfile.ZipFile(source) as archive:
        listing = json.loads(archive.read("history.json"))
    assert listing["note"] == export_listing.LEFT_OUT and "request" not in listing["entries"][0]
    (tmp_path / "elsewhere").mkdir()
    elsewhere = History(tmp_path / "elsewhere")
    elsewhere.open(background=False)
    assert elsewhere.importer(OWNER).run(source).added == 2
    details = [elsewhere.detail(OWNER, each) for each in ids]
    assert all(each is not None and each.tags == ("best",) and each.request is not None for each in details)
    elsewhere.close()


def test_a_listing_of_equal_entries_is_no_bomb(
    history: History, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = {"file": "pictures/a.png", "tags": ["best"], "request": {"prompt": "a" * 20_000}}
    listing = export_listing.written([{**entry, "file": f"pictures/{k}.png"} for k in range(300)] + [entry])
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("history.json", listing)
        archive.writestr("pictures/a.png", png({"parameters": samples.A1111}))
        assert archive.getinfo("history.json").compress_size * 100 + 2**20 < len(listing)
    assert history.importer(OWNER).run(source).added == 1
    (found,) = history.catalogue.all(OWNER)
    detail = history.detail(OWNER, found.id)
    assert detail is not None and detail.tags == ("best",)
    assert export_listing.read(b"{") == {} and "are not read" in caplog.text
