"""The import rules of the project: who may import whom, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("app", "ui", "history", "presets", "pipelines", "pocket", "benchmarks", "tests")
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "xformers")

# Which rooms a room may import, besides itself.
MAY = {
    "app": {"ui", "history", "presets", "pipelines"},
    "ui": {"history", "presets", "pipelines"},
    "history": {"pipelines"},
    "presets": {"pipelines"},
    "pipelines": set(),
    # presets: for the cards of the catalogue, data only.
    "pocket": {"pipelines", "presets"},
    "benchmarks": {"history", "pipelines", "pocket", "presets"},
}
# Inside a room: the lowest level first; a module may import its own level and those before it.
LEVELS = {
    "pipelines": (
        {"request", "request_errors", "request_tags", "prompt", "events", "cards", "system"},
        {"images", "hub", "sampling", "upscaling", "model"},
        {"models"},
        {"trace", "grid"},
        {"training", "training_sample"},
        {"jobs"},
    ),
    "history": (
        {"schema", "folders"},
        {"database", "readers"},
        {"entries", "thumbnails"},
        {"search", "parents", "bin", "strips", "taking_in", "marks"},
        {"transfers"},
        {"reconcile", "exchange", "recipes", "replays"},
        {"store"},
    ),
    "ui": ({"server", "components", "shell", "context"}, {"form", "inspector"}, {"tabs", "api"}, {"page"}),
}


def _files(room: str) -> list[Path]:
    folder = ROOT / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{room}.py"]


def _guarded(tree: ast.Module) -> set[ast.AST]:
    """Everything below ``if TYPE_CHECKING``."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {node for block in blocks for child in block.body for node in ast.walk(child)}


def _imports(path: Path, types: bool = False) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it; those for types alone count where ``types`` says so."""
    return _read(path)[types]


@cache
def _read(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """What a file imports to run, and what it imports at all; each file is read once for all tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = _guarded(tree)
    runs: set[str] = set()
    types: set[str] = set()
    for node in ast.walk(tree):
        names = types if node in guarded else runs
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(runs), frozenset(runs | types)


def _rooms_there() -> list[str]:
    return [room for room in MAY if any(path.exists() for path in _files(room))]


@pytest.mark.parametrize("room", _rooms_there())
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    for path in _files(room):
        met = {name.split(".")[0] for name in _imports(path)} & set(ROOMS)
        assert met <= MAY[room] | {room}, f"{path.relative_to(ROOT)} may not import {met - MAY[room] - {room}}"


@pytest.mark.parametrize("room", LEVELS)
def test_inside_a_room_imports_go_one_way(room: str) -> None:
    level = {name: k for k, names in enumerate(LEVELS[room]) for name in names}
    for path in _files(room):
        own = path.relative_to(ROOT / room).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in level, f"give {room}/{own} its place in this table"
        names = {name.split(".")[1] for name in _imports(path, types=True) if name.startswith(f"{room}.")}
        above = {name for name in names if level[name] > level[own]}
        assert not above, f"{path.relative_to(ROOT)} may not import {above}"


@pytest.mark.parametrize("room", _rooms_there())
def test_no_import_goes_in_a_circle(room: str) -> None:
    """Imports for types alone and those inside functions count, too."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in _files(room)
    }
    graph = {
        name: {_module_of(each, files) for each in _imports(path, types=True)} - {name, ""}
        for name, path in files.items()
    }
    circle = next((found for found in (_circle_through(name, graph) for name in graph) if found), [])
    assert not circle, " -> ".join(circle)


def _module_of(name: str, files: Mapping[str, Path]) -> str:
    """The module that a dotted name is or lies in, or ""."""
    return name if name in files else name.rpartition(".")[0] if name.rpartition(".")[0] in files else ""


def _circle_through(start: str, graph: Mapping[str, set[str]]) -> list[str]:
    """The shortest way from a module back to itself, or []."""
    ways, seen = [[start]], set()
    for way in ways:
        for following in sorted(graph.get(way[-1], ())):
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


@pytest.mark.parametrize("room", [room for room in _rooms_there() if room not in ("app", "ui")])
def test_gradio_appears_on_the_page_alone(room: str) -> None:
    for path in _files(room):
        assert not [name for name in _imports(path) if name.split(".")[0] in ("gradio", "gradio_client")], path


@pytest.mark.parametrize("room", ["app", "ui", "presets", "history"])
def test_the_page_names_no_model_library(room: str) -> None:
    for path in _files(room):
        if path.exists():
            assert not [name for name in _imports(path) if name.split(".")[0] in HEAVY], path


def test_nobody_changes_a_global() -> None:
    for room in _rooms_there():
        for path in _files(room):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], path


# The lowest first: the one that loads a library is named.
LIGHT = (
    "pipelines.models.families", "pipelines.models.manager", "pipelines.jobs.local", "presets.catalogue",
    "history.store", "ui", "ui.page", "app",
)  # fmt: skip


def test_importing_loads_no_model_library() -> None:
    code = f"import sys, importlib\nfor name in {LIGHT!r}:\n    importlib.import_module(name)\n"
    code += f"    print(name, *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(LIGHT)


# What requirements.txt brings along anyway.
ALSO_OF_USERS = {"tokenizers", "tqdm"}


def test_nothing_that_users_run_imports_what_only_tests_need() -> None:
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    names = {line.partition("==")[0].replace("-", "_") for line in lines if "==" in line} - ALSO_OF_USERS
    assert {"matplotlib", "playwright", "pytest_xdist"} <= names
    for room in ("app", "ui", "history", "presets", "pipelines"):
        for path in _files(room):
            assert not {name.split(".")[0] for name in _imports(path)} & names, path
