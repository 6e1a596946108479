"""A file, or a sentence where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui import keep


def test_a_file_is_answered_with_its_name_its_size_and_where_it_is():
    found = keep.saved(lambda: ("fox.gif", b"12345"), "one", "gif")
    assert (found["name"], found["bytes"], Path(found["file"]["path"]).read_bytes()) == ("fox.gif", 5, b"12345")
    assert "problem" not in found


@pytest.mark.parametrize("problem", [OSError("full"), ValueError("no picture"), RuntimeError("no decoder")])
def test_what_goes_wrong_is_a_sentence(problem: Exception):
    def fail() -> tuple[str, bytes]:
        raise problem

    assert keep.saved(fail, "one", "gif") == {
        "problem": "The file could not be made; try again, or save it as another kind."
    }
