"""The certificate, as a TLS client sees it."""

import ssl
import stat
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.demo.certificate import CertificateFiles, write_certificate


def handshake(files: CertificateFiles, name: str) -> None:
    """Let a client that trusts the certificate meet a server that has it."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key)
    client_context = ssl.create_default_context(cafile=str(files.certificate))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    unfinished = [client, server]
    while unfinished:
        for end in tuple(unfinished):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(end)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::1"),
        ("192.0.2.7", "192.0.2.7"),
        ("demo.example", "demo.example"),
    ],
)
def test_names(tmp_path: Path, host: str, name: str) -> None:
    """It is good for this machine and for the host that it was made for."""
    handshake(write_certificate(tmp_path, host, now_at=SystemClock().wall()), name)


def test_another_name(tmp_path: Path) -> None:
    """It is good for no other host."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=SystemClock().wall())
    with pytest.raises(ssl.SSLCertVerificationError, match=r"192\.0\.2\.7"):
        handshake(files, "192.0.2.7")


def test_expired(tmp_path: Path) -> None:
    """It is good for a week."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=SystemClock().wall() - 8 * 86_400)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(files, "localhost")


def test_key_is_private(tmp_path: Path) -> None:
    """Nobody but the owner can read the key."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=SystemClock().wall())
    assert stat.filemode(files.key.stat().st_mode) == "-rw-------"
