"""A second backend is one file and one entry of the table; the page uses what the protocol says and no more."""

from __future__ import annotations

import ast
import inspect
import os
from pathlib import Path

import pytest
from PIL import Image

import app
from pipelines.jobs.backend import BACKENDS, Backend, backend_class
from pipelines.jobs.local import LocalBackend
from tests.support.black_backend import BlackBackend
from tests.support.toy_backend import ask
from ui.components import stage_updates

ROOT = Path(app.__file__).parent
MEMBERS = {name for name in (*vars(Backend), *inspect.get_annotations(Backend)) if not name.startswith("_")}


def test_every_entry_names_a_class_with_the_members_of_the_protocol() -> None:
    for name in BACKENDS:
        assert inspect.isclass(backend_class(name))
    assert backend_class("local") is LocalBackend


def test_a_backend_is_one_file_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "temp")})
    monkeypatch.setitem(BACKENDS, "black", "tests.support.black_backend:BlackBackend")
    program = app.create(app.parse(["--data-dir", str(tmp_path)]), backend_name="black")
    assert isinstance(program.backend, BlackBackend)
    *_, value = stage_updates.watch(program.backend.submit(ask()))
    assert value["state"] == "done"
    (file,) = (tmp_path / "pictures").glob("*.png")
    assert Image.open(file).getextrema() == ((0, 0),) * 3


def test_the_page_uses_no_other_member() -> None:
    for path in (ROOT / "app.py", *(ROOT / "ui").rglob("*.py"), *(ROOT / "presets").rglob("*.py")):
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in ("backend", "_backend")
        }
        assert used <= MEMBERS, path
