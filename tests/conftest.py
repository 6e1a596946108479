"""What every test shares: no network, no telemetry, one thread, a tiny model on disk."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import cpu_report, partial_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before any library is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PLAYGROUND_THREADS", "1")
# Every test's page would convert the model again; tests/pipelines/models/openvino/test_engine.py does it once.
os.environ.setdefault("PLAYGROUND_ENGINE", "torch")


# Fewer examples than Hypothesis's own hundred, which ``--hypothesis-profile default`` brings back.
settings.register_profile("short", max_examples=40, deadline=None)
settings.load_profile("short")


# What ``make check`` leaves out: browsers, servers, downloads, training, loading models again and again.
SLOW = (
    "browser", "security", "pocket", "pipelines/hub", "pipelines/jobs", "pipelines/models", "test_api.py",
    "test_app.py", "test_readme.py", "presets/test_configs.py", "presets/test_library.py", "ui/server",
    "pipelines/sampling/test_denoise.py", "pipelines/sampling/test_image_to_image.py",
    "pipelines/sampling/test_schedulers.py", "pipelines/trace/test_export.py", "pipelines/trace/test_recorder.py",
    "pipelines/images/test_geometry.py", "ui/tabs", "ui/inspector",
    "history/test_kills.py", "history/test_full_disk.py",
)  # fmt: skip


# Files of minutes, the longest first: both workers are busy to the end.
LONGEST = (
    "security/test_hostile_requests.py", "browser/test_image_to_image.py", "browser/test_denoising.py",
    "browser/test_text_to_image.py", "security/test_injection.py", "security/test_shutdown.py",
    "browser/test_panels.py", "browser/test_player.py", "browser/test_page.py", "browser/test_history.py",
    "browser/test_variations.py", "pipelines/models/openvino/test_engine.py", "benchmarks/card/test_card.py",
    "test_app.py", "pipelines/models/test_residency.py", "history/recipes/test_script.py", "browser/test_drafts.py",
)  # fmt: skip
# From so many tests on some use every library.
MANY = 1000


def pytest_addoption(parser: pytest.Parser) -> None:
    partial_run.add_options(parser)
    parser.addoption("--cpu-report", metavar="FILE", help="write the processor seconds of each test and fixture")


def pytest_configure(config: pytest.Config) -> None:
    partial_run.register(config)
    if file := config.getoption("cpu_report"):
        config.pluginmanager.register(cpu_report.CpuReport(file))


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Mark the slow tests by their place; a test with a page has a second try, and the summary names it (RERUN)."""
    tests = Path(__file__).parent
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    # Of others the number of tests tells; files stay together.
    sizes = Counter(item.path for item in items)
    first = {tests / name: place for place, name in enumerate(LONGEST)}
    partial_run.choose(items, config)
    items.sort(key=lambda item: (first.get(item.path, len(first)), -sizes[item.path], str(item.path)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Set what is imported by now aside from Python's collector: models that are let go of call it again and again."""
    if len(session.items) > MANY:
        import diffusers  # noqa: F401  (most tests need them)
        import gradio  # noqa: F401
    gc.collect()
    gc.freeze()


# ``app.create`` sets it for its process; a page that other modules' tests share looks for uploads where it was before.
_TEMP = "GRADIO_TEMP_DIR"
_TEMP_GIVEN = os.environ.get(_TEMP)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After the last test of a module put the folder of temporary files back, and set aside what it imported."""
    try:
        yield
    finally:
        if nextitem is None or nextitem.path != item.path:
            gc.collect()
            gc.freeze()
            if _TEMP_GIVEN is None:
                os.environ.pop(_TEMP, None)
            else:
                os.environ[_TEMP] = _TEMP_GIVEN


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with random weights, made once a run; do not write into it."""
    from tests.support.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or the one that PLAYGROUND_CHROMIUM names, or the test tool's own."""
    from playwright.sync_api import sync_playwright

    from tests.support.browser_setup import ADVICE, find_browser, launch_arguments

    path = os.environ.get("PLAYGROUND_CHROMIUM") or find_browser()
    if not path:
        pytest.fail(ADVICE)
    with sync_playwright() as tool:
        chromium = tool.chromium.launch(executable_path=path, args=launch_arguments())
        yield chromium
        chromium.close()
