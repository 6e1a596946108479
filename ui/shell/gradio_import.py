"""A quicker start: Gradio without the type stubs that it writes for editors at every import.

For each of its components it parses the source, fills in a template and compares the result with a file, which takes a
third of the time until the page is there.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULE, FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs(MetaPathFinder):
    """Finds one module as others do, and takes the function away once the module is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def without_stubs(module: ModuleType) -> None:
            load(module)
            if hasattr(module, FUNCTION):
                setattr(module, FUNCTION, _write_nothing)

        spec.loader.exec_module = without_stubs  # type: ignore[method-assign]
        return spec


def _write_nothing(*arguments: Any) -> None:
    """In place of Gradio's function."""


def skip_stubs() -> None:
    """Let Gradio, which is not imported yet, write no type stubs; where it is, nothing changes."""
    if MODULE not in sys.modules and not any(isinstance(finder, _WithoutStubs) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutStubs())
