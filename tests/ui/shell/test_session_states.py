"""Sessions keep their states and changed components, and no description of the page."""

from __future__ import annotations

import gradio as gr
import pytest
from gradio.state_holder import SessionState, StateHolder

from ui.shell import session_states


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__init__", "__setitem__", "_update_config", "_update_value_in_config"):
        monkeypatch.setattr(SessionState, name, getattr(SessionState, name))  # put back after the test
    session_states.keep_no_descriptions()
    session_states.keep_no_descriptions()


def test_a_session_has_its_own_states_and_components_and_no_description() -> None:
    with gr.Blocks() as page:
        box, state = gr.Textbox("first"), gr.State(["a"])
    holder = StateHolder()
    holder.set_blocks(page)
    one, other = holder["one"], holder["other"]
    one[state._id].append("b")
    one[box._id] = gr.Textbox("second", render=False)
    one._update_value_in_config(box._id, "third")
    assert one[state._id] == ["a", "b"] and other[state._id] == ["a"]
    assert one[box._id].value == "second" and other[box._id].value == "first" and page.blocks[box._id] is box
    assert box._id in one and state._id in one and state._id not in holder["new"]
    assert not list(one.components) and not list(other.components)
