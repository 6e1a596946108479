"""Wildcards in prompts: ``{red|blue|green}`` and ``__animal__``, drawn by a picture's seed.

``{2::red|blue}`` draws red twice as often; an option may be empty, and may hold wildcards of its own.
``__animal__`` is a line of the file ``animal.txt``, ``__food/fruit__`` one of ``food/fruit.txt``; empty lines and those
that begin with # do not count.  A backslash makes a mark a letter: ``\\{``, ``\\|``, ``\\}``, ``\\__``; of several
before a mark two are one backslash, and elsewhere they are ordinary text.  So are braces without a bar, braces that are
never closed, and tags such as ``<lora:a__b__c:1>``, as in compel's and A1111's forms, which give braces no meaning.
"""

from __future__ import annotations

import os
import random
import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from pipelines.system.lru import LruDict
from pipelines.system.text import printable, shorten

# Bounds: of braces in braces, of files that name files, and of everything that is drawn for one prompt.
MAX_DEPTH, MAX_NESTED_FILES, MAX_DRAWS, MAX_LENGTH = 20, 10, 200, 20_000
# Bounds of one file, of a folder's listing, and of folders in folders.
MAX_BYTES, MAX_LINES, MAX_LINE, MAX_FILES, MAX_FOLDERS = 1 << 20, 20_000, 2000, 2000, 4
SUFFIX = ".txt"
# Draws for a negative prompt are others than those for a prompt.
NEGATIVE = "negative"
_TOKEN = re.compile(
    r"(?P<tag><[^<>\n]{1,300}>)"
    r"|(?P<pairs>(?:\\\\)*+)\\(?P<escaped>[{}|]|__)"
    r"|(?P<even>(?:\\\\)++)(?=[{}|]|__)"
    r"|(?P<slashes>\\++)"
    r"|(?<!\w)__(?P<file>(?!_)[\w/-]{1,100}?)__"
    r"|(?P<mark>[{}|])"
)
_NAME = re.compile(r"[\w-]+(?:/[\w-]+)*")
_WEIGHT = re.compile(r"\s*(\d{1,4}(?:\.\d{1,4})?)::")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class WildcardError(ValueError):
    """A prompt whose wildcards cannot be drawn; the message is one sentence for the user."""


