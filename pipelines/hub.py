"""Models from the Hugging Face Hub: what one needs, what of it is here, and fetching the rest.

Files lie in the standard cache, shared with every other program that uses it.  All requests go through
huggingface_hub's session (its proxies, certificates, token and offline switch); its own download function is not used,
because since version 2 it throws away what had arrived when a download ends early.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipelines.cards import ModelCard
from pipelines.files import appearing

T = TypeVar("T")
Check = Callable[[], None]  # called often; raises Stopped

PROJECT = Path(__file__).resolve().parents[1]
INDEX = "model_index.json"
# Seconds between two looks at whether somebody has stopped the download.
POLL = 0.1
# Bytes of disk that a download leaves free.
HEADROOM = 256 * 2**20
# Seconds over which the speed is averaged.
WINDOW = 5.0

# What is read as data.  A chat template is text that transformers renders in a sandbox; code is never fetched.
_TEXTS = (".json", ".txt", ".model", "chat_template.jinja")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
_WEIGHTLESS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "ProcessorFast", "FeatureExtractor")
_HUB_ID = re.compile(r"(?!.*(?:\.\.|--))\w(?:[\w.-]{0,94}\w)?(?:/\w(?:[\w.-]{0,94}\w)?)?", re.ASCII)
# Names that diffusers and transformers give to weights; "model.fp16-00001-of-00002" and, formerly, the other way round.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-(?P<count>\d{5}))?(?:\.(?P<old>\w+))?"
    r"\.safetensors"
)
_SHARDS = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")


class Stopped(Exception):
    """A download that somebody has stopped; what has arrived is kept."""


class CannotFetch(RuntimeError):
    """A model that cannot be fetched; the message is one plain sentence for the person who asked."""


class _Silent(Exception):
    """Nothing has come for too long."""


class _Cut(Exception):
    """The connection ended before the file did."""


class _Left(Exception):
    """Nobody listens any more."""


@dataclass(frozen=True)
class PlannedFile:
    """A file of a model.

    Attributes:
        source: the hub id it belongs to.
        commit: version of that repository.
        name: path in the repository.
        bytes: its size.
        digest: its SHA-256 (64 digits), or the SHA-1 that Git gives it (40 digits); its name in the cache.
    """

    source: str
    commit: str
    name: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """What a model needs.

    Attributes:
        files: everything, in the order in which it is fetched; empty for a model that lies in a folder.
        total: bytes of all of them.
        there: bytes that have arrived already, unfinished files included.
        free: bytes free on the disk with the cache.
    """

    files: tuple[PlannedFile, ...]
    total: int
    there: int
    free: int

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        return self.total - self.there


@dataclass(frozen=True)
class Progress:
    """How far a download is.

    Attributes:
        file: the one that is arriving; "" at the end.
        done, total: bytes, of all files together.
        bytes_per_second: over the last seconds.
        seconds_left: None while nothing arrives.
    """

    file: str
    done: int
    total: int
    bytes_per_second: float
    seconds_left: float | None


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
        self._timeout, self._tries, self._pause, self._longest_wait = timeout, tries, pause, longest_wait
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
        return path if path is None or path.is_file() or not is_hub_id(card.source) or _has(path, INDEX) else None

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
            if file and _has(snapshot, file):
                return snapshot / file
            if not file and _is_complete(snapshot, variant):
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
                    stack.enter_context(self._turn(card.source, partial(_until, time.monotonic() + 3.0)))
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
        return self._plan(card, partial(_check, cancelled))

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
        plan = self._plan(card, partial(_check, cancelled))
        self._make_room(card, plan)
        tally = _Tally(plan, progress)
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
        about = _About(source, self._page(source))
        here = next((path for path in self._snapshots(source) if _has(path, INDEX)), None)
        if here is not None or not is_hub_id(source) or self.offline:
            return here
        try:
            listing = self._listing(about, source, _go_on)
            ends = (f"/{INDEX}", "/config.json", "/scheduler_config.json")
            files = [file for name, file in listing.items() if f"/{name}".endswith(ends) and name.count("/") < 2]
            if INDEX not in listing:
                return None
            plan = self._plan_of(files)
            with self._turn(source, partial(_until, time.monotonic() + self._timeout)):
                for file in plan.files:
                    self._fetch_file(about, file, _Tally(plan, None), _go_on)
        except (CannotFetch, Stopped):
            return None
        return self._folder(source) / "snapshots" / listing[INDEX].commit

    def _plan(self, card: ModelCard, check: Check) -> Plan:
        files: list[PlannedFile] = []
        wanted = [(card.source, ""), *((addition.source, addition.file) for addition in card.additions)]
        for source, file in wanted:
            if is_hub_id(source):
                about = _About(card.name, card.link if source == card.source and card.link else self._page(source))
                files += self._needed(about, source, file, card.variant, check)
            elif not (PROJECT / source / file).exists():
                raise CannotFetch(f"{card.name} names {source}, which is neither here nor a model on the hub.")
        if card.preview and is_hub_id(card.preview):
            with suppress(CannotFetch):  # previews are coarser without it, and nothing else changes
                about = _About(card.name, self._page(card.preview))
                files += self._needed(about, card.preview, "", "", check, pipeline=False)
        return self._plan_of(files)

    def _plan_of(self, files: Sequence[PlannedFile]) -> Plan:
        # model_index.json comes last: with it, everything is there. Weights come after small files.
        ordered = sorted(files, key=lambda file: (file.name == INDEX, file.bytes))
        here = next(path for path in (self.cache, *self.cache.absolute().parents) if path.is_dir())
        total = sum(size for _, size in _blobs(ordered))
        return Plan(tuple(ordered), total, self._there(ordered), shutil.disk_usage(here).free)

    def _needed(
        self, about: _About, source: str, file: str, variant: str, check: Check, pipeline: bool = True
    ) -> list[PlannedFile]:
        listing = self._listing(about, source, check)
        if file:
            if not file.endswith(".safetensors"):
                raise CannotFetch(_pickled(f"{file} of {source}"))
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
        for file, size in _blobs(files):
            for path in (self._blob(file), self._pointer(file), _part_path(self._blob(file))):
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
        self, card: ModelCard, source: str, plan: Plan, tally: _Tally, cancelled: Callable[[], bool] | None
    ) -> None:
        files = [file for file in plan.files if file.source == source]
        about = _About(card.name, card.link if source == card.source and card.link else self._page(source))

        def check() -> None:
            _check(cancelled)
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

    def _fetch_file(self, about: _About, file: PlannedFile, tally: _Tally, check: Check) -> None:
        """One file into the cache, checked."""
        if _size(self._pointer(file)) == file.bytes:
            return
        blob = self._blob(file)
        if _size(blob) != file.bytes:
            with self._writing():
                blob.parent.mkdir(parents=True, exist_ok=True)
                self._pointer(file).parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):  # a damaged file gets a second chance
                with _Part(file, _part_path(blob), tally, self._writing) as part:
                    part.read(check)
                    self._retrying(about, partial(self._pull, file, part, check), check, lambda p=part: p.furthest)
                    if part.settle(blob):
                        break
            else:
                raise CannotFetch(
                    f"{file.name} of {file.source} has arrived damaged twice and was thrown away; try again later."
                )
        self._show(file)

    def _pull(self, file: PlannedFile, part: _Part, check: Check) -> None:
        """Append what is missing."""
        if part.size > file.bytes:
            part.restart()
        if part.size == file.bytes:
            return
        with closing(_heard(partial(self._stream, file, part.size), check, self._timeout)) as stream:
            if next(stream) != part.size:
                part.restart()  # it does not give ranges
            for chunk in stream:
                # More than it should be is damaged: the sum will tell.
                part.append(chunk[: file.bytes - part.size])
        if part.size != file.bytes:
            raise _Cut

    def _stream(self, file: PlannedFile, start: int, say: Callable[[Any], None]) -> None:
        """Say where the file begins that the hub gives (``start`` or 0), then its bytes."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(file.source, file.name, revision=file.commit, endpoint=self._address)
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with get_session().stream("GET", url, headers=headers, timeout=self._timeout) as response:
            if response.status_code >= 400:
                response.read()
                hf_raise_for_status(response)
            at = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            say(int(at[1]) if at and response.status_code == 206 else 0)
            for chunk in response.iter_bytes():
                say(chunk)

    def _read(self, about: _About, file: PlannedFile, check: Check) -> Any:
        """A small JSON file, from the cache or the hub; nothing is written."""

        def attempt() -> bytes:
            if _size(self._blob(file)) == file.bytes:
                return self._blob(file).read_bytes()
            with closing(_heard(partial(self._stream, file, 0), check, self._timeout)) as stream:
                next(stream)
                data = b"".join(stream)
            if _digest(file, data) != file.digest:
                raise _Cut
            return data

        try:
            return json.loads(self._retrying(about, attempt, check))
        except ValueError:
            raise CannotFetch(
                f"{file.name} of {file.source} is not JSON, so it cannot be used; choose another."
            ) from None

    def _listing(self, about: _About, source: str, check: Check) -> dict[str, PlannedFile]:
        """Every file of a repository's current version, by name."""
        from huggingface_hub import HfApi

        if self.offline:
            raise CannotFetch(_offline(about))

        def ask(say: Callable[[Any], None]) -> None:
            say(HfApi(endpoint=self._address).model_info(source, files_metadata=True, timeout=self._timeout))

        def attempt() -> Any:
            with closing(_heard(ask, check, self._timeout)) as heard:
                return next(heard)

        info = self._retrying(about, attempt, check)
        listing = {}
        for item in info.siblings or []:
            digest = item.lfs.sha256 if item.lfs else item.blob_id
            # Names become paths here; sizes and checksums are what a file is checked by.
            known = item.size is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest or "")
            if known and _is_plain(item.rfilename):
                listing[item.rfilename] = PlannedFile(source, info.sha, item.rfilename, item.size, digest)
        if not listing or not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise CannotFetch(
                f"{self._host} does not say how large the files of {source} are, so they cannot be checked; let "
                "HF_ENDPOINT name another hub."
            )
        return listing

    def _retrying(
        self, about: _About, attempt: Callable[[], T], check: Check, position: Callable[[], int] = lambda: 0
    ) -> T:
        """Try until it succeeds, fails for good, or fails too often without having got any further."""
        failures, so_far = 0, position()
        while True:
            try:
                return attempt()
            except (Stopped, CannotFetch):
                raise
            except Exception as error:
                failures = failures + 1 if position() == so_far else 1
                so_far = position()
                wait = max(self._verdict(about, error, failures >= self._tries), self._pause * 2 ** (failures - 1))
            until = time.monotonic() + wait
            while time.monotonic() < until:
                check()
                time.sleep(min(POLL, max(0.0, until - time.monotonic())))

    def _verdict(self, about: _About, error: Exception, last: bool) -> float:
        """Seconds to wait before another try.

        Raises:
            CannotFetch: if another try would not help.
        """
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            raise CannotFetch(_offline(about)) from None
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        # A signed address of the store behind the hub can have run out; the hub gives a new one.
        if 400 <= status < 500 and status not in (408, 416, 429) and response.url.host == self._host:
            raise CannotFetch(_refusal(about, status, response.headers, self._host)) from None
        if status == 429:
            wait = _asked_to_wait(response.headers)
            if last or (wait or 0) > self._longest_wait:
                when = f"in {_duration(wait)}" if wait else "in some minutes"
                raise CannotFetch(
                    f"{self._host} has had too many requests from here: try again {when}, what has arrived is kept."
                ) from None
            return wait or 0.0
        if last:
            raise CannotFetch(_trouble(about, error, status, self._host, self._timeout)) from None
        return 0.0

    @property
    def _address(self) -> str:
        from huggingface_hub import constants

        return (self._endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def _host(self) -> str:
        return urlsplit(self._address).hostname or "the hub"

    def _page(self, source: str) -> str:
        return f"https://huggingface.co/{source}"


@dataclass(frozen=True)
class _About:
    """What messages are about: a model's name and its page."""

    name: str
    link: str


class _Tally:
    """Bytes over all files, their speed, and who is told."""

    def __init__(self, plan: Plan, progress: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.file = plan.total, plan.there, ""
        self._progress = progress
        self._told = (-1.0, "")
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), self.done)])

    def at(self, done: int) -> None:
        """So many bytes are there."""
        if done < self.done:
            self._seen.clear()
        self.done = done

    def add(self, count: int) -> None:
        """So many more (or fewer) bytes are there."""
        self.at(self.done + count)

    def tick(self) -> None:
        """Tell how far it is, at most five times a second and whenever another file begins."""
        now = time.monotonic()
        if self._progress is None or (now - self._told[0] < 2 * POLL and self._told[1] == self.file):
            return
        self._told = (now, self.file)
        self._seen.append((now, self.done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        (then, before) = self._seen[0]
        speed = (self.done - before) / (now - then) if now > then else 0.0
        left = (self.total - self.done) / speed if speed > 0 else None
        self._progress(Progress(self.file, self.done, self.total, speed, left))

    def end(self) -> None:
        """Everything is there."""
        self.at(self.total)
        self.file, self._told = "", (-1.0, "")
        self.tick()


class _Part:
    """A file that is arriving; it is added up as it grows, so that it need not be read again."""

    def __init__(self, file: PlannedFile, path: Path, tally: _Tally, writing: Callable[[], Any]) -> None:
        self._planned, self._path, self._tally, self._writing = file, path, tally, writing
        self.size = self.furthest = 0

    def __enter__(self) -> _Part:
        with self._writing():
            self._file = self._path.open("a+b")
        self._sum = _begin(self._planned)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk has been said already
            self._file.close()

    def read(self, check: Check) -> None:
        """Take up what an earlier download has left."""
        with self._writing():
            self._file.seek(0)
            while block := self._file.read(2**20):
                check()
                self._sum.update(block)
                self.size += len(block)
        self.furthest = self.size

    def append(self, chunk: bytes) -> None:
        """More of the file."""
        with self._writing():
            self._file.write(chunk)
            self._file.flush()  # so that it is there when this process is killed
        self._sum.update(chunk)
        self.size += len(chunk)
        self.furthest = max(self.furthest, self.size)
        self._tally.add(len(chunk))

    def restart(self) -> None:
        """From nothing."""
        with self._writing():
            self._file.truncate(0)
        self._tally.add(-min(self.size, self._planned.bytes))
        self.size = 0
        self._sum = _begin(self._planned)

    def settle(self, target: Path) -> bool:
        """Move it to its place if it is what it should be, else throw it away."""
        if self._sum.hexdigest() != self._planned.digest:
            self.restart()
            self._path.unlink(missing_ok=True)
            return False
        with self._writing():
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._path, target)
        return True


def is_hub_id(source: str) -> bool:
    """Whether a card's source is the name of a repository, and no folder or file here."""
    if source.endswith(".safetensors") or not _HUB_ID.fullmatch(source):
        return False
    return not (PROJECT / source).exists()


def choose(source: str, names: Collection[str], index: Any, variant: str) -> list[str]:
    """The files of a diffusers model that are needed to run it.

    Args:
        source: hub id, for messages.
        names: every file of the repository.
        index: its model_index.json.
        variant: preferred kind of weights, such as fp16, or "" for the plain ones.

    Raises:
        CannotFetch: if a part has no safetensors weights, needs code of its own, or is missing.
    """
    parts = _parts(index)
    if not parts:
        raise CannotFetch(f"{source} names no parts in its {INDEX}, so it cannot be used; choose another.")
    if isinstance(index["_class_name"], list) or any(
        f"{name}/{library}.py" in names or f"{library}.py" in names for name, (library, _) in parts.items()
    ):
        raise CannotFetch(f"{source} needs code of its own, and code from the hub is never run; choose another.")
    chosen = [INDEX]
    for name, (_, cls) in parts.items():
        chosen += choose_part(source, name, cls, names, variant)
    return chosen


def choose_part(source: str, part: str, cls: str, names: Collection[str], variant: str) -> list[str]:
    """The files of one part (folder) of a model, or, with part "", of a repository that is a part by itself.

    Raises:
        CannotFetch: if it has no safetensors weights, or is missing.
    """
    folder = f"{part}/" if part else ""
    inside = [name[len(folder) :] for name in names if name.startswith(folder)]
    inside = sorted(name for name in inside if "/" not in name)
    texts = [name for name in inside if name.endswith(_TEXTS) and _is_own_text(name)]
    label = f"The {part} of {source}" if part else source
    weights = [] if cls.endswith(_WEIGHTLESS) else _choose_weights(inside, variant)
    if weights is None:
        if any(name.endswith(_PICKLES) for name in inside):
            raise CannotFetch(_pickled(label))
        if any(name.endswith(".safetensors") for name in inside) or "config.json" in texts:
            raise CannotFetch(f"{label} has no complete weights as safetensors files; choose another model.")
    if not texts:
        raise CannotFetch(f"{label} is not in its repository; choose another model.")
    if not part:  # beside it lie descriptions and other models
        texts = [name for name in texts if name == "config.json"]
    return [folder + name for name in (*texts, *(weights or ()))]


def _parts(index: Any) -> dict[str, tuple[str, str]]:
    """Parts that model_index.json names: library and class of each."""
    if not isinstance(index, dict) or not index.get("_class_name"):
        return {}
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if name.isidentifier() and not name.startswith("_") and isinstance(value, list) and len(value) == 2
        if all(isinstance(item, str) for item in value)
    }


