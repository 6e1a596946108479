"""Pictures of the history over HTTP, in their own format or another one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from history.store import History
from pipelines.images.file_texts import read_texts
from pipelines.images.png import record_of
from pipelines.images.settings_in_files import source_type_of
from tests.support.history_entries import ask, keep
from ui.server.http.history_files import history_route


@pytest.mark.parametrize("form", ["", "png", "jpeg", "webp"])
@pytest.mark.parametrize("kind", ["picture", "plain"])
def test_a_picture_is_served_in_the_format_that_is_asked_for(tmp_path: Path, form: str, kind: str) -> None:
    history = History(tmp_path)
    history.open(background=False)
    made = keep(history, "secret words")
    client = TestClient(Starlette(routes=[history_route(history)]))
    answer = client.get(f"/history/{kind}/{made}" + (f"?format={form}" if form else ""))
    assert answer.status_code == 200 and answer.headers["content-type"] == f"image/{form or 'png'}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == (form or "png").upper()
    record = record_of(read_texts(answer.content))
    assert (record.request if record else None) == (ask("secret words") if kind == "picture" else None)
    assert source_type_of(answer.content) == "trainedAlgorithmicMedia"
    assert client.get(f"/history/{kind}/{made}?format=exe").status_code == 404
    history.close()