@dataclass(frozen=True)
class Option:
    """One option of a choice.

    Attributes:
        parts: text, names of files, and choices.
        weight: how often it is drawn, compared with the others.
    """

    parts: tuple[Part, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Options:
    """``{a|b}``, or the lines of a file.

    Attributes:
        options: at least one.
        ends: the sum of the weights up to each option, that included.
    """

    options: tuple[Option, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, options: Sequence[Option]) -> Options:
        """A choice between these options."""
        return cls(tuple(options), tuple(accumulate(option.weight for option in options)))

    def pick(self, share: float) -> Option:
        """The option at a share of all weights, 0 to 1; the last one where all weigh nothing."""
        at = bisect_right(self.ends, share * self.ends[-1])
        return self.options[min(at, len(self.options) - 1)]


@dataclass(frozen=True)
class FileMark:
    """``__name__``."""

    name: str


Part = str | Options | FileMark


@dataclass(frozen=True)
class Expansion:
    """A prompt whose wildcards were drawn.

    Attributes:
        text: what is sent.
        drawn: what stands in the place of each wildcard of the prompt, in order; not those inside of others.
        missing: names of wildcards without a file, which were left as they are, each once.
    """

    text: str
    drawn: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass
class _Frame:
    """A brace that is still open, or the whole text: its options so far."""

    options: list[list[Part]] = field(default_factory=lambda: [[]])

    def add(self, *parts: Part) -> None:
        self.options[-1].extend(parts)

    def literally(self) -> list[Part]:
        """The parts of a brace that is ordinary text, without its end."""
        parts: list[Part] = ["{"]
        for number, option in enumerate(self.options):
            parts += ["|"] * (number > 0) + option
        return parts


def parse(text: str) -> tuple[Part, ...]:
    """The parts of a prompt.

    Raises:
        WildcardError: for braces deeper than ``MAX_DEPTH``.
    """
    frames, at = [_Frame()], 0
    for token in _TOKEN.finditer(text):
        frames[-1].add(*filter(None, [text[at : token.start()]]))
        at = token.end()
        if token["file"] and _NAME.fullmatch(token["file"]):
            frames[-1].add(FileMark(token["file"]))
        elif token["mark"]:
            _mark(frames, token["mark"])
        elif token["escaped"]:
            frames[-1].add(token["pairs"][::2] + token["escaped"])
        elif token["even"]:
            frames[-1].add(token["even"][::2])
        else:
            frames[-1].add(token[0])
    frames[-1].add(*filter(None, [text[at:]]))
    while len(frames) > 1:
        parts = frames.pop().literally()
        frames[-1].add(*parts)
    return tuple(frames[0].options[0])


def _mark(frames: list[_Frame], mark: str) -> None:
    """Take in a brace or a bar."""
    if mark == "{":
        if len(frames) > MAX_DEPTH:
            raise WildcardError(f"The prompt nests more than {MAX_DEPTH} braces; write fewer of them into each other.")
        frames.append(_Frame())
    elif len(frames) == 1:
        frames[-1].add(mark)
    elif mark == "|":
        frames[-1].options.append([])
    else:
        frame = frames.pop()
        choice = Options.of([_option(parts) for parts in frame.options])
        frames[-1].add(*([choice] if len(frame.options) > 1 else [*frame.literally(), "}"]))


def _option(parts: Sequence[Part]) -> Option:
    """An option, its weight taken off."""
    first = parts[0] if parts and isinstance(parts[0], str) else ""
    if found := _WEIGHT.match(first):
        return Option((first[found.end() :], *parts[1:]), float(found[1]))
    return Option(tuple(parts))


def has_wildcards(text: str) -> bool:
    """Whether a prompt holds a wildcard; False for one that cannot be read."""
    try:
        return any(not isinstance(part, str) for part in parse(text))
    except WildcardError:
        return False


def escape(text: str) -> str:
    """A text from which ``expand`` draws nothing and that it brings back as it was."""
    try:
        parts = parse(text)
    except WildcardError:
        parts = (FileMark(""),)
    if all(isinstance(part, str) for part in parts) and "".join(map(str, parts)) == text:
        return text
    return _TOKEN.sub(_escaped, text)


def _escaped(token: re.Match[str]) -> str:
    """A token as ``escape`` writes it."""
    if token["tag"] or token["slashes"]:
        return token[0]
    if mark := token["escaped"]:
        return f"{2 * token[0].removesuffix(mark)}\\{mark}"
    if token["even"]:
        return 2 * token["even"]
    if token["file"] and not token["file"][-1].isalnum():  # what ends it could begin another one
        return f"\\{token[0][:-2]}\\__"
    return f"\\{token[0]}"


class Wildcards:
    """The files of wildcards.  Thread-safe.

    Args:
        folders: where they are; on equal names the first counts.  A link that leads out of its folder is no file.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._read: LruDict[tuple[str, int, int], Options | None] = LruDict(32)
        self._lock = threading.Lock()

    def lines(self, name: str) -> Options | None:
        """The lines of a wildcard's file, not parsed; None if there is no file, or nothing in it.

        Raises:
            WildcardError: if it is too large or cannot be read.
        """
        path = self._path(name)
        if path is None:
            return None
        try:
            stat = path.stat()
            key = (str(path), stat.st_mtime_ns, stat.st_size)
            with self._lock:
                if key in self._read:
                    return self._read[key]
            with path.open("rb") as file:
                found = _lines_of(name, file.read(MAX_BYTES + 1))
        except OSError as problem:
            raise WildcardError(f"The wildcard __{name}__ cannot be read ({problem.strerror}).") from None
        with self._lock:
            self._read[key] = found
        return found

    def names(self) -> list[str]:
        """The names of all wildcards, at most ``MAX_FILES``."""
        found: dict[str, None] = {}
        for folder in self.folders:
            for path in _text_files(folder):
                name = path.relative_to(folder).with_suffix("").as_posix()
                if _NAME.fullmatch(name) and len(name) <= 100 and len(found) < MAX_FILES:
                    found[name] = None
        return sorted(found)

    def expand(self, text: str, seed: int, kind: str = "") -> Expansion:
        """Draw the wildcards of a prompt: the same seed draws the same words from the same files.

        Args:
            text: the prompt.
            seed: of the picture.
            kind: of prompt: ``NEGATIVE``, or "".

        Raises:
            WildcardError: if they cannot be drawn: too deep, too many, files that name themselves.
        """
        return _Drawing(self, f"{kind} {seed}" if kind else seed).expand(text)

    def _path(self, name: str) -> Path | None:
        if not _NAME.fullmatch(name):
            return None
        for folder in self.folders:
            path = folder / f"{name}{SUFFIX}"
            try:
                if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                    return path
            except OSError:
                continue
        return None


def _lines_of(name: str, data: bytes) -> Options | None:
    if len(data) > MAX_BYTES:
        raise WildcardError(f"The file of the wildcard __{name}__ is larger than {MAX_BYTES >> 20} MB; split it.")
    lines = (_CONTROL.sub("", line).strip() for line in data.decode("utf-8-sig", "replace").splitlines())
    kept = [_option([line]) for line in lines if line and not line.startswith("#") and len(line) <= MAX_LINE]
    if len(kept) > MAX_LINES:
        raise WildcardError(f"The file of the wildcard __{name}__ has more than {MAX_LINES} lines; split it.")
    return Options.of(kept) if kept else None


def _text_files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Text files below a folder, by name; links to folders are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:MAX_FILES]
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if depth < MAX_FOLDERS:
                yield from _text_files(Path(entry.path), depth + 1)
        elif entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and printable(entry.name) == entry.name:
            yield Path(entry.path)


class _Drawing:
    """The drawing of one prompt's wildcards."""

    def __init__(self, wildcards: Wildcards, seed: int | str) -> None:
        self._wildcards = wildcards
        # Only the method ``random`` promises the same numbers in every version of Python.
        self._random = random.Random(seed).random
        self._draws = self._length = 0
        self._names: list[str] = []
        self._missing: dict[str, None] = {}

    def expand(self, text: str) -> Expansion:
        parts = [(part, self._draw(part)) for part in parse(text)]
        drawn = (" ".join(words.split()) for part, words in parts if self._is_drawn(part))
        return Expansion("".join(words for _, words in parts), tuple(drawn), tuple(self._missing))

    def _is_drawn(self, part: Part) -> bool:
        return isinstance(part, Options) or (isinstance(part, FileMark) and part.name not in self._missing)

    def _draw(self, part: Part) -> str:
        if isinstance(part, str):
            self._length += len(part)
            if self._length > MAX_LENGTH:
                raise WildcardError("The wildcards draw a prompt that is far too long; use fewer or shorter ones.")
            return part
        self._draws += 1
        if self._draws > MAX_DRAWS:
            raise WildcardError(f"The prompt draws more than {MAX_DRAWS} wildcards; use fewer of them.")
        if isinstance(part, Options):
            return "".join(map(self._draw, part.pick(self._random()).parts))
        return self._line(part.name)

    def _line(self, name: str) -> str:
        if name in self._names:
            way = " > ".join([*self._names, name])
            raise WildcardError(
                f"The wildcard __{name}__ leads back to itself ({shorten(way, 80)}); take it out there."
            )
        if len(self._names) >= MAX_NESTED_FILES:
            raise WildcardError(f"Wildcards name each other more than {MAX_NESTED_FILES} times in a row; shorten that.")
        lines = self._wildcards.lines(name)
        if lines is None:
            self._missing[name] = None
            return f"__{name}__"
        self._names.append(name)
        line = str(lines.pick(self._random()).parts[0]).strip()
        words = "".join(map(self._draw, parse(line)))
        self._names.pop()
        return words
