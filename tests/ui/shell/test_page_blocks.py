"""What a function leaves as it is costs nothing: its component is not built again, and the page gets the same."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from ui.shell.page_blocks import REST_AFTER_SECONDS, REST_SECONDS, CalmQueue, PageBlocks


def answer(page_class: type[gr.Blocks], given: Any) -> tuple[list[Any], set[int]]:
    """What the page gets for ``given(first, second, third)``, and which components were built again."""
    with page_class() as page:
        boxes = [gr.Textbox(f"value {k}", label=f"box {k}") for k in range(3)]
        button = gr.Button()
        button.click(lambda: None, None, boxes)
    state = SessionState(page)
    function = next(iter(page.fns.values()))
    # In a thread: a browser of another test may have a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        values = thread.submit(asyncio.run, page.postprocess_data(function, given(*boxes), state)).result()
    return values, {k for k, box in enumerate(boxes) if state[box._id] is not box}


CASES = {
    "one of three": lambda a, b, c: {b: "new"},
    "two of three": lambda a, b, c: {a: "new", c: gr.Textbox(visible=False)},
    "a tuple": lambda a, b, c: (gr.skip(), "new", gr.update(value="newer")),
    "all": lambda a, b, c: ("1", "2", "3"),
    "nothing at all": lambda a, b, c: gr.skip(),
}


@pytest.mark.parametrize("given", CASES.values(), ids=CASES)
def test_the_page_gets_what_gradio_would_send(given: Any) -> None:
    assert answer(PageBlocks, given)[0] == answer(gr.Blocks, given)[0]


def test_only_what_changes_is_built_again() -> None:
    assert answer(PageBlocks, CASES["two of three"])[1] == {2}
    assert answer(gr.Blocks, CASES["two of three"])[1] == {1, 2}, "else the method is no longer needed"


@pytest.mark.parametrize("given", [lambda a, b, c: ("1", "2"), lambda a, b, c: {gr.Textbox(): "strange"}])
def test_wrong_answers_are_still_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="output"):
        answer(PageBlocks, given)


def test_the_queue_rests_while_nothing_comes():
    with PageBlocks() as page:
        gr.Button().click(lambda: None)
    page.queue(max_size=3)
    queue: Any = page._queue
    assert isinstance(queue, CalmQueue) and queue.max_size == 3
    queue.active_jobs = [None]
    assert queue.sleep_when_free == REST_SECONDS
    queue.active_jobs = [["an event"]]
    quick = queue.sleep_when_free
    assert 0 < quick != REST_SECONDS
    queue.active_jobs = [None]
    assert queue.sleep_when_free == quick, "what follows an event is not late"
    queue._seen -= REST_AFTER_SECONDS
    assert queue.sleep_when_free == REST_SECONDS
