"""A small JSON file with a list that the user made; a broken file is set aside, never overwritten."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.system.atomic_files import atomic_write
from pipelines.system.bounded_json import MAX_BYTES, parse_json

VERSION = 1
T = TypeVar("T", bound=BaseModel)


class UserListError(ValueError):
    """A list that cannot be read or changed; the message is one sentence for the user."""


class UserList(Generic[T]):
    """What the user saved, in its order.  Thread-safe.

    Args:
        path: the JSON file; it is made when something is first saved.
        key: under which the file holds the list; also what messages call it, in the plural.
        read: makes an item of a JSON object.
        limit: the most items.
    """

    def __init__(self, path: Path, key: str, read: type[T], limit: int) -> None:
        self.path, self._key, self._type, self._limit = path, key, read, limit
        self._lock = threading.RLock()
        self._known: tuple[tuple[int, int], list[T]] | None = None

    def items(self) -> list[T]:
        """Every item that can be read; none of a broken file, which is renamed when something is saved."""
        with self._lock:
            try:
                return list(self._load())
            except (OSError, ValueError):
                return []

    def problem(self) -> str:
        """Why the items cannot be read, one sentence; "" if they can."""
        with self._lock:
            try:
                self._load()
            except OSError as problem:
                return f"{self.path.name} cannot be read ({problem.strerror}); check who may read it."
            except ValueError:
                return f"{self.path.name} is broken, so none of it is used; it is renamed when you save something."
        return ""

    def change(self, change: Callable[[list[T]], Sequence[T]]) -> list[T]:
        """Replace the items by what ``change`` makes of them, and return those.

        Raises:
            UserListError: if there are too many, or the file cannot be read or written.
        """
        with self._lock:
            try:
                items = self._load()
            except OSError as problem:
                raise UserListError(f"Your {self._key} cannot be read ({problem.strerror}).") from None
            except ValueError:
                items = self._set_aside()
            changed = list(change(list(items)))
            if len(changed) > self._limit:
                raise UserListError(f"That would be more than {self._limit} {self._key}; remove some first.")
            self._write(changed)
            return changed

    def _load(self) -> list[T]:
        """The items; raises OSError, and ValueError for a broken file."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return []
        stamp = (stat.st_mtime_ns, stat.st_size)
        if self._known is None or self._known[0] != stamp:
            with self.path.open("rb") as file:
                found: Any = parse_json(file.read(MAX_BYTES + 1))
            listed = found.get(self._key) if isinstance(found, dict) else None
            if not isinstance(listed, list):
                raise ValueError("the file holds no list")
            self._known = stamp, [self._type.model_validate(each) for each in listed[: self._limit]]
        return self._known[1]

    def _set_aside(self) -> list[T]:
        numbers = (self.path.with_name(f"{self.path.name}.broken-{n}") for n in range(1, 1000))
        try:
            os.replace(self.path, next(path for path in numbers if not path.exists()))
        except OSError as problem:
            raise UserListError(f"{self.path.name} is broken and cannot be renamed ({problem.strerror}).") from None
        return []

    def _write(self, items: Sequence[T]) -> None:
        text = as_json({self._key: items}).encode()
        if len(text) > MAX_BYTES:
            raise UserListError(f"Your {self._key} would take more than {MAX_BYTES >> 20} MB; remove some first.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as file:
                file.write(text)
        except OSError as problem:
            raise UserListError(f"{self.path.name} cannot be written ({problem.strerror}); free some space.") from None
        self._known = None


def as_json(lists: Mapping[str, Sequence[BaseModel]]) -> str:
    """The text of a file with these lists, by their keys."""

    def dump(items: Sequence[BaseModel]) -> list[Any]:
        return [item.model_dump(mode="json", exclude_defaults=True) for item in items]

    listed = {key: dump(items) for key, items in lists.items()}
    return json.dumps({"version": VERSION, **listed}, indent=1, ensure_ascii=False)


def first_problem(error: ValidationError) -> str:
    """What is wrong with an item, in a few words: its first field and why."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"
