"""A history, and questions about it as the page asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from history.store import History
from pipelines.jobs.users import OWNER, User
from tests.support.site import tiny_card
from ui.tabs.history.question import Question

Ask = Callable[..., Question]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    assert made.open(background=False) == []
    yield made
    made.close()


@pytest.fixture
def question(history: History) -> Ask:
    """Makes a question of a user, from the fields of its event."""
    page: Any = SimpleNamespace(
        history=history, cards={"tiny": tiny_card(Path("x"))}, backend=SimpleNamespace(trace=lambda run, user: None),
        trace=lambda opened: None,
    )  # fmt: skip

    def ask(user: User = OWNER, **fields: Any) -> Question:
        return Question(page, history, user, gr.EventData(None, fields))

    return ask
