"""The certificate that clients are shown, and its key: loaded, and looked at for what is wrong.

Both are files, which an operator or a cert-manager replaces while the gateway runs.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path


class UnusableCertificate(ValueError):
    """A certificate and key that can't be used. The message is the reason, in a few words."""


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what a listener needs to show a certificate.

    Always a new one: a context that has had another certificate keeps that beside the new one if
    their keys are of two types, and a client that takes both would still be shown the old one.

    Raises:
        UnusableCertificate: the files aren't what they should be.
        OSError: one of them can't be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        secret = b"ENCRYPTED" in (key or certificate).read_bytes()
        raise UnusableCertificate("the key is encrypted" if secret else _reason(error)) from None
    except ValueError as error:
        raise UnusableCertificate(str(error)) from None
    return context


_REASONS = {
    "EE_KEY_TOO_SMALL": "its key is too short for OpenSSL's security level: RSA needs 2048 bits",
    "CA_MD_TOO_WEAK": "it is signed with a digest that is too weak",
    "KEY_VALUES_MISMATCH": "the key is another certificate's",
    "KEY_TYPE_MISMATCH": "the key is another certificate's",
    "NO_START_LINE": "it isn't PEM",
}


def _reason(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    return _REASONS.get(reason) or reason.replace("_", " ").lower() or "it isn't PEM"


def doubts(certificate: Path, key: Path | None) -> Iterator[str]:
    """Yield what is wrong with a certificate that works all the same, in words for a log.

    A client that verifies would refuse one that has expired, isn't valid yet or isn't for servers;
    a key that others can read isn't a secret.
    """
    try:
        refused = _refused(certificate, key)
        if (key or certificate).stat().st_mode & 0o004:
            yield "every user of this machine can read the key"
    except (OSError, ssl.SSLError, ValueError):
        return  # replaced at this moment; whoever loads it next says so
    if refused is not None:
        yield refused


def _refused(certificate: Path, key: Path | None) -> str | None:
    """Return why a client that trusts just this certificate refuses it, if it does.

    Shown in memory: Python's ssl tells nothing of a certificate but by a handshake.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server_context(certificate, key).wrap_bio(there, back, server_side=True),
        client.wrap_bio(back, there),
    )
    for _ in range(10):  # a handshake takes four
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return None
