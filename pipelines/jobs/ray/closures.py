"""Model queries on their way to a replica: functions by value, and what belongs to a machine by name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

from pipelines.images.uploads import UploadStore
from pipelines.jobs.local import LocalBackend
from pipelines.jobs.model_queries import InitLatentsCache, LocalQueries
from pipelines.models.adapters.resolver import AdapterResolver

# What a query may name of a machine; the replica puts its own in its place.
OWN_PARTS: Mapping[type, str] = {
    AdapterResolver: "adapters",
    UploadStore: "inputs",
    InitLatentsCache: "init_latents",
    LocalQueries: "queries",
    LocalBackend: "backend",
}


class NotSendable(RuntimeError):
    """A query that names what only this machine has."""


def write_query(ask: Any) -> bytes:
    """A query's function as bytes; raises NotSendable.

    Only this program writes such bytes and only its own replicas read them.  Ray itself runs what reaches its ports:
    that is why they are bound to loopback and ask for a token.
    """
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[name-defined, misc]
        def persistent_id(self, value: Any) -> str | None:
            return next((name for kind, name in OWN_PARTS.items() if isinstance(value, kind)), None)

    file = io.BytesIO()
    try:
        Pickler(file).dump(ask)
    except Exception as error:
        raise NotSendable(f"{type(error).__name__}: {error}") from None
    return file.getvalue()


def read_query(data: bytes, parts: Mapping[str, Any]) -> Any:
    """The function of ``write_query``.

    Args:
        data: of ``write_query``.
        parts: of this machine, by the names in ``OWN_PARTS``.
    """

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name: Any) -> Any:
            return parts[name]

    return Unpickler(io.BytesIO(data)).load()
