"""What the gateway leans on in aiohttp, some of it private: an upgrade that drops it fails here."""

import inspect
import os
import subprocess
import sys

import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, client_proto, web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientResponse
from aiohttp.http_writer import StreamWriter
from aiohttp.web_protocol import RequestHandler

from gateway.app import Gateway
from gateway.proxy.server import GatewayConnection, require_c_parser
from gateway.upstream import open_session

ATTRIBUTES = [
    (RequestHandler, "_close"),
    (RequestHandler, "_current_request"),
    (RequestHandler, "_force_close"),
    (RequestHandler, "_keepalive_timeout"),
    (RequestHandler, "_loop"),
    (RequestHandler, "_manager"),
    (RequestHandler, "_messages"),
    (RequestHandler, "_next_keepalive_close_time"),
    (RequestHandler, "_upgraded"),
    (BaseProtocol, "_buffer_paused"),
    (BaseProtocol, "_parser"),
    (BaseProtocol, "_reading_paused"),
    (RequestHandler, "_request_count"),
    (RequestHandler, "_waiter"),
    (ResponseHandler, "_payload"),
    (StreamWriter, "_headers_buf"),
    (StreamWriter, "_headers_written"),
    (TCPConnector, "_factory"),
    (ClientSession, "_retry_connection"),
    (web.Server, "_kwargs"),
    (web.StreamResponse, "_keep_alive"),
    (web.StreamResponse, "_must_be_empty_body"),
    (web.StreamResponse, "_payload_writer"),
    (web.StreamResponse, "_req"),
]
METHODS = [
    (RequestHandler, "close", "self"),
    (RequestHandler, "connection_lost", "self, exc"),
    (RequestHandler, "connection_made", "self, transport"),
    (RequestHandler, "data_received", "self, data"),
    (RequestHandler, "finish_response", "self, request, resp, start_time"),
    (RequestHandler, "force_close", "self"),
    (RequestHandler, "handle_error", "self, request, status, exc, message"),
    (RequestHandler, "log_exception", "self, args, kw"),
    (RequestHandler, "pause_writing", "self"),
    (RequestHandler, "resume_writing", "self"),
    (RequestHandler, "set_parser", "self, parser, data_received_cb"),
    (RequestHandler, "shutdown", "self, timeout"),
    (RequestHandler, "_pause_transport_reading", "self"),
    (RequestHandler, "_process_keepalive", "self"),
    (RequestHandler, "_resume_transport_reading", "self"),
    (ResponseHandler, "is_connected", "self"),
    (ResponseHandler, "set_exception", "self, exc, exc_cause"),
    (StreamWriter, "send_headers", "self"),
    (web.StreamResponse, "_prepare_headers", "self"),
    (web.StreamResponse, "_write_headers", "self"),
    (web.StreamResponse, "write_eof", "self, data"),
    (web.WebSocketResponse, "_handshake", "self, request"),
    (web_protocol._ErrInfo, "__init__", "self, status, exc, message"),
]


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_private_attributes_are_there(owner: type, name: str) -> None:
    """Aiohttp's own code still sets them, under these names."""
    source = inspect.getsource(owner)
    assert f"self.{name}" in source


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS)
def test_methods_that_are_called_or_overridden(owner: type, name: str, parameters: str) -> None:
    """They are there and take what they took."""
    assert ", ".join(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_aiohttp_ends_a_request_by_its_own_fault_as_we_expect() -> None:
    """A ConnectionError out of ``handle_error`` ends the connection, without another answer."""
    source = inspect.getsource(RequestHandler._handle_request)
    assert "resp = self.handle_error(request, 500, exc)" in source
    assert "except ConnectionError:" in inspect.getsource(RequestHandler.start)


def test_the_c_parser_is_in_use() -> None:
    """Known smuggling faults were in the parser written in Python (CVE-2023-47627)."""
    require_c_parser()
    assert vars(web_protocol)["HttpRequestParser"].__module__ == "aiohttp._http_parser"
    assert vars(client_proto)["HttpResponseParser"].__module__ == "aiohttp._http_parser"


def test_the_gateway_does_not_start_without_the_c_parser() -> None:
    """Neither where the environment turns it off."""
    code = "from gateway.proxy.server import require_c_parser; require_c_parser()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.splitlines()[-1].startswith("RuntimeError: aiohttp's C parser is not in use")


async def test_the_session_adds_remembers_and_follows_nothing() -> None:
    """The switches of the client."""
    session = open_session(
        connect_timeout_seconds=1,
        read_timeout_seconds=2,
        idle_timeout_seconds=3,
        connections=4,
    )
    try:
        assert session._retry_connection is False
        assert session.auto_decompress is False
        assert session.trust_env is False
        assert isinstance(session.cookie_jar, DummyCookieJar)
        assert {name.lower() for name in session.skip_auto_headers} == {
            *("accept", "accept-encoding", "content-type", "user-agent")
        }
        assert (session.timeout.total, session.timeout.sock_read) == (None, 2)
        assert (session.timeout.connect, session.timeout.sock_connect) == (1, 1)
        assert session.connector is not None
        assert (session.connector.limit, session.connector.limit_per_host) == (4, 0)
        protocol = session.connector._factory()
        assert isinstance(protocol, ResponseHandler)
        assert type(protocol) is not ResponseHandler
    finally:
        await session.close()


async def test_the_server_cancels_and_keeps_as_we_want(gateway: Gateway) -> None:
    """The switches of the server."""
    server = gateway._server
    assert server is not None
    assert server.handler_cancellation is True
    connection = server()
    assert isinstance(connection, GatewayConnection)
    assert connection.keepalive_timeout == 75
    assert connection.access_logger is None
    assert (connection.max_line_size, connection.max_field_size) == (16384, 16384)


def test_a_client_response_can_be_closed_after_its_end() -> None:
    """``close`` on an answer that gave its connection back leaves that alone."""
    source = inspect.getsource(ClientResponse.close)
    assert "if self._connection is not None:" in source
