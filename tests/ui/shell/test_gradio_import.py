"""Gradio is imported without the type stubs that it writes."""

from __future__ import annotations

import subprocess
import sys

from pipelines.system.paths import PROJECT

SCRIPT = """
import ast, sys
from ui.shell import gradio_import
gradio_import.skip_stubs()
gradio_import.skip_stubs()
import pathlib
written = []
pathlib.Path.write_text = lambda path, *a, **k: written.append(path)
parsed, parse = [], ast.parse
ast.parse = lambda *a, **k: parsed.append(a) or parse(*a, **k)
import gradio
meta = sys.modules[gradio_import.MODULE]
assert getattr(meta, gradio_import.FUNCTION) is gradio_import._write_nothing
print(len(written), len(parsed), gradio.Textbox("x").value, len(gradio.Textbox.EVENTS) > 0)
"""


def test_gradio_parses_no_source_of_its_components() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=PROJECT, check=True)
    written, parsed, *rest = answer.stdout.split()
    assert (int(written), rest) == (0, ["x", "True"]) and int(parsed) < 10, answer.stdout
