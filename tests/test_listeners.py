"""The sockets: without and with TLS, and certificates that are replaced while they are in use."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from backends import recording
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from proxy.gateways import running, settings_for
from wire import Answer, connect, request

from gateway.app import Gateway
from gateway.errors import SettingsError
from gateway.listeners import authority


class Pair:
    """A self-signed certificate and its key, in files."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"

    def issue(self, name: str, *, with_key: bool = True) -> None:
        """Write a certificate of this name; without its key, the files don't fit together."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=36500))
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if with_key:
            self.key.write_bytes(self._encoded(key, serialization.NoEncryption()))

    def encrypt_key(self) -> None:
        """Protect the key with a password that nobody gives."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"password")
        self.key.write_bytes(self._encoded(key, encryption))

    @property
    def settings(self) -> dict[str, object]:
        return {"tls_certificate": str(self.certificate), "tls_key": str(self.key)}

    @staticmethod
    def _encoded(key: object, encryption: serialization.KeySerializationEncryption) -> bytes:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A certificate named "first"."""
    pair = Pair(tmp_path)
    pair.issue("first")
    return pair


def trusting(alpn: list[str] | None = None) -> ssl.SSLContext:
    """Return a client's context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


async def call(url: str | None) -> tuple[str, Answer]:
    """Return the name on the certificate, and the answer to a request."""
    assert url is not None
    async with connect(url, tls=trusting()) as client:
        encoded = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await client.send(request("/"))
        answer = await client.answer()
    certificate = x509.load_der_x509_certificate(encoded)
    return str(certificate.subject.rfc4514_string()), answer


async def test_tls_and_plain_on_two_ports(pair: Pair) -> None:
    """Each says what it is, and the backend learns how the client came."""
    listen = pair.settings | {"tls_port": 0}
    async with recording() as backend, running(backend.url, listen=listen) as gateway:
        assert gateway.url.startswith("http://127.0.0.1:")
        assert (gateway.tls_url or "").startswith("https://127.0.0.1:")
        name, answer = await call(gateway.tls_url)
        assert (name, answer.status) == ("CN=first", 200)
        async with connect(gateway.url) as client:
            await client.send(request("/"))
            assert (await client.answer()).status == 200
        protocols = [seen.values("X-Forwarded-Proto") for seen in backend.seen]
        assert protocols == [[b"https"], [b"http"]]


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000, 20_000_000])
async def test_answers_over_tls(pair: Pair, size: int) -> None:
    """Of any size: flow control over TLS isn't quite that of plain connections."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"x" * size)

    async with (
        recording(handler) as backend,
        running(backend.url, listen=pair.settings) as gateway,
        connect(gateway.url, tls=trusting()) as client,
    ):
        for _ in range(2):
            await client.send(request("/", method="POST", body=b"x" * min(size, 1_000_000)))
            assert len((await client.answer()).body) == size


async def test_tls_alone(pair: Pair) -> None:
    """With a certificate and one port, that port speaks TLS."""
    async with recording() as backend, running(backend.url, listen=pair.settings) as gateway:
        assert gateway.url == gateway.tls_url
        assert (await call(gateway.url))[1].status == 200


async def test_no_tls() -> None:
    """Without a certificate there is nothing to say it."""
    async with recording() as backend, running(backend.url) as gateway:
        assert gateway.tls_url is None


async def test_http_1_1_is_what_is_negotiated(pair: Pair) -> None:
    """A client that prefers HTTP/2 learns that it is HTTP/1.1 (RFC 7301)."""
    async with (
        recording() as backend,
        running(backend.url, listen=pair.settings) as gateway,
        connect(gateway.url, tls=trusting(["h2", "http/1.1"])) as client,
    ):
        chosen = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == "http/1.1"


async def test_old_tls_is_refused(pair: Pair) -> None:
    """Not below TLS 1.2 (RFC 8996)."""
    context = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with recording() as backend, running(backend.url, listen=pair.settings) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connect(gateway.url, tls=context):
                pass


async def test_plain_http_on_the_tls_port(pair: Pair) -> None:
    """It is no TLS, so the connection just closes; the gateway goes on."""
    async with recording() as backend, running(backend.url, listen=pair.settings) as gateway:
        async with connect(gateway.url) as client:
            await client.send(request("/"))
            assert await client.ended()
        assert (await call(gateway.url))[1].status == 200


async def test_a_client_that_never_shakes_hands(pair: Pair) -> None:
    """It has ``limits.header_timeout`` for it."""
    limits = {"header_timeout": "50ms"}
    async with (
        recording() as backend,
        running(backend.url, listen=pair.settings, limits=limits) as gateway,
        connect(gateway.url) as client,
    ):
        assert await client.ended()


def reload(gateway: Gateway, pair: Pair) -> None:
    gateway.reload(settings_for("http://127.0.0.1:1", listen=pair.settings))


async def test_a_new_certificate_is_for_new_connections(pair: Pair) -> None:
    """Those that are open stay as they are."""
    async with (
        running("http://127.0.0.1:1", listen=pair.settings) as gateway,
        connect(gateway.url, tls=trusting()) as before,
    ):
        pair.issue("second")
        reload(gateway, pair)
        assert (await call(gateway.url))[0] == "CN=second"
        await before.send(request("*", method="OPTIONS"))
        assert (await before.answer()).status == 200


def no_file(pair: Pair) -> None:
    pair.certificate.unlink()


def not_pem(pair: Pair) -> None:
    pair.certificate.write_text("not a certificate")


def anothers_key(pair: Pair) -> None:
    pair.issue("second", with_key=False)


def half_a_key(pair: Pair) -> None:
    pair.issue("second")
    pair.key.write_bytes(pair.key.read_bytes()[:-60])


def secret_key(pair: Pair) -> None:
    pair.issue("second")
    pair.encrypt_key()


@pytest.mark.parametrize("spoil", [no_file, not_pem, anothers_key, half_a_key, secret_key])
async def test_a_bad_certificate_keeps_the_old(pair: Pair, spoil: object) -> None:
    """It is said which setting is at fault, nothing else changes, and a good one heals it."""
    assert callable(spoil)
    async with running("http://127.0.0.1:1", listen=pair.settings) as gateway:
        spoil(pair)
        with pytest.raises(SettingsError) as caught:
            gateway.reload(settings_for("http://127.0.0.1:1", listen=pair.settings, routes=()))
        (fault,) = caught.value.faults
        assert fault.startswith(f"listen.tls_certificate = {str(pair.certificate)!r}: ")
        name, answer = await call(gateway.url)
        assert (name, answer.status) == ("CN=first", 502)  # not 404: the routes are the old ones
        pair.issue("third")
        reload(gateway, pair)
        assert (await call(gateway.url))[0] == "CN=third"


async def test_a_bad_certificate_at_the_start(pair: Pair) -> None:
    """The gateway doesn't start, and leaves nothing open."""
    anothers_key(pair)
    with pytest.raises(SettingsError):
        async with running("http://127.0.0.1:1", listen=pair.settings):
            pass


async def test_a_taken_port() -> None:
    """It is an error at the start, and leaves nothing open."""
    async with running("http://127.0.0.1:1") as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            async with running("http://127.0.0.1:1", listen={"port": port}):
                pass


@pytest.mark.parametrize(
    ("address", "expected"),
    [(("127.0.0.1", 80), "127.0.0.1:80"), (("::1", 80, 0, 0), "[::1]:80")],
)
def test_authority(address: tuple[str, int], expected: str) -> None:
    """IPv6 addresses have brackets in URLs (RFC 3986 §3.2.2)."""
    assert expected == authority(address)
