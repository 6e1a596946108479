"""The limits of the house: how large a folder, a module, a class and a function may grow, and what tests may import."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("app.py", "history", "pipelines", "presets", "ui", "pocket", "benchmarks")
MAX_MODULES, MAX_LINES, MAX_METHODS, MAX_FUNCTION = 14, 450, 22, 60


def _code(*rooms: str) -> list[Path]:
    return sorted(
        path for room in rooms for path in ([ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"))
    )


def _functions(node: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", _code(*ROOMS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_its_classes_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            assert len(methods) <= MAX_METHODS, node.name
    for function in _functions(tree):
        assert (function.end_lineno or 0) - function.lineno < MAX_FUNCTION, function.name


def test_a_folder_holds_few_modules() -> None:
    counts = Counter(path.parent.relative_to(ROOT) for path in _code(*ROOMS[1:]) if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for path in _code(*ROOMS)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_test_imports_from_a_test_and_no_benchmark_from_tests() -> None:
    for path in _code("tests", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
                assert path.is_relative_to(ROOT / "tests"), path
                assert (node.module or "").startswith("tests.support"), f"{path}: {node.module}"
