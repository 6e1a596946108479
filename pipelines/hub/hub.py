"""Models of the Hugging Face Hub: what one needs, which files of it are here, and downloading the rest.

Files go to huggingface_hub's cache, and all requests through its session (proxies, certificates, token, offline
switch).  Its own download function is not used: since version 2 it deletes what has arrived when a download ends early.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.hub import errors
from pipelines.hub.cache import HubCache
from pipelines.hub.connection import Connection
from pipelines.hub.download import download_file
from pipelines.hub.errors import DownloadError, ModelPage
from pipelines.hub.progress import (
    Check,
    DownloadStopped,
    Progress,
    ProgressMeter,
    never_stop,
    raise_after,
    raise_if_stopped,
)
from pipelines.hub.selection import (
    INDEX,
    DownloadPlan,
    PlannedFile,
    choose_files,
    choose_part_files,
    has_file,
    is_complete,
    is_hub_id,
    unique_blobs,
)
from pipelines.system.bounded_json import parse_json
from pipelines.system.paths import PROJECT

# Bytes of disk that a download leaves free.
HEADROOM = 256 * 2**20


class Hub:
    """Downloads models, and finds those that are here.  Thread-safe: a second download of a model waits for the first.

    A token for models with terms is read by huggingface_hub from the environment (HF_TOKEN); it is never kept here.

    Args:
        offline: whether to make no request; None for what HF_HUB_OFFLINE says.
        endpoint: address of the hub; None for HF_ENDPOINT.
        cache_dir: None for HF_HUB_CACHE.
        timeout: seconds of silence after which a connection counts as lost.
        tries: failures in a row, with nothing received between them, after which it gives up.
        backoff: seconds to wait after the first failure; doubled after each further one.
        max_wait: seconds that it waits when the hub asks for it; for more it gives up.
    """

    def __init__(
        self,
        offline: bool | None = None,
        *,
        endpoint: str | None = None,
        cache_dir: Path | str | None = None,
        timeout: float = 20.0,
        tries: int = 5,
        backoff: float = 1.0,
        max_wait: float = 60.0,
    ) -> None:
        self._offline, self._endpoint, self._cache_dir = offline, endpoint, cache_dir
        self._timeout = timeout
        self._cache = HubCache(cache_dir)
        self._connection = Connection(endpoint, timeout, tries, backoff, max_wait)
        self._deleting: set[str] = set()

    # What is here: no requests.

    @property
    def offline(self) -> bool:
        """Whether no request may be made."""
        from huggingface_hub import is_offline_mode

        return is_offline_mode() if self._offline is None else self._offline

    @property
    def cache_dir(self) -> Path:
        """The folder with everything that was downloaded, by this program and others."""
        return self._cache.path

    def local_path(self, card: ModelCard) -> Path | None:
        """Where a card's model lies, if all of it is on this machine: its folder or its single file; else None.

        The small autoencoder for previews does not count: a model runs without it.
        """
        if not all(self.find(addition.source, addition.file) for addition in card.additions):
            return None
        path = self.find(card.source, variant=card.variant)
        return path if path is None or path.is_file() or not is_hub_id(card.source) or has_file(path, INDEX) else None

    def find(self, source: str, file: str = "", variant: str = "") -> Path | None:
        """Where a complete model lies, or one file of a repository; None if it is not here.

        Args:
            source: a folder or single file (absolute, or relative to the project), or a hub id.
            file: path in the source, such as the file of a LoRA.
            variant: of the files, such as fp16; the default variant serves as well.
        """
        if not is_hub_id(source):
            path = PROJECT / source / file
            return path if path.exists() else None
        for snapshot in self._cache.snapshots(source):
            if file and has_file(snapshot, file):
                return snapshot / file
            if not file and is_complete(snapshot, variant):
                return snapshot
        return None

    def sizes(self) -> dict[str, int]:
        """Bytes on disk of every model in the cache by its hub id, unfinished downloads included."""
        return self._cache.sizes()

    def delete(self, card: ModelCard) -> int:
        """Delete a card's model from the cache; a download of it is stopped first.

        Only files from the hub are deleted, never the user's own folders and files, and none that cards share with
        each other (LoRAs that are added, and small autoencoders).

        Returns:
            Bytes freed.
        """
        source = card.source
        if not is_hub_id(source) or not self._cache.repository(source).is_dir():
            return 0
        before = self.sizes().get(source, 0)
        self._deleting.add(source)
        try:
            with ExitStack() as stack:
                with suppress(DownloadStopped):  # another process may be downloading it; delete all the same
                    stack.enter_context(self._cache.lock(source, partial(raise_after, time.monotonic() + 3.0)))
                self._cache.delete(source)
        finally:
            self._deleting.discard(source)
        return before - self.sizes().get(source, 0)

    # Downloading.

    def plan(self, card: ModelCard, cancelled: Callable[[], bool] | None = None) -> DownloadPlan:
        """List the files that a card needs; asks the hub for its lists of files and reads one small file.

        Raises:
            DownloadError: if the hub cannot be asked, or cannot serve this model.
            DownloadStopped: if ``cancelled`` says so.
        """
        return self._plan(card, partial(raise_if_stopped, cancelled))

    def download(
        self,
        card: ModelCard,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Path:
        """Download the missing files of a card, resuming an earlier download.

        Args:
            progress: called a few times a second, also while nothing arrives.
            cancelled: called about ten times a second.

        Returns:
            The folder (or single file) to load from.

        Raises:
            DownloadError: with one sentence to show; what has arrived is kept.
            DownloadStopped: if ``cancelled`` says so, or the model is deleted meanwhile.
        """
        here = self.local_path(card)
        if here is not None:
            return here
        plan = self._plan(card, partial(raise_if_stopped, cancelled))
        self._check_disk(card, plan)
        meter = ProgressMeter(plan, progress)
        needed = {card.source, *(addition.source for addition in card.additions)}
        for source in dict.fromkeys(file.source for file in plan.files):
            try:
                self._download_repository(card, source, plan, meter, cancelled)
            except DownloadError:
                if source in needed:
                    raise
        here = self.local_path(card)
        if here is None:
            raise DownloadError(
                f"{card.name} has arrived but parts of it are missing; delete it and download it again."
            )
        meter.finish()
        return here

    def download_configs(self, source: str) -> Path | None:
        """Download only the configuration files of a hub id (a few kB), which say what kind of model it is.

        Returns:
            A snapshot with model_index.json and each component's configuration; None if one short attempt fails.
        """
        impatient = Hub(
            self._offline, endpoint=self._endpoint, cache_dir=self._cache_dir, timeout=min(self._timeout, 10), tries=1
        )
        return impatient._download_configs(source)

    def _download_configs(self, source: str) -> Path | None:
        page = ModelPage(source, _page_link(source))
        here = next((path for path in self._cache.snapshots(source) if has_file(path, INDEX)), None)
        if here is not None or not is_hub_id(source) or self.offline:
            return here
        try:
            listing = self._list_files(page, source, never_stop)
            endings = (f"/{INDEX}", "/config.json", "/scheduler_config.json")
            files = [file for name, file in listing.items() if f"/{name}".endswith(endings) and name.count("/") < 2]
            if INDEX not in listing:
                return None
            plan = self._plan_of(files)
            with self._cache.lock(source, partial(raise_after, time.monotonic() + self._timeout)):
                for file in plan.files:
                    download_file(self._connection, self._cache, page, file, ProgressMeter(plan, None), never_stop)
        except (DownloadError, DownloadStopped):
            return None
        return self._cache.repository(source) / "snapshots" / listing[INDEX].commit

    def _download_repository(
        self,
        card: ModelCard,
        source: str,
        plan: DownloadPlan,
        meter: ProgressMeter,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        files = [file for file in plan.files if file.source == source]

        def check() -> None:
            raise_if_stopped(cancelled)
            if source in self._deleting:
                raise DownloadStopped
            meter.update()

        def check_while_waiting() -> None:
            meter.set(self._cache.arrived_bytes(plan.files))
            check()

        meter.file = files[0].name
        with self._cache.lock(source, check_while_waiting):
            meter.set(self._cache.arrived_bytes(plan.files))
            for file in files:
                meter.file = file.name
                download_file(self._connection, self._cache, _page_of(card, source), file, meter, check)
            self._cache.set_main(source, files[0].commit)

    def _check_disk(self, card: ModelCard, plan: DownloadPlan) -> None:
        need = plan.missing + HEADROOM
        if plan.missing and plan.free < need:
            raise DownloadError(
                f"{card.name} needs {_gb(need)} of disk but only {_gb(plan.free)} are free in {self.cache_dir}; delete "
                "something, or let HF_HUB_CACHE name a folder on a larger disk."
            )

    # Planning.

    def _plan(self, card: ModelCard, check: Check) -> DownloadPlan:
        files: list[PlannedFile] = []
        sources = [(card.source, ""), *((addition.source, addition.file) for addition in card.additions)]
        for source, file in sources:
            if is_hub_id(source):
                page = _page_of(card, source)
                files += self._needed_files(page, source, file, card.variant, check)
            elif not (PROJECT / source / file).exists():
                raise DownloadError(f"{card.name} names {source}, which is neither here nor a model on the hub.")
        if card.preview and is_hub_id(card.preview):
            with suppress(DownloadError):  # previews are coarser without it, and nothing else changes
                listing = self._list_files(ModelPage(card.name, _page_link(card.preview)), card.preview, check)
                files += [listing[name] for name in choose_part_files(card.preview, "", "", listing, "")]
        return self._plan_of(files)

    def _plan_of(self, files: Iterable[PlannedFile]) -> DownloadPlan:
        # model_index.json comes last, since it marks a whole model; weights come after small files.
        ordered = sorted(files, key=lambda file: (file.name == INDEX, file.bytes))
        total = sum(size for _, size in unique_blobs(ordered))
        return DownloadPlan(tuple(ordered), total, self._cache.arrived_bytes(ordered), self._cache.free_bytes())

    def _needed_files(self, page: ModelPage, source: str, file: str, variant: str, check: Check) -> list[PlannedFile]:
        """One file of a repository, or, with file "", those that its pipeline needs."""
        listing = self._list_files(page, source, check)
        if file:
            if not file.endswith(".safetensors"):
                raise DownloadError(errors.pickled(f"{file} of {source}"))
            if file not in listing:
                raise DownloadError(f"There is no file {file} in {source} on the hub; see {_page_link(source)}.")
            return [listing[file]]
        if INDEX not in listing:
            raise DownloadError(
                f"{source} is not a model in diffusers format (it has no {INDEX}): download one of its safetensors "
                "files by hand and add that file."
            )
        index = self._read_json(page, listing[INDEX], check)
        return [listing[name] for name in choose_files(source, listing, index, variant)]

    def _read_json(self, page: ModelPage, file: PlannedFile, check: Check) -> Any:
        """A small JSON file, from the cache or the hub; nothing is written."""
        try:
            return parse_json(self._connection.read_file(page, file, self._cache.blob(file), check))
        except ValueError:
            raise DownloadError(
                f"{file.name} of {file.source} is not JSON, so it cannot be used; choose another."
            ) from None

    def _list_files(self, page: ModelPage, source: str, check: Check) -> dict[str, PlannedFile]:
        if self.offline:
            raise DownloadError(errors.offline(page))
        return self._connection.list_files(page, source, check)


def _page_of(card: ModelCard, source: str) -> ModelPage:
    """The page to send a user to about one of a card's repositories."""
    return ModelPage(card.name, card.link if source == card.source and card.link else _page_link(source))


def _page_link(source: str) -> str:
    return f"https://huggingface.co/{source}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
