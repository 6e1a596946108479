"""A cluster on this computer alone: what Ray's settings leave open is closed, and what was opened is looked at."""

from __future__ import annotations

from typing import Any

LOOPBACK = "127.0.0.1"
NOT_ON_LOOPBACK = (
    "Ray would have opened its ports to other computers, so it was ended; start without --backend ray, or name a "
    "cluster that you have started yourself with --ray-address."
)


class NotOnLoopback(RuntimeError):
    """A port of Ray would be reached from other computers."""


def check_node() -> None:
    """Raise NotOnLoopback unless the node of this process has the address on which Ray's own ports are bound there."""
    import ray

    if ray.util.get_node_ip_address() != LOOPBACK:
        raise NotOnLoopback(NOT_ON_LOOPBACK)


def keep_replica() -> None:
    """Have the replica that this process becomes listen on this computer alone; call it where the replica is made.

    Serve opens a port on all addresses in each replica, for deployments that call one another by gRPC.  This program's
    do not, and Serve has no setting for the address (``Replica._on_initialized`` of Ray 2.60), so it is put in here.
    Raises NotOnLoopback if that place is not there.
    """
    from ray.serve._private import replica

    if not hasattr(replica, "add_port_to_grpc_server"):
        raise NotOnLoopback(NOT_ON_LOOPBACK)
    add_port = replica.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, f"{LOOPBACK}:{address.rpartition(':')[2]}")

    replica.add_port_to_grpc_server = add_loopback_port
