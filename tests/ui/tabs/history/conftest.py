"""A history, and questions about it as the page asks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from history.store import History
from pipelines.hub.digests import LocalDigests
from pipelines.images.decoding_slots import DecodingSlots
from pipelines.jobs.users import OWNER, User
from pipelines.system.guest_bytes import GuestBytes
from tests.support.site import tiny_card
from ui.tabs.history.question import Question
from ui.tabs.history.transfer import Transfers

Ask = Callable[..., Question]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path)
    assert made.open(background=False) == []
    yield made
    made.close()


@pytest.fixture
def question(history: History, tmp_path: Path) -> Ask:
    """Makes a question of a user, from the fields of its event."""
    backend, transfers = SimpleNamespace(trace=lambda run, user: None, guest_bytes=GuestBytes(tmp_path)), Transfers()
    backend.adapters = SimpleNamespace(loras=tuple)
    page: Any = SimpleNamespace(
        history=history, cards={"tiny": tiny_card(Path("x"))}, backend=backend,
        trace=lambda opened: None, export_slots=DecodingSlots(), digests=LocalDigests(),
        library=SimpleNamespace(available=lambda: [tiny_card(Path("x"))]),
    )  # fmt: skip

    def ask(user: User = OWNER, **fields: Any) -> Question:
        return Question(page, history, user, gr.EventData(None, fields), transfers)

    return ask
