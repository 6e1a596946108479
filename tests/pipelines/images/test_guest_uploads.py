"""Pictures that guests prepare: in memory until a run uses them, then on the disk, apart and bounded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.images import guest_uploads
from pipelines.images.uploads import MAX_GUEST_PIXELS, UPLOAD_GONE, UploadStore
from pipelines.request import InvalidRequest
from pipelines.system.guest_bytes import GuestBytes, NoBytesLeft
from tests.support.awkward_images import saved


def noise(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def store_of(folder: Path, each: int = 10**9, free: int = 10**12) -> UploadStore:
    return UploadStore(folder / "inputs", GuestBytes(folder, each, 10 * each, free=lambda _: free))


def files(store: UploadStore) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def test_preparing_writes_nothing_until_a_run_uses_it(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    guest = store.of("a")
    names = [guest.put(noise(k)) for k in range(8)]
    assert files(store) == []
    assert all(np.array_equal(guest.get(name), noise(k)) for k, name in enumerate(names))
    store.save_used(names[2:3], "a")
    assert files(store) == [store._guests.path(names[2], "a")]
    assert files(store)[0].relative_to(store.folder).parts[0] == "guests"
    assert np.array_equal(guest.get(names[2]), noise(2)) and store._guests.get(names[2]) is None
    store.save_used(names[2:3], "a")
    assert guest.put(noise(2)) == names[2] and len(files(store)) == 1


def test_what_a_run_writes_is_charged(tmp_path: Path) -> None:
    store = store_of(tmp_path, each=30_000)
    names = [store.of("a").put(noise(k)) for k in range(4)]
    store.save_used(names[:2], "a")
    with pytest.raises(NoBytesLeft):
        store.save_used(names[2:], "a")
    assert len(files(store)) == 2
    # The owner's are written at once, and are not counted.
    for k in range(8):
        store.put(noise(k))
    assert len(list(store.folder.glob("*.png"))) == 8


def test_nothing_is_written_for_guests_on_a_full_disk_and_the_owner_goes_on(tmp_path: Path) -> None:
    store = store_of(tmp_path, free=10**9)
    name = store.of("a").put(noise(1))
    with pytest.raises(NoBytesLeft):
        store.save_used([name], "a")
    assert store.put(noise(1)) == name and len(files(store)) == 1


def test_memory_is_bounded_by_guest_and_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_uploads, "GUEST_MEMORY", 40_000)
    monkeypatch.setattr(guest_uploads, "ALL_MEMORY", 60_000)
    store = store_of(tmp_path)
    small = store.of("small").put(noise(99, 8))
    names = [store.of("a").put(noise(k)) for k in range(6)]
    assert sum(store._guests.get(name) is not None for name in names) == 3
    with pytest.raises(InvalidRequest, match=UPLOAD_GONE[:20]):
        store.get(names[0])
    for k in range(10, 40):
        store.of(str(k)).put(noise(k))
    held = sum(each.nbytes for each in store._guests._memory.values())
    assert held <= 60_000
    # Many who put much do not push out one who put little.
    assert store.get(small).size == (8, 8)


def test_the_guests_folder_is_bounded_and_the_owners_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    store._guests._disk_bytes = 40_000
    own = store.put(noise(0))
    for k in range(1, 8):
        name = store.of("a").put(noise(k))
        store.save_used([name], "a")
        os.utime(store._guests.path(name, "a"), (time.time() - 100 + k,) * 2)
    left = {path.stem for path in files(store)}
    assert own in left and name in left and len(left) == 4


def test_a_guest_cannot_make_the_owners_picture_a_guests(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    name = store.of("a").put(noise(1))
    store.save_used([name], "a")
    assert store.put(noise(1)) == name
    old = time.time() - 3 * 86400
    for path in files(store):
        os.utime(path, (old, old))
    assert store.remove_unused(30 * 86400) == 1
    assert files(store) == [store.path(name)]


def test_guests_may_read_fewer_pixels(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    path = tmp_path / "large.png"
    path.write_bytes(saved(Image.new("1", (4100, MAX_GUEST_PIXELS // 4100 + 1)), "PNG"))
    assert store.of(None).read(path).image.size == (4100, 4093)
    with pytest.raises(InvalidRequest, match="too large; choose one of at most 16 million pixels"):
        store.of("a").read(path)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_picture_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("pipelines.system.atomic_files.os.fsync", fail)
    with pytest.raises(InvalidRequest, match=f"could not be stored \\({error.strerror}\\)"):
        store_of(tmp_path).of(None).put(noise(1))


def test_a_guest_gets_its_own_pictures_alone(tmp_path: Path) -> None:
    """Names stand in every file that a run saves: who was given one knows them."""
    store = store_of(tmp_path)
    of_owner, of_a = store.put(noise(1)), store.of("a").put(noise(2))
    for stored in (False, True):
        if stored:
            store.save_used([of_a], "a")
        for name in (of_owner, of_a):
            with pytest.raises(InvalidRequest, match=UPLOAD_GONE[:20]):
                store.of("b").get(name)
            with pytest.raises(InvalidRequest, match=UPLOAD_GONE[:20]):
                store.check_own([name], "b")
        assert np.array_equal(store.of("a").get(of_a), noise(2)) and np.array_equal(store.get(of_a), noise(2))
        store.check_own([of_a], "a")
    store.check_own([of_owner, of_a], None)
    with pytest.raises(InvalidRequest, match=UPLOAD_GONE[:20]):
        store.check_own(["../x"], "a")
    # Who has the same picture may use it, and it is charged and kept as that guest's.
    assert store.of("b").put(noise(1)) == of_owner
    store.save_used([of_owner], "b")
    assert np.array_equal(store.of("b").get(of_owner), noise(1)) and len(files(store)) == 3
    store.path(of_owner).unlink()
    assert np.array_equal(store.of("b").get(of_owner), noise(1))


def test_folders_of_guests_go_with_their_last_picture(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    name = store.of("a").put(noise(1))
    store.save_used([name], "a")
    old = time.time() - 3 * 86400
    os.utime(store._guests.path(name, "a"), (old, old))
    assert store.remove_unused(30 * 86400) == 1
    assert list((store.folder / "guests").iterdir()) == []
