"""Send a request and wait for its answer, on plain sockets: for Locust, whose gevent patches them.

The same requests, the same reader of answers and the same words for failures as the load
tester's own client; only what waits is a greenlet.
"""

import socket
import ssl
from collections.abc import Callable

from gateway.loadtest.answer import AnswerReader, InvalidAnswer
from gateway.loadtest.calls import Call
from gateway.loadtest.connection import kind_of
from gateway.loadtest.origins import Origin

_CHUNK = 65_536
_REST_SECONDS = 4.0


class BlockingClient:
    """Connections to one origin, kept alive, the last used first; nothing is retried.

    ``timeout_seconds`` bounds the time to connect, and from sent to answered.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        clock: Callable[[], float],
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._clock = clock
        self._timeout = timeout_seconds
        self._tls = tls if origin.secure else None
        self._resting: list[tuple[float, socket.socket]] = []

    def exchange(self, call: Call) -> None:
        """Send a request, and fill in when it was sent, when answered, and the status or error."""
        call.sent = self._clock()
        reader = AnswerReader(keep_body=call.target is None)
        connection = None
        try:
            connection = self._connection()
            call.sent = self._clock()
            connection.sendall(call.request)
            self._read(connection, reader, call.sent + self._timeout)
        except InvalidAnswer:
            call.error = "invalid"
        except EOFError:
            call.error = "closed"
        except socket.gaierror:
            call.error = "dns"
        except OSError as error:
            call.error = kind_of(error)
        else:
            call.status, call.body = reader.status, reader.body
        call.finished = self._clock()
        if connection is None:
            return
        if call.error is None and reader.reusable:
            self._resting.append((call.finished, connection))
        else:
            connection.close()

    def close(self) -> None:
        """Close the connections that rest."""
        while self._resting:
            self._resting.pop()[1].close()

    def _connection(self) -> socket.socket:
        while self._resting:
            since, connection = self._resting.pop()
            if self._clock() - since < _REST_SECONDS:
                return connection
            connection.close()
        host = self._origin.host
        connection = socket.create_connection((host, self._origin.port), timeout=self._timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_hostname=host)
        except OSError:
            connection.close()
            raise

    def _read(self, connection: socket.socket, reader: AnswerReader, until: float) -> None:
        while not reader.complete:
            left = until - self._clock()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_CHUNK)
            if data:
                reader.feed(data)
            elif not reader.end():
                raise EOFError
