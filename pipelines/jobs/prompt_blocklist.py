"""Blocked words: a text file of the owner, one word or phrase per line, that prompts may not contain."""

from __future__ import annotations

import re
import threading
import unicodedata
from contextlib import suppress
from pathlib import Path

from pipelines.prompt.reading import words_alone
from pipelines.request import GenerationRequest, InvalidRequest, prompt_fields
from pipelines.request_errors import LEAVE_OUT, Remedy
from pipelines.system.atomic_files import atomic_write

MAX_BYTES = 1 << 18
# What the model does not read as words: weights in compel's and in A1111's way, functions of compel, marks of adapters,
# brackets, quotes and backslashes. What ``swap`` puts in is read.
_SYNTAX = re.compile(
    r"""\)\s*(?:\d*\.?\d+|\++|-+) | :\s*[+-]?\d*\.?\d+\s*(?=[)\]]) | \.(?:blend|and)\s*\([\d\s.,+-]*\) | \.swap\s*\(
    | <[^<>]*> | [+-]+(?=\W|$) | [()\[\]{}"\\]""",
    re.VERBOSE,
)
# Letters of scripts that are written without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
NOTE = "# Blocked words and phrases, one per line; lines that begin with # are comments.\n"


class BlockList:
    """The list, read again whenever its file has changed.  Thread-safe.

    A file that cannot be read blocks every prompt: a broken list must not count as an empty one.

    Args:
        path: the file; a missing one is an empty list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._pattern: re.Pattern[str] | None = None

    @property
    def text(self) -> str:
        """The file's text; "" if there is none."""
        with suppress(OSError):
            return self.path.read_text(encoding="utf-8", errors="replace")[:MAX_BYTES]
        return ""

    def write(self, text: str) -> None:
        """Replace the list.

        Raises:
            InvalidRequest: if it is too long.
            OSError: if it cannot be written.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_BYTES:
            raise InvalidRequest("blocked", f"The list is longer than {MAX_BYTES // 1024} KB; shorten it.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as file:
            file.write(data)

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidRequest if a prompt contains a blocked word; negative prompts may.

        Marks may neither hide a word, ``g(or:1)e``, nor be taken for one.
        """
        for field, text in prompt_fields(request):
            if field != "negative_prompt":
                self.check_text(text, request.prompt_syntax)

    def check_text(self, text: str, syntax: str) -> None:
        """Raise InvalidRequest if a text that a model reads contains a blocked word.

        Args:
            text: as the step reads it.
            syntax: its form, ``COMPEL`` or ``A1111``.
        """
        read = (*readings(text), words_alone(text, syntax))
        if found := next(filter(None, map(self.find, read)), ""):
            raise InvalidRequest(
                "prompt",
                f"The prompt contains {found!r}, which the owner of this computer does not allow.",
                remedy=Remedy(LEAVE_OUT, found),
            )

    def find(self, text: str) -> str:
        """The first word or phrase of the list in a text, or "".

        Raises:
            InvalidRequest: if the list cannot be read.
        """
        pattern = self._read()
        match = pattern.search(normalized(text)) if pattern else None
        return match.group(0) if match else ""

    def _read(self) -> re.Pattern[str] | None:
        try:
            facts = self.path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size)
            with self._lock:
                if stamp != self._stamp:
                    lines = self.path.read_text(encoding="utf-8", errors="replace")[:MAX_BYTES].splitlines()
                    self._pattern, self._stamp = _pattern(lines), stamp
                return self._pattern
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidRequest(
                "blocked",
                f"The list of blocked words cannot be read ({error.strerror}); repair or remove it.",
            ) from None


def readings(prompt: str) -> tuple[str, ...]:
    """The texts in which a blocked word counts: as written, and as the model reads it, without weights and syntax.

    What stood next to syntax may be read as one word or as two.
    """
    return tuple(dict.fromkeys((prompt, _SYNTAX.sub(" ", prompt), _SYNTAX.sub("", prompt))))


def normalized(text: str) -> str:
    """A text for comparison: without case, accents, punctuation, invisible and compatibility characters."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in decomposed if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return re.sub(r"[\W_]+", " ", kept).strip()


def _pattern(lines: list[str]) -> re.Pattern[str] | None:
    words = {normalized(line) for line in lines if not line.lstrip().startswith("#")} - {""}
    # The longest first, so that the message quotes the whole phrase.
    ordered = sorted(words, key=len, reverse=True)
    return re.compile("|".join(map(_bounded, ordered))) if words else None


def _bounded(word: str) -> str:
    """A pattern for a whole word; scripts without spaces have no ends of words to look for."""
    before, after = ("" if _UNSPACED.match(letter) else r"\b" for letter in (word[0], word[-1]))
    return before + re.escape(word) + after
