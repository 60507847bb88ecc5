"""Certificates in files, good ones and others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Pair:
    """A self-signed certificate and its key, in files."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"

    def issue(
        self,
        name: str,
        *,
        with_key: bool = True,
        rsa_bits: int = 0,
        from_at: datetime = LONG_AGO,
        days: int = 36_500,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> None:
        """Write a certificate of this name; without its key, the files don't fit together."""
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(
            ec.SECP256R1()
        )
        if rsa_bits:
            key = rsa.generate_private_key(65_537, rsa_bits)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(from_at)
            .not_valid_after(from_at + timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        if with_key:
            self.key.touch(mode=0o600)
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
        assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
