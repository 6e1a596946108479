"""Adapter files on this machine: found by name in a few folders, from their own headers; no weight is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.models.adapters.folders import AdapterFolders, Reader, find_by_name, prompt_name
from pipelines.models.adapters.preprocessors import ControlMaps
from pipelines.system.safetensors_header import read_header
from pipelines.system.text import shorten

if TYPE_CHECKING:
    from pipelines.images.uploads import UploadStore

F = TypeVar("F")
NOT_HERE = "is not here"
# scan(folders): the files of one kind, by name.
Scan = Callable[[AdapterFolders], Mapping[str, F]]


class AdapterFiles:
    """The files and pictures that requests may name.

    Args:
        folders: where files are looked for.
        uploads: the pictures.
        readers: of every kind of file.

    Attributes:
        control_maps: what ControlNets see of the pictures.
    """

    def __init__(self, folders: Sequence[Path], uploads: UploadStore, readers: Collection[Reader[Any]] = ()) -> None:
        self.uploads = uploads
        self.folders = AdapterFolders(folders, readers)
        self.control_maps = ControlMaps(self.folders.folders, uploads)
        self._known: dict[Scan[Any], Mapping[str, Any]] = {}

    def look_again(self) -> None:
        """Look at the disk before the next file is found."""
        self._known = {}

    def all(self, scan: Scan[F]) -> tuple[F, ...]:
        """Every file of a kind; looks at the disk."""
        return tuple(self._scan(scan).values())

    def find(self, scan: Scan[F], name: str) -> F | None:
        """The file of a kind with this name, or None; looks at the disk once after ``look_again``."""
        known = self._known.get(scan)
        found = None if known is None else find_by_name(known, name)
        return find_by_name(self._scan(scan), name) if found is None else found

    def _scan(self, scan: Scan[F]) -> Mapping[str, F]:
        found = scan(self.folders)
        self._known = {**self._known, scan: found}
        return found

    def why_missing(self, name: str, kind: str) -> str:
        """Why a name means no file of a kind, in words that follow the name."""
        same = {prompt_name(path): path for path in self.folders.files()}
        path = find_by_name(same, name)
        if path is None:
            return NOT_HERE
        try:
            read_header(path)
        except (OSError, ValueError):
            return "is here, but its file is broken; copy or download it again"
        return f"is here, but it is not {kind}"

    def refusal(self, name: str, kind: str) -> str:
        """That there is no file of a kind with this name, or what stands in its way; a sentence to go on with."""
        reason, shown = self.why_missing(name, f"a kind of {kind} that is known"), repr(shorten(name, 40))
        return f"There is no {kind} {shown} here" if reason == NOT_HERE else f"{shown} {reason}"
