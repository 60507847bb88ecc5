"""The sockets: without and with TLS, and certificates that are replaced while they are in use."""

import ssl
from pathlib import Path

import pytest
from aiohttp import web
from backends import recording
from certificate_files import Pair
from cryptography import x509
from proxy.gateways import LogText, running, settings_for
from wire import Answer, connect, request

from gateway.app import Gateway
from gateway.errors import SettingsError
from gateway.listeners import authority


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


@pytest.mark.parametrize(("before", "after"), [(0, 2048), (2048, 0), (2048, 2048)])
async def test_a_certificate_of_another_key_type_replaces_the_old(
    pair: Pair, before: int, after: int
) -> None:
    """A client that takes both types isn't shown the certificate that was to go."""
    pair.issue("first", rsa_bits=before)
    async with running("http://127.0.0.1:1", listen=pair.settings) as gateway:
        assert (await call(gateway.url))[0] == "CN=first"
        pair.issue("second", rsa_bits=after)
        reload(gateway, pair)
        assert (await call(gateway.url))[0] == "CN=second"


async def test_what_is_doubtful_is_logged_at_each_load(pair: Pair, log: LogText) -> None:
    """An expired certificate is served, since it is what there is, and a line says so."""
    pair.issue("first", days=1)
    async with running("http://127.0.0.1:1", listen=pair.settings) as gateway:
        pair.issue("second", days=1)
        reload(gateway, pair)
    doubts = [entry["doubt"] for entry in log.records if entry["event"] == "certificate in doubt"]
    assert doubts == ["certificate has expired"] * 2


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
