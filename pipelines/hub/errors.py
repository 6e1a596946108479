"""Why a model cannot be downloaded, each reason in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class DownloadError(RuntimeError):
    """A model that cannot be downloaded; the message is one plain sentence for the user."""


@dataclass(frozen=True)
class ModelPage:
    """The model that a message is about: its name and the address of its page."""

    name: str
    link: str


def offline(page: ModelPage) -> str:
    """The model is not on this machine, and offline mode forbids to download it."""
    return (
        f"{page.name} is not on this machine and nothing may be downloaded (offline mode): unset HF_HUB_OFFLINE and "
        "start again with a network, or choose a model that is here."
    )


def refusal(page: ModelPage, status: int, headers: Mapping[str, str], host: str) -> str:
    """The hub answered with a status between 400 and 499."""
    code = headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return (
            f"{page.name} is only for people who have agreed to its terms: agree at {page.link}, put an access token "
            "of that account into the environment variable HF_TOKEN, and start again."
        )
    if code == "EntryNotFound":
        return f"A file of {page.name} is no longer on the hub; start the download again."
    if status == 404 or code == "RepoNotFound":
        return (
            f"There is no {page.name} at {page.link}, or it is private: check the name, and for a private model set "
            "HF_TOKEN to an access token."
        )
    if status in (401, 403):
        return (
            f"{host} refuses {page.name}: agree to its terms at {page.link} if it has any, and set HF_TOKEN to a "
            "valid access token of that account."
        )
    return f"{host} refuses the request for {page.name} (error {status}); see {page.link}."


def too_many_requests(host: str, wait: float | None) -> str:
    """The hub answered 429; ``wait`` is how many seconds it asks for, if it says so."""
    when = f"in {duration(wait)}" if wait else "in some minutes"
    return f"{host} has had too many requests from here: try again {when}, what has arrived is kept."


def silence(page: ModelPage, host: str, timeout: float) -> str:
    """Nothing arrived for ``timeout`` seconds, several times in a row."""
    return (
        f"{host} was silent for {duration(timeout)}, again and again, while {page.name} was being downloaded: try "
        "again later, what has arrived is kept."
    )


def outage(host: str, status: int) -> str:
    """The hub answered with a status of 500 or above."""
    return f"{host} is out of order (error {status}): try again later, what has arrived is kept."


def unreachable(host: str) -> str:
    """No connection could be opened."""
    return f"{host} cannot be reached: check the network, then start again; what has arrived is kept."


def broken_connection(host: str, error: Exception) -> str:
    """Connections end before the file does."""
    name = type(error).__name__.strip("_")
    return f"The connection to {host} keeps breaking off ({name}): try again later, what has arrived is kept."


def pickled(what: str) -> str:
    """The weights exist in a refused format only."""
    return (
        f"{what} has its weights only as pickle files, which can run code and are refused: load them where you trust "
        "them and save them with save_pretrained(..., safe_serialization=True), or choose another model."
    )


def duration(seconds: float) -> str:
    """A time in its largest whole unit, rounded up."""
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = -int(-seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError
