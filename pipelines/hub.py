"""Models from the Hugging Face Hub: what one needs, what of it is here, and fetching the rest.

Files lie in the standard cache, shared with every other program that uses it.  All requests go through
huggingface_hub's session (its proxies, certificates, token and offline switch); its own download function is not used,
because since version 2 it throws away what had arrived when a download ends early.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cards import ModelCard
from pipelines.files import appearing
from pipelines.repositories import (
    INDEX,
    PROJECT,
    CannotFetch,
    Plan,
    PlannedFile,
    blobs,
    choose,
    choose_part,
    has_file,
    is_complete,
    is_hub_id,
    pickled,
    size_of,
)
from pipelines.transfer import (
    POLL,
    About,
    Check,
    Connection,
    Part,
    Progress,
    Stopped,
    Tally,
    go_on,
    not_here,
    part_path,
    raise_if_stopped,
    until,
)

__all__ = ["CannotFetch", "Hub", "Plan", "PlannedFile", "Progress", "Stopped", "choose", "is_hub_id"]

# Bytes of disk that a download leaves free.
HEADROOM = 256 * 2**20


class Hub:
    """Fetches models, and says what is there.  Thread-safe: who asks for what another is fetching waits for it.

    A token for models with terms is read by huggingface_hub from the environment (HF_TOKEN); it is never kept here.

    Args:
        offline: whether to ask nobody; None for what HF_HUB_OFFLINE says.
        endpoint: address of the hub; None for HF_ENDPOINT.
        cache_dir: None for HF_HUB_CACHE.
        timeout: seconds of silence after which a connection counts as lost.
        tries: failures in a row, with nothing received between them, after which it gives up.
        pause: seconds after the first failure; doubled after each further one.
        longest_wait: seconds that it waits when the hub asks for patience; for more it gives up.
    """

    def __init__(
        self,
        offline: bool | None = None,
        *,
        endpoint: str | None = None,
        cache_dir: Path | str | None = None,
        timeout: float = 20.0,
        tries: int = 5,
        pause: float = 1.0,
        longest_wait: float = 60.0,
    ) -> None:
        self._offline, self._endpoint, self._cache_dir = offline, endpoint, cache_dir
        self._timeout = timeout
        self._line = Connection(endpoint, timeout, tries, pause, longest_wait)
        self._doomed: set[str] = set()  # repositories that are being deleted

    # What is here: no requests.

    @property
    def offline(self) -> bool:
        """Whether nobody may be asked."""
        from huggingface_hub import is_offline_mode

        return is_offline_mode() if self._offline is None else self._offline

    @property
    def cache(self) -> Path:
        """The folder with everything that was fetched, by this program and others."""
        from huggingface_hub import constants

        return Path(self._cache_dir or constants.HF_HUB_CACHE).expanduser()

    def local(self, card: ModelCard) -> Path | None:
        """A card's model, if all of it is on this machine: its folder or its single file; else None.

        The small autoencoder for previews does not count: a model runs without it.
        """
        if not all(self.found(addition.source, addition.file) for addition in card.additions):
            return None
        path = self.found(card.source, variant=card.variant)
        return path if path is None or path.is_file() or not is_hub_id(card.source) or has_file(path, INDEX) else None

    def found(self, source: str, file: str = "", variant: str = "") -> Path | None:
        """Where a complete model lies, or one file of a repository; None if it is not here.

        Args:
            source: a folder or single file (absolute, or relative to the project), or a hub id.
            file: path in the source, such as the file of a LoRA.
            variant: of the files, such as fp16; plain ones serve as well.
        """
        if not is_hub_id(source):
            path = PROJECT / source / file
            return path if path.exists() else None
        for snapshot in self._snapshots(source):
            if file and has_file(snapshot, file):
                return snapshot / file
            if not file and is_complete(snapshot, variant):
                return snapshot
        return None

    def sizes(self) -> dict[str, int]:
        """Bytes on disk of every model in the cache by its hub id, unfinished downloads included.

        What several versions of a model share is counted once.
        """
        from huggingface_hub import scan_cache_dir

        if not self.cache.is_dir():
            return {}
        info = scan_cache_dir(self.cache)
        sizes = {repo.repo_id: repo.size_on_disk for repo in info.repos if repo.repo_type == "model"}
        for part in info.incomplete_files:
            kind, _, name = part.file_path.parents[1].name.partition("--")
            if kind == "models":
                source = name.replace("--", "/")
                sizes[source] = sizes.get(source, 0) + part.size_on_disk
        return sizes

    def delete(self, card: ModelCard) -> int:
        """Delete a card's model from the cache; a download of it is stopped first.

        Only what came from the hub is deleted, never a folder or a file of one's own; nor what cards share with each
        other (LoRAs that are added, and small autoencoders).

        Returns:
            Bytes freed.
        """
        from huggingface_hub import scan_cache_dir

        if not is_hub_id(card.source) or not self._folder(card.source).is_dir():
            return 0
        before = self.sizes().get(card.source, 0)
        self._doomed.add(card.source)
        try:
            with ExitStack() as stack:
                with suppress(Stopped):  # another process may be fetching it; deleting refuses nothing
                    stack.enter_context(self._turn(card.source, partial(until, time.monotonic() + 3.0)))
                info = scan_cache_dir(self.cache)
                mine = [repo for repo in info.repos if (repo.repo_type, repo.repo_id) == ("model", card.source)]
                # Copies of a repository have the same commits: look at this one alone.
                for repo in mine:
                    alone = replace(info, repos=frozenset([repo]))
                    alone.delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
                # What the library takes for broken, such as a download that was cut early.
                shutil.rmtree(self._folder(card.source), ignore_errors=True)
        finally:
            self._doomed.discard(card.source)
        return before - self.sizes().get(card.source, 0)

    # What is to be fetched.

    def plan(self, card: ModelCard, cancelled: Callable[[], bool] | None = None) -> Plan:
        """What a card needs and how much of it is here; asks the hub for lists of files and reads one small file.

        Raises:
            CannotFetch: if the hub cannot be asked, or the model is nothing that could be used.
            Stopped: if ``cancelled`` says so.
        """
        return self._plan(card, partial(raise_if_stopped, cancelled))

    def fetch(
        self,
        card: ModelCard,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Path:
        """Fetch what is missing of a card, going on where an earlier download ended.

        Args:
            progress: told a few times a second, also while nothing arrives.
            cancelled: asked about ten times a second.

        Returns:
            The folder (or single file) to load from.

        Raises:
            CannotFetch: with one sentence to show; what has arrived is kept.
            Stopped: if ``cancelled`` says so, or the model is deleted meanwhile.
        """
        here = self.local(card)
        if here is not None:
            return here
        plan = self._plan(card, partial(raise_if_stopped, cancelled))
        self._make_room(card, plan)
        tally = Tally(plan, progress)
        needed = {card.source, *(addition.source for addition in card.additions)}
        for source in dict.fromkeys(file.source for file in plan.files):
            try:
                self._fetch_repository(card, source, plan, tally, cancelled)
            except CannotFetch:
                if source in needed:
                    raise
        here = self.local(card)
        if here is None:
            raise CannotFetch(f"{card.name} has arrived but parts of it are missing; delete it and fetch it again.")
        tally.end()
        return here

    def peek(self, source: str) -> Path | None:
        """Fetch only the configurations of a hub id (a few kB), to see what kind of model it is.

        Returns:
            A snapshot with model_index.json and each part's configuration; None if that could not be had at once.
        """
        hurried = Hub(
            self._offline, endpoint=self._endpoint, cache_dir=self._cache_dir, timeout=min(self._timeout, 10), tries=1
        )
        return hurried._peek(source)

    def _peek(self, source: str) -> Path | None:
        about = About(source, self._page(source))
        here = next((path for path in self._snapshots(source) if has_file(path, INDEX)), None)
        if here is not None or not is_hub_id(source) or self.offline:
            return here
        try:
            listing = self._listing(about, source, go_on)
            ends = (f"/{INDEX}", "/config.json", "/scheduler_config.json")
            files = [file for name, file in listing.items() if f"/{name}".endswith(ends) and name.count("/") < 2]
            if INDEX not in listing:
                return None
            plan = self._plan_of(files)
            with self._turn(source, partial(until, time.monotonic() + self._timeout)):
                for file in plan.files:
                    self._fetch_file(about, file, Tally(plan, None), go_on)
        except (CannotFetch, Stopped):
            return None
        return self._folder(source) / "snapshots" / listing[INDEX].commit

    def _plan(self, card: ModelCard, check: Check) -> Plan:
        files: list[PlannedFile] = []
        wanted = [(card.source, ""), *((addition.source, addition.file) for addition in card.additions)]
        for source, file in wanted:
            if is_hub_id(source):
                about = About(card.name, card.link if source == card.source and card.link else self._page(source))
                files += self._needed(about, source, file, card.variant, check)
            elif not (PROJECT / source / file).exists():
                raise CannotFetch(f"{card.name} names {source}, which is neither here nor a model on the hub.")
        if card.preview and is_hub_id(card.preview):
            with suppress(CannotFetch):  # previews are coarser without it, and nothing else changes
                about = About(card.name, self._page(card.preview))
                files += self._needed(about, card.preview, "", "", check, pipeline=False)
        return self._plan_of(files)

    def _plan_of(self, files: Sequence[PlannedFile]) -> Plan:
        # model_index.json comes last: with it, everything is there. Weights come after small files.
        ordered = sorted(files, key=lambda file: (file.name == INDEX, file.bytes))
        here = next(path for path in (self.cache, *self.cache.absolute().parents) if path.is_dir())
        total = sum(size for _, size in blobs(ordered))
        return Plan(tuple(ordered), total, self._there(ordered), shutil.disk_usage(here).free)

    def _needed(
        self, about: About, source: str, file: str, variant: str, check: Check, pipeline: bool = True
    ) -> list[PlannedFile]:
        listing = self._listing(about, source, check)
        if file:
            if not file.endswith(".safetensors"):
                raise CannotFetch(pickled(f"{file} of {source}"))
            if file not in listing:
                raise CannotFetch(f"There is no file {file} in {source} on the hub; look at {self._page(source)}.")
            return [listing[file]]
        if not pipeline:
            return [listing[name] for name in choose_part(source, "", "", listing, variant)]
        if INDEX not in listing:
            raise CannotFetch(
                f"{source} is not a model in diffusers format (it has no {INDEX}): download one of its safetensors "
                "files by hand and add that file."
            )
        index = self._read(about, listing[INDEX], check)
        return [listing[name] for name in choose(source, listing, index, variant)]

    def _make_room(self, card: ModelCard, plan: Plan) -> None:
        need = plan.missing + HEADROOM
        if plan.missing and plan.free < need:
            raise CannotFetch(
                f"{card.name} needs {_gb(need)} of disk but only {_gb(plan.free)} are free in {self.cache}; delete "
                "something, or let HF_HUB_CACHE name a folder on a larger disk."
            )

    # The cache's own layout: models--a--b/{blobs/<digest>, snapshots/<commit>/<name>, refs/main}.

    def _folder(self, source: str) -> Path:
        return self.cache / f"models--{source.replace('/', '--')}"

    def _blob(self, file: PlannedFile) -> Path:
        return self._folder(file.source) / "blobs" / file.digest

    def _pointer(self, file: PlannedFile) -> Path:
        return self._folder(file.source) / "snapshots" / file.commit / file.name

    def _snapshots(self, source: str) -> list[Path]:
        """Versions of a model in the cache, the current one first, then newest first."""
        folder = self._folder(source)
        try:
            main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        except OSError:
            main = ""
        try:
            versions = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
            return sorted(versions, key=lambda path: (path.name == main, path.stat().st_mtime), reverse=True)
        except OSError:
            return []

    def _there(self, files: Sequence[PlannedFile]) -> int:
        """Bytes of these files that have arrived."""
        there = 0
        for file, size in blobs(files):
            for path in (self._blob(file), self._pointer(file), part_path(self._blob(file))):
                with suppress(OSError):
                    there += min(path.stat().st_size, size)
                    break
        return there

    @contextmanager
    def _turn(self, source: str, check: Check) -> Iterator[None]:
        """One download of a repository at a time, on this machine; the lock is let go by a process that is killed."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        lock = self.cache / ".locks" / self._folder(source).name / "fetch.lock"
        with self._writing():
            lock.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            while True:
                check()
                try:
                    stack.enter_context(WeakFileLock(lock, timeout=2 * POLL))
                    break
                except Timeout:
                    continue
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say in a sentence what the disk refuses."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CannotFetch(
                    f"The disk with {self.cache} is full: make room and start again, what has arrived is kept."
                ) from error
            raise CannotFetch(
                f"Nothing can be written to {self.cache} ({error.strerror or type(error).__name__}): make it writable, "
                "or let HF_HUB_CACHE name another folder."
            ) from error

    def _show(self, file: PlannedFile) -> None:
        """Let a whole blob appear under its name."""
        from huggingface_hub import constants

        blob, pointer = self._blob(file), self._pointer(file)
        with self._writing():
            pointer.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                pointer.unlink()
            if not constants.HF_HUB_DISABLE_SYMLINKS:
                with suppress(OSError):  # Windows lets only some people make links
                    pointer.symlink_to(os.path.relpath(blob, pointer.parent))
                    return
            os.replace(blob, pointer)

    # Fetching.

    def _fetch_repository(
        self, card: ModelCard, source: str, plan: Plan, tally: Tally, cancelled: Callable[[], bool] | None
    ) -> None:
        files = [file for file in plan.files if file.source == source]
        about = About(card.name, card.link if source == card.source and card.link else self._page(source))

        def check() -> None:
            raise_if_stopped(cancelled)
            if source in self._doomed:
                raise Stopped
            tally.tick()

        def waiting() -> None:
            tally.at(self._there(plan.files))
            check()

        tally.file = files[0].name
        with self._turn(source, waiting):
            tally.at(self._there(plan.files))
            for file in files:
                tally.file = file.name
                self._fetch_file(about, file, tally, check)
            main = self._folder(source) / "refs" / "main"
            with self._writing():
                main.parent.mkdir(parents=True, exist_ok=True)
                with appearing(main) as out:
                    out.write(files[0].commit.encode())

    def _fetch_file(self, about: About, file: PlannedFile, tally: Tally, check: Check) -> None:
        """One file into the cache, checked."""
        if size_of(self._pointer(file)) == file.bytes:
            return
        blob = self._blob(file)
        if size_of(blob) != file.bytes:
            with self._writing():
                blob.parent.mkdir(parents=True, exist_ok=True)
                self._pointer(file).parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):  # a damaged file gets a second chance
                with Part(file, part_path(blob), tally, self._writing) as part:
                    part.read(check)
                    self._line.pull(about, file, part, check)
                    if part.settle(blob):
                        break
            else:
                raise CannotFetch(
                    f"{file.name} of {file.source} has arrived damaged twice and was thrown away; try again later."
                )
        self._show(file)

    def _read(self, about: About, file: PlannedFile, check: Check) -> Any:
        """A small JSON file, from the cache or the hub; nothing is written."""
        try:
            return json.loads(self._line.read(about, file, self._blob(file), check))
        except ValueError:
            raise CannotFetch(
                f"{file.name} of {file.source} is not JSON, so it cannot be used; choose another."
            ) from None

    def _listing(self, about: About, source: str, check: Check) -> dict[str, PlannedFile]:
        if self.offline:
            raise CannotFetch(not_here(about))
        return self._line.listing(about, source, check)

    def _page(self, source: str) -> str:
        return f"https://huggingface.co/{source}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
