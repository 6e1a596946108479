"""Gradio's page, with one sentence where a file of it cannot be read or written."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import gradio as gr
from gradio.blocks import convert_component_dict_to_list
from gradio.queueing import Queue

from pipelines.system.text import file_problem

log = logging.getLogger(__name__)
# What Gradio says of a component's values, for programs.
_OF_THE_API = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs")


# Gradio's queue looks for events a thousand times a second, also while the page is not used: 6% of a core.
REST_AFTER_SECONDS, REST_SECONDS = 5.0, 0.02
# Messages of ``gr.Progress``, which this page does not use, are looked for a hundred times a second.
PROGRESS_SECONDS = 1.0


class CalmQueue(Queue):
    """A queue that looks for events less often once none has come for a while; the first one waits a little longer."""

    _seen = 0.0

    @property
    def sleep_when_free(self) -> float:
        """Seconds until it looks again."""
        now = time.monotonic()
        if len(self) or any(self.active_jobs):
            self._seen = now
        return self.__dict__["sleep_when_free"] if now - self._seen < REST_AFTER_SECONDS else REST_SECONDS

    @sleep_when_free.setter
    def sleep_when_free(self, seconds: float) -> None:
        self.__dict__["sleep_when_free"] = seconds


class PageBlocks(gr.Blocks):
    """Turns an OSError of any function, and of Gradio's own copying of files, into a message.

    A full disk is met in many places: uploads, stored sources, copies of finished pictures, exports.
    """

    def queue(self, *args: Any, **options: Any) -> Any:
        """Set the queue up, so that it rests while nothing happens."""
        super().queue(*args, **options)
        # The queue is made by name, and holds nothing yet.
        self._queue.__class__ = CalmQueue
        self._queue.progress_update_sleep_when_free = PROGRESS_SECONDS
        return self

    def report_progress_on(self, component: gr.HTML) -> None:
        """Let all events report their states to one component, which shows none of them.

        Else Gradio's page tells every output of every event so far at each message of any event; for each of them it
        walks over the tree of components and copies a value: a hundred times for each step of a run.

        Args:
            component: without children, and the first of the page, where that walk is shortest.
        """
        for function in self.fns.values():
            function.show_progress_on = [component]

    def get_config_file(self) -> Any:
        """The page's settings, of which browsers read each one at every visit.

        What a component's values look like is left out where no program asks: browsers do not read it, and it is a
        third of all.
        """
        config = super().get_config_file()
        asked = [fn for fn in self.fns.values() if fn.api_visibility != "private"]
        public = {block._id for fn in asked for block in (*fn.inputs, *fn.outputs)}
        for part in config["components"]:
            if part["id"] not in public:
                for name in _OF_THE_API:
                    part.pop(name, None)  # type: ignore[misc]
        return config

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> dict[str, Any]:
        """Answer one call of the page or of the API."""
        try:
            return await super().process_api(block_fn, self._with_later_arguments(block_fn, inputs), *args, **options)
        except (TimeoutError, ConnectionError):  # of the network, although they are OSErrors
            raise
        except OSError as error:
            log.exception("A file of the page could not be read or written")
            raise gr.Error(file_problem(error), print_exception=False) from None

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """The values of a function's outputs for the page; those that stay as they are cost nothing.

        Gradio builds each of those again at every message of a run, and keeps it for the session.
        """
        unchanged: dict[str, Any] = gr.skip()  # type: ignore[assignment]
        outputs = block_fn.outputs
        if isinstance(predictions, dict) and predictions and predictions != unchanged:
            predictions = convert_component_dict_to_list(list(outputs), predictions)
        if not isinstance(predictions, (list, tuple)) or len(predictions) != len(outputs) or len(outputs) < 2:
            return await super().postprocess_data(block_fn, predictions, state)
        changed = [k for k, value in enumerate(predictions) if not isinstance(value, dict) or value != unchanged]
        if not changed:
            return [unchanged] * len(outputs)
        some = copy.copy(block_fn)
        some.outputs = [outputs[k] for k in changed]
        values = [predictions[k] for k in changed]
        made = await super().postprocess_data(some, values if len(values) > 1 else values[0], state)
        found = dict(zip(changed, made, strict=True))
        return [found.get(k, unchanged) for k in range(len(outputs))]

    def _with_later_arguments(self, block_fn: Any, inputs: list[Any]) -> list[Any]:
        """The values of a call of the API, with None for arguments that are newer than the program that calls."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        missing = len(function.inputs) - len(inputs)
        return [*inputs, *[None] * missing] if missing > 0 and function.api_visibility == "public" else inputs
