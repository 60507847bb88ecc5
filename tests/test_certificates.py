"""Certificates and keys: what can be used, and what is said of those that shouldn't be."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from certificate_files import Pair
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.certificates import UnusableCertificate, doubts, server_context


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_nothing_is_said_of_a_good_one(pair: Pair) -> None:
    """Self-signed or not is the clients' affair."""
    pair.issue("good")
    server_context(pair.certificate, pair.key)
    assert list(doubts(pair.certificate, pair.key)) == []


def test_an_expired_certificate(pair: Pair) -> None:
    """Clients that verify refuse it."""
    pair.issue("old", days=1)
    assert list(doubts(pair.certificate, pair.key)) == ["certificate has expired"]


def test_a_certificate_of_tomorrow(pair: Pair) -> None:
    """As is one of a clock that is ahead."""
    pair.issue("early", from_at=datetime(2090, 1, 1, tzinfo=UTC))
    assert list(doubts(pair.certificate, pair.key)) == ["certificate is not yet valid"]


def test_a_certificate_for_clients(pair: Pair) -> None:
    """A server can show it, and no client takes it (RFC 5280 §4.2.1.12)."""
    pair.issue("client", purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    (doubt,) = doubts(pair.certificate, pair.key)
    assert "purpose" in doubt


@pytest.mark.parametrize(("mode", "said"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_key_that_everyone_can_read(pair: Pair, mode: int, *, said: bool) -> None:
    """A group may: that is how secrets are mounted for a user of its own."""
    pair.issue("open")
    pair.key.chmod(mode)
    expected = ["every user of this machine can read the key"] if said else []
    assert list(doubts(pair.certificate, pair.key)) == expected


def test_one_file_for_both(pair: Pair) -> None:
    """A PEM file may hold the certificate and its key."""
    pair.issue("both")
    pair.certificate.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    server_context(pair.certificate, None)
    pair.certificate.chmod(0o644)
    assert list(doubts(pair.certificate, None)) == ["every user of this machine can read the key"]


def test_files_that_are_gone_when_they_are_looked_at(pair: Pair) -> None:
    """They are being replaced; the load that follows says what is wrong."""
    assert list(doubts(pair.certificate, pair.key)) == []


def test_a_short_rsa_key(pair: Pair) -> None:
    """The reason is its length, not its form."""
    pair.issue("short", rsa_bits=1024)
    with pytest.raises(UnusableCertificate, match="RSA needs 2048 bits"):
        server_context(pair.certificate, pair.key)


def test_other_reasons(pair: Pair) -> None:
    """Another's key, a secret one, no PEM: each is called what it is."""
    pair.issue("first")
    pair.issue("second", with_key=False)
    with pytest.raises(UnusableCertificate, match="another certificate's"):
        server_context(pair.certificate, pair.key)
    pair.issue("third")
    pair.encrypt_key()
    with pytest.raises(UnusableCertificate, match="encrypted"):
        server_context(pair.certificate, pair.key)
    pair.issue("fourth")
    pair.certificate.write_text("not a certificate")
    with pytest.raises(UnusableCertificate, match="PEM"):
        server_context(pair.certificate, pair.key)
