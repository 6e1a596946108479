"""Gradio's record of each open page, without the copy of the page's whole description that it makes for deep links.

The copy takes half a megabyte a page and a tenth of a second in which nothing else is answered, at the first event of
each page and at each call of the API.  Deep links are not served here.
"""

from __future__ import annotations

from copy import copy
from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState

_initialise = SessionState.__init__
_set = SessionState.__setitem__


def keep_no_descriptions() -> None:
    """From here on sessions keep states and changed components alone; a second call changes nothing."""
    replaced: dict[str, Any] = {
        "__init__": _begin, "__setitem__": _set_alone, "_update_config": _nothing, "_update_value_in_config": _nothing,
    }  # fmt: skip
    for name, method in replaced.items():
        setattr(SessionState, name, method)


def _begin(state: SessionState, blocks: Any) -> None:
    """As Gradio begins a session, for a page without components; then with the page's."""
    _initialise(state, SimpleNamespace(default_config=SimpleNamespace(blocks={}), blocks={}))  # type: ignore[arg-type]
    state.blocks_config = copy(blocks.default_config)


def _set_alone(state: SessionState, key: int, value: Any) -> None:
    _set(state, key, value)
    state.config_values.clear()


def _nothing(state: SessionState, *arguments: Any) -> None:
    """In place of what brings the description up to date."""
