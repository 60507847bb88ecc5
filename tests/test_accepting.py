"""Accepting connections: in parts, within the descriptors, and with handshakes that are bounded."""

import asyncio
import errno
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from typing import cast

import pytest
from clocks import FakeClock
from proxy.gateways import LogText, until

from gateway import accepting
from gateway.accepting import Acceptor, PlainEntrance, TlsEntrance
from gateway.demo.certificate import write_certificate


class Counted:
    """Satisfies ``Counting``."""

    def __init__(self) -> None:
        self.failed_accepts = 0
        self.under_way = 0
        self.ended: Counter[str | None] = Counter()

    def accept_failed(self) -> None:
        self.failed_accepts += 1

    def handshake_began(self) -> None:
        self.under_way += 1

    def handshake_ended(self, failure: str | None) -> None:
        self.under_way -= 1
        self.ended[failure] += 1


class Scripted:
    """A listening socket whose next accepts fail with these errors."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self.errors = list(errors)
        self.tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self._real.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class Echo(asyncio.Protocol):
    """Says what it was told, and how many there are."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        Echo.made += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        Echo.made = 0
        yield sock


def clients(listening: socket.socket, count: int) -> list[socket.socket]:
    """Return connections that wait to be accepted."""
    return [socket.create_connection(listening.getsockname()) for _ in range(count)]


async def cut_off(client: socket.socket) -> None:
    """Wait until a client's connection has ended."""
    client.setblocking(False)
    async with asyncio.timeout(10):
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


async def test_a_crowd_is_accepted_in_parts(listening: socket.socket) -> None:
    """So many in one turn of the loop, or all others would wait for all of them."""
    taken: list[socket.socket] = []
    acceptor = Acceptor(listening, taken.append, counting=Counted())
    crowd = clients(listening, 40)
    assert [acceptor.accept_some() for _ in range(4)] == [16, 16, 8, 0]
    assert len(taken) == 40
    acceptor.close()
    close(crowd + taken)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_no_descriptor_is_left(
    listening: socket.socket, clock: FakeClock, log: LogText, number: int
) -> None:
    """It was 45,000 error lines in 20 s, and a busy loop: one line a second, and pauses."""
    counted, taken = Counted(), list[socket.socket]()
    scripted = Scripted(listening, *[number] * 5)
    acceptor = Acceptor(scripted, taken.append, counting=counted, clock=clock)  # type: ignore[arg-type]
    crowd = clients(listening, 1)
    for _ in range(3):
        acceptor.accept_some()
    clock.advance(1)
    for _ in range(2):
        acceptor.accept_some()
    assert counted.failed_accepts == 5
    said = [record["failures_not_logged"] for record in log.named("connections can't be accepted")]
    assert said == [0, 2]
    acceptor.close()
    close(crowd)


async def test_nothing_is_tried_until_a_while_after_a_failure(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop isn't told of who waits, and then accepts them."""
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.0)
    taken: list[socket.socket] = []
    scripted = Scripted(listening, errno.EMFILE)
    acceptor = Acceptor(scripted, taken.append, counting=Counted())  # type: ignore[arg-type]
    crowd = clients(listening, 3)
    await until(lambda: len(taken) == 3)
    assert scripted.errors == []
    acceptor.close()
    close(crowd + taken)


async def test_who_has_connected_is_served_before_the_port_closes(
    listening: socket.socket,
) -> None:
    """The queue of those who waited was reset: 1 to 8 of 1,700 lost at each restart."""
    entrance = PlainEntrance(Echo)
    acceptor = Acceptor(listening, entrance.take, counting=Counted())
    crowd = clients(listening, 50)
    assert Echo.made == 0
    await acceptor.drain()
    await until(lambda: Echo.made == 50)
    assert not acceptor.serving
    close(crowd)


async def test_nobody_joins_a_queue_that_closes(listening: socket.socket) -> None:
    """They are as good as refused, and try again; whoever listens next takes all."""
    if not accepting.refuse_more(listening):
        pytest.skip("only Linux can")
    address = listening.getsockname()
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=0.05)
    accepting.take_all(listening)
    socket.create_connection(address, timeout=10).close()


