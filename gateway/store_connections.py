"""Connections to Redis whose names are resolved as those of all upstreams are.

redis-py leaves that to the event loop and its few threads, which a name whose DNS server is silent
fills: one dead Sentinel's name would keep the others from being found.
"""

import asyncio
import socket
from typing import Any, TypeVar, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import Connection

from gateway.resolver import Resolver

_Kind = TypeVar("_Kind", bound=Connection)


def resolve_by(resolver: Resolver, client: Redis | RedisCluster) -> None:
    """Have the connections of a client resolve names by this resolver."""
    if isinstance(client, RedisCluster):
        kind = _resolving(client.connection_kwargs["connection_class"], resolver)
        client.connection_kwargs["connection_class"] = kind
        for node in client.startup_nodes:
            node.connection_class = kind
        return
    pool = client.connection_pool
    pool.connection_class = _resolving(cast("type[Connection]", pool.connection_class), resolver)


def _resolving(kind: type[_Kind], resolver: Resolver) -> type[_Kind]:
    class Resolving(kind):  # type: ignore[valid-type, misc]
        _address: str | None = None

        def _connection_arguments(self) -> dict[str, Any]:
            arguments = dict(super()._connection_arguments())
            if self._address is not None:
                if "ssl" in arguments:
                    arguments["server_hostname"] = arguments["host"]
                arguments["host"] = self._address
            return arguments

        async def _connect(self) -> None:
            async with asyncio.timeout(self.socket_connect_timeout):
                addresses = await resolver.addresses(self.host, self.port)
            failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
            for _, _, _, _, address in addresses:
                self._address = address[0]
                try:
                    await super()._connect()
                except OSError as error:
                    failure = error
                else:
                    return
            raise failure

    Resolving.__name__ = kind.__name__
    return Resolving
