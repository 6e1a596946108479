"""An image upload whose file stays as it is until ``pipelines.images.uploads`` reads it."""

from __future__ import annotations

from typing import Any

import gradio as gr


class ImageUpload(gr.Image):
    """An image that hands over the path of the file as it was uploaded.

    ``gr.Image`` would open it with all of Pillow's formats, and rewrite it without its transparency.
    """

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        """The path of the file, or None."""
        return payload.path if payload else None
