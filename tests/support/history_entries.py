"""Pictures for histories: requests, pixels, and keeping them."""

from __future__ import annotations

from typing import Any

from PIL import Image

from history.store import History
from pipelines.jobs.backend import PictureFacts
from pipelines.jobs.users import OWNER, User
from pipelines.request import GenerationRequest, make_request

START = 1_700_000_000.0
GUEST, OTHER_GUEST = User("guest-1"), User("guest-2")


def ask(prompt: str = "a fox", **changes: Any) -> GenerationRequest:
    values = {
        "model": "pocket", "prompt": prompt, "width": 16, "height": 16, "scheduler": "ddim",
        "num_inference_steps": 4, "guidance_scale": 4.0, "seed": 7,
    }  # fmt: skip
    return make_request(**{**values, **changes})


def picture(colour: str = "red", size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new("RGB", size, colour)


def keep(
    history: History,
    prompt: str = "a fox",
    colour: str = "red",
    user: User = OWNER,
    run: str = "",
    number: int = 0,
    size: tuple[int, int] = (16, 16),
    notes: tuple[str, ...] = (),
    **changes: Any,
) -> str:
    """Keep a picture of one colour; its id."""
    request = ask(prompt, **{"width": size[0], "height": size[1], **changes})
    facts = PictureFacts(request.seeds[number], number, run, user, {"device": "cpu"}, notes)
    return history.keep(picture(colour, size), request, facts)
