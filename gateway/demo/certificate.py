"""A certificate of our own, so that the demo can speak TLS on any machine."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NAMES = ("localhost", "127.0.0.1", "::1")
_LIFE = timedelta(days=7)
_CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate and its private key are, both PEM."""

    certificate: Path
    key: Path


def write_certificate(directory: Path, host: str, *, now_at: float) -> CertificateFiles:
    """Make a key and a self-signed certificate for this machine and ``host``, and write both.

    ``now_at`` is seconds since the epoch; the certificate is good for a week from then. Nobody
    but the owner can read the key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    files = CertificateFiles(directory / "certificate.pem", directory / "key.pem")
    files.certificate.write_bytes(
        _certificate(key, host, now_at).public_bytes(serialization.Encoding.PEM)
    )
    files.key.touch(mode=0o600)  # before there is anything in it
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _certificate(key: ec.EllipticCurvePrivateKey, host: str, now_at: float) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway demo")])
    now = datetime.fromtimestamp(now_at, UTC)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _LIFE)
    )
    names = [_general_name(text) for text in dict.fromkeys((*_NAMES, host))]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
