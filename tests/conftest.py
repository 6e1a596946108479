"""What every test shares: no network, no telemetry, one thread, a tiny model on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before any library is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PLAYGROUND_THREADS", "1")
# A page of every test would convert the model anew; tests/pipelines/test_compiled.py does it once.
os.environ.setdefault("PLAYGROUND_ENGINE", "torch")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with random weights, made once a run; do not write into it."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or the one that PLAYGROUND_CHROMIUM names, or the test tool's own."""
    from playwright.sync_api import sync_playwright

    from tests.browser_setup import ADVICE, find_browser, launch_arguments

    path = os.environ.get("PLAYGROUND_CHROMIUM") or find_browser()
    if not path:
        pytest.fail(ADVICE)
    with sync_playwright() as tool:
        chromium = tool.chromium.launch(executable_path=path, args=launch_arguments())
        yield chromium
        chromium.close()
