"""Attacks byte for byte: requests that cost much work before they are refused, unless their sizes are looked at first.

The tests send each alone, ``benchmarks.soak`` all of them for a long time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from benchmarks.hostile_requests import API, RawAnswer, exchange, parse_answer

JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=b"


def head(method: str, path: str, cookie: str, *more: str) -> bytes:
    """A request's head with the given lines, valid or not."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *more]
    lines += [f"Cookie: {cookie}"] if cookie else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def call(body: bytes, cookie: str, path: str = f"{API}/queue/join") -> bytes:
    return head("POST", path, cookie, JSON, f"Content-Length: {len(body)}") + body


def chunked(pieces: int, size: int) -> bytes:
    """A chunked body of so many pieces."""
    return (f"{size:x}\r\n".encode() + b"x" * size + b"\r\n") * pieces + b"0\r\n\r\n"


def _quoted_cookie(cookie: str) -> bytes:
    return head("GET", "/", "", 'Cookie: a="' + '\\"' * 30_000 + '"', f"Cookie: {cookie}")


def _many_headers(cookie: str) -> bytes:
    return head("GET", "/", cookie, *(f"X-{k}: 1" for k in range(5000)))


def _many_fields(cookie: str) -> bytes:
    return head("GET", "/?" + "&".join(f"a{k}=1" for k in range(5000)), cookie)


def _long_query(cookie: str) -> bytes:
    return head("GET", "/?owner=" + "%41" * 20_000, cookie)


def _empty_lists(cookie: str) -> bytes:
    return call(b"[" + b"[]," * (8 * 2**20 // 3 - 2) + b"[]]", cookie)


def _escapes(cookie: str) -> bytes:
    return call(b'{"fn_index":0,"session_hash":"s","data":["' + b"\\u0041" * (8 * 2**20 // 6 - 20) + b'"]}', cookie)


def _deep(cookie: str) -> bytes:
    return call(b"[" * (8 * 2**20 - 1), cookie)


def _many_keys(cookie: str) -> bytes:
    return call(b"{" + b",".join(b'"k%d":0' % k for k in range(500_000)) + b"}", cookie)


def _long_numbers(cookie: str) -> bytes:
    return call(b'{"data":[' + b",".join([b"1" * 4000] * 2000) + b"]}", cookie)


def _tiny_chunks(cookie: str) -> bytes:
    return head("POST", f"{API}/queue/join", cookie, JSON, "Transfer-Encoding: chunked") + chunked(100_000, 1)


def _login_claims(cookie: str) -> bytes:
    return head("POST", "/login", cookie, "Content-Type: application/x-www-form-urlencoded", "Content-Length: 100")


def _wrong_password(cookie: str) -> bytes:
    form = "Content-Type: application/x-www-form-urlencoded"
    return head("POST", "/login", cookie, form, "Content-Length: 10") + b"password=x"


def _upload_claims(cookie: str) -> bytes:
    return head("POST", f"{API}/upload", cookie, FORM, "Content-Length: 60000000")


def _two_lengths(cookie: str) -> bytes:
    lengths = ("Content-Length: 10", "Transfer-Encoding: chunked")
    return head("POST", f"{API}/upload", cookie, FORM, *lengths) + chunked(1000, 65536)


def _hostile_form(cookie: str) -> bytes:
    """A text in a charset that Python decodes in quadratic time."""
    body = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"a" * 1_000_000 + b"\r\n--b--\r\n"
    return head("POST", f"{API}/upload", cookie, f"{FORM}; charset=punycode", f"Content-Length: {len(body)}") + body


def _history_pictures(cookie: str) -> bytes:
    return head("GET", "/history/picture/20260101-000000-0-0?format=webp", cookie)


def _get_with_body(cookie: str) -> bytes:
    return head("GET", "/", cookie, JSON, f"Content-Length: {8 << 20}") + b"[" * (8 << 20)


def prompt_bomb(cookie: str, function: int, model: str) -> bytes:
    """A prompt whose brackets a parser could read again and again, for the line that says what is understood.

    Args:
        cookie: of a guest.
        function: number of the page's function that says it.
        model: id of a model that reads weights.
    """
    text = "((((((masterpiece)))))), (red)1.2 fox, " * 50
    event = {"fn_index": function, "data": [model, text, "compel"], "event_data": {"text": text}, "session_hash": "s"}
    return call(json.dumps(event).encode(), cookie, f"{API}/run/predict")


# By name: the bytes of one request of a client with this cookie ("" for a stranger).
ATTACKS: Mapping[str, Callable[[str], bytes]] = {
    "quoted cookie": _quoted_cookie,
    "many headers": _many_headers,
    "many fields": _many_fields,
    "long query": _long_query,
    "empty lists": _empty_lists,
    "escapes": _escapes,
    "deep": _deep,
    "many keys": _many_keys,
    "long numbers": _long_numbers,
    "tiny chunks": _tiny_chunks,
    "login claims": _login_claims,
    "wrong password": _wrong_password,
    "upload claims": _upload_claims,
    "two lengths": _two_lengths,
    "hostile form": _hostile_form,
    "history pictures": _history_pictures,
    "GET with a body": _get_with_body,
}


def send_raw(address: str, sent: bytes, seconds: float = 60.0) -> RawAnswer:
    """Send these bytes; the answer until the server closes the connection or the time is over."""
    place = urlsplit(address)
    return parse_answer(exchange((place.hostname or "", place.port or 80), sent, seconds, seconds))
