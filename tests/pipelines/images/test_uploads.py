"""Pictures that people bring: what awkward files become, and that nothing but pixels goes on."""

from __future__ import annotations

import io
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from pipelines.images import geometry
from pipelines.images.uploads import UPLOAD_GONE, Upload, UploadStore, read_upload
from pipelines.request import InvalidRequest
from tests.support import awkward_images
from tests.support.awkward_images import Fine, Refused

# Pillow warns of what is wrong with a file, besides refusing it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

FINE, REFUSED = awkward_images.fine(), awkward_images.refused()
# Files to damage, each with all kinds of metadata of its format.
WHOLE = [
    each.data for each in FINE if each.name.endswith(("telling", "moving", "orientation-6", "cmyk-adobe-inverted"))
]
ID = re.compile(r"[0-9a-f]{32}")


def named(each: Any) -> str:
    return each.name


def put_down(folder: Path, data: bytes) -> Path:
    """The file under a name that says nothing true."""
    path = folder / "picture.png"
    path.write_bytes(data)
    return path


def chunks_of(data: bytes) -> list[bytes]:
    """The kinds of a PNG's chunks."""
    kinds, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kinds.append(data[at + 4 : at + 8])
        at += 12 + length
    return kinds


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", FINE, ids=named)
def test_an_awkward_picture_is_read(tmp_path: Path, each: Fine) -> None:
    found = read_upload(put_down(tmp_path, each.data))
    assert (found.image.mode, found.image.size) == (each.want.mode, each.want.size)
    off = np.abs(np.asarray(found.image, int) - np.asarray(each.want, int)).max()
    assert off <= each.off
    assert found.notes == each.notes


@pytest.mark.parametrize("each", FINE, ids=named)
def test_only_pixels_are_kept(tmp_path: Path, each: Fine) -> None:
    image = read_upload(put_down(tmp_path, each.data)).image
    assert image.info == {}
    assert not image.getexif()
    inputs = UploadStore(tmp_path / "inputs")
    stored = inputs.path(inputs.put(image)).read_bytes()
    assert set(chunks_of(stored)) == {b"IHDR", b"IDAT", b"IEND"}
    assert awkward_images.SECRET.encode() not in stored
    assert inputs.get(inputs.put(image)).info == {}


@pytest.mark.parametrize("each", REFUSED, ids=named)
def test_what_cannot_be_used_gets_one_sentence(tmp_path: Path, each: Refused) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match=f"^{each.sentence}") as refused:
        read_upload(put_down(tmp_path, each.data))
    sentence = str(refused.value)
    assert re.fullmatch(r"[^.\n]+\.", sentence)
    assert "picture.png" not in sentence
    assert awkward_images.SECRET not in sentence
    assert time.monotonic() - began < 2


def test_bombs_are_small_files() -> None:
    assert all(len(each.data) < 200_000 for each in REFUSED if "bomb" in each.name)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(InvalidRequest, match="not here any more"):
            read_upload(path)


def assert_read_or_refused(folder: Path, data: bytes) -> None:
    try:
        found = read_upload(put_down(folder, data))
    except InvalidRequest as refused:
        assert re.fullmatch(r"[^.\n]+\.", str(refused))
    else:
        assert isinstance(found, Upload)
        assert found.image.mode in ("RGB", "RGBA")
        assert found.image.info == {}


@given(whole=some.sampled_from(WHOLE), share=some.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, whole: bytes, share: float) -> None:
    assert_read_or_refused(tmp_path_factory.getbasetemp(), whole[: int(len(whole) * share)])


