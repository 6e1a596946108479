"""The import rules of the project: who may import whom, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    # tests: for the attacks that the long run repeats.
    "benchmarks": {"pipelines", "pocket", "presets", "tests"},
}
# Inside the engine: a module may import these siblings (families is a folder).
CARDS = {"request", "events", "cards", "device", "files", "conditioning", "visitors", "heaps"}
STARTS = {"geometry", "uploads", "scene", "start", "looks"}
EXTRAS = {"loras", "embeddings", "adapters", "controlnets", "annotators"}
LOADS = {"hub", "memory", "ladder"}
SERVES = {"schedulers", "families", "pictures", "marks", "trace", "denoise", "manager", *LOADS, *STARTS}
INSIDE = {
    **{name: set() for name in CARDS},
    "latents": CARDS,
    "schedulers": CARDS,
    "families": CARDS | {"latents", "schedulers", "embeddings"},
    "converting": CARDS,
    "compiled": CARDS | {"converting"},
    "blends": CARDS,
    "geometry": CARDS,
    "loras": CARDS,
    "embeddings": CARDS | {"loras"},
    "adapters": CARDS | {"loras"},
    "controlnets": CARDS | {"loras"},
    "annotators": CARDS,
    "extras": CARDS | EXTRAS | {"geometry", "uploads"},
    "repositories": CARDS,
    "transfer": CARDS | {"repositories"},
    "hub": CARDS | {"repositories", "transfer"},
    "memory": CARDS,
    "ladder": CARDS | {"memory"},
    "uploads": CARDS | {"geometry"},
    "scene": CARDS | {"geometry", "uploads"},
    "start": CARDS | {"geometry", "schedulers", "blends", "scene"},
    "looks": CARDS | {"schedulers", "blends"},
    "denoise": CARDS | {"latents", "schedulers", "families", "blends", "start"},
    "manager": CARDS | {"latents", "schedulers", "families", "compiled", *LOADS},
    "pictures": CARDS | {"schedulers", "marks"},
    "marks": CARDS,
    "trace": CARDS | {"schedulers"},
    "lenses": CARDS | {"trace"},
    "exports": CARDS | {"trace", "pictures", "marks"},
    "line": CARDS,
    "live": CARDS,
    "blocklist": CARDS,
    "backend": CARDS | EXTRAS | {"extras", "line", "blocklist"} | SERVES,
    "ray_backend": CARDS | SERVES | {"backend"},
}


def _files(room: str) -> list[Path]:
    folder = ROOT / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{room}.py"]


def _guarded(tree: ast.Module) -> set[ast.AST]:
    """Everything below ``if TYPE_CHECKING``."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {node for block in blocks for child in block.body for node in ast.walk(child)}


def _imports(path: Path) -> set[str]:
    """Dotted names that a file imports when it runs, anywhere in it; imports for types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skip = _guarded(tree)
    names = set()
    for node in ast.walk(tree):
        if node in skip:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _rooms_there() -> list[str]:
    return [room for room in MAY if any(path.exists() for path in _files(room))]


@pytest.mark.parametrize("room", _rooms_there())
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    for path in _files(room):
        met = {name.split(".")[0] for name in _imports(path)} & set(ROOMS)
        assert met <= MAY[room] | {room}, f"{path.relative_to(ROOT)} may not import {met - MAY[room] - {room}}"


def test_inside_the_engine_imports_go_one_way() -> None:
    for path in _files("pipelines"):
        own = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        names = {name.split(".")[1] for name in _imports(path) if name.startswith("pipelines.")}
        assert own in INSIDE, f"give pipelines/{own} its place in this table"
        assert names <= INSIDE[own] | {own}, f"{path.relative_to(ROOT)} may not import {names - INSIDE[own] - {own}}"


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


@pytest.mark.parametrize(
    "module",
    ["app", "ui", "ui.page", "presets.catalogue", "pipelines.backend", "pipelines.manager", "pipelines.families"],
)
def test_importing_loads_no_model_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
