"""The events of the panel: bounds, whose files are read, and what is sent to the form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.hub.digests import LocalDigests
from pipelines.images.uploads import NOT_AN_IMAGE, UploadStore
from tests.support import foreign_pictures as samples
from tests.support.foreign_pictures import png
from tests.support.site import tiny_card
from ui.components.uploaded_file import uploaded_file
from ui.form import picture_settings as panel


@pytest.fixture
def page(tmp_path: Path) -> Any:
    store = UploadStore(tmp_path / "inputs")
    library = SimpleNamespace(available=lambda: [tiny_card(Path("x"))])
    return SimpleNamespace(
        inputs=store.of(None), store=store, library=library, digests=LocalDigests(),
        backend=SimpleNamespace(adapters=SimpleNamespace(loras=tuple)),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gradio's folder of uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    made = Path(get_upload_folder())
    made.mkdir()
    yield made


def uploaded(folder: Path, data: bytes, name: str = "a.png") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def event(**fields: Any) -> gr.EventData:
    return gr.EventData(None, fields)


def test_files_outside_of_the_uploads_are_not_read(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png({}))
    (folder / "link.png").symlink_to(secret)
    inside = uploaded(folder, png({}))
    refused = [
        str(secret), f"{folder}/../secret.png", str(folder / "link.png"), str(folder), "", "a.png", "\0", "x" * 9999,
        "\ud800", None, 7, {"path": inside},
    ]  # fmt: skip
    assert [uploaded_file(path) for path in refused] == [None] * len(refused)
    assert uploaded_file(inside) == Path(inside).resolve()


def test_what_is_shown_of_a_picture(page: Any, folder: Path) -> None:
    found = panel.shown(page, Path(uploaded(folder, png({"parameters": samples.A1111}))))
    assert found["program"] == "AUTOMATIC1111" and found["size"] == [8, 8] and found["said"] == ""
    assert found["picture"].startswith("data:image/jpeg") and ["seed", "Seed"] in [row[:2] for row in found["rows"]]
    assert ["VAE", "vae-ft-mse"] in found["unused"] and found["text"]
    plain = panel.shown(page, Path(uploaded(folder, png({"Comment": "by hand"}))))
    assert plain["said"] == panel.NOTHING and plain["rows"] == [] and plain["text"] == "Comment: by hand"


def test_what_is_taken_over_goes_to_a_tab_and_nothing_runs(page: Any, folder: Path) -> None:
    path = uploaded(folder, png({"parameters": samples.A1111}, image=Image.new("RGBA", (8, 8), (255, 0, 0, 0))))
    sent = panel.taken(page, event(path=path, parts=["seed", "prompt", 3, None], to="image-to-image"))
    assert set(sent["settings"]["fields"]) == {"prompt", "prompt_syntax", "styles", "seed"} and "image" not in sent
    assert sent["settings"]["tab"] == "image-to-image"
    sent = panel.taken(page, event(path=path, parts=["seed"], to="elsewhere"))
    assert sent["settings"]["tab"] == "text-to-image"
    # A picture to start from is for Image to image, whatever is chosen.
    sent = panel.taken(page, event(path=path, parts=[], to="text-to-image", source=True))
    assert "settings" not in sent and page.store.get(sent["image"]["upload"]).getpixel((0, 0)) == (255, 255, 255)
    assert panel.taken(page, event(path=path, parts="seed")) == {"problem": panel.NOTHING_CHOSEN}


def test_what_cannot_be_read_is_one_sentence(page: Any, folder: Path) -> None:
    def look(**fields: Any) -> dict[str, Any]:
        return panel.answered(lambda: panel.shown(page, panel.file_of(event(**fields))))

    assert look(path=uploaded(folder, b"no picture")) == {"problem": NOT_AN_IMAGE}
    assert look(path="/etc/passwd") == look() == {"problem": panel.GONE}
    gone = Path(uploaded(folder, png({})))
    gone.unlink()
    assert panel.answered(lambda: panel.read(page, gone))["problem"]


def test_a_guests_pictures_may_have_fewer_pixels(page: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.images.uploads.MAX_GUEST_PIXELS", 63)
    path = Path(uploaded(folder, png({"parameters": samples.A1111})))
    assert panel.answered(lambda: panel.shown(page, path))["program"]
    page.inputs = page.store.of("guest-1")
    assert "too large" in panel.answered(lambda: panel.shown(page, path))["problem"]
