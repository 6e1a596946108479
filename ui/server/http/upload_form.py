"""The form of an upload: read before Gradio reads it, and refused unless it holds files alone, written as browsers do.

Gradio keeps a part without a file name in memory and decodes it on the event loop with the charset that the client
names (Python has ones of quadratic time), and deletes the temporary files of a broken form for some faults only.
"""

from __future__ import annotations

from pathlib import PureWindowsPath

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ui.server.http.bodies import BodyRefused

MAX_CONTENT_TYPE = 1024
# The name of each part, as the page and Gradio's clients write it: Gradio answers no others.
FIELD = b"files"
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_NO_FORM = "The upload is not a complete form with files; send it again."
_NO_FILE = "Every part of an upload must be a file with a name, in the field 'files'."


class UploadForm:
    """Reads a form as its bytes arrive, with the parser that Gradio itself uses, and counts its files.

    Args:
        content_type: of the request.

    Raises:
        BodyRefused: if it is no form, or in another charset than UTF-8.
    """

    def __init__(self, content_type: str) -> None:
        self.parts = 0
        if len(content_type) > MAX_CONTENT_TYPE:
            raise BodyRefused("The Content-Type is too long.", 400)
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BodyRefused("An upload must be a form (multipart/form-data) with a boundary.", 400)
        if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise BodyRefused("The charset of an upload must be UTF-8.", 400)
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._ended = False
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:  # a boundary that is too long
            raise BodyRefused(_NO_FORM, 400) from None

    def add(self, piece: bytes, more: bool) -> int:
        """How many files begin in the next bytes of the form.

        Args:
            piece: the bytes.
            more: whether others follow.

        Raises:
            BodyRefused: if Gradio must not see them.
        """
        before = self.parts
        try:
            self._parser.write(piece)
        except FormParserError:
            raise BodyRefused(_NO_FORM, 400) from None
        if not more and not self._ended:
            raise BodyRefused(_NO_FORM, 400)
        return self.parts - before

    def _begin_part(self) -> None:
        self.parts += 1
        self._disposition = b""

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":  # Gradio, too, takes the last one
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _check_part(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"filename")
        if options.get(b"name") != FIELD or name is None or not _is_file_name(name.decode("utf-8", "replace")):
            raise BodyRefused(_NO_FILE, 400)

    def _end(self) -> None:
        self._ended = True


def _is_file_name(name: str) -> bool:
    """Whether Gradio stores a file of this name, "" included; at the folder above it fails, and leaves files behind."""
    last = PureWindowsPath(name).name
    return ".." not in last or any(letter.isalnum() for letter in last)
