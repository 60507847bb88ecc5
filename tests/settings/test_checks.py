"""What settings name is looked at before anything is served with it: files, a package."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gateway.errors import SettingsError
from gateway.settings import Settings, load_settings

SERVING = {"GATEWAY_ROUTES": '[{"path": "/a", "upstream": "http://h"}]'}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate, its key, a stranger's key and its key under a password."""
    directory = tmp_path_factory.mktemp("pem")
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )

    def write(file: str, private: ec.EllipticCurvePrivateKey, password: bytes | None) -> None:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        (directory / file).write_bytes(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )

    (directory / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    write("tls.key", key, None)
    write("other.key", other, None)
    write("locked.key", key, b"hunter2")
    (directory / "empty").touch()
    return directory


def load(**files: Path) -> Settings:
    """Load settings that name files, and a store with TLS to use an authority for."""
    flags: dict[str, Any] = {name.replace("__", "."): str(file) for name, file in files.items()}
    return load_settings(None, environ=SERVING, flags={**flags, "store.url": "rediss://h"})


def test_files_that_fit_are_taken(pem: Path) -> None:
    """A certificate with its key, and authorities."""
    load(
        listen__tls_certificate=pem / "tls.crt",
        listen__tls_key=pem / "tls.key",
        key_manager__ca_file=pem / "tls.crt",
        store__ca_file=pem / "tls.crt",
        store__tls_certificate=pem / "tls.crt",
        store__tls_key=pem / "tls.key",
        proxy__ca_file=pem / "tls.crt",
    )


@pytest.mark.parametrize(
    ("certificate", "key", "named"),
    [
        ("tls.crt", "other.key", "tls_certificate"),
        ("tls.crt", "locked.key", "tls_certificate"),
        ("empty", "tls.key", "tls_certificate"),
        ("tls.key", "tls.crt", "tls_certificate"),
        ("tls.crt", "missing", "tls_key"),
        ("missing", "tls.key", "tls_certificate"),
        (".", "tls.key", "tls_certificate"),
    ],
)
@pytest.mark.parametrize("section", ["listen", "store"])
def test_a_certificate_needs_its_own_key(
    pem: Path, section: str, certificate: str, key: str, named: str
) -> None:
    """In the clear: nobody is there to type a password."""
    files = {f"{section}__tls_certificate": pem / certificate, f"{section}__tls_key": pem / key}
    with pytest.raises(SettingsError) as refusal:
        load(**files)
    (fault,) = refusal.value.faults
    assert fault.startswith(f'{section}.{named} = "{pem}')
    assert fault.count(" (command line): ") == 1


@pytest.mark.parametrize("setting", ["key_manager", "store", "proxy"])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("missing", "a file that can be read is allowed; no such file or directory"),
        ("empty", "a PEM file with certificates is allowed"),
        ("tls.key", "a PEM file with certificates is allowed"),
    ],
)
def test_authorities_are_certificates(pem: Path, setting: str, file: str, said: str) -> None:
    """Whichever connection they are for."""
    with pytest.raises(SettingsError) as refusal:
        load(**{f"{setting}__ca_file": pem / file})
    assert refusal.value.faults == (f'{setting}.ca_file = "{pem / file}" (command line): {said}',)


def test_uvloop_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it by name is told where it isn't; nobody else needs it."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    for choice in ("auto", "asyncio"):
        load_settings(None, environ=SERVING, flags={"listen.event_loop": choice})
    with pytest.raises(SettingsError) as refusal:
        load_settings(None, environ=SERVING, flags={"listen.event_loop": "uvloop"})
    (fault,) = refusal.value.faults
    assert fault.startswith('listen.event_loop = "uvloop" (command line): uvloop isn\'t installed')
