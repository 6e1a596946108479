"""Gradio's page, with one sentence where a file of it cannot be read or written."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from pipelines.system.text import file_problem

log = logging.getLogger(__name__)


class PageBlocks(gr.Blocks):
    """Turns an OSError of any function, and of Gradio's own copying of files, into a message.

    A full disk is met in many places: uploads, stored sources, copies of finished pictures, exports.
    """

    def report_progress_on(self, component: gr.HTML) -> None:
        """Let all events report their states to one component, which shows none of them.

        Else Gradio's page tells every output of every event so far at each message of any event; for each of them it
        walks over the tree of components and copies a value: a hundred times for each step of a run.

        Args:
            component: without children, and the first of the page, where that walk is shortest.
        """
        for function in self.fns.values():
            function.show_progress_on = [component]

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any) -> dict[str, Any]:
        """Answer one call of the page or of the API."""
        try:
            return await super().process_api(block_fn, self._with_later_arguments(block_fn, inputs), *args, **options)
        except (TimeoutError, ConnectionError):  # of the network, although they are OSErrors
            raise
        except OSError as error:
            log.exception("A file of the page could not be read or written")
            raise gr.Error(file_problem(error), print_exception=False) from None

    def _with_later_arguments(self, block_fn: Any, inputs: list[Any]) -> list[Any]:
        """The values of a call of the API, with None for arguments that are newer than the program that calls."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        missing = len(function.inputs) - len(inputs)
        return [*inputs, *[None] * missing] if missing > 0 and function.api_visibility == "public" else inputs
