"""What a function leaves as it is costs nothing: its component is not built again, and the page gets the same."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.queueing import Queue
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


class Clock:
    """A clock that only the rests of a queue move.

    Attributes:
        taken: how long each event waited until the queue took it.
        rests: how often the queue looked in vain.
    """

    def __init__(self, arrivals: list[float], works: float) -> None:
        self.now, self.coming, self.works = 0.0, list(arrivals), works
        self.taken: list[float] = []
        self.rests = 0
        self.busy_until = 0.0

    def run(self, base: type[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
        """Gradio's own loop with one worker, until all events are over."""
        clock = self

        class Clocked(base):  # type: ignore[valid-type, misc]
            def __len__(self) -> int:
                return sum(moment <= clock.now for moment in clock.coming)

            def get_events(self) -> None:
                event = clock.coming.pop(0)
                clock.taken.append(clock.now - event)
                self.active_jobs, clock.busy_until = [["an event"]], clock.now + clock.works

        async def process() -> None:
            queue: Any = Clocked(False, 1, 1, None, gr.Blocks())
            queue.active_jobs = [None]

            mine = threading.get_ident()

            async def rest(seconds: float) -> None:
                if threading.get_ident() != mine:  # the queue of a page that another test has served
                    return await asyncio.sleep(seconds)
                clock.now += seconds
                clock.rests += 1
                if clock.now >= clock.busy_until:
                    queue.active_jobs = [None]
                    queue.stopped = not clock.coming

            monkeypatch.setattr("gradio.queueing.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": rest}))
            await queue.start_processing()

        monkeypatch.setattr("ui.shell.page_blocks.time", SimpleNamespace(monotonic=lambda: 1000 + clock.now))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, process()).result()


# After a long rest, one right after another, while one works, just before it would rest, and while it rests.
ARRIVALS = [3.0, 3.001, 3.5, 12.0, 12.1, 17.199, 17.5, 40.0071, 60.0]


@pytest.mark.parametrize("works", [0.05, 1.0, 7.0])
def test_no_event_waits_longer_than_one_rest_more(works: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, quick = Clock(ARRIVALS, works), Clock(ARRIVALS, works)
    with monkeypatch.context() as patched:
        calm.run(CalmQueue, patched)
        quick.run(Queue, patched)
    late = [mine - gradios for mine, gradios in zip(calm.taken, quick.taken, strict=True)]
    # Events that come while one works also wait for what began later by so much.
    assert len(late) == len(ARRIVALS) and max(late) <= REST_SECONDS + 0.002
    assert calm.rests < quick.rests