def _choose_weights(names: Sequence[str], variant: str) -> list[str] | None:
    """Weights of one kind, all of them, with their list if they are in pieces: the preferred kind, plain, or fp16."""
    for kind in dict.fromkeys((variant, "", "fp16")):
        there = {name: found for name in names if (found := _WEIGHTS.fullmatch(name))}
        mine = {name: found for name, found in there.items() if (found["variant"] or found["old"] or "") == kind}
        whole = [name for name, found in mine.items() if not found["count"]]
        if whole:
            return whole
        shards = [name for name, found in mine.items() if found["count"]]
        lists = [name for name in names if (found := _SHARDS.fullmatch(name)) and (found["variant"] or "") == kind]
        if shards and lists and all(int(found["count"]) == len(shards) for found in mine.values()):
            return [*lists, *shards]
    return None


def _is_own_text(name: str) -> bool:
    # A list of pieces belongs to weights: with one that was not chosen, libraries would look for those pieces.
    return ".index." not in name and not name.startswith(("flax_", "openvino_", "onnx_", "tf_"))


def _is_plain(name: str) -> bool:
    """Whether a name stays below its folder on every system."""
    return "\\" not in name and ":" not in name and all(piece not in ("", ".", "..") for piece in name.split("/"))


def _is_complete(snapshot: Path, variant: str) -> bool:
    """Whether a model can be loaded from a folder: every part that it names, or, without such a list, one part."""
    if not _has(snapshot, INDEX):
        return _has(snapshot, "config.json") and _has_weights(snapshot, variant)
    try:
        parts = _parts(json.loads((snapshot / INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    for name, (_, cls) in parts.items():
        folder = snapshot / name
        files = [path.name for path in folder.iterdir() if _size(path)] if folder.is_dir() else []
        # A tokenizer needs more than a configuration, which is all that ``peek`` fetches.
        if not any(file.endswith(_TEXTS) and not ("Tokenizer" in cls and file == "config.json") for file in files):
            return False
        # A class that is not known to do without weights may still have none, and then it has no config.json either.
        if not cls.endswith(_WEIGHTLESS) and "config.json" in files and not _has_weights(folder, variant):
            return False
    return bool(parts)


def _has_weights(folder: Path, variant: str) -> bool:
    names = _choose_weights([path.name for path in folder.iterdir()], variant)
    return names is not None and all(_is_whole(folder / name) for name in names)


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; other files need only be there."""
    if path.suffix != ".safetensors":
        return bool(_size(path))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length < 10**8 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and _size(path) == 8 + length + max(ends)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return False


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()  # false for a link to nothing


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _part_path(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _blobs(files: Sequence[PlannedFile]) -> list[tuple[PlannedFile, int]]:
    """Each different content once, with its size."""
    return [(file, file.bytes) for file in {(file.source, file.digest): file for file in files}.values()]


def _begin(file: PlannedFile) -> Any:
    """The sum that a file is checked by, before its first byte."""
    return hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % file.bytes)


def _digest(file: PlannedFile, data: bytes) -> str:
    added = _begin(file)
    added.update(data)
    return added.hexdigest()


def _heard(work: Callable[[Callable[[Any], None]], None], check: Check, patience: float) -> Iterator[Any]:
    """What ``work`` says, from a thread of its own, so that it can be left behind while it waits for an answer.

    Raises:
        _Silent: if it says nothing for ``patience`` seconds.
        Exception: what ``check`` or ``work`` raises.
    """
    said: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=32)
    left = threading.Event()

    def say(kind: str, thing: Any) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                said.put((kind, thing), timeout=POLL)
                return
        raise _Left

    def run() -> None:
        try:
            work(partial(say, "thing"))
            say("end", None)
        except _Left:
            pass
        except Exception as error:
            with suppress(_Left):
                say("error", error)

    threading.Thread(target=run, daemon=True, name="hub").start()
    try:
        yield from _take(said, check, patience)
    finally:
        left.set()


def _take(said: queue.Queue[tuple[str, Any]], check: Check, patience: float) -> Iterator[Any]:
    heard = time.monotonic()
    while True:
        check()
        try:
            kind, thing = said.get(timeout=POLL)
        except queue.Empty:
            if time.monotonic() - heard > patience:
                raise _Silent from None
            continue
        if kind == "error":
            raise thing
        if kind == "end":
            return
        yield thing
        heard = time.monotonic()


def _check(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Stopped


def _until(end: float) -> None:
    if time.monotonic() > end:
        raise Stopped


def _go_on() -> None:
    """Nobody stops this."""


# Messages.


def _offline(about: _About) -> str:
    return (
        f"{about.name} is not on this machine and nothing may be fetched (offline mode): unset HF_HUB_OFFLINE and "
        "start again with a network, or choose a model that is here."
    )


def _pickled(what: str) -> str:
    return (
        f"{what} has its weights only as pickle files, which can run code and are refused: load them where you trust "
        "them and save them with save_pretrained(..., safe_serialization=True), or choose another model."
    )


def _refusal(about: _About, status: int, headers: Mapping[str, str], host: str) -> str:
    code = headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        return (
            f"{about.name} is only for people who have agreed to its terms: agree at {about.link}, put an access token "
            "of that account into the environment variable HF_TOKEN, and start again."
        )
    if code == "EntryNotFound":
        return f"A file of {about.name} is no longer on the hub; start the download again."
    if status == 404 or code == "RepoNotFound":
        return (
            f"There is no {about.name} at {about.link}, or it is private: look at the name, and for a private model "
            "set HF_TOKEN to an access token."
        )
    if status in (401, 403):
        return (
            f"{host} refuses {about.name}: agree to its terms at {about.link} if it has any, and set HF_TOKEN to a "
            "valid access token of that account."
        )
    return f"{host} refuses the request for {about.name} (error {status}); look at {about.link}."


def _trouble(about: _About, error: Exception, status: int, host: str, timeout: float) -> str:
    name = type(error).__name__
    if status:
        return f"{host} is out of order (error {status}): try again later, what has arrived is kept."
    if name.startswith("Connect"):
        return f"{host} cannot be reached: look at the network, then start again; what has arrived is kept."
    if isinstance(error, _Silent) or name.endswith("Timeout"):
        return (
            f"{host} was silent for {_duration(timeout)}, again and again, while {about.name} was being fetched: try "
            "again later, what has arrived is kept."
        )
    return (
        f"The connection to {host} keeps breaking off ({name.strip('_')}): try again later, what has arrived is kept."
    )


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a hub asks to wait, from its Retry-After or RateLimit header."""
    from huggingface_hub.utils import parse_ratelimit_headers

    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        with suppress(ValueError):
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    info = parse_ratelimit_headers(headers)
    return float(info.reset_in_seconds) if info else None


def _duration(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = -int(-seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
