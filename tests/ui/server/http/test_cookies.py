"""Cookies of other programs on the same host."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.access_client import PASSWORD, client, logged_in, make_access
from ui.server.http.client_request import MAX_HEADER_BYTES
from ui.server.http.cookies import cookie_values

# Cookies that other programs set, or that a person's browser has gathered on localhost.
OTHERS = (
    'prefs={"a":1}', "valueless", "=nameless", "=", 'quoted="a; b"', 'half="', "ümlaut=ä\xff", "cart[0]=x", "a=b=c",
    "<x>=<y>", "a,b=1,2", "playground-owner-7861=x", "xplayground-owner-7860=x", "playground-owner-7860=",
    "playground-owner-7860=forged", 'playground-owner-7860="forged"', "playground-guest-7860=who.forged",
    "playground-guest-7860", "  spaced = out  ", "tab\t=\t1", "$Version=1", "a={b;c}", "\\", "%", ";;;", 'a="\\"\\""',
)  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("form", ["{ours}; {other}", "{other}; {ours}", "{other};{ours};{other}", "{other} ; {ours} ;"])
def test_cookies_of_other_programs_change_nobody(other: str, form: str) -> None:
    of = make_access(PASSWORD)
    guest = logged_in(of)
    mine = "; ".join(f"{name}={value}" for name, value in guest.cookies.items())
    for ours, owner in (("=".join(of.owner_cookie), True), (mine, False)):
        header = form.format(ours=ours, other=other).encode("latin-1")
        answer = client(of).get("/", headers=[(b"cookie", header)])
        assert answer.status_code == 200 and answer.json()["owner"] is owner, header


def test_two_cookies_of_one_name_and_two_headers_are_all_read() -> None:
    of = make_access(PASSWORD)
    name, value = of.owner_cookie
    for values in itertools.permutations(["old", value, "x" * 64, f"{value}x"]):
        jar = "; ".join(f"{name}={one}" for one in values)
        assert client(of).get("/", headers={"Cookie": jar}).json()["owner"]
        pairs = [(b"cookie", f"{name}={one}".encode()) for one in values]
        assert client(of).get("/", headers=pairs).json()["owner"]


@given(
    st.lists(st.text(st.characters(max_codepoint=255, exclude_characters=";\r\n"), max_size=30), max_size=6), st.data()
)
def test_a_cookie_is_found_between_any_others(others: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(others)))
    parts = [*others[:at], "ours-1=a.b_c-d", *others[at:]]
    assert "a.b_c-d" in cookie_values(["; ".join(parts)], "ours-1")


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_any_header_gives_plain_values(header: str) -> None:
    for value in cookie_values([header, f"{header}ours={header}", f"ours={header}"], "ours"):
        assert value and value.isascii() and not set(value) & set(' ;,"=')


@pytest.mark.parametrize("piece", ['\\"', "ours=", "ours = ", "ours=x; ", '"', "o", " ", "=", ";", "ours=" + " " * 200])
def test_the_longest_header_is_read_in_linear_time(piece: str) -> None:
    header = (piece * MAX_HEADER_BYTES)[: 64 * MAX_HEADER_BYTES]
    began = time.process_time()
    cookie_values([header], "ours")
    assert time.process_time() - began < 5.0
