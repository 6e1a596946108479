"""Words that nobody may ask for here: a text file that the owner edits, one word or phrase a line."""

from __future__ import annotations

import re
import threading
import unicodedata
from contextlib import suppress
from pathlib import Path

from pipelines.files import appearing
from pipelines.request import GenerationRequest, InvalidRequest

MAX_BYTES = 1 << 18
NOTE = "# Words and phrases that nobody may ask for, one a line; lines that begin with # are notes.\n"


class BlockList:
    """The list, read anew whenever its file has changed.  Thread-safe.

    A file that cannot be read blocks everything: a list that has gone wrong must not be a list that is empty.

    Args:
        path: the file; one that is not there is an empty list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._pattern: re.Pattern[str] | None = None

    @property
    def text(self) -> str:
        """The file as it is; "" if there is none."""
        with suppress(OSError):
            return self.path.read_text(encoding="utf-8", errors="replace")[:MAX_BYTES]
        return ""

    def write(self, text: str) -> None:
        """Put another list in its place.

        Raises:
            InvalidRequest: if it is too long.
            OSError: if it cannot be written.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"The list is longer than {MAX_BYTES // 1024} KB; shorten it.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(self.path) as file:
            file.write(data)

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidRequest if a request's prompt asks for a word of the list; what is left out may be named."""
        blend = request.interpolation
        for text in (request.prompt, (blend and blend.prompt) or ""):
            if found := self.find(text):
                raise InvalidRequest(f"prompt asks for {found!r}, which the owner of this computer does not allow.")

    def find(self, text: str) -> str:
        """The first word or phrase of the list in a text, or "".

        Raises:
            InvalidRequest: if the list cannot be read.
        """
        pattern = self._read()
        match = pattern.search(plain(text)) if pattern else None
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
                f"The list of words that nobody may ask for cannot be read ({error.strerror}); mend or remove it."
            ) from None


def plain(text: str) -> str:
    """A text as it is compared: without case, accents, invisible characters and the marks that only look different."""
    spread = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(c for c in spread if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return re.sub(r"[\W_]+", " ", kept).strip()


def _pattern(lines: list[str]) -> re.Pattern[str] | None:
    words = {plain(line) for line in lines if not line.lstrip().startswith("#")} - {""}
    # The longest first, so that the whole phrase is named.
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})\b") if words else None
