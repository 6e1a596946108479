"""Under which address other devices of the same network reach the page."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn import Server

# Interfaces of containers and virtual machines, which other devices do not see.
VIRTUAL = ("lo", "docker", "br-", "veth", "virbr", "vmnet", "utun")
# An address that no computer has (RFC 5737): the system says from which of its own it would ask there.
NOWHERE = ("192.0.2.1", 9)
COMMAND = "make run ARGS='--host 0.0.0.0'" if sys.platform != "win32" else "python app.py --host 0.0.0.0"


@dataclass(frozen=True)
class NetworkShare:
    """How devices of the same network reach the page.

    Attributes:
        url: the page's address there; "" while it listens on this computer alone.
        user, password: what guests must give.
        command: starts the program so that it listens to the network.
    """

    url: str = ""
    user: str = ""
    password: str = ""
    command: str = COMMAND


def network_url(host: str, port: int, root_path: str = "", own: Iterable[str] | None = None) -> str:
    """The page's address for other devices; "" if there is none.

    Args:
        host: where the server listens.
        port: of the server.
        root_path: of the page behind a proxy.
        own: this computer's addresses, the likeliest first; found out if not given.
    """
    address = ipaddress.ip_address(host) if _is_address(host) else None
    if host == "localhost" or (address is not None and address.is_loopback):
        return ""
    if address is None or not address.is_unspecified:
        name = f"[{host}]" if address is not None and address.version == 6 else host
        return f"http://{name}:{port}{root_path}"
    found = next(iter(own_addresses() if own is None else own), "")
    return f"http://{found}:{port}{root_path}" if found else ""


def is_unspecified(host: str) -> bool:
    """Whether a server on ``host`` listens on every address of this computer."""
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def listen_on_ipv4(server: Server) -> None:
    """Have a running server on ``::`` answer IPv4 clients, too: asyncio's own sockets of IPv6 take no others.

    Raises:
        OSError: if another program has the port there.
    """
    config, loop = server.config, server.servers[0].get_loop()

    def protocol() -> asyncio.Protocol:
        made = config.http_protocol_class(  # type: ignore[call-arg, operator]
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )
        return made  # type: ignore[no-any-return]

    async def listen() -> None:
        server.servers.append(await loop.create_server(protocol, "0.0.0.0", config.port, backlog=config.backlog))

    asyncio.run_coroutine_threadsafe(listen(), loop).result()


def own_addresses() -> list[str]:
    """This computer's IPv4 addresses in private networks, the one that it sends from first."""
    import psutil

    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup and not name.startswith(VIRTUAL)}
    entries = (entry for name, entries in psutil.net_if_addrs().items() if name in up for entry in entries)
    private = [entry.address for entry in entries if entry.family == socket.AF_INET and _is_private(entry.address)]
    sends_from = _source_address()
    return sorted(private, key=lambda address: address != sends_from)


def _source_address() -> str:
    """The address that this computer sends from; nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(NOWHERE)
        return str(probe.getsockname()[0])
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_private(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_private and not found.is_loopback and not found.is_link_local