# With TLS.


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    files = write_certificate(folder, "localhost", now_at=time.time())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Door:
    """A TLS entrance with its acceptor."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        *,
        most: int = 1000,
        timeout_seconds: float = 60,
        clock: FakeClock | None = None,
    ) -> None:
        self.counted = Counted()
        self.entrance = TlsEntrance(
            Echo,
            context=lambda: context,
            crowded=lambda: len(self.entrance) + Echo.made >= most,
            full=lambda: len(self.entrance) + Echo.made > most,
            timeout_seconds=lambda: timeout_seconds,
            counting=self.counted,
            clock=clock,
        )
        self.acceptor = Acceptor(listening, self.entrance.take, counting=self.counted)
        self.address = listening.getsockname()

    async def greet(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect as a client that shakes hands."""
        host, port = self.address
        return await asyncio.open_connection(host, port, ssl=trusting())

    def close(self) -> None:
        self.acceptor.close()
        self.entrance.close()


async def test_a_handshake(listening: socket.socket, context: ssl.SSLContext) -> None:
    """It is counted while it goes on, and makes a connection."""
    door = Door(listening, context)
    silent = clients(listening, 1)
    await until(lambda: door.counted.under_way == 1)
    reader, writer = await door.greet()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await until(lambda: door.counted.ended == {None: 1})
    assert (door.counted.under_way, len(door.entrance)) == (1, 1)
    writer.close()
    door.close()
    assert (door.counted.under_way, len(door.entrance)) == (0, 0)
    close(silent)


async def test_silent_clients_keep_nobody_out(
    listening: socket.socket, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 of them took all descriptors, uncounted: the ones there for longest make room."""
    monkeypatch.setattr(accepting, "MOST_HANDSHAKES", 5)
    door = Door(listening, context)
    silent = clients(listening, 30)
    await until(lambda: door.counted.ended["displaced"] == 25)
    assert len(door.entrance) == 5
    reader, writer = await door.greet()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    door.close()
    close(silent)


async def test_handshakes_count_as_connections(
    listening: socket.socket, context: ssl.SSLContext
) -> None:
    """From when they are accepted: one too many is closed, where all have begun to shake hands."""
    door = Door(listening, context, most=3)
    crowd = clients(listening, 3)
    for client in crowd:
        client.sendall(b"\x16\x03\x01")
    await until(lambda: door.counted.under_way == 3 and not door.entrance.silent)
    crowd += clients(listening, 2)
    await until(lambda: door.counted.ended["full"] == 2)
    assert len(door.entrance) == 3
    close(crowd)
    await until(lambda: len(door.entrance) == 0)
    door.close()


async def test_silent_clients_at_the_limit_of_connections_keep_nobody_out(
    listening: socket.socket, context: ssl.SSLContext
) -> None:
    """As many as may be closed the TLS port until their time was over: now they make room."""
    door = Door(listening, context, most=3)
    silent = clients(listening, 5)
    await until(lambda: door.counted.ended["displaced"] == 2)
    assert len(door.entrance) == 3
    reader, writer = await door.greet()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await until(lambda: door.counted.ended == {"displaced": 3, None: 1})
    writer.close()
    door.close()
    close(silent)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_handshake_has_its_time(
    listening: socket.socket, context: ssl.SSLContext, said: bytes
) -> None:
    """From the beginning of the connection, whatever has come of it."""
    door = Door(listening, context, timeout_seconds=0.01)
    (client,) = clients(listening, 1)
    client.sendall(said)
    await until(lambda: door.counted.ended == {"timeout": 1})
    await cut_off(client)
    door.close()
    client.close()


async def test_failed_handshakes_are_counted_and_seldom_logged(
    listening: socket.socket, context: ssl.SSLContext, clock: FakeClock, log: LogText
) -> None:
    """Nothing told of them: a line a second at most, with the reason of the first."""
    door = Door(listening, context, clock=clock)
    crowd = clients(listening, 20)
    for client in crowd:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: door.counted.ended["tls"] == 20)
    (said,) = log.named("TLS handshake failed")
    assert (said["why"], said["reason"]) == ("tls", "HTTP_REQUEST")
    door.close()
    close(crowd)


async def test_a_client_that_leaves_in_its_handshake(
    listening: socket.socket, context: ssl.SSLContext
) -> None:
    """It is counted as gone."""
    door = Door(listening, context)
    crowd = clients(listening, 2)
    crowd[0].sendall(b"\x16\x03\x01")
    close(crowd)
    await until(lambda: door.counted.under_way == 0 and sum(door.counted.ended.values()) == 2)
    assert None not in door.counted.ended
    door.close()
