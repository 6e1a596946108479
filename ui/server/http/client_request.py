"""A request's head: bounded before anything in it is parsed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import Scope

from ui.server.http.cookies import cookie_values

# Bytes of a path with its query, of one header, and of all headers; and how many headers and fields of a query.
MAX_TARGET_BYTES, MAX_HEADER_BYTES, MAX_HEAD_BYTES = 8192, 16384, 32768
MAX_HEADERS, MAX_QUERY_FIELDS = 100, 32
# What browsers and chat programs say when they fetch a page that nobody has asked for yet.
_PREFETCH_HEADERS = ("sec-purpose", "purpose", "x-purpose", "x-moz")
_PREFETCH_WORDS = ("prefetch", "prerender", "preview")
_PREVIEW_AGENTS = (
    "bot", "preview", "crawler", "spider", "facebookexternalhit", "whatsapp", "slack", "discord", "telegram", "embedly",
    "skypeuri", "linkexpander", "unfurl", "snapchat", "mastodon", "pleroma", "synapse", "viber", "vkshare",
)  # fmt: skip


# The page and its settings: Gradio would look for other pages and stored values in the rest of the address.
_PAGE = ("/", "/config", "/config/")
# Files: the rest of their addresses says nothing.
_FILES = ("/assets/", "/static/", "/svelte/")
_FORWARDED_HOST, _FORWARDED_PROTO, _GRADIO_SERVER = b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server"


class HeadTooLarge(ValueError):
    """A head that is refused unread; the message is one sentence, ``status`` the answer's status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def check_head(scope: Scope) -> None:
    """Check the size of a request's head, without parsing it.

    Raises:
        HeadTooLarge: if it is beyond the bounds.
    """
    query, headers = scope.get("query_string", b""), scope["headers"]
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    if len(path) + len(query) > MAX_TARGET_BYTES:
        raise HeadTooLarge("The address is too long.", 414)
    if query.count(b"&") + query.count(b";") >= MAX_QUERY_FIELDS:
        raise HeadTooLarge("The address has too many fields.", 400)
    sizes = [len(name) + len(value) for name, value in headers]
    if len(sizes) > MAX_HEADERS or max(sizes, default=0) > MAX_HEADER_BYTES or sum(sizes) > MAX_HEAD_BYTES:
        raise HeadTooLarge("The headers are too large; delete this address's cookies in your browser.", 431)


def for_gradio(scope: Scope, is_own_host: Callable[[str], bool]) -> Scope:
    """A request as Gradio may see it, with nothing that makes it render or look for what this program does not have.

    It needs no cookies, and would parse those of other programs; the page is the same whatever stands behind its
    address; and of a proxy only the names of this server are believed.

    Args:
        is_own_host: whether a host, with or without a port, is one of the server's.
    """

    def stays(name: bytes, value: bytes) -> bool:
        first = value.split(b",")[0].strip().decode("latin-1")
        if name == _FORWARDED_HOST:
            return is_own_host(first)
        return name not in (b"cookie", _GRADIO_SERVER) and (name != _FORWARDED_PROTO or first in ("http", "https"))

    scope["headers"] = [(name, value) for name, value in scope["headers"] if stays(name.lower(), value)]
    if scope["path"] in _PAGE or scope["path"].startswith(_FILES):
        scope["query_string"] = b""
    return scope


class ClientRequest(Request):
    """A request's head, which ``check_head`` has allowed; its body is read through ``receive`` alone."""

    @property
    def path(self) -> str:
        return self.scope["path"]

    def header(self, name: str) -> str:
        """The one value of a header; "" if it is missing or given more than once."""
        values = self.headers.getlist(name)
        return values[0] if len(values) == 1 else ""

    def cookie_values(self, name: str) -> tuple[str, ...]:
        """Every value that cookies of this name may have."""
        return cookie_values(self.headers.getlist("cookie"), name)

    @property
    def host(self) -> str:
        return self.header("host")

    @property
    def wants_html(self) -> bool:
        return "text/html" in self.header("accept")

    @property
    def bearer_token(self) -> str:
        kind, _, token = self.header("authorization").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""

    @property
    def content_length(self) -> int | None:
        """Bytes of the body as the client announces them; None without a valid number."""
        size = self.header("content-length")
        return int(size) if size.isascii() and size.isdecimal() and len(size) < 19 else None

    @property
    def is_chunked(self) -> bool:
        """Whether its body comes in pieces of a length that the client does not announce."""
        return "transfer-encoding" in self.headers

    @property
    def has_ambiguous_body(self) -> bool:
        """Whether its length is given in two ways, of which proxies and servers believe different ones."""
        lengths = self.headers.getlist("content-length")
        return len(lengths) > 1 or (bool(lengths) and self.is_chunked)

    def is_from_another_site(self, own_origins: frozenset[str] = frozenset()) -> bool:
        """Whether a page of another site sends it; clients that are no browsers send neither of these headers.

        Args:
            own_origins: hosts, with their ports if they are no usual ones, under which a proxy shows this page.
        """
        if self.header("sec-fetch-site") not in ("", "same-origin", "none"):
            return True
        if "origin" not in self.headers:
            return False
        try:
            origin = urlsplit(self.header("origin"))
        except ValueError:
            return True
        return origin.scheme not in ("http", "https") or origin.netloc.lower() not in own_origins | {self.host.lower()}

    @property
    def is_navigation(self) -> bool:
        """Whether a browser opens it as a page of its own, as after a click on a link."""
        return self.header("sec-fetch-mode") == "navigate" and self.header("sec-fetch-dest") in ("", "document")

    @property
    def is_preview_program(self) -> bool:
        """Whether a chat's or a search engine's program asks, by its own words."""
        agent = self.header("user-agent").lower()
        return any(name in agent for name in _PREVIEW_AGENTS)

    @property
    def origin(self) -> str:
        """The address under which the client reaches this server, without a path."""
        secure = self.header("x-forwarded-proto") == "https" or not _is_in_this_network(self.host)
        return f"{'https' if secure else 'http'}://{self.host}"

    @property
    def is_preview(self) -> bool:
        """Whether a program looks at the address before a person opens it: a prefetch, or a chat's link preview."""
        purposes = " ".join(self.header(name).lower() for name in _PREFETCH_HEADERS)
        return (
            any(word in purposes for word in _PREFETCH_WORDS)
            or self.header("sec-fetch-dest") not in ("", "document")
            or self.is_preview_program
        )


def _is_in_this_network(host: str) -> bool:
    """Whether a host is one of a network at home, where nothing but this server answers: an address or a bare name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return "." not in name or name.endswith(".local") or ipaddress.ip_address(name).is_private
    except ValueError:
        return False
