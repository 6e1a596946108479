"""JSON of strangers: bounded, finite, and every string of it can be written."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.system.bounded_json import _check_depth, parse_json, read_json_file

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_ordinary_documents_come_back_as_they_are(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("text", [
    "[" * 100_000, "{" * 3 + '"a":' * 3, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 65 + "]" * 65,
    "1e999", "[-1e400]", "NaN", "[Infinity]", "-Infinity", "9" * 5000, "", "{", '{"a" 1}', "\x00",
])  # fmt: skip
def test_what_is_hostile_or_broken_is_a_value_error(text: str) -> None:
    for document in (text, text.encode()):
        with pytest.raises(ValueError):
            parse_json(document)


def test_brackets_inside_strings_are_no_depth() -> None:
    text = json.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000})
    assert parse_json(text)["a"].startswith("[[[")
    assert parse_json("[" * 64 + "]" * 64) is not None


def test_strings_can_always_be_written() -> None:
    found = parse_json(r'{"\ud800": ["\udc00x", "\ud83d\ude00"]}')
    assert found == {"\ufffd": ["\ufffdx", "\U0001f600"]}
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert parse_json(b'{"a": "\xff\xfe"}') == {"a": "\ufffd\ufffd"}


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + "1," * 100 + "1]")
    assert len(read_json_file(path)) == 101
    with pytest.raises(ValueError, match="too long"):
        read_json_file(path, max_bytes=50)
    with pytest.raises(OSError):
        read_json_file(tmp_path / "gone.json")


@pytest.mark.parametrize("text", ["[" * 33 + "]" * 33, "[" * 10**6, '{"a":' * 40 + "0" + "}" * 40])
def test_depth_is_bounded_before_parsing(text: str) -> None:
    with pytest.raises(ValueError, match="too deeply"):
        parse_json(text, max_depth=32)


@pytest.mark.parametrize("piece", ['\\"', "\\\\", "A", "\\u0041", '""', '"', "\\"])
def test_the_depth_of_any_text_is_found_in_linear_time(piece: str) -> None:
    # Enough brackets that the text is looked at, and a string that may not end.
    began = time.process_time()
    with contextlib.suppress(ValueError):
        parse_json("[]" * 70 + '"' + piece * (4_000_000 // len(piece)), max_bytes=1 << 23)
    assert time.process_time() - began < 10.0


@pytest.mark.parametrize("text", [
    "[" * 33 + "]" * 8_388_000, "[" + "[]," * 2_700_000 + "[]]", ('"' * 8_388_000) + "[" * 33,
    "[" * 33 + '"",' * 2_700_000,
    "{}[]" * 2_000_000, "]" * 8_388_000 + "[" * 33, ("[" * 31 + "]" * 31) * 130_000, "[[" * 20 + '["a",' * 1_600_000,
], ids=range(8))  # fmt: skip
def test_the_depth_is_found_without_a_step_of_python_for_each_sign(text: str) -> None:
    steps = 0

    def count(*given: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)
    try:
        with contextlib.suppress(ValueError):
            _check_depth(text, 32)
    finally:
        sys.settrace(None)
    assert steps < 1000


@pytest.mark.parametrize("text", ["[{}]", '{"a":[{"b":[]}]}', "[[],{},[[]]]", '["[[["]', r'["\"[[["]'])
def test_the_depth_of_a_document_is_that_of_its_values(text: str) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    deep = depth(json.loads(text))
    assert parse_json(text, max_depth=deep) == json.loads(text)
    if deep > 1:
        with pytest.raises(ValueError, match="too deeply"):
            parse_json(text, max_depth=deep - 1)


def test_the_number_of_items_is_bounded_before_parsing() -> None:
    assert parse_json("[1,2,3]", max_items=3) == [1, 2, 3]
    assert parse_json(json.dumps({"a": '\\"' * 99, '"': '"' * 99}), max_items=2)["a"]
    for text in ("[1,2,3,4]", "[[[[]]]]", '["a,b,c,d"]', '""' * 100, '"\\\\"' * 100):
        with pytest.raises(ValueError, match="too many"):
            parse_json(text, max_items=3)


def test_numbers_that_are_not_finite_may_be_let_through() -> None:
    with pytest.raises(ValueError):
        parse_json("[NaN]")
    assert parse_json("[Infinity, 1e999]", finite=False) == [float("inf")] * 2
