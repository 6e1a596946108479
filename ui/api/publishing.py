"""Publishing a function as an endpoint: its description, its errors in words, and what no endpoint accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature, isgeneratorfunction
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import get_blocks_context
from gradio_client.utils import is_http_url_like

from pipelines.jobs.backend import QueryFailed
from pipelines.request import InvalidRequest
from pipelines.system.guest_bytes import NoBytesLeft
from ui.api.settings import CallValues
from ui.server.current_user import current_user
from ui.shell.page_blocks import file_problem

if TYPE_CHECKING:
    from gradio.blocks import Block

    from pipelines.jobs.users import User

log = logging.getLogger(__name__)
NOT_UPLOADED = (
    "Files are uploaded, not named: send it with handle_file of gradio_client, or to /gradio_api/upload first."
)


def with_signature(
    work: Callable[[CallValues], Any], needed: Mapping[str, Any], optional: Mapping[str, Any]
) -> Callable[..., Any]:
    """``work`` as a function with these arguments by name and type, which is what Gradio makes its description from.

    A generator stays one: its values are sent as they come, and a client that cancels the call ends it.
    Gradio counts a single result even if ``work`` returns several: a client gets a tuple as a list.
    """
    types = {**needed, **{name: kind | None for name, kind in optional.items()}}

    def once(*values: Any) -> Any:
        with problems_in_words():
            return work(dict(zip(types, values, strict=True)))

    def stream(*values: Any) -> Iterator[Any]:
        with problems_in_words():
            yield from work(dict(zip(types, values, strict=True)))

    call: Callable[..., Any] = stream if isgeneratorfunction(work) else once
    parameters = [
        Parameter(
            name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=Parameter.empty if name in needed else None
        )
        for name, kind in types.items()
    ]
    call.__signature__ = Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {**types, "return": Any}
    return call


@contextmanager
def problems_in_words() -> Iterator[None]:
    """Say in one sentence what a call could not read, ask or write."""
    try:
        yield
    except (NoBytesLeft, InvalidRequest, QueryFailed) as problem:
        raise gr.Error(str(problem), print_exception=False) from None
    except OSError as problem:
        log.exception("A file of a call could not be read or written")
        raise gr.Error(file_problem(problem), print_exception=False) from None


def calling_user() -> User:
    """Who calls; raises gr.Error for a guest who may use the page alone."""
    user = current_user()
    if not user.may_use_api:
        raise gr.Error("Programs may not use this link; use the page.", print_exception=False)
    return user


def publish(function: Callable[..., Any], name: str, about: str) -> None:
    """Add one endpoint to the page under construction; its inputs refuse addresses."""
    added = gr.api(function, api_name=name, api_description=about, concurrency_limit=None)
    page = get_blocks_context()
    for number in added["inputs"]:
        page.blocks[number].async_move_resource_to_block_cache = uploaded


def refuse_addresses(block: Block) -> None:
    """Make a component refuse addresses: Gradio downloads any that a value names as the path of a file."""

    async def moved(path: Any) -> str | None:
        return await move(await uploaded(path))

    move = block.async_move_resource_to_block_cache
    block.async_move_resource_to_block_cache = moved  # type: ignore[method-assign]


async def uploaded(path: Any) -> str | None:
    """A file's path as it is; Gradio's own would download an address that a client names.

    Gradio has refused paths outside its folder of uploads before.

    Raises:
        gr.Error: with one sentence, for an address.
    """
    if is_http_url_like(str(path)):
        raise gr.Error(f"Addresses are not opened here. {NOT_UPLOADED}", print_exception=False)
    return path
