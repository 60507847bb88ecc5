"""What a held connection costs: memory before and with so many that have had one answer each."""

import socket
from contextlib import ExitStack

from peers import Gateway

from rig.probe import GOOD

REQUEST = f"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {GOOD}\r\n\r\n".encode()


def bytes_a_connection(gateway: Gateway, count: int) -> float:
    """Return by how much the gateway's memory (PSS) grows for each idle connection.

    The connections are opened one after another, each is used for one request, and all are held.

    Raises:
        RuntimeError: a request failed, or a connection was closed meanwhile.
    """
    with ExitStack() as stack:
        held = []
        before = gateway.process.memory_bytes()
        for _ in range(count):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            )
            connection.sendall(REQUEST)
            if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("a connection that is to be held was refused")
            held.append(connection)
        grown = gateway.process.memory_bytes() - before
        for connection in held:
            connection.setblocking(False)
            try:
                gone = not connection.recv(65536).endswith(b"}")  # late part of the answer, or end
            except BlockingIOError:
                gone = False
            if gone:
                raise RuntimeError("a held connection was closed")
    return grown / count
