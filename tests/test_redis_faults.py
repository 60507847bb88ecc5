"""Why Redis can't be asked, as the log has it: the reason, where, and no secret."""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis import exceptions
from redis_server import RedisServer, free_port
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.redis_faults import is_refusal, reason_of
from gateway.settings import Store
from gateway.store import open_store
from gateway.tokens import token_key


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            exceptions.AuthenticationError("invalid password"),
            "wrong user or password",
        ),
        (exceptions.AuthenticationError("Authentication required."), "a password is needed"),
        (
            exceptions.NoPermissionError("User x has no permissions to run the 'mget' command"),
            "the user may not run mget",
        ),
        (
            exceptions.NoPermissionError("this user may not access the 'token:abc' key"),
            "the user may not use these keys",
        ),
        (exceptions.ResponseError("CLUSTERDOWN Hash slot not served"), "CLUSTERDOWN"),
        (exceptions.ResponseError("unknown command 'x', with args: 'token:abc'"), "ResponseError"),
        (
            exceptions.ConnectionError("Connection closed by server."),
            "the server closed the connection",
        ),
        (exceptions.TimeoutError("Timeout reading from h:1"), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "connection refused"),
        (OSError(-2, "Name or service not known"), "name or service not known"),
        (exceptions.RedisClusterException("token:abc"), "RedisClusterException"),
    ],
)
def test_what_is_told(fault: Exception, reason: str) -> None:
    """What is known of a fault, and nothing that may quote a key."""
    assert reason_of(fault) == reason


def test_what_went_wrong_first_is_told() -> None:
    """A library's error says where; its cause says why."""
    error = exceptions.ConnectionError("Error 111 connecting to h:1")
    error.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "x")
    assert (reason_of(error), is_refusal(error)) == ("connection refused", False)


@pytest.mark.parametrize(
    ("reason", "hints"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", True),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", True),
        ("WRONG_VERSION_NUMBER", False),
    ],
)
def test_what_tls_says(reason: str, hints: bool) -> None:
    """OpenSSL's reason in words; where a certificate may be missing, that it may be."""
    fault = ssl.SSLError(1, "x")
    fault.reason = reason
    words = f"TLS failed: {reason.replace('_', ' ').lower()}"
    assert reason_of(fault) == words
    assert is_refusal(fault)
    told = reason_of(fault, lacks_certificate=True)
    assert told.startswith(words)
    assert ("store.tls_certificate" in told) == hints


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate for 127.0.0.1 and its key, which sign themselves."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, name: str) -> "Pair":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, hashes.SHA256())
        )
        pair = cls(directory / f"{name}.crt", directory / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Certificates of the server, of the gateway, and of a stranger."""
    directory = tmp_path_factory.mktemp("pairs")
    return {name: Pair.make(directory, name) for name in ("server", "gateway", "stranger")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@asynccontextmanager
async def with_tls(server: RedisServer, pairs: dict[str, Pair]) -> AsyncIterator[int]:
    """Yield the port of that server where clients need a certificate (``tls-auth-clients``).

    Before it, because not every redis-server speaks TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pairs["server"].certificate, pairs["server"].key)
    context.load_verify_locations(pairs["gateway"].certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    serving: set[asyncio.Task[Any]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_redis = await asyncio.open_connection("127.0.0.1", server.port)
        for way in ((reader, to_redis[1]), (to_redis[0], writer)):
            task = asyncio.create_task(pass_on(*way))
            serving.add(task)
            task.add_done_callback(serving.discard)

    front = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def store_settings(pairs: dict[str, Pair], **chosen: Any) -> Store:
    trusted = {"ca_file": str(pairs["server"].certificate), "timeout": "10s"}
    return Store.model_validate(trusted | chosen)


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel"])
def test_a_client_certificate_is_a_setting_for_all_servers(
    pairs: dict[str, Pair], scheme: str
) -> None:
    """Of Redis and of the Sentinels that know where it is."""
    own = {
        "tls_certificate": str(pairs["gateway"].certificate),
        "tls_key": str(pairs["gateway"].key),
    }
    path = "/tokens" if "sentinel" in scheme else ""
    store = open_store(store_settings(pairs, url=f"{scheme}://h{path}", **own))
    for client in (store.client, *store._sentinels):
        given = client.connection_pool.connection_kwargs  # type: ignore[union-attr]
        assert (given["ssl_certfile"], given["ssl_keyfile"]) == tuple(own.values())


async def test_a_redis_that_asks_for_a_client_certificate(
    server: RedisServer, pairs: dict[str, Pair]
) -> None:
    """With the setting it is reached; without it, or with a stranger's, the log says why."""
    async with with_tls(server, pairs) as port:
        for who, reached in (("gateway", True), (None, False), ("stranger", False)):
            own = {}
            if who is not None:
                own = {
                    "tls_certificate": str(pairs[who].certificate),
                    "tls_key": str(pairs[who].key),
                }
            store = open_store(store_settings(pairs, url=f"rediss://127.0.0.1:{port}", **own))
            with capture_logs() as logs:
                try:
                    assert await store.find_many([token_key("x")]) == [None]
                except StoreUnavailable:
                    assert not reached
                else:
                    assert reached
            await store.close()
            if not reached:
                (entry,) = logs
                assert entry["store"] == f"127.0.0.1:{port}"
                # The alert, or a closed connection if that comes first.
                assert entry["reason"].startswith(
                    ("TLS failed: ", "connection reset", "the server")
                )
                assert (who is None) == ("(store.tls_certificate)" in entry["reason"])


async def test_a_server_that_is_not_trusted(server: RedisServer, pairs: dict[str, Pair]) -> None:
    """The log says that it is the certificate, and what is wrong with it."""
    async with with_tls(server, pairs) as port:
        untrusting = {"ca_file": str(pairs["stranger"].certificate)}
        store = open_store(store_settings(pairs, url=f"rediss://127.0.0.1:{port}", **untrusting))
        with capture_logs() as logs, pytest.raises(StoreUnavailable):
            await store.ping()
        await store.close()
    assert logs[0]["reason"].startswith("the server's certificate isn't trusted: ")


async def test_a_wrong_password_is_logged_as_what_it_is(server: RedisServer) -> None:
    """With the host and the port, also where Redis could not be reached at all before."""
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "s3cret")
    store = open_store(Store.model_validate({"url": f"redis://:wr0ng@127.0.0.1:{server.port}"}))
    other_port = free_port()
    with capture_logs() as logs:
        pool: Any = store.client.connection_pool  # type: ignore[union-attr]
        pool.connection_kwargs["port"] = other_port
        for port in (other_port, other_port, server.port, server.port):
            pool.connection_kwargs["port"] = port
            await pool.disconnect()
            for connection in pool._available_connections:
                connection.port = port
            with pytest.raises(StoreUnavailable):
                await store.ping()
    await store.close()
    place = f"127.0.0.1:{server.port}"
    assert [(entry["store"], entry["reason"]) for entry in logs] == [
        (place, "connection refused"),
        (place, "wrong user or password"),
    ]
    assert "wr0ng" not in repr(logs)
