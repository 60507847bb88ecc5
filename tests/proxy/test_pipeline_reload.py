"""Reloading settings: the next request goes by the new ones, what is under way by the old."""

import asyncio

from backends import Connection, RecordingBackend, answering, recording, scripted
from clocks import FakeClock
from wire import connect, fetch, request

from gateway.app import Gateway
from gateway.tokens import token_key
from proxy.gateways import count, running, settings_for, until
from proxy.test_websocket import HANDSHAKE, echo, talking

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def reload(gateway: Gateway, upstream: str, **sections: object) -> None:
    """Reload with these sections, and all else as it was."""
    gateway.reload(settings_for(upstream, **sections))


async def test_routes_change_for_the_next_request(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Also on a connection that was open before."""
    async with (
        scripted(answering(OK)) as other,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.answer()).body == b"from the backend"
        reload(gateway, other.url)
        await client.send(request("/"))
        assert (await client.answer()).body == b"ok"
        reload(gateway, other.url, routes=[{"path": "/elsewhere", "upstream": other.url}])
        await client.send(request("/"))
        assert (await client.answer()).status == 404
    assert len(backend.seen) == 1


async def test_what_is_under_way_finishes_by_the_old_settings() -> None:
    """Its upstream's connection stays until then, and is closed after."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfirst")
        reached.set()
        await go.wait()
        await connection.send(b"end")
        await connection.rest()

    async with (
        scripted(script) as old,
        recording() as new,
        running(old.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        await reached.wait()
        reload(gateway, new.url)
        assert (await fetch(gateway.url, request("/"))).body == b"from the backend"
        assert len(gateway._retired) == 1
        go.set()
        assert (await client.answer()).body == b"firstend"
        async with asyncio.timeout(10):
            await old.connections[0].gone.wait()
        await until(lambda: not gateway._retired)
        await client.send(request("/"))
        assert (await client.answer()).body == b"from the backend"


async def test_a_websocket_goes_on() -> None:
    """A reload is no reason to hang up."""
    async with (
        recording(talking(echo), reads=False) as old,
        recording() as new,
        running(old.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/ws", *HANDSHAKE))
        assert (await client.head()).status == 101
        reload(gateway, new.url)
        await client.send(b"\x81\x82\x00\x00\x00\x00hi")
        assert await client.read(4) == b"\x81\x02hi"


async def test_max_age_changes_at_once(backend: RecordingBackend) -> None:
    """Facts that are cached already are held to the new bound."""
    clock = FakeClock()
    async with running(backend.url, clock=clock, cache={"max_age": "15m"}) as gateway:
        assert (await fetch(gateway.url, request("/"))).status == 200
        await gateway.store.delete([token_key("good")])
        clock.advance(60)
        assert (await fetch(gateway.url, request("/"))).status == 200
        reload(gateway, backend.url, cache={"max_age": "60s"})
        assert (await fetch(gateway.url, request("/"))).status == 401


async def test_the_cache_survives(gateway: Gateway, backend: RecordingBackend) -> None:
    """A reload doesn't send everybody to the store."""
    assert (await fetch(gateway.url, request("/"))).status == 200
    reload(gateway, backend.url)
    await gateway.store.delete([token_key("good")])
    assert (await fetch(gateway.url, request("/"))).status == 200


async def test_limits_change(gateway: Gateway, backend: RecordingBackend) -> None:
    """Those of requests for the next one, those of connections for the next one of these."""
    data = request("/", method="POST", body=b"x" * 2000)
    async with connect(gateway.url) as client:
        await client.send(data)
        assert (await client.answer()).status == 200
        limits = {"body": "1KiB", "headers": "1KiB", "connections": 1}
        reload(gateway, backend.url, limits=limits)
        await client.send(data)
        assert (await client.answer()).status == 413
        assert await client.ended()
    await until(lambda: count(gateway, "gateway_connections") == 0)
    async with connect(gateway.url) as client:
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        assert (await fetch(gateway.url, request("/"))).status == 503
        await client.send(request("/", "X-A: " + "x" * 1000))
        assert (await client.answer()).status == 431