@given(whole=some.sampled_from(WHOLE), at=some.floats(0, 1), new=some.binary(min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_damaged_anywhere(tmp_path_factory: pytest.TempPathFactory, whole: bytes, at: float, new: bytes) -> None:
    start = int(len(whole) * at)
    damaged = whole[:start] + new + whole[start + len(new) :]
    assert_read_or_refused(tmp_path_factory.getbasetemp(), damaged)


@given(head=some.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x99\0\0\0WEBP"]), tail=some.binary())
@settings(max_examples=40, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes) -> None:
    assert_read_or_refused(tmp_path_factory.getbasetemp(), head + tail)


def test_fitted_at_once_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (60, 20), (0, 0, 0, 0)).save(path)
    found = UploadStore(tmp_path / "inputs").of(None).read_cropped(path, 32, 40)
    assert (found.mode, found.size) == ("RGB", (32, 40))
    assert found.getcolors() == [(32 * 40, (255, 255, 255))]


# -- keeping -------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "new" / "inputs")


def picture(seed: int = 0, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_comes_back_as_it_was(inputs: UploadStore, mode: str) -> None:
    image = picture(mode=mode)
    name = inputs.put(image)
    again = inputs.get(name)
    assert ID.fullmatch(name)
    assert (again.mode, again.size, again.tobytes()) == (image.mode, image.size, image.tobytes())


def test_the_id_is_that_of_the_pixels(inputs: UploadStore) -> None:
    image = picture()
    image.info.update({"icc_profile": awkward_images.swapped_profile(), "comment": awkward_images.SECRET})
    assert inputs.put(image) == inputs.put(picture()) == UploadStore(inputs.folder).put(picture())
    assert len(list(inputs.folder.iterdir())) == 1
    turned = Image.frombytes("RGB", (7, 9), image.tobytes())
    assert len({inputs.put(each) for each in (image, turned, picture(1), picture(mode="L"))}) == 4


def test_nothing_of_a_pictures_info_is_written(inputs: UploadStore) -> None:
    image = picture()
    image.info.update({"icc_profile": awkward_images.swapped_profile(), "transparency": (1, 2, 3), "dpi": (72, 72)})
    assert set(chunks_of(inputs.path(inputs.put(image)).read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}


def test_transparency_is_kept_on_white(inputs: UploadStore) -> None:
    assert inputs.get(inputs.put(Image.new("RGBA", (2, 2)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "name",
    ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "../" + "0" * 29, "/etc/passwd", "..", "0" * 31 + "/", None, 7],
)
def test_an_id_is_never_a_path(inputs: UploadStore, name: Any) -> None:
    for ask in (inputs.get, inputs.path):
        with pytest.raises(InvalidRequest, match=re.escape(UPLOAD_GONE)):
            ask(name)


def test_what_is_not_there_or_not_whole(inputs: UploadStore) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(UPLOAD_GONE)):
        inputs.get("0" * 32)
    path = inputs.path(inputs.put(picture(size=(90, 70))))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InvalidRequest, match=re.escape(UPLOAD_GONE)):
        inputs.get(path.stem)


def test_nothing_is_left_when_writing_fails(inputs: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.system.atomic_files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        inputs.put(picture())
    assert list(inputs.folder.iterdir()) == []


def test_many_may_put_the_same_at_once(inputs: UploadStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda k: inputs.put(picture(k % 3)), range(48)))
    assert len(names) == 3
    assert {path.stem for path in inputs.folder.iterdir()} == names


def make_old(path: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def test_unused_images_are_removed(inputs: UploadStore) -> None:
    names = [inputs.put(picture(k)) for k in range(4)]
    left = inputs.folder / f".{names[0]}-0000.part"
    left.touch()
    foreign = inputs.folder / "notes.txt"
    foreign.touch()
    for path in inputs.folder.iterdir():
        make_old(path)
    inputs.get(names[1])
    inputs.put(picture(2))
    assert inputs.remove_unused(600) == 3
    assert set(inputs.folder.iterdir()) == {inputs.path(names[1]), inputs.path(names[2]), foreign}
    assert inputs.remove_unused(600) == 0


def test_cleaning_a_missing_folder(inputs: UploadStore) -> None:
    assert inputs.remove_unused(0) == 0


def test_a_picture_goes_through_a_whole_visit(tmp_path: Path, inputs: UploadStore) -> None:
    """Read, fitted and kept: what a run then starts from, for a telling photo held sideways."""
    whole = io.BytesIO()
    sideways = awkward_images.held(awkward_images.upright(), 8)
    sideways.save(whole, "JPEG", quality=98, subsampling=0, exif=awkward_images.exif_of(8, secret=True))
    upload = read_upload(put_down(tmp_path, whole.getvalue()))
    kept = inputs.get(inputs.put(geometry.fit(upload.image, 32, 32, "stretch")))
    corners = [kept.getpixel(at) for at in ((4, 4), (27, 4), (4, 27), (27, 27))]
    wanted = [awkward_images.RED, awkward_images.GREEN, awkward_images.BLUE, awkward_images.YELLOW]
    assert np.abs(np.subtract(corners, wanted)).max() <= 8
